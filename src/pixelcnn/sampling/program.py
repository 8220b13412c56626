"""A network as a list of operations, which can be scheduled and run by engines outside Python.

The network is not written a second time: it runs once over a view that records the operations it is asked for, with
symbols in place of features.
"""

from __future__ import annotations

import functools
import traceback
import typing
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pixelcnn.operations import IMAGE, Attention, Condition, ConditionMap, Conv, Node, Operation, Pointwise, Sum, View
from pixelcnn.sampling.autoregressive import Autoregressive

__all__ = ["Program", "RecordingError", "record"]


class RecordingError(ValueError):
    """The network does something that is not an operation."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """Operations over numbered values, each assigned once. Value 0 is the image."""

    nodes: tuple[Node, ...]
    features: tuple[int, ...]
    """Number of features of each value."""
    output: int
    """The value that holds the raw parameters."""

    @functools.cached_property
    def scales(self) -> tuple[int, ...]:
        """For each value, how many pixels apart its positions are: 1, except on the grids of coarse contexts."""
        scales = [1] * len(self.features)
        for node in self.nodes:
            scales[node.target] = node.op.scale(*(scales[value] for value in node.inputs))
        return tuple(scales)

    @functools.cached_property
    def conditions(self) -> frozenset[int]:
        """The values that are the same at all pixels of an image."""
        return frozenset(node.target for node in self.nodes if isinstance(node.op, Condition))

    @functools.cached_property
    def maps(self) -> frozenset[int]:
        """The values that are known at all pixels before anything is drawn."""
        return frozenset(node.target for node in self.nodes if isinstance(node.op, ConditionMap))


def record(model: Autoregressive, *, conditional: bool = True) -> Program:
    """The model's network as a program.

    Args:
        model: Any model.
        conditional: Whether the images are conditioned on something, if the model supports it.

    Raises:
        RecordingError: If the network does more than ask its view for operations and add their results; it says which
            line of it did.
    """
    recorder = _Recorder(model.image_shape[0], model.image_features, conditional)
    try:
        output: object = model.network(typing.cast(View, recorder))
    except (TypeError, AttributeError) as error:
        raise RecordingError(f"the network does more than a view offers, {_asked(error)}") from error
    if not isinstance(output, Features):
        raise RecordingError(f"the network must return features of its view, got {type(output).__name__}")
    program = Program(nodes=tuple(recorder.nodes), features=tuple(recorder.features), output=output.number)
    return _with_residuals(_without_unused(program))


def _asked(error: Exception) -> str:
    """The line of the network that features could not do, and what it asked for."""
    own, torch_ = Path(__file__).parents[1], Path(torch.__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(folder) for folder in (own, torch_))
    ]
    said = " ".join(str(error).split())
    if not frames:
        return said
    line = f", `{frames[-1].line}`" if frames[-1].line else ""
    return f"{Path(frames[-1].filename).name} line {frames[-1].lineno}{line}: {said}"


class Features:
    """Stands for features that are not computed."""

    def __init__(self, number: int, groups: int, recorder: _Recorder, *, uniform: bool = False) -> None:
        self.number = number
        self.groups = groups
        self.uniform = uniform
        """Whether they are the same at all pixels."""
        self._recorder = recorder

    def __add__(self, other: object) -> Features:
        if not isinstance(other, Features):
            return NotImplemented
        return self._recorder.note(Sum(groups=self.groups), self, other)


class _Recorder:
    """A `View` whose features are symbols."""

    def __init__(self, channels: int, features: int, conditional: bool) -> None:
        self.nodes: list[Node] = []
        self.features = [features]
        self.conditional = conditional
        self.image = Features(IMAGE, channels, self)

    def __call__(self, op: Operation, /, *inputs: Features | None) -> Features:
        """See `View.__call__`."""
        return self.note(op, *(x for x in inputs if x is not None))

    def note(self, op: Operation, *inputs: Features) -> Features:
        """Records an operation that makes a new value."""
        if isinstance(op, Pointwise) and (other := {x.groups for x in inputs} - {op.groups}):
            raise TypeError(f"{type(op).__name__} has groups={op.groups}, and its input {other.pop()}; they must agree")
        if isinstance(op, Attention) and [x.groups for x in inputs] != [op.groups, 1, 1]:
            raise TypeError(f"keys and values must have groups=1, and the query {op.groups}, as the attention")
        if isinstance(op, Attention) and self.image in inputs:
            raise TypeError("attention must be given features that a convolution makes of the image")
        uniform = isinstance(op, Condition) or (bool(inputs) and all(x.uniform for x in inputs))
        if uniform and not isinstance(op, Condition | Pointwise) and not (isinstance(op, Conv) and op.layer.pointwise):
            raise TypeError(f"{type(op).__name__} reads neighbours of features that are the same at all pixels")
        numbers = tuple(x.number for x in inputs)
        node = Node(op=op, inputs=numbers, target=len(self.features), input_groups=tuple(x.groups for x in inputs))
        self.features.append(op.features(*(self.features[number] for number in numbers)))
        self.nodes.append(node)
        return Features(node.target, op.groups, self, uniform=uniform)

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: nothing is dropped in sampling, and nothing is recorded."""
        return x


def _without_unused(program: Program) -> Program:
    """The program without operations whose result is never read, such as the last vertical layer's gate."""
    used = {program.output}
    kept: list[Node] = []
    for node in reversed(program.nodes):
        if node.target in used:
            used |= set(node.reads)
            kept.append(node)
    return replace(program, nodes=tuple(reversed(kept)))


def _with_residuals(program: Program) -> Program:
    """Fuses a sum that is the only reader of the convolution right before it into that convolution, as its residual."""
    readers = Counter([program.output, *(value for node in program.nodes for value in node.reads)])
    nodes: list[Node] = []
    for node in program.nodes:
        last = nodes[-1] if nodes else None
        if last and isinstance(node.op, Sum) and isinstance(last.op, Conv) and readers[last.target] == 1:
            others = [value for value in node.inputs if value != last.target]
            if len(others) == 1 and last.residual is None:
                nodes[-1] = replace(last, target=node.target, residual=others[0])
                continue
        nodes.append(node)
    return replace(program, nodes=tuple(nodes))
