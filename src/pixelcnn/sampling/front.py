"""The front view of a network: the pixels that are being generated now, their neighbours read from caches.

The pixels of one time t of the wavefront (see `pixelcnn.sampling.wavefront`) are computed together, one colour group
after the other. Features are rows (pixels * images, channels of the group), pixels outermost. Each convolution that
has neighbours keeps what it was given in a cache addressed by *time and row*,

    cache[t mod slots, above + i, n, channel]   holds pixel (i, t - slope * i) of image n,

so that both what a step writes and every tap that it reads, at time t - lag(dy, dx) and rows i + dy, is one contiguous
slice: no index is ever built. Rows that a slot does not cover are zero, which is the convolution's zero padding. A
slot is used again as soon as no tap reaches back to it, so memory does not depend on the width of the image.

Legend of shapes: P pixels of the front times N images; K taps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.layers import MaskedConv2d
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["FrontView"]


class FrontView:
    """The view through which a network computes the front's parameters.

    For each step: `begin(step)`, and for each channel in turn `channel = c`, the network's forward, `observe(values)`.

    Args:
        layers: The network's masked convolutions.
        wavefront: The schedule.
        channels: Channels of the image, the number of colour groups.
        n: Number of images.
    """

    def __init__(self, layers: Sequence[MaskedConv2d], wavefront: Wavefront, channels: int, n: int) -> None:
        self.wavefront = wavefront
        self.channels = channels
        self.channel = 0
        self._step = 0
        self._rows = range(0)
        self._n = n
        self._taps = {layer: _taps_inside(layer, wavefront) for layer in layers}
        self._weights = {layer: _pack(layer, self._taps[layer], channels) for layer in layers}

        inputs = [layer for layer in layers if layer.mask_type == "A"]
        self._image = self._new_cache([tap for layer in inputs for tap in self._taps[layer]], inputs[0])
        self._caches = {
            layer: self._new_cache(self._taps[layer], layer)
            for layer in layers
            if layer.mask_type == "B" and (len(self._taps[layer]) > 1 or channels > 1)
        }

    def begin(self, step: int) -> None:
        """Moves to a step; steps must come in order, from 0."""
        self._step = step
        self._rows = self.wavefront.rows(step)
        self.channel = 0
        self._image.advance(step)
        for cache in self._caches.values():
            cache.advance(step)

    def observe(self, values: Tensor) -> None:
        """Tells the scaled values (P * N,) of the current channel, so that later sub-pixels can see them."""
        self._image.write(values.unsqueeze(1), self._rows, self.channel, self.channel + 1)

    def input_conv(self, layer: MaskedConv2d) -> Tensor:
        """See `View.input_conv`: (P * N, features of the current group)."""
        taps = self._taps[layer]
        return self._product(layer, [self._image.read(self._rows, tap) for tap in taps])

    def conv(self, layer: MaskedConv2d, x: Tensor) -> Tensor:
        """See `View.conv`: features of the current group in and out."""
        cache = self._caches.get(layer)
        if cache is None:  # no neighbours, one group
            return self._product(layer, [x])
        start, stop = layer.in_groups[self.channel]
        cache.write(x, self._rows, start, stop)
        taps = self._taps[layer]
        if self.channels > 1:
            return self._product(layer, [cache.read(self._rows, tap) for tap in taps])
        return self._product(layer, [*(cache.read(self._rows, tap) for tap in taps[:-1]), x])

    def _product(self, layer: MaskedConv2d, columns: list[Tensor]) -> Tensor:
        """The taps' features (P * N, K * in) times the current group's weights, and the activation."""
        weight, bias = self._weights[layer][self.channel]
        if columns:
            y = F.linear(columns[0] if len(columns) == 1 else torch.cat(columns, dim=1), weight, bias)
        else:  # an image of one pixel has no neighbour to read
            y = bias.repeat(len(self._rows) * self._n, 1)
        return y.relu_() if layer.activation == "relu" else y

    def _new_cache(self, taps: list[tuple[int, int]], layer: MaskedConv2d) -> _Cache:
        return _Cache(self.wavefront, taps, self._n, layer.in_channels, layer.weight)


class _Cache:
    """One convolution's input features by time and row; see the module's docstring."""

    def __init__(
        self, wavefront: Wavefront, taps: list[tuple[int, int]], n: int, channels: int, like: Tensor
    ) -> None:
        self._wavefront = wavefront
        self._above = max((-dy for dy, _ in taps), default=0)
        self._slots = max((wavefront.lag(dy, dx) for dy, dx in taps), default=0) + 1
        self._values = like.new_zeros(self._slots, self._above + wavefront.height, n, channels)
        self._step = 0

    def advance(self, step: int) -> None:
        """Moves to a step: the rows that its slot held and no longer covers become zero."""
        self._step = step
        gone = self._wavefront.rows(step - self._slots)
        stop = min(gone.stop, self._wavefront.rows(step).start)
        self._values[step % self._slots, self._above + gone.start : self._above + stop].zero_()

    def write(self, x: Tensor, rows: range, start: int, stop: int) -> None:
        """Puts x (P * N, stop - start) at the current time into the channels start .. stop-1."""
        target = self._values[self._step % self._slots, self._above + rows.start : self._above + rows.stop]
        target[..., start:stop] = x.view(*target.shape[:2], stop - start)

    def read(self, rows: range, tap: tuple[int, int]) -> Tensor:
        """What the tap (dy, dx) of every pixel of the front sees: (P * N, channels), without a copy."""
        dy, dx = tap
        slot = (self._step - self._wavefront.lag(dy, dx)) % self._slots
        seen = self._values[slot, self._above + rows.start + dy : self._above + rows.stop + dy]
        return seen.flatten(0, 1)


def _taps_inside(layer: MaskedConv2d, wavefront: Wavefront) -> list[tuple[int, int]]:
    return [(dy, dx) for dy, dx in layer.taps if wavefront.reaches(dy, dx)]


def _pack(layer: MaskedConv2d, taps: list[tuple[int, int]], groups: int) -> list[tuple[Tensor, Tensor]]:
    """For each group the masked weights (out, K * in), taps in order, and the biases (out,)."""
    centre = layer.kernel_size // 2
    masked = layer.weight * layer.mask
    columns = [masked[:, :, centre + dy, centre + dx] for dy, dx in taps]
    weight = torch.cat(columns, dim=1) if columns else masked.new_zeros(layer.out_channels, 0)
    bounds = layer.out_groups
    assert len(bounds) == groups
    return [(weight[a:b].contiguous(), layer.bias[a:b]) for a, b in bounds]
