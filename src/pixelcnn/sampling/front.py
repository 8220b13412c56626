"""The front view of a network: the pixels that are being generated now, their neighbours read from caches.

The pixels of one time t of the wavefront (see `pixelcnn.sampling.wavefront`) are computed together, one colour group
after the other. Features are rows (P * N, channels of the group): P pixels of the front, outermost, times N images.

Each convolution that has neighbours keeps what it was given in a cache. Pixel (i, j) of image n stands at

    address(i, n, j) = base + (i * N + n) * line + slope * i + j,        line = width + padding,

in units of one pixel's features. The front's pixels have slope * i + j = t, so their addresses are
base + (i * N + n) * line + t: equally spaced in the row index i * N + n. The same holds for each of their taps,
(dy * N * line + slope * dy + dx) further, and taps next to each other in a row of the kernel are next to each other in
memory. What a whole run of taps sees is therefore a matrix (P * N, taps * in) of the cache itself, with rows `line`
pixels apart, which a matrix product reads in place: nothing is gathered and no index is built.

The gaps between the lines are the convolution's zero padding. They are never written, so the caches of one batch serve
the next as they are: a tap reads pixels that were written before it in the same batch, or weights that are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from pixelcnn.layers import MaskedConv2d
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["FrontView"]


class FrontView:
    """The view through which a network computes the front's parameters.

    For each step in order: `begin(step)`; then for each channel, `channel = c`, the network's forward,
    `observe(values)`.

    Args:
        layers: The network's masked convolutions.
        wavefront: The schedule.
        channels: Channels of the image, the number of colour groups.
        n: Number of images.
    """

    def __init__(self, layers: Sequence[MaskedConv2d], wavefront: Wavefront, channels: int, n: int) -> None:
        self.channel = 0
        self._wavefront = wavefront
        inputs = [layer for layer in layers if layer.mask_type == "A"]
        reach = max((layer.kernel_size // 2 for layer in inputs), default=0)
        self._image = _Cache(wavefront, reach, n, channels, inputs[0].weight)
        self._inputs = {layer: _InputConv(layer, self._image, reach) for layer in inputs}
        self._convs = {layer: _Conv(layer, wavefront, channels, n) for layer in layers if layer.mask_type == "B"}
        caches = (conv.cache for conv in self._convs.values())
        self._caches = [self._image, *(cache for cache in caches if cache is not None)]

    def begin(self, step: int) -> None:
        """Moves to a step and its first channel."""
        self.channel = 0
        rows = self._wavefront.rows(step)
        for cache in self._caches:
            cache.move(step, rows)

    def observe(self, values: Tensor) -> None:
        """Tells the scaled values (P * N,) of the current channel, so that later sub-pixels can see them."""
        self._image.write(values.unsqueeze(1), self.channel, self.channel + 1)

    def input_conv(self, layer: MaskedConv2d) -> Tensor:
        """See `View.input_conv`: (P * N, features of the current group)."""
        return self._inputs[layer](self.channel)

    def conv(self, layer: MaskedConv2d, x: Tensor) -> Tensor:
        """See `View.conv`: features of the current group in and out."""
        return self._convs[layer](self.channel, x)

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: nothing is dropped in sampling."""
        return x


class _Cache:
    """One convolution's input features at the addresses that the module's docstring gives."""

    def __init__(self, wavefront: Wavefront, reach: int, n: int, channels: int, like: Tensor) -> None:
        self._reach = reach
        self._line = wavefront.width + reach
        self._row = n * self._line
        self._slope = wavefront.slope
        self._channels = channels
        self._n = n
        self._base = reach * (self._row + self._slope + 1)  # of pixel (0, 0): rows and columns of padding come before
        pixels = self._base + wavefront.height * (self._row + self._slope) + self._line
        self._values = like.new_zeros(pixels * channels)
        self._front = 0
        self._height = 0

    def move(self, step: int, rows: range) -> None:
        """Makes the pixels of a step the current ones."""
        self._front = self._base + rows.start * self._row + step
        self._height = len(rows) * self._n

    def write(self, x: Tensor, start: int, stop: int) -> None:
        """Puts x (P * N, stop - start) into the channels start .. stop-1 of the current pixels."""
        c = self._channels
        shape, strides = (self._height, stop - start), (self._line * c, 1)
        self._values.as_strided(shape, strides, self._front * c + start).copy_(x)

    def ahead(self, dy: int, dx: int) -> int:
        """How much further than a pixel its tap (dy, dx) stands: at most 0."""
        return dy * (self._row + self._slope) + dx

    def run(self, ahead: int, taps: int) -> Tensor:
        """What so many taps next to each other see, the first of them `ahead`: (P * N, taps * channels), no copy."""
        c = self._channels
        return self._values.as_strided((self._height, taps * c), (self._line * c, 1), (self._front + ahead) * c)

    def square(self) -> Tensor:
        """What all causal rows of the kernel see, later pixels of the own row included.

        A copy, (P * N, all * channels).
        """
        c, reach = self._channels, self._reach
        offset = self._front - reach * (self._row + self._slope) - reach
        shape = (self._height, reach + 1, (2 * reach + 1) * c)
        strides = (self._line * c, (self._row + self._slope) * c, 1)
        return self._values.as_strided(shape, strides, offset * c).flatten(1)


class _InputConv:
    """The first convolution, prepared for every colour group: all causal rows of its kernel in one product."""

    def __init__(self, layer: MaskedConv2d, image: _Cache, reach: int) -> None:
        assert layer.kernel_size // 2 == reach, "every layer that reads the image must have the same kernel"
        kernel = (layer.weight * layer.mask)[:, :, : reach + 1]
        matrix = kernel.permute(2, 3, 1, 0).flatten(0, 2)  # ((reach + 1) * (2 * reach + 1) * in, out)
        self._image = image
        self._groups = [(layer.bias[a:b].clone(), matrix[:, a:b].contiguous()) for a, b in layer.out_groups]
        self._relu = layer.activation == "relu"

    def __call__(self, channel: int) -> Tensor:
        bias, weight = self._groups[channel]
        y = torch.addmm(bias, self._image.square(), weight)
        return y.relu_() if self._relu else y


class _Conv:
    """A later convolution, prepared for every colour group: a product for each kernel row that reaches into the image.

    It has a cache if it sees other pixels, or other groups of its own pixel.
    """

    def __init__(self, layer: MaskedConv2d, wavefront: Wavefront, channels: int, n: int) -> None:
        cached = layer.kernel_size > 1 or channels > 1
        reach = layer.kernel_size // 2
        self.cache = _Cache(wavefront, reach, n, layer.in_channels, layer.weight) if cached else None
        self._relu = layer.activation == "relu"
        inside = [tap for tap in layer.taps if wavefront.reaches(*tap)]
        rows = [list(taps) for _, taps in groupby(inside, key=lambda tap: tap[0])]
        rows.reverse()  # the own row first: a layer without a cache has no other
        self._runs = [] if self.cache is None else [(self.cache.ahead(*taps[0]), len(taps)) for taps in rows]
        masked = layer.weight * layer.mask
        matrices = [  # (taps * in, out) for each row
            masked[:, :, reach + taps[0][0], reach + taps[0][1] :][:, :, : len(taps)].permute(2, 1, 0).flatten(0, 1)
            for taps in rows
        ]
        self._groups = [
            (layer.bias[a:b].clone(), [matrix[:, a:b].contiguous() for matrix in matrices], bounds)
            for (a, b), bounds in zip(layer.out_groups, layer.in_groups, strict=True)
        ]

    def __call__(self, channel: int, x: Tensor) -> Tensor:
        bias, weights, (start, stop) = self._groups[channel]
        cache = self.cache
        if cache is None:
            y = torch.addmm(bias, x, weights[0])
        else:
            cache.write(x, start, stop)
            y = torch.addmm(bias, cache.run(*self._runs[0]), weights[0])
            for run, weight in zip(self._runs[1:], weights[1:], strict=True):
                y.addmm_(cache.run(*run), weight)
        return y.relu_() if self._relu else y
