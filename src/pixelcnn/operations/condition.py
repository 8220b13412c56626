"""Conditioning: a linear layer of what the images are conditioned on, the same features at every pixel, to be added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from pixelcnn.arithmetic import Arithmetic, grid
from pixelcnn.operations.base import Exporter, Front, Node, Operation, View, Whole

__all__ = ["Condition", "condition_term"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Condition(Operation):
    """layer(condition) at every pixel; only for adding to other features."""

    layer: nn.Linear
    opcode: ClassVar[int] = -1  # engine.c finds its result in memory, see `pixelcnn.sampling.native.layout`

    def features(self, *inputs: int) -> int:
        """As many as the layer has outputs."""
        return self.layer.out_features

    def of_images(self, arithmetic: Arithmetic, condition: Tensor) -> Tensor:
        """The features of images, (N, features), from what they are conditioned on, (N, D)."""
        own = condition[:, : self.layer.in_features].to(self.layer.weight.dtype)  # a map's numbers may follow
        x, weight = arithmetic.operand(arithmetic.settled(own)), arithmetic.operand(self.layer.weight)
        return arithmetic.settled(F.linear(x, weight, self.layer.bias))

    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """(N, 1, 1, features)."""
        assert view.condition is not None
        return self.of_images(view.arithmetic, view.condition)[:, None, None]

    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """(1, N, features), filled in once per batch."""
        values = front.per_image(node)[:, front.part(node, group).columns].unsqueeze(0)
        return lambda: values

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """What images are conditioned on is clamped to the limit as well."""
        sums = self.layer.weight.abs().sum(1) * grid.LIMIT
        return grid.LIMIT, float((sums if self.layer.bias is None else sums + self.layer.bias.abs()).max())

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        assert graph.condition is not None
        y = graph.node("MatMul", graph.condition, graph.constant(self.layer.weight.t()))
        y = y if self.layer.bias is None else graph.node("Add", y, graph.constant(self.layer.bias))
        return graph.everywhere(y)


def condition_term(view: View, layer: nn.Linear | None, groups: int) -> Tensor | None:
    """The layer's features for what the images are conditioned on; None without a layer, or unconditionally."""
    return None if layer is None or not view.conditional else view(Condition(layer=layer, groups=groups))
