"""Progress bars and messages on standard error: frequent updates on a terminal and in a notebook, where bars are
widgets if ipywidgets is installed; an occasional line in a log.

There may be no standard error: `sys.stderr` is None where a program runs without a console, and what replaces it need
not know whether it is a terminal. Then there are no bars and no messages, and the work is done all the same.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from pixelcnn.processes import own_rank

with warnings.catch_warnings(action="ignore"):  # that a notebook has no ipywidgets
    from tqdm.autonotebook import tqdm

__all__ = ["on_terminal", "progress_bar", "say"]


def progress_bar(description: str, total: int | None, unit: str, *, show: bool, initial: int = 0) -> tqdm[Any]:
    """A bar, to be used as a context manager; hidden unless `show` is set and this is the job's first process.

    Of the unit "px", pixels, it shows thousands or millions.
    """
    interval = 0.2 if on_terminal() or _in_notebook() else 20.0
    hidden = not (show and _is_there()) or own_rank().rank > 0
    return tqdm(
        total=total, initial=initial, desc=description, unit=unit, unit_scale=unit == "px", mininterval=interval,
        disable=hidden,
    )  # fmt: skip


def say(message: str) -> None:
    """Writes a line to standard error, above any bars."""
    if _is_there():
        tqdm.write(message, file=sys.stderr)


def on_terminal() -> bool:
    """Whether standard error is there and is a terminal."""
    return _is_there() and bool(getattr(sys.stderr, "isatty", bool)())


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return "IPKernelApp" in getattr(shell, "config", {})


def _is_there() -> bool:
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False)
