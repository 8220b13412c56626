"""What several configurations check."""

from __future__ import annotations

import typing

__all__ = ["check_images", "check_numbers", "is_int"]


def is_int(value: object) -> bool:
    """Whether it is an integer, and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_numbers(config: object) -> None:
    """Whether the fields of a configuration that are annotated as `float` are numbers, before they are compared.

    Raises:
        ValueError: If not.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        allowed = {float: int | float, float | None: int | float | None}.get(hint)
        if allowed is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise ValueError(f"{name} must be a number, got {value!r}")


def check_images(shape: object, levels: object) -> None:
    """Whether images can have this shape and so many levels.

    Raises:
        ValueError: If not.
    """
    if not (isinstance(shape, tuple) and len(shape) == 3 and all(is_int(s) and s >= 1 for s in shape)):
        raise ValueError(f"image_shape must be three positive integers (C, H, W), got {shape!r}")
    if not (isinstance(levels, int) and is_int(levels) and 2 <= levels <= 256):
        raise ValueError(f"levels must be in 2..256, got {levels!r}")
