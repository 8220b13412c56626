"""The example's network as a list of convolutions, and the order of those that a file has.

    7x7, 1 -> f;   for each block: 1x1, f -> f;  3x3, f -> f // 2;  1x1, f // 2 -> f;   twice 1x1, f -> f;   1x1, f -> 1

Keras keeps a kernel as (height, width, in, out) and a bias as (out,). Width and depth are read off the shapes; then
every shape must be the network's. Tensors that were exchanged are noticed where their shapes differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Convolution", "Weights", "check_shapes", "in_turn", "shapes", "targets"]

Shape = tuple[int, ...]
_LARGEST = 2**31  # bytes of a tensor; the example's network has 64 kB


@dataclass(frozen=True)
class Convolution:
    """A convolution of a file."""

    name: str
    """What the file calls it."""
    kernel: np.ndarray
    """(height, width, in, out)."""
    bias: np.ndarray
    """(out,)."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a file of the example's network says."""

    format: str
    """Which format, in words."""
    convolutions: Sequence[Convolution]
    """In the network's order."""
    size: tuple[int, int] | None
    """Height and width of the images, if it says."""

    @property
    def filters(self) -> int:
        """Features of each layer."""
        return int(self.convolutions[0].kernel.shape[3])

    @property
    def blocks(self) -> int:
        """Residual blocks."""
        return (len(self.convolutions) - 4) // 3


def shapes(filters: int, blocks: int) -> list[Shape]:
    """The kernels' shapes in the network's order."""
    half = filters // 2
    block = [(1, 1, filters, filters), (3, 3, filters, half), (1, 1, half, filters)]
    return [(7, 7, 1, filters), *block * blocks, *[(1, 1, filters, filters)] * 2, (1, 1, filters, 1)]


def targets(blocks: int) -> list[str]:
    """What `pixelcnn.PixelCNN` calls the same layers."""
    block = [f"blocks.{k}.{part}" for k in range(blocks) for part in ("conv1", "masked", "conv2")]
    return ["input", *block, "head.0", "head.1", "output"]


def check_shapes(convolutions: Sequence[Convolution], where: str | Path) -> None:
    """Whether they are the example's network, layer by layer.

    Raises:
        ValueError: If they are not, or a value is not finite, or types are mixed.
    """
    filters, blocks = _size_of([conv.kernel.shape for conv in convolutions], where)
    for conv, shape in zip(convolutions, shapes(filters, blocks), strict=True):
        for kind, tensor, expected in (("kernel", conv.kernel, shape), ("bias", conv.bias, shape[3:])):
            if tensor.shape != expected:
                raise ValueError(f"{where}: the {kind} of {conv.name} must have shape {expected}, got {tensor.shape}")
            if not np.isfinite(tensor).all():
                raise ValueError(f"{where}: the {kind} of {conv.name} holds values that are not finite")
    types = {str(tensor.dtype) for conv in convolutions for tensor in (conv.kernel, conv.bias)}
    if types not in ({"float32"}, {"float64"}):
        raise ValueError(f"{where}: weights must all be float32 or all float64, got {', '.join(sorted(types))}")


def in_turn(queues: Mapping[str, Sequence[Convolution]], where: str | Path) -> list[Convolution]:
    """The network's order, where only the order within each class of layers is known.

    Args:
        queues: Convolutions by class, in the order of the layers of that class.
        where: The file, for errors.

    Raises:
        ValueError: If there is no order in which the shapes are the network's, or more than one.
    """
    kinds = list(queues.values())
    filters, blocks = _size_of([conv.kernel.shape for queue in kinds for conv in queue], where)
    # how many of each queue are used up, and which were taken, one after the other
    states: dict[tuple[int, ...], list[list[Convolution]]] = {(0,) * len(kinds): [[]]}
    for place, shape in enumerate(shapes(filters, blocks)):
        following: dict[tuple[int, ...], list[list[Convolution]]] = {}
        for used, orders in states.items():
            for k, queue in enumerate(kinds):
                if used[k] < len(queue) and queue[used[k]].kernel.shape == shape:
                    after = (*used[:k], used[k] + 1, *used[k + 1 :])
                    longer = [[*order, queue[used[k]]] for order in orders]
                    following[after] = [*following.get(after, []), *longer][:2]
        if not following:
            raise ValueError(
                f"{where} is not the example's network: no convolution of shape {shape} for "
                f"{targets(blocks)[place]}, or in the wrong place"
            )
        states = following
    (orders,) = states.values()
    if len(orders) > 1:
        raise ValueError(f"{where}: the order of the layers cannot be told; a .keras file says it")
    return orders[0]


def paired(tensors: Iterable[tuple[str, np.ndarray]], where: str | Path) -> list[Convolution]:
    """A kernel and a bias in turns, as convolutions.

    Raises:
        ValueError: If they do not come in turns.
    """
    listed = list(tensors)
    if len(listed) % 2:
        raise ValueError(
            f"{where} is not the example's network: {len(listed)} tensors, which are not kernels and biases"
        )
    convolutions = []
    for (name, kernel), (other, bias) in zip(listed[::2], listed[1::2], strict=True):
        if kernel.ndim != 4 or bias.ndim != 1:
            raise ValueError(
                f"{where}: {name} and {other} must be a kernel and its bias, got shapes {kernel.shape} and {bias.shape}"
            )
        convolutions.append(Convolution(name, kernel, bias))
    return convolutions


def check_bytes(shape: Shape, itemsize: int, name: str, where: str | Path) -> None:
    """Whether a tensor has a size that can be meant, before it is read.

    Raises:
        ValueError: If not.
    """
    if math.prod(shape) * itemsize > _LARGEST:
        raise ValueError(f"{where} is not the example's network: {name} has shape {shape}")


def _size_of(kernels: Sequence[Shape], where: str | Path) -> tuple[int, int]:
    """Filters and blocks."""
    if len(kernels) < 4 or (len(kernels) - 4) % 3:
        raise ValueError(
            f"{where} is not the example's network: it has {len(kernels)} convolutions, not 4 and 3 for each block"
        )
    first = [shape for shape in kernels if shape[:3] == (7, 7, 1)]
    if len(first) != 1:
        raise ValueError(
            f"{where} is not the example's network: {len(first)} kernels of shape (7, 7, 1, filters), not one"
        )
    return first[0][3], (len(kernels) - 4) // 3
