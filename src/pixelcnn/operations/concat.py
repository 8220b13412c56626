"""Concatenation of the features of two values, within each colour group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pixelcnn.arithmetic import Arithmetic
from pixelcnn.operations.base import Exporter, Node, Packer, Part, Pointwise

__all__ = ["Concat"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Pointwise):
    """Features (..., f) and (..., g) to (..., f + g); the number of colour groups must divide both f and g."""

    opcode: ClassVar[int] = 12

    def features(self, *inputs: int) -> int:
        """The sum of those of the inputs."""
        if any(count % self.groups for count in inputs):
            raise ValueError(f"features must be multiples of the {self.groups} colour groups, got {inputs}")
        return sum(inputs)

    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """See `Pointwise.compute`."""
        # One may be the same at all positions.
        shape = torch.broadcast_shapes(*(x.shape[:-1] for x in inputs))  # type: ignore[no-untyped-call]
        if part.groups == 1:
            return torch.cat([x.expand(*shape, -1) for x in inputs], -1)
        grouped = [torch.unflatten(x, -1, (part.groups, -1)).expand(*shape, -1, -1) for x in inputs]
        return torch.cat(grouped, -1).flatten(-2)

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """The larger of the two."""
        return max(bounds), 0.0

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """Where the colour group's features begin in both inputs, and how many come from the first."""
        first, second = (packer.features(value) // self.groups for value in node.inputs)
        group = part.columns.start // (first + second)
        return {"runs": group * first, "count": first, "bias": group * second}

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        inputs = [graph.operand(value, node) for value in node.inputs]
        if self.groups == 1:
            return graph.node("Concat", *inputs, axis=-1)
        grouped = [graph.split(x, self.groups) for x in inputs]
        return graph.joined(graph.node("Concat", *grouped, axis=-1), node.target)
