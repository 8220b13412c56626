"""Smooth elementwise activations.

    elu(x)     x where it is positive, otherwise exp(x) - 1
    silu(x)    x * sigmoid(x)
    gelu(x)    x * sigmoid(1.5957691 x + 0.0713548 x^3), which is x / 2 * (1 + tanh(0.7978846 (x + 0.044715 x^3)))

On the grid the two coefficients are multiples of 2^-14, and x is clamped to -8..8 in the polynomial, beyond which the
sigmoid is 0 or 1.

References:
    | Fast and Accurate Deep Network Learning by Exponential Linear Units (Clevert et al., 2016), https://arxiv.org/abs/1511.07289
    | Gaussian Error Linear Units (Hendrycks & Gimpel, 2016), https://arxiv.org/abs/1606.08415
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arithmetic import Arithmetic, grid
from pixelcnn.operations.base import Exporter, Node, Packer, Part, Pointwise

__all__ = ["Activation"]

_KINDS = ("elu", "silu", "gelu")  # in the order of operations.h
_LINEAR, _CUBIC = 1.5957691216057308, 0.0713548162726009


@dataclass(frozen=True, kw_only=True, eq=False)
class Activation(Pointwise):
    """One of the functions above."""

    kind: Literal["elu", "silu", "gelu"]
    opcode: ClassVar[int] = 11

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {self.kind!r}")

    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """See `Pointwise.compute`."""
        (x,) = inputs
        if self.kind == "elu":
            return arithmetic.elu(x)
        if not arithmetic.exact:
            return F.silu(x) if self.kind == "silu" else F.gelu(x, approximate="tanh")
        y = x
        if self.kind == "gelu":
            linear, cubic = (round(c * 2.0**grid.WEIGHT_BITS) * 2.0**-grid.WEIGHT_BITS for c in (_LINEAR, _CUBIC))
            y = x.clamp(-8, 8)
            y = grid.rounded(y * (grid.rounded(y * y) * cubic + linear))
        return grid.rounded(x * grid.sigmoid(y))

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """The sigmoid is below 1, and elu above -1."""
        return max(1.0, bounds[0]), 0.0

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """See `Operation.packed`."""
        return {"count": _KINDS.index(self.kind)}

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        x = graph.operand(node.inputs[0], node)
        if self.kind == "elu":
            return graph.node("Elu", x)
        y = x
        if self.kind == "gelu":
            square = graph.node("Mul", graph.node("Mul", x, x), graph.constant(_CUBIC))
            y = graph.node("Mul", x, graph.node("Add", square, graph.constant(_LINEAR)))
        return graph.node("Mul", x, graph.node("Sigmoid", y))
