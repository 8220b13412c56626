"""Concatenation of the exponential linear units of the features and of their negatives, as in PixelCNN++.

References:
    | PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pixelcnn.arithmetic import Arithmetic
from pixelcnn.operations.base import Exporter, Node, Part, Pointwise

__all__ = ["ConcatELU"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConcatELU(Pointwise):
    """elu(x) and elu(-x) side by side in each colour group: features (..., f) to (..., 2 f)."""

    opcode: ClassVar[int] = 4

    def features(self, *inputs: int) -> int:
        """Twice as many."""
        return 2 * inputs[0]

    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """See `Pointwise.compute`."""
        *outer, features = inputs[0].shape
        x = inputs[0].reshape(*outer, part.groups, features // part.groups)
        return arithmetic.elu(torch.cat([x, -x], -1)).flatten(-2)

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """Negative values stay above -1."""
        return max(1.0, *bounds), 0.0

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        x = graph.operand(node.inputs[0], node)
        x = x if self.groups == 1 else graph.split(x, self.groups)
        y = graph.node("Elu", graph.node("Concat", x, graph.node("Neg", x), axis=-1))
        return y if self.groups == 1 else graph.joined(y, node.target)
