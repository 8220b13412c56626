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
        self._n = n
        self._rows = range(0)
        inputs = [layer for layer in layers if layer.mask_type == "A"]
        reach = max((layer.kernel_size // 2 for layer in inputs), default=0)
        self._image = _Cache(wavefront, reach, n, channels, inputs[0].weight)
        self._inputs = {layer: _pack_square(layer, reach) for layer in inputs}
        self._runs = {layer: _runs(layer, wavefront) for layer in layers if layer.mask_type == "B"}
        self._biases = {layer: [layer.bias[a:b].clone() for a, b in layer.out_groups] for layer in layers}
        self._caches = {
            layer: _Cache(wavefront, layer.kernel_size // 2, n, layer.in_channels, layer.weight)
            for layer in self._runs
            if layer.kernel_size > 1 or channels > 1
        }

    def begin(self, step: int) -> None:
        """Moves to a step and its first channel."""
        self.channel = 0
        self._rows = self._wavefront.rows(step)
        self._image.move(step, self._rows)
        for cache in self._caches.values():
            cache.move(step, self._rows)

    def observe(self, values: Tensor) -> None:
        """Tells the scaled values (P * N,) of the current channel, so that later sub-pixels can see them."""
        self._image.write(values.unsqueeze(1), self.channel, self.channel + 1)

    def input_conv(self, layer: MaskedConv2d) -> Tensor:
        """See `View.input_conv`: (P * N, features of the current group)."""
        c = self.channel
        y = torch.addmm(self._biases[layer][c], self._image.square(), self._inputs[layer][c])
        return y.relu_() if layer.activation == "relu" else y

    def conv(self, layer: MaskedConv2d, x: Tensor) -> Tensor:
        """See `View.conv`: features of the current group in and out."""
        c = self.channel
        own, *others = self._runs[layer]
        cache = self._caches.get(layer)
        if cache is not None:
            cache.write(x, *layer.in_groups[c])
            x = cache.run(*own.taps)
        y = torch.addmm(self._biases[layer][c], x, own.weights[c])
        for run in others:
            assert cache is not None
            y.addmm_(cache.run(*run.taps), run.weights[c])
        return y.relu_() if layer.activation == "relu" else y


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

    def run(self, dy: int, dx: int, taps: int) -> Tensor:
        """What the taps (dy, dx) .. (dy, dx + taps - 1) see: (P * N, taps * channels), the cache itself."""
        c = self._channels
        offset = self._front + dy * (self._row + self._slope) + dx
        return self._values.as_strided((self._height, taps * c), (self._line * c, 1), offset * c)

    def square(self) -> Tensor:
        """What all causal rows of the kernel see, later pixels of the own row included.

        A copy, (P * N, all * channels).
        """
        c, reach = self._channels, self._reach
        offset = self._front - reach * (self._row + self._slope) - reach
        shape = (self._height, reach + 1, (2 * reach + 1) * c)
        strides = (self._line * c, (self._row + self._slope) * c, 1)
        return self._values.as_strided(shape, strides, offset * c).flatten(1)


class _Run:
    """Taps next to each other in one row of a kernel, and their weights (taps * in, out) for each group."""

    def __init__(self, layer: MaskedConv2d, taps: list[tuple[int, int]]) -> None:
        dy, dx = taps[0]
        centre = layer.kernel_size // 2
        self.taps = (dy, dx, len(taps))
        kernel = (layer.weight * layer.mask)[:, :, centre + dy, centre + dx : centre + dx + len(taps)]
        matrix = kernel.permute(2, 1, 0).flatten(0, 1)
        self.weights = [matrix[:, start:stop].contiguous() for start, stop in layer.out_groups]


def _runs(layer: MaskedConv2d, wavefront: Wavefront) -> list[_Run]:
    """The kernel's rows that reach into the image, the own one first."""
    inside = [tap for tap in layer.taps if wavefront.reaches(*tap)]
    rows = [list(taps) for _, taps in groupby(inside, key=lambda tap: tap[0])]
    return [_Run(layer, taps) for taps in reversed(rows)]


def _pack_square(layer: MaskedConv2d, reach: int) -> list[Tensor]:
    """For each group the masked weights of all causal rows, ((reach + 1) * (2 * reach + 1) * in, out)."""
    assert layer.kernel_size // 2 == reach, "every layer that reads the image must have the same kernel"
    kernel = (layer.weight * layer.mask)[:, :, : reach + 1]
    matrix = kernel.permute(2, 3, 1, 0).flatten(0, 2)
    return [matrix[:, start:stop].contiguous() for start, stop in layer.out_groups]
