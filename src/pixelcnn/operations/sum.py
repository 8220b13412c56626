"""Sum of two values, which `+` between features means; right after a convolution it is fused into it as a residual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pixelcnn.arithmetic import Arithmetic
from pixelcnn.operations.base import Exporter, Node, Part, Pointwise

__all__ = ["Sum"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sum(Pointwise):
    """x + y."""

    opcode: ClassVar[int] = 1

    def features(self, *inputs: int) -> int:
        """As many as each input."""
        if inputs[0] != inputs[1]:
            raise TypeError(f"terms of a sum must have as many features, got {inputs}")
        return inputs[0]

    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """See `Pointwise.compute`."""
        x, y = inputs
        return x + y

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """The sum of both."""
        return sum(bounds), sum(bounds)

    def in_place(self, node: Node) -> tuple[int, ...]:
        """Both."""
        return node.inputs

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        return graph.node("Add", *(graph.operand(value, node) for value in node.inputs))
