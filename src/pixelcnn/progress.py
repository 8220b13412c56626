"""Progress bars on standard error: lively on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from pixelcnn.processes import place

__all__ = ["progress_bar"]


def progress_bar(description: str, total: int | None, unit: str, *, show: bool, initial: int = 0) -> tqdm[Any]:
    """A bar to be used as a context manager; hidden unless `show`, and in all processes of a job but the first."""
    interval = 0.2 if sys.stderr.isatty() else 20.0
    hidden = not show or place().rank > 0
    return tqdm(total=total, initial=initial, desc=description, unit=unit, mininterval=interval, disable=hidden)
