"""A recorded network run in PyTorch for the pixels that are being generated now, their neighbours read from caches.

The pixels of one time t of the wavefront (see `pixelcnn.sampling.wavefront`) are computed together, one colour group
after the other. Features are (P, N, channels of the group): P pixels of the front, N images. A
value that is ahead of the pixels (`pixelcnn.sampling.schedule`) has the front of a later time.

What is read at other pixels, at another time or by other colour groups is kept in a cache. Pixel (i, j) of image n
stands at

    address(i, n, j) = base + (i * N + n) * line + slope * i + j,        line = width + padding,

in units of one pixel's features. The pixels of a time t have slope * i + j = t, so their addresses are
base + (i * N + n) * line + t: equally spaced in the row index i * N + n. The same holds for each of their taps,
(dy * N * line + slope * dy + dx) further, and taps next to each other in a row of the kernel are next to each other in
memory. What a whole run of taps sees is therefore a matrix (P * N, taps * in) of the cache itself, with rows `line`
pixels apart, which a matrix product reads in place: nothing is gathered and no index is built. With operands in bf16 a
value is rounded once, when it is stored, and also stored unrounded if anything other than a product reads it.

Keys and values of attention are kept a second time, all pixels of a head in raster order, so that what a pixel sees is
the beginning of that list: (N * heads, pixels before it, features), which a batched product reads in place as well.

The gaps between the lines are the convolution's zero padding. They are never written, so the caches of one batch serve
the next as they are: a tap reads pixels that were written before it in the same batch, or weights that are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pixelcnn.arithmetic import Arithmetic
from pixelcnn.layers import MaskedConv2d, adjacent
from pixelcnn.operations import IMAGE, Attention, Condition, ConditionMap, Node, Part
from pixelcnn.sampling.schedule import Schedule
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["Front", "History", "WavefrontFront"]


class Front:
    """What both fronts have in common; see `pixelcnn.operations.base.Front` for what operations ask of them.

    For each step in order, from -prelude on: `begin(step)`; then for each channel `compute(channel)` and, from step 0
    on, `observe(channel, values)`.

    Args:
        schedule: A program, and when each of its values is computed.
        channels: Channels of the image, the number of colour groups.
        n: Number of images.
        like: A tensor with the network's dtype and device.
        arithmetic: How the network is computed; the grid requires parameters on their grid.
    """

    def __init__(self, schedule: Schedule, channels: int, n: int, like: Tensor, arithmetic: Arithmetic) -> None:
        self.schedule = schedule
        self.channels = channels
        self.n = n
        self.arithmetic = arithmetic
        self.step = 0
        program = schedule.program
        self._histories = {
            (value, node.op.heads): History(schedule.wavefront, n, node.op.heads, program.features[value], like)
            for node in program.nodes
            if isinstance(node.op, Attention)
            for value in node.inputs[1:]
        }
        """What attention reads of all earlier pixels, by value and heads, rounded as operands of products."""
        size = schedule.wavefront.height, schedule.wavefront.width
        self._maps = {
            node.target: (node.op, like.new_zeros(*size, n, program.features[node.target]))
            for node in program.nodes
            if isinstance(node.op, ConditionMap)
        }
        self._conditions = {
            node.target: (node.op, like.new_zeros(n, program.features[node.target]))
            for node in program.nodes
            if isinstance(node.op, Condition)
        }

    def start(self, condition: Tensor | None) -> None:
        """Begins a batch of images that are conditioned on something, (N, D); None for nothing."""
        for target, (op, values) in self._conditions.items():
            assert condition is not None
            values.copy_(op.of_images(self.arithmetic, condition))
            for history in self.histories_of(target):
                history.write(slice(None), self.arithmetic.operand(values)[None])
        for encoding, values in self._maps.values():
            assert condition is not None
            height, width = values.shape[:2]
            values.copy_(encoding.of_images(self.arithmetic, condition, height, width).permute(1, 2, 0, 3))

    def part(self, node: Node, group: int | None, value: int | None = None) -> Part:
        """See `pixelcnn.operations.base.Front`."""
        features = self.schedule.program.features[node.target if value is None else value]
        return Part.of(features, node.op.groups, group)

    def per_image(self, node: Node) -> Tensor:
        """See `pixelcnn.operations.base.Front`."""
        return self._conditions[node.target][1]

    def per_pixel(self, node: Node) -> Tensor:
        """See `pixelcnn.operations.base.Front`."""
        return self._maps[node.target][1].flatten(0, 1)

    def before(self, value: int, heads: int) -> Callable[[int], Tensor]:
        """See `pixelcnn.operations.base.Front`."""
        return self._histories[value, heads].before

    def histories_of(self, value: int) -> list[History]:
        """Where a value is kept for attention, once for each number of heads that read it."""
        return [history for (kept, _), history in self._histories.items() if kept == value]


class WavefrontFront(Front):
    """The values of a program at the pixels of one time of the wavefront; see `Front`, also for the arguments."""

    def __init__(self, schedule: Schedule, channels: int, n: int, like: Tensor, arithmetic: Arithmetic) -> None:
        super().__init__(schedule, channels, n, like, arithmetic)
        self._now: dict[int, Tensor] = {}
        """What this step has computed so far of each value: all of it, or the current colour group."""
        program = schedule.program
        values = range(len(program.features))
        for_products = {v for v in values if v == IMAGE or self._is_kept_for_products(v)}
        for_others = {v for v in values if v not in program.conditions and self._is_kept_for_others(v)}

        def caches(values: Iterable[int]) -> dict[int, _Cache]:
            return {
                v: _Cache(
                    schedule.wavefront, [r.layer for r in schedule.readings[v] if r.layer], n, program.features[v], like
                )
                for v in sorted(values)
            }

        rounds = arithmetic.precision == "bf16"
        self._caches = caches(for_others if rounds else for_products | for_others)
        """The cached values."""
        self._operands = caches(for_products) if rounds else self._caches
        """The cached values that products read, rounded."""
        self._operations = [
            [
                (node.target, self._prepared(node, channel))
                for node in program.nodes
                if channel == 0 or node.op.groups > 1
            ]
            for channel in range(channels)
        ]

    def begin(self, step: int) -> None:
        """Moves to a step."""
        self.step = step
        self._now.clear()

    def compute(self, channel: int) -> Tensor:
        """The raw parameters of the current pixels: of one channel, or of all if they are not grouped."""
        for target, operation in self._operations[channel]:
            self._now[target] = operation()
        return self._now[self.schedule.program.output]

    def observe(self, channel: int, values: Tensor) -> None:
        """Stores what the network reads of a channel, (P, N, features), so that later sub-pixels can see it."""
        start = channel * values.shape[-1]
        self._operands[IMAGE].write(self.step, self.arithmetic.operand(values), start)
        if self._operands is not self._caches and IMAGE in self._caches:
            self._caches[IMAGE].write(self.step, values, start)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Copies images `sources` over images `targets`, in everything that later steps read."""
        for cache in {id(cache): cache for kept in (self._caches, self._operands) for cache in kept.values()}.values():
            cache.copy(sources, targets)
        for history in self._histories.values():
            history.copy(sources, targets)

    def operand(self, value: int, node: Node, columns: slice) -> Callable[[], Tensor]:
        """See `pixelcnn.operations.base.Front`."""
        if value in self._conditions:
            per_image = self._conditions[value][1][:, columns].unsqueeze(0)
            return lambda: per_image
        size = columns.stop - columns.start
        if self.schedule.ahead(value, node.target) == 0:
            in_one = dict(zip(node.inputs, node.input_groups, strict=True)).get(value) == 1
            if in_one and size < self.schedule.program.features[value]:
                return lambda: self._now[value][..., columns]
            return lambda: self._now[value]
        cache, lead = self._caches[value], self.schedule.leads[node.target]
        return lambda: cache.run(self.step + lead, 0, columns.start, size)

    def seen(self, node: Node, layer: MaskedConv2d) -> list[tuple[list[tuple[int, int]], Callable[[], Tensor]]]:
        """A piece for each kernel row that reaches into the image, the current row first; see
        `pixelcnn.operations.base.Front`.
        """
        source, lead = node.inputs[0], self.schedule.leads[node.target]
        inside = self.schedule.inside(layer)
        if inside and source not in self._operands:

            def now() -> Tensor:
                x = self._now[source]
                x = x if x.shape[1] == self.n else x.expand(-1, self.n, -1)  # those of positions are one for all images
                return self.arithmetic.operand(x).flatten(0, 1)

            return [(inside, now)]
        rows = adjacent(inside)

        def reader(taps: list[tuple[int, int]]) -> Callable[[], Tensor]:
            cache = self._operands[source]
            ahead, features = cache.ahead(*taps[0]), len(taps) * layer.in_channels
            return lambda: cache.rows(self.step + lead, ahead, 0, features)

        return [(taps, reader(taps)) for taps in reversed(rows)]

    def positions(self, node: Node) -> Callable[[], slice]:
        """See `pixelcnn.operations.base.Front`."""
        lead = self.schedule.leads[node.target]
        return lambda: self.schedule.wavefront.pixels(self.step + lead)

    def row(self, value: int) -> Tensor:
        """Never called: networks with row-wise values use a `RowFront`."""
        raise AssertionError(value)

    def _is_kept_for_products(self, value: int) -> bool:
        """Whether a product reads the value at another position, later, or for other colour groups."""
        grouped = self.channels > 1
        return any(
            r.layer and (r.later or (grouped and len(r.layer.in_groups) > 1)) for r in self.schedule.readings[value]
        )

    def _is_kept_for_others(self, value: int) -> bool:
        """Whether anything other than a product reads the value later than it is computed."""
        return any(not r.layer and not r.everywhere and r.later for r in self.schedule.readings[value])

    def _prepared(self, node: Node, channel: int) -> Callable[[], Tensor]:
        """An operation on one colour group, which also stores its result if that is read later."""
        compute = node.op.at_front(self, node, channel)
        start = self.part(node, channel).columns.start
        cache, operands = self._caches.get(node.target), self._operands.get(node.target)
        histories = self.histories_of(node.target)
        if cache is None and operands is None and not histories:
            return compute
        lead = self.schedule.leads[node.target]

        def compute_and_keep() -> Tensor:
            y = compute()
            if cache is not None:
                cache.write(self.step + lead, y, start)
            if operands is not None and operands is not cache:
                operands.write(self.step + lead, self.arithmetic.operand(y), start)
            for history in histories:
                history.write(self.schedule.wavefront.pixels(self.step + lead), self.arithmetic.operand(y))
            return y

        return compute_and_keep


class _Cache:
    """A value at all pixels, at the addresses given in the module's docstring."""

    def __init__(self, wavefront: Wavefront, readers: list[MaskedConv2d], n: int, channels: int, like: Tensor) -> None:
        windows = [layer.window for layer in readers]
        above = max((-window.top for window in windows), default=0)
        beside = max((max(-window.left, window.right) for window in windows), default=0)
        self._wavefront = wavefront
        self._line = wavefront.width + beside
        self._row = n * self._line
        self._slope = wavefront.slope
        self._channels = channels
        self._n = n
        self._base = above * (self._row + self._slope) + beside  # address of pixel (0, 0): padding comes before it
        pixels = self._base + wavefront.height * (self._row + self._slope) + self._line
        self._values = like.new_zeros(pixels * channels)

    def write(self, time: int, x: Tensor, start: int) -> None:
        """Writes x (P, N, k) to the k features from `start` on, at the pixels of a time."""
        self.run(time, 0, start, x.shape[2]).copy_(x)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Copies images `sources` over images `targets`."""
        height, width, c = self._wavefront.height, self._wavefront.width, self._channels
        strides = ((self._row + self._slope) * c, self._line * c, 1)
        lines = self._values.as_strided((height, self._n, width * c), strides, self._base * c)
        lines[:, targets] = lines[:, sources]

    def ahead(self, dy: int, dx: int) -> int:
        """How far the tap (dy, dx) of a pixel lies beyond the pixel itself, in units of the address."""
        return dy * (self._row + self._slope) + dx

    def run(self, time: int, ahead: int, start: int, features: int) -> Tensor:
        """The given number of features from `start` on, continuing into the next pixels: (P, N, features), no copy.

        They are those of the pixels of a time, or of the pixels `ahead` of them.
        """
        return self.rows(time, ahead, start, features).view(-1, self._n, features)

    def rows(self, time: int, ahead: int, start: int, features: int) -> Tensor:
        """The same as (P * N, features)."""
        rows, c = self._wavefront.rows(time), self._channels
        front = self._base + rows.start * self._row + time + ahead if rows else 0
        return self._values.as_strided((len(rows) * self._n, features), (self._line * c, 1), front * c + start)


class History:
    """A value at all pixels, which are stored in raster order for each image and head."""

    def __init__(self, wavefront: Wavefront, n: int, heads: int, features: int, like: Tensor) -> None:
        self._values = like.new_zeros(n, heads, wavefront.height * wavefront.width, features // heads)

    def write(self, pixels: slice, x: Tensor) -> None:
        """Writes x (P, N, features), where P and N may be 1, to the pixels with the given raster indices."""
        n, heads, _, size = self._values.shape
        self._values[:, :, pixels] = torch.unflatten(x.expand(-1, n, -1), -1, (heads, size)).permute(1, 2, 0, 3)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Copies images `sources` over images `targets`."""
        self._values[targets] = self._values[sources]

    def before(self, pixel: int) -> Tensor:
        """All pixels before the one with this raster index: (N * heads, pixel, features / heads), no copy."""
        return self._values.flatten(0, 1)[:, :pixel]
