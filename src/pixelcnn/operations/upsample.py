"""Upsampling of a coarse context: features of a cell, repeated over the pixels or smaller cells that it consists of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pixelcnn.operations.base import Exporter, Front, Node, Operation, Packer, Part, Whole

__all__ = ["Upsample"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Upsample(Operation):
    """Features of cells of `cell` x `cell` pixels, each repeated at the cells of `to` x `to` pixels within it."""

    cell: int
    to: int = 1
    opcode: ClassVar[int] = 9

    @property
    def factor(self) -> int:
        """How many times a feature is repeated in each direction."""
        return self.cell // self.to

    def features(self, *inputs: int) -> int:
        """As many as the input."""
        return inputs[0]

    def scale(self, *inputs: int) -> int:
        """The input's, divided by the factor."""
        return inputs[0] // self.factor

    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """(N, ceil(H / cell), ceil(W / cell), f) to (N, ceil(H / to), ceil(W / to), f)."""
        height, width = (-(-side // self.to) for side in view.image.shape[1:3])
        x_nchw = inputs[0].permute(0, 3, 1, 2)  # channels last
        repeated = F.interpolate(x_nchw, scale_factor=self.factor, mode="nearest")
        return repeated.permute(0, 2, 3, 1)[:, :height, :width]

    def above(self, scale: int) -> float:
        """From the last row of a cell to its first."""
        return self.cell - self.to

    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """A row of the result, all colour groups: networks with a coarse context are run row by row."""
        coarse, width = front.row(node.inputs[0]), len(front.row(node.target))
        return lambda: coarse.repeat_interleave(self.factor, 0)[:width]

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """The same as the input's."""
        return bounds[0], 0.0

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """The factor."""
        return {"stride": self.factor}

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        return graph.upsampled(node, self.factor)
