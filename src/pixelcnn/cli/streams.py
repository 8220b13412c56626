"""Standard streams made usable, whether they are closed, full, gone, or of an encoding that lacks characters.

Commands do their work whether or not they can print. Within `usable_streams` a missing stream swallows all output,
characters that an encoding lacks are replaced, and errors of standard error, which carries no results, are ignored: its
disk may be full or its terminal gone. What standard output cannot take is an error.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["discard", "usable_streams"]


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Within it `sys.stdout` and `sys.stderr` can be printed to; afterwards they are restored."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # the next file would get a closed stream's number, and what libraries print would end up in it
    os.close(descriptor)
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors="replace")
        stack.enter_context(contextlib.redirect_stdout(sys.stdout or nowhere))
        stack.enter_context(contextlib.redirect_stderr(_ErrorIgnoring(sys.stderr or nowhere)))
        yield


class _ErrorIgnoring:
    """A stream whose errors do not matter: from its first one on it swallows all output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def _try(self, method: str, *text: str) -> None:
        try:
            getattr(self._stream, method, lambda: None)(*text)
        except OSError:
            discard(self._stream)
        except ValueError:
            pass  # it is closed


def discard(stream: TextIO) -> None:
    """Sends what a stream still holds, and all that follows, nowhere: the interpreter would flush it at exit."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # it has no descriptor
        number = stream.fileno()
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), number)
