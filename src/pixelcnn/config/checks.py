"""What several configurations check."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from pixelcnn.arguments import plain, whole

__all__ = ["check_images", "checked_levels", "is_int", "make_plain"]


def make_plain(config: Any) -> None:
    """Makes the fields of a frozen configuration Python's own values: NumPy's numbers, and lists as tuples.

    Raises:
        ValueError: If one that is annotated as `float` is no number.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = plain(getattr(config, field.name))
        allowed = {float: int | float, float | None: int | float | None}.get(hints[field.name])
        if allowed is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise ValueError(f"{field.name} must be a number, got {value!r}")
        object.__setattr__(config, field.name, value)


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
