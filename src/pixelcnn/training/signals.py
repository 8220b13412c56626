"""Stopping a run from outside: Ctrl-C (SIGINT) and SIGTERM end it after its next step, with a checkpoint.

While nothing is unsaved (validation, pictures) they end it at once. A second Ctrl-C always does; a second SIGTERM, as
some schedulers send it, does not.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupted", "StopSignals"]

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C or SIGTERM, after writing a checkpoint; the message says how to go on.

    Attributes:
        exit_code: What a process that was stopped in this way ends with: 128 + the signal's number, so 130 after
            Ctrl-C and 143 after SIGTERM.
    """

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class StopSignals:
    """A context manager that defers the two signals; outside the main thread it leaves them to the caller.

    Args:
        say: Tells the user something.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.received: int | None = None
        """The signal that asks the run to stop, if one has come."""
        self._say = say
        self._message: str | None = None  # while nothing is unsaved
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for signum in _NAMES:
            with contextlib.suppress(ValueError):  # not the main thread
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for signum, previous in self._previous.items():
            signal.signal(signum, previous)

    def check(self, message: str) -> None:
        """Ends the run if it was asked to stop: to be called when nothing is unsaved.

        Raises:
            Interrupted: With the message.
        """
        if self.received is not None:
            raise Interrupted(message, self.received)

    @contextlib.contextmanager
    def at_once(self, message: str) -> Iterator[None]:
        """Inside the block nothing is unsaved, and a signal ends the run at once."""
        self._message = message
        try:
            self.check(message)
            yield
        finally:
            self._message = None

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self.received is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is None:
            self.received = signum
            if self._message is None:
                again = " (Ctrl-C again: at once)" if signum == signal.SIGINT else ""
                self._say(f"{_NAMES[signal.Signals(signum)]}: stopping after this step{again}")
        if self._message is not None:
            raise Interrupted(self._message, signum)
