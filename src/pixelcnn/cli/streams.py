"""The standard streams as the command line finds them: closed, full, gone, or of an encoding that lacks letters.

What is done does not depend on whether it can be told. Within `usable_streams` a stream that is not there takes
everything and shows nothing, a letter that an encoding lacks is replaced, and standard error, of which nothing is a
result, may fill its disk or lose its terminal. Standard output may not: what it cannot take is an error.
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
    """Within it `sys.stdout` and `sys.stderr` can be printed to; what they were comes back after it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a closed one's number would go to the next file, and what libraries print would end in it
    os.close(descriptor)
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors="replace")
        stack.enter_context(contextlib.redirect_stdout(sys.stdout or nowhere))
        stack.enter_context(contextlib.redirect_stderr(_Unhindered(sys.stderr or nowhere)))
        yield


class _Unhindered:
    """A stream of which nothing is expected: from its first error on it takes everything and shows nothing."""

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
    """Sends what a stream still holds and all that follows nowhere: the interpreter flushes it at its end."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # it has no descriptor
        number = stream.fileno()
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), number)
