"""What an operation is: everything that views, schedules, engines and exporters ask of one.

A network is a function of a view, and asks it for operations: `view(Gate(groups=3), x)`. Each operation is one module
of this package, a subclass of `Operation` that says all the operation means:

    features       how many features its result has
    whole          its result for whole images, in training and scoring
    at_front       its result at the pixels that are being generated now, from neighbours in caches
    needs          which values it reads, and how early they have to be there
    scale          on which grid its result lies: at each pixel, or at each cell of a coarse context
    by_rows        whether it can be computed a row at a time, before the row's first pixel is drawn
    bound          what its result and its sums can come to, which proves that the grid's arithmetic is exact
    packed         its line for compiled code, whose `opcode` is its case in operations.h
    exported       its ONNX nodes

Whatever is computed goes over an `Arithmetic` (`pixelcnn.arithmetic`), so that floating point and the grid share the
definition. Operations on a pixel's own features alone derive from `Pointwise` and define `compute` instead of `whole`,
`at_front` and `needs`. Adding an operation is one module here and, for the native engine, one case in operations.h.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from pixelcnn.arithmetic import Arithmetic
from pixelcnn.layers import MaskedConv2d, group_bounds

__all__ = ["IMAGE", "Exporter", "Front", "Node", "Operation", "Packer", "Part", "Pointwise", "View", "Whole", "halves"]

IMAGE = 0
"""The value of a recorded program that stands for the image."""
Numbers = Any
"""A NumPy array, a tensor, a number or a list of integers."""


@dataclass(frozen=True)
class Part:
    """Which features of a result are computed together: those of one colour group, or of all."""

    groups: int
    """Colour groups among them."""
    columns: slice
    """Where they stand among all features of the result."""

    @classmethod
    def of(cls, features: int, groups: int, group: int | None) -> Part:
        """One group of so many, or all of them for None; a value of one group has only that one."""
        if group is None:
            return cls(groups, slice(0, features))
        return cls(1, slice(*group_bounds(features, groups)[group if groups > 1 else 0]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation(ABC):
    """An operation with its parameters; what it reads is given when it is asked for."""

    opcode: ClassVar[int]
    """Its number in operations.h."""
    groups: int = 1
    """Colour groups of the result."""

    @abstractmethod
    def features(self, *inputs: int) -> int:
        """How many features the result has, given those of what is read."""

    @abstractmethod
    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """The result for whole images: (N, rows, columns, features) of the same."""

    @abstractmethod
    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """The result at the current positions of a front, (P, N, features of the group), as a function to be called.

        All groups for None. The result may have P or N of 1 where all are the same.
        """

    def needs(self, node: Node, height: int, width: int, slope: int) -> Iterator[tuple[int, int]]:
        """Which values are read, and by how many steps their lead must at least exceed the result's.

        The image counts as a value of lead -1. See `pixelcnn.sampling.schedule`.
        """
        for value in node.inputs:
            yield value, 0

    def scale(self, *inputs: int) -> int:
        """How many pixels apart the positions of the result are, given those of what is read."""
        return inputs[0] if inputs else 1

    def by_rows(self, node: Node, rows: Iterable[int]) -> bool:
        """Whether the result can be computed a row at a time where the values `rows` are."""
        return set(node.inputs) <= set(rows)

    @abstractmethod
    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """What the size of the result and of the largest sum in it can come to, given that of what is read.

        Args:
            features: Of what is read.
            bounds: Largest sizes of the same.
        """

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """Further fields of `struct op` in engine.c, beside those that every operation has."""
        return {}

    def slots(self, node: Node) -> dict[str, int]:
        """The values that `source`, `add` and `residual` of `struct op` stand for."""
        return dict(zip(("source", "residual", "add"), node.inputs, strict=False))

    def in_place(self, node: Node) -> tuple[int, ...]:
        """The values that are read number by number, so that compiled code may write the result over one of them."""
        return ()

    def exported(self, graph: Exporter, node: Node) -> str:
        """The name of the result after its nodes have been added to an ONNX graph, (..., features).

        Raises:
            ValueError: If the operation cannot be exported.
        """
        raise ValueError(f"models with {type(self).__name__.lower()} are not exported to ONNX")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pointwise(Operation):
    """An operation on a pixel's own features, one colour group after the other."""

    def features(self, *inputs: int) -> int:
        """As many as the first input."""
        return inputs[0]

    @abstractmethod
    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """The result from features (..., in) of the part's colour groups: (..., features of the part)."""

    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """See `Operation.whole`."""
        return self.compute(view.arithmetic, Part(self.groups, slice(None)), *inputs)

    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """See `Operation.at_front`."""
        part, op = front.part(node, group), self.frozen()
        read = [front.operand(value, node, front.part(node, group, value).columns) for value in node.inputs]
        if len(read) == 1:
            (only,) = read
            return lambda: op.compute(front.arithmetic, part, only())
        return lambda: op.compute(front.arithmetic, part, *(one() for one in read))

    def frozen(self) -> Self:
        """The same with parameters of its own, which do not change when the model's do."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operation of a recorded program: target = op(inputs) + residual, values by their numbers."""

    op: Operation
    inputs: tuple[int, ...]
    target: int
    residual: int | None = None
    """What is added to a convolution's result while it is at hand; None for nothing."""

    @property
    def reads(self) -> tuple[int, ...]:
        """All values that are read."""
        return self.inputs if self.residual is None else (*self.inputs, self.residual)


class View(Protocol):
    """What a network sees of the images: it asks for operations, and adds results with `+`."""

    image: Tensor
    """Scaled pixel values, (..., channels), the first input of what reads the image."""

    @property
    def conditional(self) -> bool:
        """Whether the images are conditioned on something."""
        ...

    def __call__(self, op: Operation, /, *inputs: Tensor | None) -> Tensor:
        """The operation's result; inputs that are None are left out."""
        ...

    def dropout(self, x: Tensor) -> Tensor:
        """The features themselves; in training with dropout, some of them are zero."""
        ...


class Whole(View, Protocol):
    """A view of whole images, (N, H, W, channels)."""

    arithmetic: Arithmetic
    condition: Tensor | None
    """What the images are conditioned on, (N, D); None for nothing."""


class Front(Protocol):
    """What an operation may ask of the pixels that are being generated now: P positions of N images.

    The functions that it returns give what stands there at the time at which they are called.
    """

    arithmetic: Arithmetic
    n: int

    def part(self, node: Node, group: int | None, value: int | None = None) -> Part:
        """The features of one colour group of a node's result, or of a value that it reads."""
        ...

    def operand(self, value: int, node: Node, columns: slice) -> Callable[[], Tensor]:
        """A value at the node's current positions, (P, N, columns), either of which may be 1."""
        ...

    def seen(self, node: Node, layer: MaskedConv2d) -> list[tuple[list[tuple[int, int]], Callable[[], Tensor]]]:
        """What the layer's taps see of the node's first input, in a few pieces: some taps, and (P * N, taps * in)."""
        ...

    def positions(self, node: Node) -> Callable[[], slice]:
        """The current positions, as raster indices on the grid of the node's result."""
        ...

    def row(self, value: int) -> Tensor:
        """The current row of a value that is computed a row at a time: (columns, N, features)."""
        ...

    def before(self, value: int) -> Callable[[int], Tensor]:
        """A value at all pixels before one, by that one's raster index: (N * heads, pixels, features of a head)."""
        ...

    def per_image(self, node: Node) -> Tensor:
        """Room for what is the same at all pixels of an image: (N, features); filled by `Condition`."""
        ...


class Packer(Protocol):
    """What an operation may ask of the packing of weights for compiled code."""

    arithmetic: Arithmetic

    def features(self, value: int) -> int:
        """How many features a value has."""
        ...

    def keep(self, values: Tensor) -> int:
        """Puts numbers behind the others, aligned, and returns where."""
        ...

    def product(self, node: Node, layer: MaskedConv2d, columns: slice) -> dict[str, int]:
        """Packs the weights and the bias of some of the layer's output channels; returns the fields that say where."""
        ...


class Exporter(Protocol):
    """An ONNX graph under construction, for whole images or for the pixels of a step."""

    condition: str | None
    """What the images are conditioned on, (N, D)."""

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The only output of a new node."""
        ...

    def constant(self, value: Numbers) -> str:
        """A constant."""
        ...

    def operand(self, value: int, node: Node) -> str:
        """A value at the node's positions, (..., features)."""
        ...

    def conv(self, node: Node, layer: MaskedConv2d) -> str:
        """The convolution of the node's first input with the layer's bias, (..., out)."""
        ...

    def at_positions(self, table: Tensor, node: Node) -> str:
        """Rows of a table (rows, columns, features) at the node's positions, in a shape that can be added."""
        ...

    def upsampled(self, node: Node, factor: int) -> str:
        """The features of the cells of the first input in which the node's positions lie, (..., features)."""
        ...

    def everywhere(self, per_image: str) -> str:
        """Features (N, f) of each image in a shape that can be added."""
        ...

    def split(self, value: str, parts: int) -> str:
        """Features (..., parts * f) as (..., parts, f)."""
        ...

    def joined(self, value: str, target: int) -> str:
        """The reverse, (..., features of the target)."""
        ...


def halves(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """The first and the second half of the features (..., 2 f) of each colour group: (..., groups, f / groups)."""
    a, b = x.view(*x.shape[:-1], groups, 2, x.shape[-1] // groups // 2).unbind(-2)
    return a, b
