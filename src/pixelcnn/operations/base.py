"""The definition of an operation: everything that views, schedules, engines and exporters ask of one.

A network is a function of a view, which it asks for operations: `view(Gate(groups=3), x)`. Each operation is one module
of this package, a subclass of `Operation` that defines everything about it:

    features       how many features its result has
    whole          its result for whole images, in training and scoring
    at_front       its result at the pixels being generated now, reading neighbours from caches
    needs          which values it reads, and how early they must be available
    scale          on which grid its result lies: at each pixel, or at each cell of a coarse context
    above          how many rows up it reads, to compute a large image in stripes
    by_rows        whether it can be computed a row at a time, before the row's first pixel is drawn
    bound          how large its result and its sums can become, to prove that the grid's arithmetic is exact
    packed         its record for compiled code, where `opcode` selects its case in operations.h
    exported       its ONNX nodes

All computation goes through an `Arithmetic` (`pixelcnn.arithmetic`), so that floating point and the grid share one
definition. Operations on the features of a single pixel derive from `Pointwise` and define `compute` instead of
`whole`, `at_front` and `needs`. To add an operation, write one module here and, for the native engine, one case in
operations.h.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from torch import Tensor

from pixelcnn.arithmetic import Arithmetic
from pixelcnn.layers import MaskedConv2d, group_bounds

__all__ = ["IMAGE", "Exporter", "Front", "Node", "Operation", "Packer", "Part", "Pointwise", "View", "Whole", "halves"]

IMAGE = 0
"""The number of the value that stands for the image in a recorded program."""
Numbers = Any
"""A NumPy array, a tensor, a number or a list of integers."""


@dataclass(frozen=True)
class Part:
    """Which features of a result are computed together: those of one colour group, or of all groups."""

    groups: int
    """Number of colour groups in the part."""
    columns: slice
    """The position of its features among all features of the result."""

    @classmethod
    def of(cls, features: int, groups: int, group: int | None) -> Part:
        """One of `groups` groups, or all of them for None; a value with a single group has only that one."""
        if group is None:
            return cls(groups, slice(0, features))
        return cls(1, slice(*group_bounds(features, groups)[group if groups > 1 else 0]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation(ABC):
    """An operation with its parameters; its inputs are given when a view is asked for it."""

    opcode: ClassVar[int]
    """Its number in operations.h."""
    groups: int = 1
    """Number of colour groups of the result."""

    @abstractmethod
    def features(self, *inputs: int) -> int:
        """The number of features of the result, given those of the inputs."""

    @abstractmethod
    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """The result for whole images; inputs and result are (N, rows, columns, features)."""

    @abstractmethod
    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """A function that computes the result at the current positions of a front, (P, N, features of the group).

        For all groups if `group` is None. P or N may be 1 if the result is the same for all positions or images.
        """

    def needs(self, node: Node, height: int, width: int, slope: int) -> Iterator[tuple[int, int]]:
        """Yields each value that is read, with the least number of steps by which its lead must exceed the result's.

        The image counts as a value with lead -1. See `pixelcnn.sampling.schedule`.
        """
        for value in node.inputs:
            yield value, 0

    def scale(self, *inputs: int) -> int:
        """How many pixels apart the positions of the result are, given those of the inputs."""
        return inputs[0] if inputs else 1

    def above(self, scale: int) -> float:
        """How many of the image's rows up the inputs are read, which are `scale` pixels apart; infinity for any number,
        or if the result depends on where in the image it is.
        """
        return 0

    def by_rows(self, node: Node, rows: Iterable[int]) -> bool:
        """Whether the result can be computed a row at a time if the values `rows` are."""
        return set(node.inputs) <= set(rows)

    @abstractmethod
    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """Upper bounds on the magnitude of the result, and of the largest sum in computing it.

        Args:
            features: Number of features of each input.
            bounds: Upper bounds on the magnitude of each input.
        """

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """Further fields of `struct op` in engine.c, besides those that every operation has."""
        return {}

    def slots(self, node: Node) -> dict[str, int]:
        """The values that the fields `source`, `add` and `residual` of `struct op` refer to."""
        return dict(zip(("source", "residual", "add"), node.inputs, strict=False))

    def in_place(self, node: Node) -> tuple[int, ...]:
        """The inputs that are read elementwise, so that compiled code may overwrite one of them with the result."""
        return ()

    def exported(self, graph: Exporter, node: Node) -> str:
        """Adds the operation's nodes to an ONNX graph; returns the name of the result, (..., features).

        Raises:
            ValueError: If the operation cannot be exported.
        """
        raise ValueError(f"models with {type(self).__name__.lower()} are not exported to ONNX")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pointwise(Operation):
    """An operation on the features of a single pixel, one colour group after another."""

    def features(self, *inputs: int) -> int:
        """As many as the first input."""
        return inputs[0]

    @abstractmethod
    def compute(self, arithmetic: Arithmetic, part: Part, *inputs: Tensor) -> Tensor:
        """The result, (..., features of the part), from input features (..., in) of the part's colour groups."""

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
        """The same operation with its own copy of the parameters, which does not change when the model's do."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operation of a recorded program: target = op(inputs) + residual, with values given by number."""

    op: Operation
    inputs: tuple[int, ...]
    target: int
    input_groups: tuple[int, ...]
    """How many colour groups each input is computed in, one after the other."""
    residual: int | None = None
    """The value that is added to a convolution's result in the same step; None for nothing."""

    @property
    def reads(self) -> tuple[int, ...]:
        """All values that are read."""
        return self.inputs if self.residual is None else (*self.inputs, self.residual)


class View(Protocol):
    """What a network sees of the images: it asks the view for operations, and adds results with `+`."""

    image: Tensor
    """Scaled pixel values, (..., channels): the first input of operations that read the image."""

    @property
    def conditional(self) -> bool:
        """Whether the images are conditioned on something."""
        ...

    def __call__(self, op: Operation, /, *inputs: Tensor | None) -> Tensor:
        """The operation's result; inputs that are None are left out."""
        ...

    def dropout(self, x: Tensor) -> Tensor:
        """The features unchanged; in training with dropout, some of them are set to zero."""
        ...


class Whole(View, Protocol):
    """A view of whole images, (N, H, W, channels)."""

    arithmetic: Arithmetic
    condition: Tensor | None
    """What the images are conditioned on, (N, D); None for nothing."""


class Front(Protocol):
    """What an operation may ask about the pixels being generated now: P positions of N images.

    The functions that its methods return read the state at the time they are called.
    """

    arithmetic: Arithmetic
    n: int

    def part(self, node: Node, group: int | None, value: int | None = None) -> Part:
        """The features of one colour group of a node's result, or of a value that the node reads."""
        ...

    def operand(self, value: int, node: Node, columns: slice) -> Callable[[], Tensor]:
        """A value at the node's current positions, (P, N, columns), where P and N may be 1."""
        ...

    def seen(self, node: Node, layer: MaskedConv2d) -> list[tuple[list[tuple[int, int]], Callable[[], Tensor]]]:
        """What the layer sees of the node's first input, in a few pieces: some taps, and their (P * N, taps * in)."""
        ...

    def positions(self, node: Node) -> Callable[[], slice]:
        """The current positions, as raster indices on the grid of the node's result."""
        ...

    def row(self, value: int) -> Tensor:
        """The current row of a value that is computed a row at a time: (columns, N, features)."""
        ...

    def before(self, value: int, heads: int) -> Callable[[int], Tensor]:
        """A value at all pixels before one given by raster index: (N * heads, pixels, features of a head)."""
        ...

    def per_image(self, node: Node) -> Tensor:
        """Storage for features that are the same at all pixels of an image: (N, features); filled by `Condition`."""
        ...

    def per_pixel(self, node: Node) -> Tensor:
        """Storage for features of all pixels that are known beforehand: (H * W, N, features); of a `ConditionMap`."""
        ...


class Packer(Protocol):
    """What an operation may ask of the code that packs weights for the native engine."""

    arithmetic: Arithmetic

    def features(self, value: int) -> int:
        """The number of features of a value."""
        ...

    def keep(self, values: Tensor) -> int:
        """Appends numbers to the packed weights, aligned, and returns their offset."""
        ...

    def product(self, node: Node, layer: MaskedConv2d, columns: slice) -> dict[str, int]:
        """Packs the weights and bias of some of the layer's output channels; returns the fields that locate them."""
        ...


class Exporter(Protocol):
    """An ONNX graph under construction, for whole images or for the pixels of a step."""

    condition: str | None
    """Name of the class and the vector that the images are conditioned on, (N, D)."""
    condition_map: str | None
    """Name of the map that they are conditioned on, float32 (N, D, h, w), NaN throughout for none."""
    sides: tuple[int, int]
    """Height and width of the images."""

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with a single output; returns its name."""
        ...

    def constant(self, value: Numbers) -> str:
        """The name of a constant."""
        ...

    def operand(self, value: int, node: Node) -> str:
        """A value at the node's positions, (..., features)."""
        ...

    def conv(self, node: Node, layer: MaskedConv2d) -> str:
        """The convolution of the node's first input with the layer's bias, (..., out)."""
        ...

    def at_positions(self, table: Tensor, node: Node) -> str:
        """Entries of a table (rows, columns, features) at the node's positions, in a shape that can be added."""
        ...

    def upsampled(self, node: Node, factor: int) -> str:
        """The features of the cells of the first input in which the node's positions lie, (..., features)."""
        ...

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """A value converted to another dtype."""
        ...

    def known(self, per_pixel: str, features: int) -> str:
        """Features of all pixels (N, H, W, f), as the result of a node."""
        ...

    def everywhere(self, per_image: str) -> str:
        """Per-image features (N, f) in a shape that can be added."""
        ...

    def split(self, value: str, parts: int) -> str:
        """Features (..., parts * f) as (..., parts, f)."""
        ...

    def joined(self, value: str, target: int) -> str:
        """The reverse of `split`: (..., features of the target)."""
        ...


def halves(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """The first and the second half of the features (..., 2 f) of each colour group: (..., groups, f / groups)."""
    a, b = x.view(*x.shape[:-1], groups, 2, x.shape[-1] // groups // 2).unbind(-2)
    return a, b
