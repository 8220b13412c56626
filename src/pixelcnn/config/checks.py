"""What several configurations check."""

from __future__ import annotations

__all__ = ["check_images", "is_int"]


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
    if not (isinstance(levels, int) and is_int(levels) and 2 <= levels <= 256):
        raise ValueError(f"levels must be in 2..256, got {levels!r}")
