"""The front view of a network: the pixels that are being generated now, their neighbours read from caches.

The pixels of one time t of the wavefront (see `pixelcnn.sampling.wavefront`) are computed together, one colour group
after the other. Features are rows (P * N, channels of the group): P pixels of the front, outermost, times N images. A
value that is ahead of the pixels (`pixelcnn.sampling.schedule`) has the front of a later time.

Each convolution that has neighbours keeps what it was given in a cache. Pixel (i, j) of image n stands at

    address(i, n, j) = base + (i * N + n) * line + slope * i + j,        line = width + padding,

in units of one pixel's features. The pixels of a time t have slope * i + j = t, so their addresses are
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
from torch import Tensor, nn

from pixelcnn.layers import MaskedConv2d, gated, group_bounds
from pixelcnn.sampling.schedule import Schedule
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["FrontView"]


class FrontView:
    """The view through which a network computes the front's parameters.

    For each step in order, from -prelude on: `begin(step)`; then for each channel, `channel = c`, the network's
    forward, `observe(values)`.

    Args:
        layers: The network's masked convolutions.
        schedule: When what is computed.
        channels: Channels of the image, the number of colour groups.
        n: Number of images.
        condition: What each image is conditioned on, (N, D); None for nothing.
    """

    def __init__(
        self,
        layers: Sequence[MaskedConv2d],
        schedule: Schedule,
        channels: int,
        n: int,
        condition: Tensor | None = None,
    ) -> None:
        self.channel = 0
        self._schedule = schedule
        self._n = n
        self._condition = condition
        self._conditions: dict[nn.Linear, Tensor] = {}
        wavefront = schedule.wavefront
        inputs = [layer for layer in layers if layer.mask_type == "A"]
        self._image = _Cache(wavefront, inputs, n, channels, inputs[0].weight)
        self._convs = {
            layer: _Conv(layer, schedule, channels, n, self._image if layer in inputs else None) for layer in layers
        }

    def begin(self, step: int) -> None:
        """Moves to a step and its first channel."""
        self.channel = 0
        self._image.move(step)
        for conv in self._convs.values():
            conv.begin(step)

    def observe(self, values: Tensor) -> None:
        """Tells the scaled values (P * N,) of the current channel, so that later sub-pixels can see them."""
        self._image.write(values.unsqueeze(1), self.channel)

    def input_conv(self, layer: MaskedConv2d, add: Tensor | None = None) -> Tensor:
        """See `View.input_conv`: (P * N, features of the current group)."""
        return self._convs[layer](self.channel, None, add)

    def conv(self, layer: MaskedConv2d, x: Tensor, add: Tensor | None = None) -> Tensor:
        """See `View.conv`: features of the current group in and out."""
        return self._convs[layer](self.channel, x, add)

    def gate(self, x: Tensor, groups: int) -> Tensor:  # noqa: ARG002 - only one group is here at a time
        """See `View.gate`."""
        return gated(x, 1)

    def condition(self, layer: nn.Linear, groups: int) -> Tensor | None:
        """See `View.condition`: (N, features of the current group), the same for all pixels of an image."""
        if self._condition is None:
            return None
        if layer not in self._conditions:
            self._conditions[layer] = layer(self._condition)
        start, stop = group_bounds(layer.out_features, groups)[self.channel if groups > 1 else 0]
        return self._conditions[layer][:, start:stop]


class _Cache:
    """Features that convolutions read at other pixels, at the addresses that the module's docstring gives."""

    def __init__(
        self, wavefront: Wavefront, layers: Sequence[MaskedConv2d], n: int, channels: int, like: Tensor
    ) -> None:
        windows = [layer.window for layer in layers]
        above = max(-window.top for window in windows)
        beside = max(max(-window.left, window.right) for window in windows)
        self._wavefront = wavefront
        self._line = wavefront.width + beside
        self._row = n * self._line
        self._slope = wavefront.slope
        self._channels = channels
        self._n = n
        self._base = above * (self._row + self._slope) + beside  # of pixel (0, 0): padding comes before
        pixels = self._base + wavefront.height * (self._row + self._slope) + self._line
        self._values = like.new_zeros(pixels * channels)
        self._front = 0
        self._height = 0

    def move(self, time: int) -> None:
        """Makes the pixels of a time the ones that are written."""
        self._front, self._height = self.rows(time)

    def rows(self, time: int) -> tuple[int, int]:
        """The address of the first pixel of a time, and how many rows follow."""
        rows = self._wavefront.rows(time)
        if not rows:
            return self._base, 0
        return self._base + rows.start * self._row + time, len(rows) * self._n

    def write(self, x: Tensor, start: int) -> None:
        """Puts x (P * N, k) into the k channels from `start` on of the current pixels."""
        c, k = self._channels, x.shape[1]
        self._values.as_strided((self._height, k), (self._line * c, 1), self._front * c + start).copy_(x)

    def ahead(self, dy: int, dx: int) -> int:
        """How much further than a pixel its tap (dy, dx) stands."""
        return dy * (self._row + self._slope) + dx

    def run(self, front: int, height: int, ahead: int, features: int) -> Tensor:
        """What taps next to each other see, the first of them `ahead`: (height, features), no copy."""
        c = self._channels
        return self._values.as_strided((height, features), (self._line * c, 1), (front + ahead) * c)


class _Conv:
    """A convolution prepared for every colour group: a product for each kernel row that reaches into the image.

    It has a cache if it sees other pixels, or other groups of its own pixel.
    """

    def __init__(self, layer: MaskedConv2d, schedule: Schedule, channels: int, n: int, image: _Cache | None) -> None:
        wavefront = schedule.wavefront
        self._lead_in, self._lead_out = schedule.leads_of(layer)
        inside = [tap for tap in layer.taps if wavefront.reaches(*tap)]
        cached = inside != [(0, 0)] or len(layer.in_groups) > 1 or self._lead_in != self._lead_out
        own = _Cache(wavefront, [layer], n, layer.in_channels, layer.weight) if cached and image is None else None
        self._written = own
        self._cache = image or own
        self._n = n
        self._relu = layer.activation == "relu"
        self._once = len(layer.out_groups) == 1 and channels > 1
        self._last: Tensor | None = None
        self._front = self._height = 0
        rows = [list(taps) for _, taps in groupby(inside, key=lambda tap: tap[0])]
        rows.reverse()  # the own row first
        self._groups = []
        for (start, stop), seen in zip(layer.out_groups, layer.seen, strict=True):
            runs = []
            for taps in rows:
                kernel = torch.cat([layer.kernel_at(*tap)[start:stop] for tap in taps], 1)
                last_seen = seen if taps[-1] == (0, 0) else layer.in_channels
                matrix = kernel[:, : (len(taps) - 1) * layer.in_channels + last_seen].t().contiguous()
                if len(matrix):
                    runs.append((0 if self._cache is None else self._cache.ahead(*taps[0]), len(matrix), matrix))
            self._groups.append((layer.bias[start:stop].clone(), runs))
        self._starts = [start for start, _ in layer.in_groups]

    def begin(self, step: int) -> None:
        """Moves to a step."""
        self._last = None
        if self._cache is not None:
            self._front, self._height = self._cache.rows(step + self._lead_out)
        if self._written is not None:
            self._written.move(step + self._lead_in)

    def __call__(self, channel: int, x: Tensor | None, add: Tensor | None) -> Tensor:
        if self._once and self._last is not None:
            return self._last
        bias, runs = self._groups[0 if self._once else channel]
        cache = self._cache
        if cache is None:
            assert x is not None
            y = torch.addmm(bias, x, runs[0][2])
        else:
            if self._written is not None and x is not None and (channel == 0 or len(self._starts) > 1):
                self._written.write(x, self._starts[channel if len(self._starts) > 1 else 0])
            front, height = self._front, self._height
            if not runs:
                y = bias.expand(height, -1).clone()
            for k, (ahead, features, matrix) in enumerate(runs):
                seen = cache.run(front, height, ahead, features)
                y = torch.addmm(bias, seen, matrix) if k == 0 else y.addmm_(seen, matrix)
        if add is not None:
            y = y.view(-1, self._n, y.shape[1]).add_(add).view(y.shape) if len(add) == self._n else y.add_(add)
        y = y.relu_() if self._relu else y
        self._last = y if self._once else None
        return y
