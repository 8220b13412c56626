"""Scaling of each feature by a learned factor."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pixelcnn.arithmetic import Arithmetic, grid
from pixelcnn.operations.base import Exporter, Node, Packer, Part, Pointwise

__all__ = ["FeatureScale", "Scale"]


class FeatureScale(nn.Module):
    """The factors, initially 1.

    Args:
        features: Number of features.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(features))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale(Pointwise):
    """x * factor."""

    layer: FeatureScale
    opcode: ClassVar[int] = 10

    def features(self, *inputs: int) -> int:
        """As many as the input."""
        if inputs[0] != len(self.layer.factor):
            raise TypeError(f"Scale has {len(self.layer.factor)} factors, and its input {inputs[0]} features")
        return inputs[0]

    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """See `Pointwise.compute`."""
        return arithmetic.settled(inputs[0] * self.layer.factor[part.columns])

    def frozen(self) -> Scale:
        """See `Pointwise.frozen`."""
        return Scale(layer=copy.deepcopy(self.layer), groups=self.groups)

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """Clamped to the limit."""
        return grid.LIMIT, float(self.layer.factor.abs().max()) * max(1.0, bounds[0])

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """See `Operation.packed`."""
        return {"weights": packer.keep(self.layer.factor[part.columns])}

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        return graph.node("Mul", graph.operand(node.inputs[0], node), graph.constant(self.layer.factor))
