"""Configurations as JSON values and back: strict, and able to read those of earlier versions."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any, TypeVar

__all__ = ["from_dict", "to_dict"]

ConfigT = TypeVar("ConfigT")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values: tuples become lists, nested configurations dictionaries.

    Where a field may hold one of several configurations, "type" in its dictionary names the class.
    """
    values = typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            values[name] = _to_dict(value, hint)
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            values[name] = [_to_dict(each, typing.get_args(hint)[0]) for each in value]
    return values


def _to_dict(config: Any, hint: Any) -> dict[str, Any]:
    """`to_dict`, with "type" where a field may hold one of several configurations."""
    return ({"type": type(config).__name__} if _members(hint) else {}) | to_dict(config)


def from_dict(cls: type[ConfigT], values: Any, where: str) -> ConfigT:
    """Rebuilds a configuration from the values of `to_dict`, perhaps those of an earlier version.

    Fields that did not exist then take their defaults. Fields that had another name are read by the class's table
    `earlier_names`, which maps such a name to the present one, or to None if the field is gone and of no consequence.

    Args:
        cls: The dataclass to build.
        values: What `to_dict` returned, perhaps from a file.
        where: Where the values came from, for errors.

    Raises:
        ValueError: If a field is unknown, of the wrong type or out of range, or if one without a default is missing.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected an object with the fields of {cls.__name__}, got {values!r}")
    earlier: dict[str, str | None] = getattr(cls, "earlier_names", {})
    renamed = {new: values[old] for old, new in earlier.items() if new is not None and old in values}
    values = renamed | {name: value for name, value in values.items() if name not in earlier}
    every = dataclasses.fields(cls)  # type: ignore[arg-type]
    fields = {f.name for f in every}
    needed = {f.name for f in every if f.default is f.default_factory is dataclasses.MISSING}
    if unknown := sorted(set(values) - fields):
        raise ValueError(
            f"{where}: unknown field {unknown[0]!r} for {cls.__name__}, known: {', '.join(sorted(fields))}"
        )
    if missing := sorted(needed - set(values)):
        raise ValueError(f"{where}: field {missing[0]!r} of {cls.__name__} is missing")
    hints = typing.get_type_hints(cls)
    decoded = {name: _decode(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return cls(**decoded)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _members(hint: Any) -> dict[str, type[Any]]:
    """The configurations of which a field may hold one, by name; none if there is no choice."""
    members = [
        member for member in typing.get_args(hint) if isinstance(member, type) and dataclasses.is_dataclass(member)
    ]
    return {member.__name__: member for member in members}


def _decode(hint: Any, value: Any, where: str) -> Any:
    """One JSON value as the type of the field's annotation; its range is checked by the dataclass itself."""
    if members := _members(hint):
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in members:
            raise ValueError(f"{where}: field 'type' must be one of {', '.join(members)}, got {kind!r}")
        return from_dict(members[kind], {k: v for k, v in value.items() if k != "type"}, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where)
    if isinstance(value, list) and typing.get_origin(hint) is tuple and _members(each := typing.get_args(hint)[0]):
        return tuple(_decode(each, one, f"{where}[{k}]") for k, one in enumerate(value))
    if isinstance(value, list) and any(typing.get_origin(h) is tuple for h in (hint, *typing.get_args(hint))):
        return tuple(value)
    allowed = {float: (int, float), float | None: (int, float, type(None)), str: (str,)}.get(hint)
    if allowed is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
        raise ValueError(f"{where} must be of type {hint}, got {value!r}")
    return value
