"""The structures shared by Python and `engine.c`, with the fields in the order in which they are declared there."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["OP_FIELDS", "SLOT_FIELDS", "CoderStruct", "PlanStruct", "ShareStruct", "TeamStruct"]


def _fields(**types: str) -> list[tuple[str, Any]]:
    return [
        (name, kind) for kind_name, names in types.items() for kind in [_TYPES[kind_name]] for name in names.split()
    ]


_TYPES: dict[str, Any] = {
    "pointers": ctypes.c_void_p,
    "integers": ctypes.c_int64,
    "numbers": ctypes.c_double,
    "unsigned": ctypes.c_uint64,
}

SLOT_FIELDS = ("offset", "stride", "per_row", "per_step", "slots", "lead", "ring")
"""`struct slot`, rows of int64."""
OP_FIELDS = (
    "kind", "lead", "source", "target", "add", "residual", "column", "columns", "relu", "runs", "count", "weights",
    "bias", "scale", "stride", "meets",
)  # fmt: skip
"""`struct op`, rows of int64."""


class PlanStruct(ctypes.Structure):
    """`struct plan`."""

    _fields_ = _fields(
        pointers="slots runs ops ends weights rows",
        integers="slot_count output channels height width slope levels params likelihood mixtures prelude origin reach "
        "by_rows image_features embedding",
    )


class ShareStruct(ctypes.Structure):
    """`struct share`: what one thread fills."""

    _fields_ = [
        *_fields(pointers="arena scratch images", integers="count n first", unsigned="root"),
        *_fields(numbers="temperature guidance", pointers="known evidence team", integers="part parts"),
    ]


class CoderStruct(ctypes.Structure):
    """`struct coder` of exact.h: the rest of a payload."""

    _fields_ = [*_fields(unsigned="x", pointers="words"), *_fields(integers="position count failed", pointers="edges")]


class TeamStruct(ctypes.Structure):
    """`struct team` of exact.h: threads that fill a group of images together."""

    _fields_ = [*_fields(integers="members arrived meetings", pointers="shares coder found"), *_fields(integers="room")]
