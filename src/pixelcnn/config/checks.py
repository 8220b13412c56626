"""What several configurations check."""

from __future__ import annotations

import dataclasses
from typing import Any

from pixelcnn.arguments import plain, whole

__all__ = ["check_images", "checked_levels", "is_int", "make_plain"]


def make_plain(config: Any) -> None:
    """Makes the fields of a frozen configuration Python's own values: NumPy's numbers, and lists as tuples."""
    for field in dataclasses.fields(config):
        object.__setattr__(config, field.name, plain(getattr(config, field.name)))


def is_int(value: object) -> bool:
    """Whether it is an integer, and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_images(shape: object, levels: object) -> None:
    """Whether images can have this shape and so many levels.

    Raises:
        ValueError: If not.
    """
    if not (isinstance(shape, tuple) and len(shape) == 3 and all(is_int(s) and s >= 1 for s in shape)):
        raise ValueError(f"image_shape must be three positive integers (C, H, W), got {shape!r}")
    checked_levels(levels)


def checked_levels(levels: object) -> int:
    """The number of levels that an argument is.

    Raises:
        ValueError: If it is none.
    """
    found = whole(levels)
    if found is None or not 2 <= found <= 256:
        raise ValueError(f"levels must be in 2..256, got {levels if found is None else found!r}")
    return found
