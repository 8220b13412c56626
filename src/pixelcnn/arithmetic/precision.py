"""In which arithmetic a network is computed: its own type's, or with operands in bfloat16.

`precision="bf16"` is one rule, the same for every network, view and engine: **the two operands of every product,
features or conditions and weights, are rounded to bfloat16** (8 bits, to nearest, ties to even); their products, which
float32 holds exactly, are summed in float32, and biases, activations, sums and the raw parameters stay float32, the
draw float64. It is a model of its own, close to the one in float32, and `log_prob(images, precision="bf16")` is its
likelihood. What two engines may differ in is the order of the float32 sums, as without it; but a sum that then falls to
the other side of a rounding is off by one part in 256 in the next layer, so they draw the same images less often than
in float32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

__all__ = ["Precision", "as_operand", "check_precision", "default_factories", "exact_products", "in_exact_products"]

Precision = Literal["float32", "bf16"]


def as_operand(x: Tensor, precision: Precision | None) -> Tensor:
    """`x` as it enters a product, in its own type: rounded to bfloat16 for "bf16"."""
    return x.bfloat16().to(x.dtype) if precision == "bf16" else x


def check_precision(precision: str | None, dtype: torch.dtype) -> None:
    """Looks at a precision for a model of some type.

    Raises:
        ValueError: If there is none of that name, or the model is not in float32.
    """
    if precision is not None and precision not in get_args(Precision):
        raise ValueError(f"precision must be {', '.join(get_args(Precision))} or None, got {precision!r}")
    if precision is not None and dtype != torch.float32:
        raise ValueError(f"precision must be None for a model in {dtype}, got {precision!r}: try model.float()")


class _Fp32Precision:
    """`fp32_precision` of some of PyTorch's backends, for a while another: by the most exact of all who ask for one."""

    def __init__(self, *backends: Any) -> None:
        self._backends = backends
        self._lock = threading.Lock()
        self._asked: list[str] = []
        self._before: list[str] = []

    @contextmanager
    def at(self, value: Literal["ieee", "tf32"]) -> Iterator[None]:
        with self._lock:
            if not self._asked:
                self._before = [backend.fp32_precision for backend in self._backends]
            self._asked.append(value)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._asked.remove(value)
                self._set()

    def _set(self) -> None:
        value = "ieee" if "ieee" in self._asked else "tf32"
        values = [value] * len(self._backends) if self._asked else self._before
        for backend, value in zip(self._backends, values, strict=True):
            backend.fp32_precision = value


_FP32_PRECISIONS = {
    "cpu": _Fp32Precision(torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv),  # type: ignore[attr-defined]
    "cuda": _Fp32Precision(torch.backends.cuda.matmul, torch.backends.cudnn.conv),  # type: ignore[attr-defined]
}


@contextmanager
def exact_products(precision: Precision | None, device: torch.device) -> Iterator[None]:
    """Within it float32 numbers are multiplied exactly before they are summed, whatever the caller has set for PyTorch.

    Autocast is off, and so is what a product of float32 numbers may be computed by instead (TensorFloat-32, which
    rounds operands to 11 bits, on a GPU; bfloat16 on a CPU), but on a GPU for "bf16": there operands have 8 bits, so
    that TensorFloat-32 changes nothing and is several times faster. The caller's settings come back after it.
    """
    with ExitStack() as stack:
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if (backends := _FP32_PRECISIONS.get(device.type)) is not None:
            fast = precision == "bf16" and device.type == "cuda"
            stack.enter_context(backends.at("tf32" if fast else "ieee"))
        yield


@contextmanager
def default_factories() -> Iterator[None]:
    """Within it new tensors are in float32 and on the CPU unless it is said otherwise, whatever the caller has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


T = TypeVar("T")


def in_exact_products(steps: Iterator[T], precision: Precision | None, device: torch.device) -> Iterator[T]:
    """What an iterator gives, each step of it taken within `exact_products`."""
    while True:
        with exact_products(precision, device):
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step
