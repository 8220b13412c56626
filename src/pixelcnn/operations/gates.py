"""Gates: one half of the features, with or without tanh, times the sigmoid of the other half.

    gate    tanh(a) * sigmoid(b)      as in the gated PixelCNN
    glu     a * sigmoid(b)            as in PixelCNN++

Each colour group has a half a, followed by a half b.

References:
    | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), https://arxiv.org/abs/1606.05328
    | Language Modeling with Gated Convolutional Networks (Dauphin et al., 2017), https://arxiv.org/abs/1612.08083
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arithmetic import Arithmetic
from pixelcnn.operations.base import Exporter, Node, Part, Pointwise, halves

__all__ = ["GLU", "Gate"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gated(Pointwise):
    """Features (..., 2 f), a before b in each colour group, to (..., f)."""

    def features(self, *inputs: int) -> int:
        """Half as many."""
        return inputs[0] // 2

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """The sigmoid is below 1."""
        return max(1.0, *bounds), 0.0

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        x = graph.split(graph.operand(node.inputs[0], node), 2 * self.groups)
        a, b = (graph.node("Gather", x, graph.constant(list(range(k, 2 * self.groups, 2))), axis=-2) for k in (0, 1))
        return graph.joined(graph.node("Mul", self._of_a(graph, a), graph.node("Sigmoid", b)), node.target)

    def _of_a(self, graph: Exporter, a: str) -> str:
        return a


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate(_Gated):
    """tanh(a) * sigmoid(b)."""

    opcode: ClassVar[int] = 2

    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """See `Pointwise.compute`."""
        a, b = halves(inputs[0], part.groups)
        return arithmetic.rounded(arithmetic.tanh(a) * arithmetic.sigmoid(b)).flatten(-2)

    def _of_a(self, graph: Exporter, a: str) -> str:
        return graph.node("Tanh", a)


@dataclass(frozen=True, kw_only=True, eq=False)
class GLU(_Gated):
    """The gated linear unit, a * sigmoid(b)."""

    opcode: ClassVar[int] = 3

    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """See `Pointwise.compute`."""
        if part.groups == 1 and not arithmetic.exact:
            return F.glu(inputs[0], -1)
        a, b = halves(inputs[0], part.groups)
        return arithmetic.rounded(a * arithmetic.sigmoid(b)).flatten(-2)
