"""Stopping a run from outside: Ctrl-C (SIGINT) and SIGTERM end it after the current step, with a checkpoint.

While nothing is unsaved (in validation and sampling) they end it at once. A second Ctrl-C always does; a second
SIGTERM, as some schedulers send it, does not. Where several processes train together, a signal to one of them reaches
all with the sum of the next step's loss, so that all stop after the same step.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType

from pixelcnn.processes import Interrupted, Processes, handling

__all__ = ["StopSignals"]

_NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class StopSignals:
    """Defers the two signals until nothing is unsaved.

    Args:
        say: Shows the user a message.
        processes: Those that train together.
    """

    def __init__(self, say: Callable[[str], None], processes: Processes) -> None:
        self._say, self._processes = say, processes
        self._received: int | None = None  # by this process
        self._agreed: int | None = None  # known to all processes
        self._message: str | None = None  # while nothing is unsaved

    def deferred(self) -> AbstractContextManager[None]:
        """Inside the block the signals are deferred; outside the main thread they are left to the caller."""
        return handling(self._handle, *_NAMES)

    def agree(self, value: float = 0.0) -> float:
        """The sum of a number over all processes; on the way each learns whether another was asked to stop."""
        if self._processes.count == 1:
            return value
        total, *counts = self._processes.sum([value, *(float(self._received == signum) for signum in _NAMES)])
        self._agreed = next((signum for signum, count in zip(_NAMES, counts, strict=True) if count), None)
        return total

    @property
    def asked(self) -> int | None:
        """The signal by which the run was asked to stop, if all processes know of it."""
        return self._received if self._processes.count == 1 else self._agreed

    def check(self, message: str) -> None:
        """Ends the run on all processes if it was asked to stop: to be called when nothing is unsaved.

        Raises:
            Interrupted: With the message.
        """
        if self.asked is not None:
            self._processes.sum([0.0])  # the first process has saved
            raise Interrupted(message, self.asked)

    @contextlib.contextmanager
    def at_once(self, message: str) -> Iterator[None]:
        """Inside the block nothing is unsaved, and a signal ends the run at once."""
        self._message = message
        try:
            if self._received is not None:
                raise Interrupted(message, self._received)
            yield
        finally:
            self._message = None

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self._received is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self._received is None:
            self._received = signum
            if self._message is None:
                again = " (Ctrl-C again: at once)" if signum == signal.SIGINT else ""
                self._say(f"{_NAMES[signal.Signals(signum)]}: stopping after this step{again}")
        if self._message is not None:
            raise Interrupted(self._message, signum)
