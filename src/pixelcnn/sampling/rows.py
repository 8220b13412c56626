"""A recorded network run in PyTorch in raster order, all that sees only the rows above a row at a time.

Networks with a coarse context are drawn so (`pixelcnn.sampling.schedule`). Before a row's first pixel the values that
`Schedule.rows` names are computed for the whole row, those on a context's grid at each s-th row; then, a step a pixel,
the others. What convolutions read is kept in maps of whole images with zeros around them, (N, rows, columns, features):
what a kernel sees is a window of one, which `unfold` shows without a copy, and one matrix product takes it in.

`RowFront` does what `pixelcnn.sampling.front.Front` does, and is used in its place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.attention import attend
from pixelcnn.exact import grid, units
from pixelcnn.layers import MaskedConv2d, group_bounds
from pixelcnn.precision import Precision, as_operand
from pixelcnn.sampling.front import Front, History, unit_functions
from pixelcnn.sampling.program import (
    IMAGE,
    Attention,
    Condition,
    Conv,
    Operation,
    Place,
    Sum,
    Unit,
    Upsample,
)
from pixelcnn.sampling.schedule import Schedule

__all__ = ["RowFront", "front_of"]


def front_of(
    schedule: Schedule,
    channels: int,
    n: int,
    like: Tensor,
    precision: Precision | None = None,
    *,
    exact: bool = False,
) -> Front | RowFront:
    """The front that runs a schedule; see `Front` for the arguments."""
    kind = RowFront if schedule.rows else Front
    return kind(schedule, channels, n, like, precision, exact=exact)


class RowFront:
    """The values of a program at the pixel that is being generated, and of its row. See `Front`, and so for `Args`."""

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
        self._n = n
        self._channels = channels
        self._precision: Precision | None = precision
        self._exact = exact
        self._step = 0
        program, self._width = schedule.program, schedule.wavefront.width
        self._row = {
            value: like.new_zeros(n, schedule.grid(value)[1], program.features[value]) for value in schedule.rows
        }
        """Of the values computed by rows, the current row: (N, columns, features)."""
        pixel_values = set(range(len(program.features))) - schedule.rows
        self._now = {value: like.new_zeros(n, program.features[value]) for value in pixel_values}
        """Of the others, the pixel that was computed last: (N, features)."""
        self._maps = {
            value: _Map(schedule, value, readers, n, like) for value, readers in self._readers().items() if readers
        }
        self._histories = {
            value: History(schedule.wavefront, n, op.heads, program.features[value], like)
            for op in program.operations
            if isinstance(op, Attention)
            for value in (op.keys, op.values)
        }
        conditions = [op for op in program.operations if isinstance(op, Condition)]
        self._conditions = {op.target: (op, like.new_zeros(n, program.features[op.target])) for op in conditions}
        rest = [op for op in program.operations if not isinstance(op, Condition)]
        self._by_row = [
            (schedule.grid(op.target)[2], self._prepared(op, None)) for op in rest if op.target in schedule.rows
        ]
        by_pixel = [op for op in rest if op.target not in schedule.rows]
        self._late = [self._prepared(op, 0) for op in by_pixel if schedule.leads[op.target] < 0]
        self._by_pixel = [
            [
                self._prepared(op, channel)
                for op in by_pixel
                if schedule.leads[op.target] == 0 and (channel == 0 or op.groups > 1)
            ]
            for channel in range(channels)
        ]
        output = next(op for op in by_pixel if op.target == program.output)
        self._outputs = group_bounds(program.features[output.target], output.groups)

    def start(self, condition: Tensor | None) -> None:
        """Tells what each image is conditioned on, (N, D); None for nothing."""
        for op, values in self._conditions.values():
            assert condition is not None
            x, weight = (as_operand(tensor, self._precision) for tensor in (condition, op.layer.weight))
            added = F.linear(x, weight, op.layer.bias)
            values.copy_(grid.clamped(added) if self._exact else added)

    def begin(self, step: int) -> None:
        """Moves to a step: what waited for the last pixel, and at a row's first pixel what is computed by rows."""
        self._step = step
        if step > 0:
            for compute in self._late:
                compute(*divmod(step - 1, self._width))
        row, column = divmod(step, self._width)
        if column == 0:
            for scale, compute in self._by_row:
                if row % scale == 0:
                    compute(row // scale, 0)

    def compute(self, channel: int) -> Tensor:
        """The raw parameters of the current pixel: of one channel, or of all if they are not grouped."""
        for compute in self._by_pixel[channel]:
            compute(*divmod(self._step, self._width))
        start, stop = self._outputs[channel] if len(self._outputs) > 1 else self._outputs[0]
        return self._now[self.schedule.program.output][:, start:stop]

    def observe(self, channel: int, values: Tensor) -> None:
        """Tells the scaled values (N,) of a channel, so that later sub-pixels can see them."""
        row, column = divmod(self._step, self._width)
        self._maps[IMAGE].pixel(row, column)[:, channel] = values

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Makes images `targets` what images `sources` are, in all that later steps read."""
        kept = [*self._row.values(), *self._now.values(), *(each.values for each in self._maps.values())]
        for values in (*kept, *(history.values for history in self._histories.values())):
            values[targets] = values[sources]

    def _readers(self) -> dict[int, list[MaskedConv2d]]:
        """The convolutions that read a value at other pixels than where it is computed, for each value."""
        readers: dict[int, list[MaskedConv2d]] = {IMAGE: []}
        for op in self.schedule.program.operations:
            if isinstance(op, Conv) and self._reads_a_map(op):
                readers.setdefault(op.source, []).append(op.layer)
        return readers

    def _reads_a_map(self, op: Conv) -> bool:
        return op.source == IMAGE or not op.layer.pointwise

    def _prepared(self, op: Operation, channel: int | None) -> Callable[[int, int], None]:
        """An operation, of one colour group or of all, as a function of where: it computes, and keeps the result."""
        compute = self._function(op, channel)
        kept, history = self._maps.get(op.target), self._histories.get(op.target)
        if op.target in self.schedule.rows:
            values = self._row[op.target]

            def compute_row(row: int, column: int) -> None:
                values.copy_(compute(row, column))
                if kept is not None:
                    kept.row(row).copy_(values)

            return compute_row
        bounds = group_bounds(self.schedule.program.features[op.target], op.groups)
        start, stop = bounds[(channel or 0) if op.groups > 1 else 0]
        now = self._now[op.target]

        def compute_pixel(row: int, column: int) -> None:
            now[:, start:stop] = compute(row, column)
            if kept is not None:
                kept.pixel(row, column)[:, start:stop] = now[:, start:stop]
            if history is not None:
                pixel = row * self._width + column
                history.write(pixel, as_operand(now, self._precision))

        return compute_pixel

    def _function(self, op: Operation, channel: int | None) -> Callable[[int, int], Tensor]:
        """What an operation computes: (N, columns, features) for a row, (N, features of the group) for a pixel."""
        of_group = _columns_of(self.schedule, op.target, op.groups, channel)
        if isinstance(op, Conv):
            return self._product(op, of_group)
        if isinstance(op, Sum):
            left, right = self._operand(op.left, op, of_group), self._operand(op.right, op, of_group)
            return lambda _, column: left(column) + right(column)
        if isinstance(op, Unit):
            function = unit_functions(self._exact)[op.kind]
            groups = op.groups if op.target in self.schedule.rows else 1
            source = self._operand(op.source, op, _columns_of(self.schedule, op.source, op.groups, channel))
            return lambda _, column: function(source(column), groups)
        if isinstance(op, Place):
            table = op.table.forward()
            table = grid.clamped(table) if self._exact else table.clone()
            return lambda row, _: table[row]
        if isinstance(op, Upsample):
            coarse, width = self._row[op.source], self.schedule.grid(op.target)[1]
            return lambda *_: coarse.repeat_interleave(op.scale, 1)[:, :width]
        assert isinstance(op, Attention), op
        return self._attention(op, channel)

    def _operand(self, value: int, op: Operation, columns: slice) -> Callable[[int], Tensor]:
        """A value where the operation computes, as a function of the column: in the shape of its result."""
        by_row = op.target in self.schedule.rows
        if value in self._conditions:
            per_image = self._conditions[value][1][:, columns]
            return lambda _: per_image.unsqueeze(1) if by_row else per_image
        if value in self.schedule.rows:
            row = self._row[value][..., columns]
            return lambda column: row if by_row else row[:, column]
        now = self._now[value][:, columns]
        return lambda _: now

    def _product(self, op: Conv, columns: slice) -> Callable[[int, int], Tensor]:
        layer, by_row = op.layer, op.target in self.schedule.rows
        kernel = layer.masked_weight()[columns, :, : 1 - layer.window.top]  # no row below the own one
        matrix = as_operand(kernel.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), self._precision)
        bias = layer.bias[columns].clone()
        add = None if op.add is None else self._operand(op.add, op, columns)
        residual = None if op.residual is None else self._operand(op.residual, op, columns)
        source = self._maps[op.source] if self._reads_a_map(op) else None
        direct = None if source is not None else self._operand(op.source, op, slice(None))

        def compute(row: int, column: int) -> Tensor:
            if source is None:
                assert direct is not None
                seen = direct(column)
            else:
                seen = source.windows(layer, row, None if by_row else column)
            y = torch.addmm(bias, as_operand(seen, self._precision).reshape(-1, len(matrix)), matrix)
            y = y.view(*seen.shape[:-1], y.shape[-1])
            if add is not None:
                y = y + add(column)
            y = grid.clamped(y) if self._exact else y
            y = y.relu_() if layer.activation == "relu" else y
            return y if residual is None else y + residual(column)

        return compute

    def _attention(self, op: Attention, channel: int | None) -> Callable[[int, int], Tensor]:
        keys, values = self._histories[op.keys], self._histories[op.values]
        query = self._operand(op.query, op, _columns_of(self.schedule, op.query, op.groups, channel))

        def compute(row: int, column: int) -> Tensor:
            asked = as_operand(query(column), self._precision).reshape(self._n * op.heads, 1, -1)
            k, v = (each.before(row * self._width + column) for each in (keys, values))
            found = units.attend(asked, k, v) if self._exact else attend(asked, k, v, self._precision)
            return found.view(self._n, -1)

        return compute


def _columns_of(schedule: Schedule, value: int, groups: int, channel: int | None) -> slice:
    """The features of a value that belong to a channel; all of them for None."""
    if channel is None:
        return slice(None)
    return slice(*group_bounds(schedule.program.features[value], groups)[channel if groups > 1 else 0])


class _Map:
    """A value at all places of its grid, with as many zeros around as its readers see."""

    def __init__(self, schedule: Schedule, value: int, readers: list[MaskedConv2d], n: int, like: Tensor) -> None:
        height, width, _ = schedule.grid(value)
        self._columns = width
        self._top = max(-layer.window.top for layer in readers)
        self._left = max(0, *(-layer.window.left for layer in readers))
        right = max(0, *(layer.right_of(width) for layer in readers))
        shape = (n, self._top + height, self._left + width + right, schedule.program.features[value])
        self.values = like.new_zeros(shape)

    def pixel(self, row: int, column: int) -> Tensor:
        """The features at a place: (N, features), no copy."""
        return self.values[:, self._top + row, self._left + column]

    def row(self, row: int) -> Tensor:
        """Those of a row: (N, columns, features), no copy."""
        return self.values[:, self._top + row, self._left : self._left + self._columns]

    def windows(self, layer: MaskedConv2d, row: int, column: int | None) -> Tensor:
        """What a kernel sees at a place, (N, seen), or at all of a row of its results, (N, columns, seen)."""
        window, stride = layer.window, layer.stride
        top = self._top + row * stride + window.top
        rows = self.values[:, top : top - window.top + min(window.bottom, 0) + 1]
        if column is not None:
            left = self._left + column + window.left
            return rows[:, :, left : left + window.width].flatten(1)
        left = self._left + window.left
        strip = rows[:, :, left : self._left + self._columns + layer.right_of(self._columns)]
        return strip.unfold(2, window.width, stride).permute(0, 2, 1, 4, 3).flatten(2)
