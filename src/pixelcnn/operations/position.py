"""Learned features of each position, to be added, which tell a network where a pixel lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pixelcnn.arithmetic import grid
from pixelcnn.layers import PositionTable
from pixelcnn.operations.base import Exporter, Front, Node, Operation, Packer, Part, Whole

__all__ = ["Position"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Position(Operation):
    """The table's features at each position; only for adding to other features."""

    table: PositionTable
    opcode: ClassVar[int] = 5

    def features(self, *inputs: int) -> int:
        """As many as the table has."""
        return self.table.features

    def scale(self, *inputs: int) -> int:
        """The table's scale."""
        return self.table.scale

    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """(1, rows, columns, features)."""
        return view.arithmetic.settled(self.table.forward())[None]

    def above(self, scale: int) -> float:
        """It depends on where in the image it is."""
        return math.inf

    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """(P, 1, features of the group)."""
        table = self.table.forward().flatten(0, 1)[:, front.part(node, group).columns]
        table, positions = front.arithmetic.settled(table.clone()).unsqueeze(1), front.positions(node)
        return lambda: table[positions()]

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """Clamped to the limit."""
        return grid.LIMIT, grid.LIMIT

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """The table, restricted to the part's features."""
        return {"weights": packer.keep(packer.arithmetic.settled(self.table.forward())[..., part.columns])}

    def slots(self, node: Node) -> dict[str, int]:
        """It reads nothing; compiled code uses the target as the source."""
        return {"source": node.target}

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        return graph.at_positions(self.table.forward(), node)
