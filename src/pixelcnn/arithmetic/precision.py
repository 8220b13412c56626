"""The precision in which a network is computed: its own dtype's, or with operands in bfloat16.

`precision="bf16"` is one rule, the same for every network, view and engine: **the two operands of every product,
features or conditions and weights, are rounded to bfloat16** (8 bits, to nearest, ties to even); their products, which
float32 represents exactly, are summed in float32. Biases, activations, sums and the raw parameters stay float32, and
the draw float64. It is a model in its own right, close to the one in float32, and `log_prob(images, precision="bf16")`
is its likelihood. Engines may still differ in the order of the float32 sums; but a sum that then rounds the other way
is off by one part in 256 in the next layer, so engines agree on the same images less often than in float32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TypeVar, get_args

import torch

__all__ = ["Precision", "check_precision", "default_factories", "exact_products", "in_exact_products"]

Precision = Literal["float32", "bf16"]


def check_precision(precision: str | None, dtype: torch.dtype) -> None:
    """Checks that a precision exists and suits a model of the given dtype.

    Raises:
        ValueError: If there is no precision of that name, or the model is not in float32.
    """
    if precision is not None and precision not in get_args(Precision):
        raise ValueError(f"precision must be {', '.join(get_args(Precision))} or None, got {precision!r}")
    if precision is not None and dtype != torch.float32:
        raise ValueError(f"precision must be None for a model in {dtype}, got {precision!r}: try model.float()")


class _Fp32Precision:
    """Temporarily sets `fp32_precision` of some PyTorch backends, to the most exact value currently asked for."""

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
    """Context in which float32 numbers are multiplied exactly before they are summed, whatever PyTorch's settings are.

    Autocast is off, and so are reduced-precision products of float32 numbers (TensorFloat-32, which rounds operands to
    11 bits, on a GPU; bfloat16 on a CPU). The exception is "bf16" on a GPU: there operands have 8 bits, so that
    TensorFloat-32 changes nothing and is several times faster. The caller's settings are restored afterwards. Code that
    PyTorch compiles multiplies as the caller has set.
    """
    with ExitStack() as stack:
        if device.type != "meta" and torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if not torch.compiler.is_compiling() and (backends := _FP32_PRECISIONS.get(device.type)) is not None:
            fast = precision == "bf16" and device.type == "cuda"
            stack.enter_context(backends.at("tf32" if fast else "ieee"))
        yield


@contextmanager
def default_factories() -> Iterator[None]:
    """Context in which new tensors are float32 and on the CPU by default, whatever the caller has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


T = TypeVar("T")


def in_exact_products(steps: Iterator[T], precision: Precision | None, device: torch.device) -> Iterator[T]:
    """The items of an iterator, with each step taken within `exact_products`."""
    while True:
        with exact_products(precision, device):
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step
