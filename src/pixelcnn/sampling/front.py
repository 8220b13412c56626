"""A recorded network run in PyTorch for the pixels that are being generated now, their neighbours read from caches.

The pixels of one time t of the wavefront (see `pixelcnn.sampling.wavefront`) are computed together, one colour group
after the other. Features are rows (P * N, channels of the group): P pixels of the front, outermost, times N images. A
value that is ahead of the pixels (`pixelcnn.sampling.schedule`) has the front of a later time.

What is read at other pixels, at another time or by other colour groups is kept in a cache. Pixel (i, j) of image n
stands at

    address(i, n, j) = base + (i * N + n) * line + slope * i + j,        line = width + padding,

in units of one pixel's features. The pixels of a time t have slope * i + j = t, so their addresses are
base + (i * N + n) * line + t: equally spaced in the row index i * N + n. The same holds for each of their taps,
(dy * N * line + slope * dy + dx) further, and taps next to each other in a row of the kernel are next to each other in
memory. What a whole run of taps sees is therefore a matrix (P * N, taps * in) of the cache itself, with rows `line`
pixels apart, which a matrix product reads in place: nothing is gathered and no index is built. With operands in bf16 a
value is rounded once, when it is kept, and kept a second time as it is if it is read by something else than a product.

Keys and values of attention are kept a second time, all pixels of a head in raster order, so that what a pixel sees is
the beginning of that list: (N * heads, pixels before it, features), which a batched product reads in place as well.

The gaps between the lines are the convolution's zero padding. They are never written, so the caches of one batch serve
the next as they are: a tap reads pixels that were written before it in the same batch, or weights that are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.attention import attend
from pixelcnn.exact import grid, units
from pixelcnn.layers import MaskedConv2d, concat_elu, gated, group_bounds
from pixelcnn.precision import Precision, as_operand
from pixelcnn.sampling.program import IMAGE, Attention, Condition, Conv, Operation, Place, Sum, Unit, Upsample
from pixelcnn.sampling.schedule import Schedule
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["Front", "History", "unit_functions"]


class Front:
    """The values of a program at the front.

    For each step in order, from -prelude on: `begin(step)`; then for each channel `compute(channel)` and, from step 0
    on, `observe(channel, values)`.

    Args:
        schedule: A program, and when what is computed.
        channels: Channels of the image, the number of colour groups.
        n: Number of images.
        like: A tensor of the network's type and device.
        precision: What operands are rounded to, see `pixelcnn.precision`.
        exact: Whether to compute on the grid, see `pixelcnn.exact`: for a network whose parameters are on it.
    """

    def __init__(
        self,
        schedule: Schedule,
        channels: int,
        n: int,
        like: Tensor,
        precision: Precision | None = None,
        *,
        exact: bool = False,
    ) -> None:
        self.schedule = schedule
        self.n = n
        self.precision = precision
        self.exact = exact
        self.step = 0
        self.now: dict[int, Tensor] = {}
        """What this step has computed of each value: all of it, or the current colour group."""
        program = schedule.program
        for_products = {v for v in range(len(program.features)) if v == IMAGE or self._is_kept(v, channels)}
        for_others = {v for v in range(len(program.features)) if self._is_ahead(v)}
        shared = for_products | for_others

        def caches(values: Iterable[int]) -> dict[int, _Cache]:
            return {
                v: _Cache(schedule.wavefront, self._readers(v), n, program.features[v], like) for v in sorted(values)
            }

        self.caches = caches(for_others if precision == "bf16" else shared)
        """What is kept of the values."""
        self.operands = caches(for_products) if precision == "bf16" else self.caches
        """The same for what products read, rounded."""
        self.histories = {
            value: History(schedule.wavefront, n, op.heads, program.features[value], like)
            for op in program.operations
            if isinstance(op, Attention)
            for value in (op.keys, op.values)
        }
        """What attention reads of all earlier pixels, rounded."""
        conditions = [op for op in program.operations if isinstance(op, Condition)]
        self._conditions = {op: like.new_zeros(n, program.features[op.target]) for op in conditions}
        self._operations = [
            [(op, self._prepared(op, channel)) for op in program.operations if channel == 0 or op.groups > 1]
            for channel in range(channels)
        ]

    def start(self, condition: Tensor | None) -> None:
        """Tells what each image is conditioned on, (N, D); None for nothing."""
        for op, values in self._conditions.items():
            assert condition is not None
            x, weight = (as_operand(tensor, self.precision) for tensor in (condition, op.layer.weight))
            added = F.linear(x, weight, op.layer.bias)
            values.copy_(grid.clamped(added) if self.exact else added)

    def begin(self, step: int) -> None:
        """Moves to a step."""
        self.step = step
        self.now.clear()

    def compute(self, channel: int) -> Tensor:
        """The raw parameters of the current pixels: of one channel, or of all if they are not grouped."""
        for op, operation in self._operations[channel]:
            self.now[op.target] = operation()
        return self.now[self.schedule.program.output]

    def observe(self, channel: int, values: Tensor) -> None:
        """Tells the scaled values (P * N,) of a channel, so that later sub-pixels can see them."""
        self.operands[IMAGE].write(self.step, as_operand(values, self.precision).unsqueeze(1), channel)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Makes images `targets` what images `sources` are, in all that later steps read."""
        for cache in {id(cache): cache for kept in (self.caches, self.operands) for cache in kept.values()}.values():
            cache.copy(sources, targets)
        for history in self.histories.values():
            history.copy(sources, targets)

    def operand(self, value: int, target: int, columns: tuple[int, int]) -> Tensor:
        """What stands at the target's own pixels: (P * N, stop - start) of the target's front."""
        if self.schedule.ahead(value, target) == 0 and value in self.now:
            return self.now[value]
        time = self.step + self.schedule.leads[target]
        return self.caches[value].run(time, 0, columns[0], columns[1] - columns[0])

    def _readers(self, value: int) -> list[MaskedConv2d]:
        convs = (op for op in self.schedule.program.operations if isinstance(op, Conv))
        return [op.layer for op in convs if op.source == value]

    def _is_kept(self, value: int, channels: int) -> bool:
        """Whether a product reads it elsewhere than where and when it is computed."""
        for op in self.schedule.program.operations:
            if not isinstance(op, Conv) or op.source != value:
                continue
            inside = [tap for tap in op.layer.taps if self.schedule.wavefront.reaches(*tap)]
            in_groups = channels > 1 and len(op.layer.in_groups) > 1
            if inside != [(0, 0)] or in_groups or self.schedule.ahead(value, op.target) != 0:
                return True
        return False

    def _is_ahead(self, value: int) -> bool:
        """Whether something else than a product reads it later than it is computed."""
        readers = [op.target for op in self.schedule.program.operations if value in op.pointwise]
        return any(self.schedule.ahead(value, reader) != 0 for reader in readers) and not self._is_condition(value)

    def _prepared(self, op: Operation, channel: int) -> Callable[[], Tensor]:
        """An operation of one colour group, which also keeps what it computes where that is read later."""
        group = channel if op.groups > 1 else 0
        columns = group_bounds(self.schedule.program.features[op.target], op.groups)[group]
        if isinstance(op, Condition):
            per_image = self._conditions[op][:, columns[0] : columns[1]]
            return lambda: per_image
        compute = _prepare(op, self, group, columns)
        cache, operands = self.caches.get(op.target), self.operands.get(op.target)
        history = self.histories.get(op.target)
        if cache is None and operands is None and history is None:
            return compute
        lead = self.schedule.leads[op.target]

        def compute_and_keep() -> Tensor:
            y = compute()
            if cache is not None:
                cache.write(self.step + lead, y, columns[0])
            if operands is not None and operands is not cache:
                operands.write(self.step + lead, as_operand(y, self.precision), columns[0])
            if history is not None:
                history.write(self.step + lead, as_operand(y, self.precision))
            return y

        return compute_and_keep

    def _is_condition(self, value: int) -> bool:
        return any(isinstance(op, Condition) and op.target == value for op in self.schedule.program.operations)


class _Cache:
    """A value at all pixels, at the addresses that the module's docstring gives."""

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
        self._base = above * (self._row + self._slope) + beside  # of pixel (0, 0): padding comes before
        pixels = self._base + wavefront.height * (self._row + self._slope) + self._line
        self._values = like.new_zeros(pixels * channels)

    def write(self, time: int, x: Tensor, start: int) -> None:
        """Puts x (P * N, k) into the k features from `start` on of the pixels of a time."""
        self.run(time, 0, start, x.shape[1]).copy_(x)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Images `targets` become what images `sources` are."""
        height, width, c = self._wavefront.height, self._wavefront.width, self._channels
        strides = ((self._row + self._slope) * c, self._line * c, 1)
        lines = self._values.as_strided((height, self._n, width * c), strides, self._base * c)
        lines[:, targets] = lines[:, sources]

    def ahead(self, dy: int, dx: int) -> int:
        """How much further than a pixel its tap (dy, dx) stands."""
        return dy * (self._row + self._slope) + dx

    def run(self, time: int, ahead: int, start: int, features: int) -> Tensor:
        """So many features from `start` on, and on into the pixels that follow: (P * N, features), no copy.

        Of the pixels of a time, or of those that stand `ahead` of them.
        """
        rows, c = self._wavefront.rows(time), self._channels
        front = self._base + rows.start * self._row + time + ahead if rows else 0
        return self._values.as_strided((len(rows) * self._n, features), (self._line * c, 1), front * c + start)


class History:
    """A value at all pixels, those of each image and head in raster order."""

    def __init__(self, wavefront: Wavefront, n: int, heads: int, features: int, like: Tensor) -> None:
        self._wavefront = wavefront
        self.values = like.new_zeros(n, heads, wavefront.height * wavefront.width, features // heads)

    def write(self, time: int, x: Tensor) -> None:
        """Puts x (P * N, features) at the pixels of a time."""
        n, heads, _, size = self.values.shape
        self.values[:, :, self._wavefront.pixels(time)] = x.view(-1, n, heads, size).permute(1, 2, 0, 3)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Images `targets` become what images `sources` are."""
        self.values[targets] = self.values[sources]

    def before(self, pixel: int) -> Tensor:
        """The pixels before one, by its raster index: (N * heads, pixel, features / heads), no copy."""
        return self.values.flatten(0, 1)[:, :pixel]


def _prepare(
    op: Conv | Sum | Unit | Place | Upsample | Attention, front: Front, group: int, columns: tuple[int, int]
) -> Callable[[], Tensor]:
    """An operation of one colour group as a function of what the front holds."""
    if isinstance(op, Conv):
        return _Product(op, front, group, columns)
    if isinstance(op, Place):
        return _Places(op, front, columns)
    if isinstance(op, Attention):
        return _Attention(op, front, group)
    assert not isinstance(op, Upsample), "networks with a coarse context are run by rows"
    target = op.target
    if isinstance(op, Sum):
        left, right = op.left, op.right
        return lambda: front.operand(left, target, columns) + front.operand(right, target, columns)
    function = unit_functions(front.exact)[op.kind]
    source, of_source = op.source, group_bounds(front.schedule.program.features[op.source], op.groups)[group]
    return lambda: function(front.operand(source, target, of_source), 1)


def unit_functions(exact: bool) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """What the units compute, by their kinds: functions of features and of the number of their colour groups."""
    if exact:
        return {"gate": units.gated, "glu": lambda x, _: units.glu(x), "concat_elu": lambda x, _: units.concat_elu(x)}
    return {"gate": gated, "glu": lambda x, _: F.glu(x, -1), "concat_elu": lambda x, _: concat_elu(x)}


class _Product:
    """A convolution of one colour group: a matrix product for each kernel row that reaches into the image."""

    def __init__(self, op: Conv, front: Front, group: int, columns: tuple[int, int]) -> None:
        layer, schedule = op.layer, front.schedule
        start, stop = self._columns = columns
        self._op = op
        self._front = front
        self._lead = schedule.leads[op.target]
        self._relu = layer.activation == "relu"
        self._bias = layer.bias[start:stop].clone()
        self._cache = front.operands.get(op.source)
        inside = [tap for tap in layer.taps if schedule.wavefront.reaches(*tap)]
        rows = [list(taps) for _, taps in groupby(inside, key=lambda tap: tap[0])]
        rows.reverse()  # the own row first
        self._runs = []
        for taps in rows:
            hidden = layer.in_channels - layer.seen[group] if taps[-1] == (0, 0) else 0  # of the own pixel
            kernel = torch.cat([layer.kernel_at(*tap)[start:stop] for tap in taps], 1)
            kernel = as_operand(kernel, front.precision)
            matrix = kernel[:, : len(taps) * layer.in_channels - hidden].t().contiguous()
            if len(matrix):
                self._runs.append((0 if self._cache is None else self._cache.ahead(*taps[0]), matrix))

    def __call__(self) -> Tensor:
        op, front, cache = self._op, self._front, self._cache
        time = front.step + self._lead
        if cache is None:
            y = torch.addmm(self._bias, as_operand(front.now[op.source], front.precision), self._runs[0][1])
        else:
            if not self._runs:
                y = self._bias.expand(len(front.schedule.wavefront.rows(time)) * front.n, -1).clone()
            for k, (ahead, matrix) in enumerate(self._runs):
                seen = cache.run(time, ahead, 0, len(matrix))
                y = torch.addmm(self._bias, seen, matrix) if k == 0 else y.addmm_(seen, matrix)
        if op.add is not None:
            add = front.operand(op.add, op.target, self._columns)
            one_an_image = len(add) != len(y)
            y = y.view(-1, front.n, y.shape[1]).add_(add).view(y.shape) if one_an_image else y.add_(add)
        if front.exact:
            y = grid.clamped(y)
        y = y.relu_() if self._relu else y
        return y if op.residual is None else y.add_(front.operand(op.residual, op.target, self._columns))


class _Places:
    """A table of places, of one colour group."""

    def __init__(self, op: Place, front: Front, columns: tuple[int, int]) -> None:
        self._front = front
        self._lead = front.schedule.leads[op.target]
        table = op.table.forward().flatten(0, 1)[:, slice(*columns)]
        self._table = grid.clamped(table) if front.exact else table.clone()

    def __call__(self) -> Tensor:
        front = self._front
        rows = self._table[front.schedule.wavefront.pixels(front.step + self._lead)]
        return rows[:, None].expand(-1, front.n, -1).flatten(0, 1)


class _Attention:
    """What a query of one colour group finds, one pixel of the front after the other: each sees a pixel more."""

    def __init__(self, op: Attention, front: Front, group: int) -> None:
        self._op = op
        self._front = front
        self._lead = front.schedule.leads[op.target]
        self._keys, self._values = front.histories[op.keys], front.histories[op.values]
        self._of_query = group_bounds(front.schedule.program.features[op.query], op.groups)[group]

    def __call__(self) -> Tensor:
        op, front = self._op, self._front
        query = as_operand(front.operand(op.query, op.target, self._of_query), front.precision)
        pixels = front.schedule.wavefront.pixels(front.step + self._lead)
        found = []
        for k, pixel in enumerate(range(pixels.start, pixels.stop, pixels.step)):
            asked = query[k * front.n : (k + 1) * front.n].reshape(front.n * op.heads, 1, -1)
            keys, values = self._keys.before(pixel), self._values.before(pixel)
            seen = units.attend(asked, keys, values) if front.exact else attend(asked, keys, values, front.precision)
            found.append(seen.view(front.n, -1))
        return torch.cat(found) if found else query[:0]
