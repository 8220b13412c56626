"""Levels: the values that sub-pixels take, their number, their type and their grey values.

An image of `levels` levels holds 0, black, to `levels - 1`, white. This module does not import torch until it is asked
for a torch type, so that the command line's help does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pixelcnn.arguments import whole

if TYPE_CHECKING:
    import torch

    LEVEL_DTYPE: torch.dtype

__all__ = ["ARRAY_DTYPE", "LEVEL_DTYPE", "MAX_LEVELS", "checked_levels", "grey_values", "quantised"]

MAX_LEVELS = 256
"""The most levels that a model can have; the number of grey values in a picture."""

ARRAY_DTYPE = np.uint8
"""The NumPy type that holds levels; `LEVEL_DTYPE` is the same type of torch."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "LEVEL_DTYPE":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import torch

        return getattr(torch, np.dtype(ARRAY_DTYPE).name)


def checked_levels(levels: object) -> int:
    """The number of levels that an argument is.

    Raises:
        ValueError: If it is not an integer in 2..256.
    """
    found = whole(levels)
    if found is None or not 2 <= found <= MAX_LEVELS:
        raise ValueError(f"levels must be in 2..{MAX_LEVELS}, got {levels if found is None else found!r}")
    return found


def quantised(grey: np.ndarray, levels: int) -> np.ndarray:
    """Grey values, uint8 of any shape, as levels: floor(grey * levels / 256), of the same type and shape."""
    if levels == MAX_LEVELS:
        return grey
    table = (np.arange(MAX_LEVELS) * levels // MAX_LEVELS).astype(ARRAY_DTYPE)
    found: np.ndarray = table[grey]
    return found


def grey_values(levels: int) -> np.ndarray:
    """The grey value of each level, spread evenly over 0..255 and rounded: uint8 (levels,)."""
    grey: np.ndarray = np.rint(np.arange(levels) * ((MAX_LEVELS - 1) / (levels - 1))).astype(ARRAY_DTYPE)
    return grey
