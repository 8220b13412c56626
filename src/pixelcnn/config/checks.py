"""Checks that the configurations share: types, choices and ranges as the fields' annotations say them."""

from __future__ import annotations

import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard

from pixelcnn.arguments import integer, plain
from pixelcnn.levels import checked_levels

__all__ = ["Range", "check_fields", "check_images", "check_rules", "is_int"]


@dataclass(frozen=True)
class Range:
    """The range of a number, said in its field's annotation: `Annotated[int, Range(1)]` is at least 1."""

    least: int
    """The smallest number that is allowed."""
    most: float = math.inf
    """The largest number that is allowed."""
    strict: bool = False
    """Whether the two themselves are excluded."""

    @property
    def rule(self) -> str:
        """The range as the end of the sentence "a number must ..."."""
        if self.strict:
            return "be positive" if self.most == math.inf else f"lie strictly between {self.least} and {self.most}"
        return f"be at least {self.least}" if self.most == math.inf else f"be in {self.least}..{self.most}"

    def __contains__(self, value: float) -> bool:
        return self.least < value < self.most if self.strict else self.least <= value <= self.most


def _make_plain(config: Any) -> None:
    """Converts the fields of a frozen configuration to Python's own values: NumPy's numbers, and lists to tuples.

    Raises:
        ValueError: If a field that is annotated as `float` is not a number.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        value = plain(getattr(config, name))
        allowed = {float: int | float, float | None: int | float | None}.get(hint)
        if allowed is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise ValueError(f"{name} must be a number, got {value!r}")
        object.__setattr__(config, name, value)


def check_fields(config: Any) -> None:
    """Makes a configuration plain and checks each field that is a truth value, a number, a choice or a tuple.

    The annotation says what is allowed: `bool`, `int`, `float` or `Literal[...]`, perhaps with `| None`, for numbers a
    `Range` in `Annotated`; or a tuple, whose members are not looked at.

    Raises:
        ValueError: If a field is of another type, not one of its choices, or out of its range.
    """
    _make_plain(config)
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        value, limits = getattr(config, name), None
        if typing.get_origin(hint) is Annotated:
            hint, *others = typing.get_args(hint)
            limits = next((other for other in others if isinstance(other, Range)), None)
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        members = typing.get_args(hint) if union else (hint,)
        kinds = [member for member in members if member is not types.NoneType]
        if len(kinds) > 1 or (value is None and len(members) > 1):
            continue
        if typing.get_origin(kinds[0]) is Literal:
            choices = typing.get_args(kinds[0])
            listed = [*map(repr, choices), *(["None"] if len(members) > 1 else [])]
            right = any(value == choice and type(value) is type(choice) for choice in choices)
            rule = f"be {', '.join(listed[:-1])} or {listed[-1]}"
        elif typing.get_origin(kinds[0]) is tuple:
            right, rule = isinstance(value, tuple), "be a list or a tuple"
        elif kinds[0] is bool:
            right, rule = isinstance(value, bool), "be True or False"
        elif limits is None:
            continue
        elif kinds[0] is int:
            integer(name, value, limits.least, None if limits.most == math.inf else int(limits.most))
            continue
        else:
            right, rule = value in limits, limits.rule
        check_rules(config, {name: (right, rule)})


def check_rules(config: object, rules: dict[str, tuple[bool, str]]) -> None:
    """Checks fields by name, each by whether it is right and the rule that it must follow otherwise.

    Raises:
        ValueError: If one is not right.
    """
    for name, (right, rule) in rules.items():
        if not right:
            raise ValueError(f"{name} must {rule}, got {getattr(config, name)!r}")


def is_int(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_images(shape: object, levels: object) -> None:
    """Checks a shape of images and a number of levels.

    Raises:
        ValueError: If there are no such images.
    """
    if not (isinstance(shape, tuple) and len(shape) == 3 and all(is_int(s) and s >= 1 for s in shape)):
        raise ValueError(f"image_shape must be three positive integers (C, H, W), got {shape!r}")
    checked_levels(levels)
