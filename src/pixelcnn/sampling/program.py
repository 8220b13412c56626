"""A network as a list of operations, for engines that leave Python behind.

The network is not written again: it runs once over a view that records what is asked of it, with symbols for features.
A network that does something no engine knows cannot be recorded, and the eager engine samples from it.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, replace

from torch import Tensor

from pixelcnn.layers import MaskedConv2d, View
from pixelcnn.sampling.autoregressive import Autoregressive

__all__ = ["Conv", "Program", "RecordingError", "Sum", "record"]

IMAGE = 0
"""The value that stands for the image."""


class RecordingError(TypeError):
    """The network does something that programs have no word for."""


@dataclass(frozen=True, kw_only=True)
class Conv:
    """target = activation(layer(source)) + residual."""

    layer: MaskedConv2d
    source: int
    target: int
    residual: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sum:
    """target = left + right."""

    left: int
    right: int
    target: int


@dataclass(frozen=True, kw_only=True)
class Program:
    """Operations over numbered values, each made once. Value 0 is the image."""

    operations: tuple[Conv | Sum, ...]
    features: tuple[int, ...]
    """Channels of each value."""
    output: int
    """The value that holds the raw parameters."""


def record(model: Autoregressive) -> Program:
    """The model's network as a program.

    Raises:
        RecordingError: If it does more than masked convolutions and sums.
    """
    recorder = _Recorder(model.image_shape[0])
    try:
        output = model.network(typing.cast(View, recorder))
    except (TypeError, AttributeError) as error:
        raise RecordingError(str(error)) from error
    number = typing.cast(_Symbol, output).number
    program = Program(operations=tuple(recorder.operations), features=tuple(recorder.features), output=number)
    return _fuse_sums(program)


class _Symbol:
    """Features that are not computed."""

    def __init__(self, number: int, recorder: _Recorder) -> None:
        self.number = number
        self._recorder = recorder

    def __add__(self, other: _Symbol) -> _Symbol:
        left, right = self.number, other.number
        return self._recorder.value(
            self._recorder.features[left], lambda target: Sum(left=left, right=right, target=target)
        )


class _Recorder:
    """A `pixelcnn.layers.View` whose features are symbols."""

    def __init__(self, channels: int) -> None:
        self.operations: list[Conv | Sum] = []
        self.features = [channels]

    def value(self, features: int, operation: typing.Callable[[int], Conv | Sum]) -> _Symbol:
        """Notes an operation that makes a new value."""
        number = len(self.features)
        self.features.append(features)
        self.operations.append(operation(number))
        return _Symbol(number, self)

    def input_conv(self, layer: MaskedConv2d) -> Tensor:
        """See `View.input_conv`."""
        return self._conv(layer, IMAGE)

    def conv(self, layer: MaskedConv2d, x: Tensor) -> Tensor:
        """See `View.conv`."""
        return self._conv(layer, typing.cast(_Symbol, x).number)

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: nothing is dropped in sampling, and nothing is recorded."""
        return x

    def _conv(self, layer: MaskedConv2d, source: int) -> Tensor:
        value = self.value(layer.out_channels, lambda target: Conv(layer=layer, source=source, target=target))
        return typing.cast(Tensor, value)


def _fuse_sums(program: Program) -> Program:
    """A sum that is the only reader of the convolution right before it becomes that convolution's residual."""
    readers: dict[int, int] = {program.output: 1}
    for op in program.operations:
        for value in (op.source,) if isinstance(op, Conv) else (op.left, op.right):
            readers[value] = readers.get(value, 0) + 1
    fused: list[Conv | Sum] = []
    for op in program.operations:
        last = fused[-1] if fused else None
        if isinstance(op, Sum) and isinstance(last, Conv) and last.residual is None and readers[last.target] == 1:
            others = [value for value in (op.left, op.right) if value != last.target]
            if len(others) == 1:
                fused[-1] = replace(last, target=op.target, residual=others[0])
                continue
        fused.append(op)
    return replace(program, operations=tuple(fused))
