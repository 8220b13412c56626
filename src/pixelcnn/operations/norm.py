"""Normalisation of the features at each pixel, by colour group, without parameters.

    rms(x)     x / sqrt(mean(x^2) + 2^-16)
    pono(x)    rms(x - mean(x))

The means go over the features of the pixel's colour group. What a batch or other pixels hold does not matter, so the
network stays causal. On the grid, features are clamped to 2^10, squares and their sums are exact, and the mean, the
quotient and the root are each rounded once.

References:
    | Root Mean Square Layer Normalization (Zhang & Sennrich, 2019), https://arxiv.org/abs/1910.07467
    | Positional Normalization (Li et al., 2019), https://arxiv.org/abs/1907.04312
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pixelcnn.arithmetic import Arithmetic, grid
from pixelcnn.operations.base import Exporter, Node, Packer, Part, Pointwise

__all__ = ["Norm"]

_KINDS = ("rms", "pono")  # in the order of operations.h
_EPSILON = 2.0**-16


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm(Pointwise):
    """One of the functions above; colour groups must be of equal size."""

    kind: Literal["rms", "pono"]
    opcode: ClassVar[int] = 13

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {self.kind!r}")

    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """See `Pointwise.compute`."""
        *outer, features = inputs[0].shape
        x = inputs[0].reshape(*outer, part.groups, features // part.groups)
        # a tensor, since on a GPU PyTorch does not divide by a number but multiplies with its rounded reciprocal
        size = x.new_full((), x.shape[-1]) if arithmetic.exact else x.shape[-1]
        if arithmetic.exact:
            x = x.clamp(-grid.LIMIT, grid.LIMIT)
        if self.kind == "pono":
            x = x - arithmetic.rounded(x.sum(-1, keepdim=True) / size)
            x = x.clamp(-grid.LIMIT, grid.LIMIT) if arithmetic.exact else x
        root = torch.sqrt((x * x).sum(-1, keepdim=True) / size + _EPSILON)
        return arithmetic.rounded(x / root).flatten(-2)

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """A feature is at most the root of their number times the root of their mean square; squares have two bits less
        behind the point than a convolution's products.
        """
        size = -(-features[0] // self.groups)
        largest = min(grid.LIMIT, bounds[0] * (1 if self.kind == "rms" else 2))
        return math.sqrt(size) + 1, size * largest**2 / 4

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """See `Operation.packed`."""
        return {"count": _KINDS.index(self.kind)}

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        x = graph.split(graph.operand(node.inputs[0], node), self.groups)
        if self.kind == "pono":
            x = graph.node("Sub", x, graph.node("ReduceMean", x, axes=[-1]))
        square = graph.node("ReduceMean", graph.node("Mul", x, x), axes=[-1])
        root = graph.node("Sqrt", graph.node("Add", square, graph.constant(_EPSILON)))
        return graph.joined(graph.node("Div", x, root), node.target)
