"""Conditioning on a map: features of every pixel from a picture or categories that are known beforehand.

A map has fewer pixels than the image, or as many: (h, w) for an image of (s h, s w). It is known before anything is
drawn, so its convolutions are not causal: every pixel sees what lies around it in all directions.

    x = ReLU(conv(map))                          3 x 3, of numbers and of embedded categories
    x = x + ReLU(conv(x))                        3 x 3
    y = ReLU(W [x, v x, u x, v u x])             at the image's resolution; (v, u) is where in its cell a pixel lies

x is repeated over the cell of s x s pixels, in which (v, u) runs over -1 + 1/s, -1 + 3/s, ..., 1 - 1/s, so the weights
do not depend on s. Without a map, y is 0, which no map of zeros is. The layers of a network add their products of y.

A batch's conditions are the rows of one tensor, (N, D): a class's or a vector's numbers come first, then those of the
map, channel by channel, and at last a 1, or zeros throughout for an image without a map. The length says what s is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelcnn.arithmetic import Arithmetic, grid
from pixelcnn.config import GatedPixelCNNConfig, PhotoPixelCNNConfig, PixelCNNPlusPlusConfig, map_of
from pixelcnn.layers import MaskedConv2d
from pixelcnn.operations.base import Exporter, Front, Node, Operation, View, Whole
from pixelcnn.operations.conv import Conv

__all__ = ["ConditionMap", "MapEncoder", "condition_map", "map_encoder", "map_layer", "map_term"]

_MIN_FEATURES = 4  # of a pixel


class _Layer(nn.Module):
    """The parameters of a convolution that sees to all sides, followed by ReLU: Glorot uniform weights, zero biases."""

    def __init__(self, inputs: int, outputs: int, size: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.size = size
        bound = math.sqrt(6 / (size * size * (inputs + outputs)))
        weight = torch.empty(outputs, inputs, size, size).uniform_(-bound, bound, generator=generator)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(outputs))

    def of(self, arithmetic: Arithmetic, x: Tensor) -> Tensor:
        """(N, h, w, inputs) to (N, h, w, outputs)."""
        weight, x = arithmetic.operand(self.weight), arithmetic.operand(x)
        reach = self.size // 2
        if not arithmetic.exact:
            y_nchw = F.conv2d(x.permute(0, 3, 1, 2), weight, self.bias, padding=reach)
            return y_nchw.permute(0, 2, 3, 1).relu()
        _, height, width, _ = x.shape  # matrix products of the taps, never a Fourier or Winograd transform
        padded = F.pad(x, (0, 0, reach, reach, reach, reach))
        taps = [padded[:, i : i + height, j : j + width] for i in range(self.size) for j in range(self.size)]
        matrix = weight.permute(0, 2, 3, 1).flatten(1)
        return arithmetic.settled(F.linear(torch.cat(taps, -1), matrix, self.bias)).relu()


class MapEncoder(nn.Module):
    """The parameters of a map's convolutions.

    Args:
        numbers: Channels that hold numbers.
        categories: Number of categories of one further channel; 0 for none.
        features: Features of each pixel.
        start: Where the map begins in a condition's row.
        generator: Source of the initial weights.
    """

    def __init__(
        self, numbers: int, categories: int, features: int, start: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.numbers, self.categories, self.features, self.start = numbers, categories, features, start

        self.first = _Layer(numbers + (features if categories else 0), features, 3, generator)
        self.second = _Layer(features, features, 3, generator)
        self.within = _Layer(4 * features, features, 1, generator)
        if categories:
            self.embedding = nn.Parameter(torch.empty(categories, features).normal_(generator=generator))

    @property
    def channels(self) -> int:
        """Channels of a map: those of numbers, then that of the categories."""
        return self.numbers + (self.categories > 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionMap(Operation):
    """The encoder's features of a map at every pixel."""

    encoder: MapEncoder
    REACH: ClassVar[int] = 2
    """How many of a map's own pixels far a pixel sees it, in all directions."""
    opcode: ClassVar[int] = -1  # engine.c finds its result in memory, see `pixelcnn.sampling.native.layout`

    def features(self, *inputs: int) -> int:
        """The encoder's."""
        return self.encoder.features

    def of_images(self, arithmetic: Arithmetic, condition: Tensor, height: int, width: int) -> Tensor:
        """The features (N, H, W, features) of images of a size, from what they are conditioned on, (N, D)."""
        encoder = self.encoder
        rows, dtype = condition[:, encoder.start : -1], encoder.first.weight.dtype
        scale = math.isqrt(height * width * encoder.channels // rows.shape[1])
        map_nhwc = rows.view(-1, encoder.channels, height // scale, width // scale).permute(0, 2, 3, 1)
        x = arithmetic.settled(map_nhwc[..., : encoder.numbers].to(dtype))  # categories may have come in a wider type
        if encoder.categories:
            x = torch.cat([x, arithmetic.settled(encoder.embedding)[map_nhwc[..., -1].long()]], -1)
        x = encoder.first.of(arithmetic, x)
        x = x + encoder.second.of(arithmetic, x)
        return self._at_pixels(arithmetic, x, scale) * condition[:, -1, None, None, None].to(dtype)

    def _at_pixels(self, arithmetic: Arithmetic, x: Tensor, scale: int) -> Tensor:
        """Y (N, s h, s w, features) from x (N, h, w, features)."""
        encoder, (n, h, w, features) = self.encoder, x.shape
        within = torch.arange(1, 2 * scale, 2, dtype=x.dtype, device=x.device) / scale - 1
        if not arithmetic.exact:  # the pixels of a cell share x: one product at the map's resolution
            parts = encoder.within.weight.view(features, 4, features).unbind(1)
            v, u = within[:, None, None, None], within[:, None, None]
            weight = parts[0] + v * parts[1] + u * parts[2] + v * u * parts[3]  # (s, s, features, features)
            product = F.linear(arithmetic.operand(x), arithmetic.operand(weight).flatten(0, 2))
            y = product.view(n, h, w, scale, scale, features) + encoder.within.bias
            return y.transpose(2, 3).reshape(n, scale * h, scale * w, features).relu()
        x = x.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        within = arithmetic.rounded(within)
        v, u = within.repeat(h)[:, None, None], within.repeat(w)[:, None]
        down = arithmetic.settled(x * v)
        y = torch.cat([x, down, arithmetic.settled(x * u), arithmetic.settled(down * u)], -1)
        return encoder.within.of(arithmetic, y)

    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """(N, H, W, features)."""
        assert view.condition is not None
        _, height, width, _ = view.image.shape
        return self.of_images(view.arithmetic, view.condition, height, width)

    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """(P, N, features), computed once per batch."""
        values, positions = front.per_pixel(node), front.positions(node)
        return lambda: values[positions()]

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """Every sum is held within the limit, and at most two of them are added."""
        layers = (self.encoder.first, self.encoder.second, self.encoder.within)
        sizes = (layer.weight.abs().flatten(1).sum(1) * 2 * grid.LIMIT + layer.bias.abs() for layer in layers)
        return grid.LIMIT, max(float(size.max()) for size in sizes)

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`: what `of_images` computes, from a map of any size that divides the images'."""
        assert graph.condition_map is not None
        encoder, node_of, constant = self.encoder, graph.node, graph.constant
        given = graph.condition_map
        missing = node_of("IsNaN", given)
        x = node_of("Where", missing, constant(0.0), given)
        if encoder.categories:
            last, ends = constant([encoder.numbers]), constant([encoder.numbers + 1])
            labels = graph.cast(node_of("Slice", x, last, ends, constant([1])), np.int64)
            vectors = node_of("Gather", constant(encoder.embedding), node_of("Squeeze", labels, constant([1])))
            vectors = node_of("Transpose", vectors, perm=[0, 3, 1, 2])
            numbers = node_of("Slice", x, constant([0]), last, constant([1]))
            x = node_of("Concat", numbers, vectors, axis=1) if encoder.numbers else vectors
        x = _as_far_apart(graph, x)

        def conv(layer: _Layer, y: str) -> str:
            product = node_of("Conv", y, constant(layer.weight), constant(layer.bias), pads=[1, 1, 1, 1])
            return node_of("Relu", product)

        x = conv(encoder.first, x)
        x = node_of("Transpose", node_of("Add", x, conv(encoder.second, x)), perm=[0, 2, 3, 1])
        within = []
        for axis, side in enumerate(graph.sides, 1):
            cells = node_of("Gather", node_of("Shape", x), constant([axis]))
            positions, size = constant(np.arange(side)), constant([side])
            x = node_of("Gather", x, node_of("Div", node_of("Mul", positions, cells), size), axis=axis)
            scale = node_of("Div", size, cells)
            twice = node_of("Mul", node_of("Mod", positions, scale), constant([2]))
            centre = graph.cast(node_of("Add", twice, constant([1])), np.float32)
            centre = node_of("Div", centre, graph.cast(scale, np.float32))
            shape = constant([side, 1, 1] if axis == 1 else [side, 1])
            within.append(node_of("Reshape", node_of("Sub", centre, constant(1.0)), shape))
        down, across = (node_of("Mul", x, each) for each in within)
        both = node_of("Mul", down, within[1])
        matrix = encoder.within.weight.flatten(1).t()
        y = node_of("MatMul", node_of("Concat", x, down, across, both, axis=-1), constant(matrix))
        y = node_of("Relu", node_of("Add", y, constant(encoder.within.bias)))
        first = missing
        for axis in (1, 2, 3):
            first = node_of("Gather", first, constant([0]), axis=axis)
        present = graph.cast(node_of("Not", first), np.float32)
        return graph.known(node_of("Mul", y, present), encoder.features)


def _as_far_apart(graph: Exporter, x: str) -> str:
    """A map (N, D, h, w) repeated until its pixels are as far apart in both directions, as `Conditions.rows` does."""
    node_of, constant = graph.node, graph.constant
    zero, one, shape = constant(0), constant(1), node_of("Shape", x)
    cells = [node_of("Gather", shape, constant(axis)) for axis in (2, 3)]
    apart = [node_of("Div", constant(side), count) for side, count in zip(graph.sides, cells, strict=True)]
    most = math.gcd(*graph.sides)
    divisors = constant([k for k in range(1, most + 1) if most % k == 0])
    rests = [node_of("Mod", each, divisors) for each in apart]
    shared = node_of("Equal", node_of("Add", *rests), zero)
    common = node_of("ReduceMax", node_of("Where", shared, divisors, one), keepdims=0)
    for axis, (side, count) in enumerate(zip(graph.sides, cells, strict=True), 2):
        repeated = node_of("Div", constant(side), common)
        index = node_of("Div", node_of("Mul", node_of("Range", zero, repeated, one), count), repeated)
        x = node_of("Gather", x, index, axis=axis)
    return x


def condition_map(view: View, encoder: MapEncoder | None) -> Tensor | None:
    """A map's features at every pixel; None without an encoder, or unconditionally."""
    return None if encoder is None or not view.conditional else view(ConditionMap(encoder=encoder))


def map_encoder(
    config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig | PhotoPixelCNNConfig, generator: torch.Generator | None
) -> MapEncoder | None:
    """The encoder of the maps that a configuration names, with half as many features as a layer; None for none."""
    numbers, categories = map_of(config)
    if not numbers and not categories:
        return None
    features = max(_MIN_FEATURES, config.filters // 2)
    return MapEncoder(numbers, categories, features, config.condition_features, generator)


def map_layer(features: int, outputs: int, generator: torch.Generator | None) -> MaskedConv2d | None:
    """A layer's product of the map's features, to which nothing is added, so that it is 0 without a map."""
    if not features:
        return None
    return MaskedConv2d(features, outputs, 1, mask_type="B", activation="none", bias=False, generator=generator)


def map_term(view: View, layer: MaskedConv2d | None, known: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What is added to a layer: its product of the map's features, `known`, if there are any, plus another term."""
    return other if layer is None or known is None else view(Conv(layer), known, other)
