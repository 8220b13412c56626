"""Progress bars on standard error: lively on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

__all__ = ["progress_bar"]


def progress_bar(description: str, total: int | None, unit: str, *, show: bool, initial: int = 0) -> tqdm[Any]:
    """A bar to be used as a context manager; hidden unless `show`."""
    interval = 0.2 if sys.stderr.isatty() else 20.0
    return tqdm(total=total, initial=initial, desc=description, unit=unit, mininterval=interval, disable=not show)
