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

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["Precision", "as_operand", "check_precision", "exact_products"]

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


@contextmanager
def exact_products(precision: Precision | None, device: torch.device) -> Iterator[None]:
    """Within it CUDA multiplies float32 numbers exactly before it sums them; the caller's settings come back after it.

    TensorFloat-32, which rounds operands to 11 bits, is off, but for "bf16": there operands have 8 bits, so that it
    changes nothing and is several times faster.
    """
    if device.type != "cuda":
        yield
        return
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "tf32" if precision == "bf16" else "ieee"
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value
