"""Levels: the values that sub-pixels take, their number, their type and their grey values.

An image of `levels` levels holds 0, black, to `levels - 1`, white. This module does not import torch until it is asked
for something of torch, so that the command line's help does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pixelcnn.arguments import bounds, readable, whole

if TYPE_CHECKING:
    import torch

__all__ = [
    "GREY_LEVELS",
    "MAX_LEVELS",
    "array_dtype",
    "checked_levels",
    "grey_values",
    "level_dtype",
    "levels_of",
    "quantised",
]

MAX_LEVELS = 2**16
"""The most levels that a model can have."""

GREY_LEVELS = 256
"""The number of grey values in a picture of 8 bits."""


def array_dtype(levels: int) -> np.dtype:
    """The NumPy type that holds so many levels: uint8 up to 256, int32 above."""
    return np.dtype(np.uint8 if levels <= GREY_LEVELS else np.int32)


def level_dtype(levels: int) -> torch.dtype:
    """The type of torch that holds so many levels, see `array_dtype`."""
    import torch

    found: torch.dtype = getattr(torch, array_dtype(levels).name)
    return found


def checked_levels(levels: object) -> int:
    """The number of levels that an argument is.

    Raises:
        ValueError: If it is not an integer in 2..65,536.
    """
    found = whole(levels)
    if found is None or not 2 <= found <= MAX_LEVELS:
        raise ValueError(f"levels must be in 2..{MAX_LEVELS}, got {levels if found is None else found!r}")
    return found


def levels_of(name: str, values: torch.Tensor, levels: int) -> torch.Tensor:
    """An argument that holds levels, of any shape and integer type or bool, as `level_dtype`.

    Raises:
        ValueError: If it holds something else; the message names the first value that is no level, and its index.
    """
    dtype = level_dtype(levels)
    if values.is_floating_point() or values.is_complex():
        raise ValueError(f"{name} must be of dtype {dtype}, got {values.dtype}")
    low, top = bounds(values) if readable(values) and values.numel() else (0, 0)
    if low < 0 or top >= levels:
        wide = values.long()  # 2**63 and more become negative
        index = ((wide < 0) | (wide >= levels)).nonzero()[0].tolist()
        value = int(wide[tuple(index)])
        raise ValueError(f"{name} must hold levels 0..{levels - 1}, got {value} at {index}")
    return values.to(dtype)


def quantised(grey: np.ndarray, levels: int) -> np.ndarray:
    """Grey values, uint8 of any shape, as levels: floor(grey * levels / 256), of the same type and shape.

    Raises:
        ValueError: If there are more levels than grey values.
    """
    if levels > GREY_LEVELS:
        raise ValueError(f"levels must be in 2..{GREY_LEVELS}, got {levels}, for pictures of 8 bits")
    if levels == GREY_LEVELS:
        return grey
    table = (np.arange(GREY_LEVELS) * levels // GREY_LEVELS).astype(array_dtype(levels))
    found: np.ndarray = table[grey]
    return found


def grey_values(levels: int) -> np.ndarray:
    """The grey value of each level, spread evenly over 0..255 and rounded: uint8 (levels,)."""
    grey: np.ndarray = np.rint(np.arange(levels) * ((GREY_LEVELS - 1) / (levels - 1))).astype(np.uint8)
    return grey
