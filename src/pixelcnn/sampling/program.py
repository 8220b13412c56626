"""A network as a list of operations: what can be scheduled, and run by engines that leave Python behind.

The network is not written again: it runs once over a view that records what is asked of it, with symbols for features.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from pixelcnn.attention import PlaceTable
from pixelcnn.layers import MaskedConv2d, View
from pixelcnn.sampling.autoregressive import Autoregressive

__all__ = [
    "IMAGE",
    "Attention",
    "Condition",
    "Conv",
    "Operation",
    "Place",
    "Program",
    "RecordingError",
    "Sum",
    "Unit",
    "Upsample",
    "reads",
    "record",
    "scales_of",
]

IMAGE = 0
"""The value that stands for the image."""


class RecordingError(TypeError):
    """The network does something that programs have no word for."""


@dataclass(frozen=True, kw_only=True)
class Conv:
    """target = activation(layer(source) + add) + residual."""

    layer: MaskedConv2d
    source: int
    target: int
    add: int | None = None
    residual: int | None = None

    @property
    def pointwise(self) -> tuple[int, ...]:
        """The values that are read at the own pixel only, in the shape of the target."""
        return tuple(value for value in (self.add, self.residual) if value is not None)

    @property
    def groups(self) -> int:
        """Colour groups of the target."""
        return len(self.layer.out_groups)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """target = left + right."""

    left: int
    right: int
    target: int
    groups: int

    @property
    def pointwise(self) -> tuple[int, ...]:
        """See `Conv.pointwise`."""
        return self.left, self.right


@dataclass(frozen=True, kw_only=True)
class Unit:
    """target = what the view's method of that name makes of the source."""

    kind: Literal["gate", "glu", "concat_elu"]
    source: int
    target: int
    groups: int

    @property
    def pointwise(self) -> tuple[int, ...]:
        """See `Conv.pointwise`."""
        return (self.source,)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """target = layer(condition) at every pixel."""

    layer: nn.Linear
    target: int
    groups: int

    @property
    def pointwise(self) -> tuple[int, ...]:
        """See `Conv.pointwise`."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """target = the table's features for each pixel's place."""

    table: PlaceTable
    target: int
    groups: int

    @property
    def pointwise(self) -> tuple[int, ...]:
        """See `Conv.pointwise`."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Upsample:
    """target = each of the source's features scale x scale times: those of a cell at what it is made of."""

    source: int
    scale: int
    target: int
    groups: int

    @property
    def pointwise(self) -> tuple[int, ...]:
        """See `Conv.pointwise`: none, for source and target have other grids."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Attention:
    """target = what the query finds among the keys and values of all earlier pixels."""

    query: int
    keys: int
    values: int
    heads: int
    target: int
    groups: int
    """Colour groups of query and target; keys and values have one."""

    @property
    def pointwise(self) -> tuple[int, ...]:
        """See `Conv.pointwise`."""
        return (self.query,)


Operation = Conv | Sum | Unit | Condition | Place | Upsample | Attention


@dataclass(frozen=True, kw_only=True)
class Program:
    """Operations over numbered values, each made once. Value 0 is the image."""

    operations: tuple[Operation, ...]
    features: tuple[int, ...]
    """Channels of each value."""
    output: int
    """The value that holds the raw parameters."""


def record(model: Autoregressive, *, conditional: bool = True) -> Program:
    """The model's network as a program.

    Args:
        model: Any model.
        conditional: Whether the images are conditioned on something, if the model knows how.

    Raises:
        RecordingError: If it does more than what a view offers, and sums.
    """
    recorder = _Recorder(model.image_shape[0], conditional)
    try:
        output = model.network(typing.cast(View, recorder))
    except (TypeError, AttributeError) as error:
        raise RecordingError(str(error)) from error
    number = typing.cast(_Symbol, output).number
    program = Program(operations=tuple(recorder.operations), features=tuple(recorder.features), output=number)
    return _fuse_sums(_only_what_is_used(program))


class _Symbol:
    """Features that are not computed."""

    def __init__(self, number: int, groups: int, recorder: _Recorder) -> None:
        self.number = number
        self.groups = groups
        self._recorder = recorder

    def __add__(self, other: _Symbol) -> _Symbol:
        left, right, groups = self.number, other.number, self.groups
        features = self._recorder.features[left]
        return self._recorder.value(
            features, groups, lambda target: Sum(left=left, right=right, target=target, groups=groups)
        )


class _Recorder:
    """A `pixelcnn.layers.View` whose features are symbols."""

    def __init__(self, channels: int, conditional: bool) -> None:
        self.operations: list[Operation] = []
        self.features = [channels]
        self._conditional = conditional

    def value(self, features: int, groups: int, operation: typing.Callable[[int], Operation]) -> _Symbol:
        """Notes an operation that makes a new value."""
        number = len(self.features)
        self.features.append(features)
        self.operations.append(operation(number))
        return _Symbol(number, groups, self)

    def input_conv(self, layer: MaskedConv2d, add: Tensor | None = None) -> Tensor:
        """See `View.input_conv`."""
        return self._conv(layer, IMAGE, add)

    def conv(self, layer: MaskedConv2d, x: Tensor, add: Tensor | None = None) -> Tensor:
        """See `View.conv`."""
        return self._conv(layer, typing.cast(_Symbol, x).number, add)

    def gate(self, x: Tensor, groups: int) -> Tensor:
        """See `View.gate`."""
        return self._unit("gate", x, self.features[typing.cast(_Symbol, x).number] // 2, groups)

    def glu(self, x: Tensor) -> Tensor:
        """See `View.glu`."""
        return self._unit("glu", x, self.features[typing.cast(_Symbol, x).number] // 2, 1)

    def concat_elu(self, x: Tensor) -> Tensor:
        """See `View.concat_elu`."""
        return self._unit("concat_elu", x, self.features[typing.cast(_Symbol, x).number] * 2, 1)

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: nothing is dropped in sampling, and nothing is recorded."""
        return x

    def condition(self, layer: nn.Linear, groups: int) -> Tensor | None:
        """See `View.condition`."""
        if not self._conditional:
            return None
        value = self.value(
            layer.out_features, groups, lambda target: Condition(layer=layer, target=target, groups=groups)
        )
        return typing.cast(Tensor, value)

    def place(self, table: PlaceTable, groups: int) -> Tensor:
        """See `View.place`."""
        value = self.value(table.features, groups, lambda target: Place(table=table, target=target, groups=groups))
        return typing.cast(Tensor, value)

    def upsample(self, x: Tensor, scale: int, groups: int, to: int = 1) -> Tensor:
        """See `View.upsample`."""
        source = typing.cast(_Symbol, x).number
        value = self.value(
            self.features[source],
            groups,
            lambda target: Upsample(source=source, scale=scale // to, target=target, groups=groups),
        )
        return typing.cast(Tensor, value)

    def attention(self, query: Tensor, keys: Tensor, values: Tensor, heads: int, groups: int) -> Tensor:
        """See `View.attention`."""
        q, k, v = (typing.cast(_Symbol, x) for x in (query, keys, values))
        assert (k.groups, v.groups) == (1, 1), "they would be there too late for the first channel"
        value = self.value(
            groups * self.features[v.number],
            groups,
            lambda target: Attention(
                query=q.number, keys=k.number, values=v.number, heads=heads, target=target, groups=groups
            ),
        )
        return typing.cast(Tensor, value)

    def _unit(self, kind: Literal["gate", "glu", "concat_elu"], x: Tensor, features: int, groups: int) -> Tensor:
        source = typing.cast(_Symbol, x).number
        value = self.value(
            features, groups, lambda target: Unit(kind=kind, source=source, target=target, groups=groups)
        )
        return typing.cast(Tensor, value)

    def _conv(self, layer: MaskedConv2d, source: int, add: Tensor | None) -> Tensor:
        added = None if add is None else typing.cast(_Symbol, add).number
        value = self.value(
            layer.out_channels,
            len(layer.out_groups),
            lambda target: Conv(layer=layer, source=source, target=target, add=added),
        )
        return typing.cast(Tensor, value)


def reads(op: Operation) -> tuple[int, ...]:
    """The values that an operation reads."""
    if isinstance(op, Attention):
        return op.query, op.keys, op.values
    return (*op.pointwise, op.source) if isinstance(op, Conv | Upsample) else op.pointwise


def scales_of(program: Program) -> tuple[int, ...]:
    """Of each value, how many pixels apart its places are: 1, but on the grids of coarse contexts."""
    scales = [1] * len(program.features)
    for op in program.operations:
        if isinstance(op, Conv):
            scales[op.target] = scales[op.source] * op.layer.stride
        elif isinstance(op, Upsample):
            scales[op.target] = scales[op.source] // op.scale
        elif isinstance(op, Place):
            scales[op.target] = op.table.scale
        elif op.pointwise:
            scales[op.target] = scales[op.pointwise[0]]
    return tuple(scales)


def _only_what_is_used(program: Program) -> Program:
    """Without operations whose result nothing reads, such as the last vertical layer's gate."""
    used = {program.output}
    kept: list[Operation] = []
    for op in reversed(program.operations):
        if op.target in used:
            used |= set(reads(op))
            kept.append(op)
    return replace(program, operations=tuple(reversed(kept)))


def _fuse_sums(program: Program) -> Program:
    """A sum that is the only reader of the convolution right before it becomes that convolution's residual."""
    readers: dict[int, int] = {program.output: 1}
    for op in program.operations:
        for value in reads(op):
            readers[value] = readers.get(value, 0) + 1
    fused: list[Operation] = []
    for op in program.operations:
        last = fused[-1] if fused else None
        if isinstance(op, Sum) and isinstance(last, Conv) and last.residual is None and readers[last.target] == 1:
            others = [value for value in (op.left, op.right) if value != last.target]
            if len(others) == 1:
                fused[-1] = replace(last, target=op.target, residual=others[0])
                continue
        fused.append(op)
    return replace(program, operations=tuple(fused))
