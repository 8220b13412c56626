"""How networks are computed: in floating point, or exactly on a grid of binary fractions.

An operation (`pixelcnn.operations`) is written once, over an `Arithmetic`, which defines what operands, results and the
few transcendental functions are rounded to:

    Arithmetic      the tensors' own floating-point type, or operands rounded to bfloat16
                    (`pixelcnn.arithmetic.precision`)
    Grid            multiples of powers of two, whose float64 sums are exact (`pixelcnn.arithmetic.grid`): the same
                    bits in any order of summation, on any machine
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arithmetic import grid
from pixelcnn.arithmetic.precision import Precision

__all__ = ["GRID", "Arithmetic", "Grid", "Precision"]


class Arithmetic:
    """Floating point.

    Args:
        precision: What the operands of products are rounded to, see `pixelcnn.arithmetic.precision`.
    """

    exact: ClassVar[bool] = False
    """Whether sums are exact, so that their order does not matter."""

    def __init__(self, precision: Precision | None = None) -> None:
        self.precision = precision

    def operand(self, x: Tensor) -> Tensor:
        """A feature or weight as it enters a product."""
        return x.bfloat16().to(x.dtype) if self.precision == "bf16" else x

    def settled(self, x: Tensor) -> Tensor:
        """A layer's sum, as the next layer reads it."""
        return x

    def rounded(self, x: Tensor) -> Tensor:
        """The result of a pointwise function, as the next operation reads it."""
        return x

    def tanh(self, x: Tensor) -> Tensor:
        """The hyperbolic tangent."""
        return torch.tanh(x.contiguous())  # on strided features PyTorch is ten times slower

    def sigmoid(self, x: Tensor) -> Tensor:
        """The logistic function."""
        return torch.sigmoid(x.contiguous())

    def elu(self, x: Tensor) -> Tensor:
        """The exponential linear unit."""
        return F.elu(x)


class Grid(Arithmetic):
    """Exact arithmetic for a network in float64 whose parameters are on their grid."""

    exact = True

    def settled(self, x: Tensor) -> Tensor:
        """Rounded to the activations' grid and clamped to its limit."""
        return grid.clamped(x)

    def rounded(self, x: Tensor) -> Tensor:
        """Rounded to the activations' grid."""
        return grid.rounded(x)

    def tanh(self, x: Tensor) -> Tensor:
        """See `grid.tanh`."""
        return grid.tanh(x)

    def sigmoid(self, x: Tensor) -> Tensor:
        """See `grid.sigmoid`."""
        return grid.sigmoid(x)

    def elu(self, x: Tensor) -> Tensor:
        """See `grid.elu`."""
        return grid.elu(x)


GRID = Grid()
