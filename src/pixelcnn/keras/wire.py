"""Protocol buffers' wire format, as far as TensorFlow's files need it: the fields of a message by their numbers.

References:
    | https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

__all__ = ["fields", "integer", "message", "varint"]

_FIXED = {1: 8, 5: 4}  # bytes of the wire types of fixed size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at a place, 7 bits a byte, the lowest first; and the place after it.

    Raises:
        ValueError: If it does not end.
    """
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number does not end")


def fields(data: bytes) -> dict[int, list[int | bytes]]:
    """All values of each field, in order: integers, or the bytes of whatever else.

    Raises:
        ValueError: If it is not a message.
    """
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = varint(data, at)
        else:
            size = _FIXED.get(tag & 7, 0)
            if tag & 7 == 2:
                size, at = varint(data, at)
            elif not size:
                raise ValueError(f"a field has the unknown type {tag & 7}")
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise ValueError("a field does not end")
        found.setdefault(tag >> 3, []).append(value)
    return found


def message(value: int | bytes) -> dict[int, list[int | bytes]]:
    """The fields of a field that is a message.

    Raises:
        ValueError: If it is not one.
    """
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return fields(value)


def integer(values: list[int | bytes] | None) -> int:
    """An integer field's value, 0 if it is not there.

    Raises:
        ValueError: If it is not an integer.
    """
    last = values[-1] if values else 0
    if not isinstance(last, int):
        raise ValueError("bytes where a number should be")
    return last
