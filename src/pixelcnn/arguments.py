"""Arguments as users pass them, converted to what the package computes with wherever nothing is lost.

A count or a seed may be a Python integer, a NumPy integer, or a tensor that holds one. Images, labels and masks may be
tensors, NumPy arrays, or lists of either or of numbers, in any integer type that the values fit. What would lose
information or could mean something else is refused: 2.0 as a count, floating-point numbers as levels or classes.

This module does not import torch, so that the command line's help does not wait for it.
"""

from __future__ import annotations

import contextlib
import operator
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["ArrayLike", "bounds", "integer", "number", "plain", "readable", "shown", "tensor", "transforming", "whole"]

ArrayLike: TypeAlias = "Tensor | npt.ArrayLike"
"""What `tensor` accepts."""


def whole(value: object) -> int | None:
    """A value as a Python integer; None if it is not an integer, as True and 2.0 are not."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except (TypeError, RuntimeError):  # torch raises either
        return None


def integer(name: str, value: object, least: int, most: int | None = None) -> int:
    """An argument as a Python integer.

    Args:
        name: Of the argument, for the error.
        value: Any integer.
        least: The smallest that is allowed.
        most: The largest that is allowed, if there is a limit.

    Raises:
        ValueError: If it is not an integer, or out of range.

    Examples:
        >>> import numpy as np
        >>> integer("n", np.int64(3), 1)
        3
    """
    found = whole(value)
    if found is None or found < least or (most is not None and found > most):
        allowed = f"of at least {least}" if most is None else f"in {least}..{_in_words(most)}"
        raise ValueError(f"{name} must be an integer {allowed}, got {shown(value if found is None else found)}")
    return found


def number(name: str, value: object) -> float:
    """An argument as a Python float: a number of Python's or NumPy's, or a tensor that holds one.

    Raises:
        ValueError: If it is not a number.
    """
    found = plain(value)
    with contextlib.suppress(TypeError, ValueError, OverflowError, RuntimeError):
        if isinstance(found, float | SupportsFloat) and not isinstance(found, bool):  # text is not
            return float(found)
    raise ValueError(f"{name} must be a number, got {shown(value)}")


def tensor(name: str, value: object, kind: str = "torch.Tensor or an array of numbers") -> Tensor:
    """An argument as a tensor: itself, or one with the same numbers on the CPU, without a copy where that is possible.

    Args:
        name: Of the argument, for the error.
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
            # torch needs the native byte order and no negative strides
            array = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
            return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))
    except (TypeError, ValueError, RuntimeError):  # lists of different lengths, or a type that torch does not have
        pass
    raise ValueError(f"{name} must be a {kind}, got {type(value).__name__}")


def readable(values: Tensor) -> bool:
    """Whether a tensor's values can be looked at, to check them: not while PyTorch compiles, exports or transforms the
    function that does (`torch.compile`, `torch.export`, `torch.func`), nor on the device "meta".
    """
    import torch

    if torch.compiler.is_compiling() or values.is_meta:
        return False
    transformed: bool = torch._C._functorch.is_functorch_wrapped_tensor(values)
    return not transformed


def transforming() -> bool:
    """Whether a transform of `torch.func` is being applied to the function that asks."""
    import torch

    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def bounds(values: Tensor) -> tuple[int, int]:
    """The smallest and the largest of at least one integer, of any integer type."""
    import torch

    if values.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        values = values.to(torch.int64)  # torch cannot compare the others; 2**63 and more become negative
    low, top = torch.aminmax(values)
    return int(low), int(top)


def plain(value: Any) -> Any:
    """A value in Python's own types: NumPy's and torch's numbers become Python's, and lists tuples."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def shown(value: object) -> str:
    """A value as an error shows it, in one line: arrays have several."""
    return " ".join(line.strip() for line in repr(value).splitlines())


class _Writable:
    """A read-only array as a writable one, since torch warns of others; nobody writes to it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # kept alive
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


def _in_words(most: int) -> str:
    """A large number that is a power of two, or one less, in that form."""
    for power, text in ((most, "2**{}"), (most + 1, "2**{}-1")):
        if most > 2**31 and power & (power - 1) == 0:
            return text.format(power.bit_length() - 1)
    return str(most)
