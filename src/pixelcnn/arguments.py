"""Arguments as users have them, made what the package computes with, by every conversion that loses nothing.

A count or a seed may be an integer of Python's, of NumPy's, or a tensor that holds one. Images, labels and masks may be
tensors, NumPy arrays, or lists of either or of numbers, in any type of integers that the values fit. What would lose
something, or could mean something else, is refused: 2.0 as a count, floating-point numbers as levels or classes.

It does not import torch, which the command line's help should not wait for.
"""

from __future__ import annotations

import operator
import warnings
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["ArrayLike", "bounds", "integer", "levels_of", "number", "plain", "tensor", "whole"]

ArrayLike: TypeAlias = "Tensor | npt.ArrayLike"
"""What `tensor` takes."""


def whole(value: object) -> int | None:
    """The integer that a value is; None if it is none, as a truth value or 2.0 is not."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except (TypeError, RuntimeError):  # torch raises either
        return None


def integer(name: str, value: object, least: int, most: int | None = None) -> int:
    """The integer that an argument is.

    Args:
        name: The argument's, for the error.
        value: Any integer.
        least: The smallest that is allowed.
        most: The largest, if there is one.

    Raises:
        ValueError: If it is none, or out of range.

    Examples:
        >>> import numpy as np
        >>> integer("n", np.int64(3), 1)
        3
    """
    found = whole(value)
    if found is None or found < least or (most is not None and found > most):
        allowed = f"of at least {least}" if most is None else f"in {least}..{_in_words(most)}"
        raise ValueError(f"{name} must be an integer {allowed}, got {value if found is None else found!r}")
    return found


def number(name: str, value: object) -> float:
    """The number that an argument is: Python's, NumPy's, or a tensor of one.

    Raises:
        ValueError: If it is none.
    """
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, SupportsFloat):  # which texts are not
        raise ValueError(f"{name} must be a number, got {value!r}")
    try:
        return float(found)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None


def tensor(name: str, value: object, kind: str = "torch.Tensor or an array of numbers") -> Tensor:
    """The tensor that an argument is, or one of the same numbers on the CPU: no copy of an array that allows it.

    Args:
        name: The argument's, for the error.
        value: A tensor, an array of numbers, or lists of them.
        kind: What it should be, for the error.

    Raises:
        ValueError: If it is none of these.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value
    try:
        if isinstance(value, list | tuple) and value and all(isinstance(each, torch.Tensor) for each in value):
            return torch.stack(list(value))
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            # a native byte order, and no negative strides
            array = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
            if array.flags.writeable:
                return torch.from_numpy(array)
            with warnings.catch_warnings():  # that it cannot be written, which nobody does
                warnings.simplefilter("ignore")
                return torch.from_numpy(array)
    except (TypeError, ValueError, RuntimeError):  # of different lengths, or a type that torch has not
        pass
    raise ValueError(f"{name} must be a {kind}, got {type(value).__name__}")


def bounds(values: Tensor) -> tuple[int, int]:
    """The smallest and the largest of at least one integer, of any type."""
    import torch

    if values.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        values = values.to(torch.int64)  # which torch can compare; of 2**63 and more it makes negative ones
    low, top = torch.aminmax(values)
    return int(low), int(top)


def levels_of(name: str, values: Tensor, levels: int) -> Tensor:
    """An argument that holds levels, of any shape and type of integers, as uint8; for two levels truth values too.

    Raises:
        ValueError: If it holds something else.
    """
    import torch

    flags = values.dtype == torch.bool and levels > 2  # of which it is not clear what white is
    if values.is_floating_point() or values.is_complex() or flags:
        raise ValueError(f"{name} must be of dtype torch.uint8, got {values.dtype}")
    low, top = bounds(values) if values.numel() else (0, 0)
    if low < 0 or top >= levels:
        raise ValueError(f"{name} must hold levels 0..{levels - 1}, got {low if low < 0 else top}")
    return values.to(torch.uint8)


def plain(value: Any) -> Any:
    """A configuration's value in Python's own types: NumPy's and torch's numbers, and lists as tuples."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def _in_words(most: int) -> str:
    """A large number as a power of two, or one less."""
    for power, text in ((most, "2**{}"), (most + 1, "2**{}-1")):
        if most > 2**31 and power & (power - 1) == 0:
            return text.format(power.bit_length() - 1)
    return str(most)
