"""A recorded network run in PyTorch in raster order, with values that see only the rows above computed row by row.

Networks with a coarse context are drawn this way (`pixelcnn.sampling.schedule`). Before the first pixel of a row, the
values in `Schedule.rows` are computed for the whole row, those on a context's grid only at every s-th row; the others
are then computed one pixel per step. What convolutions read is kept in zero-padded maps of whole images,
(N, rows, columns, features): a kernel sees a window of such a map, which `unfold` exposes without a copy and a single
matrix product consumes.

Here P is 1, or the number of columns of a row.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pixelcnn.arithmetic import Arithmetic
from pixelcnn.layers import MaskedConv2d
from pixelcnn.operations import IMAGE, Condition, Node
from pixelcnn.sampling.front import Front
from pixelcnn.sampling.schedule import Schedule

__all__ = ["RowFront"]


class RowFront(Front):
    """The values of a program at the pixel being generated, and in its row. See `Front`, also for the arguments."""

    def __init__(self, schedule: Schedule, channels: int, n: int, like: Tensor, arithmetic: Arithmetic) -> None:
        super().__init__(schedule, channels, n, like, arithmetic)
        program, self._width = schedule.program, schedule.wavefront.width
        self._at = 0, 0
        """Row and column at which operations currently compute, on the grid of their result."""
        self._values = {
            value: like.new_zeros(schedule.grid(value)[1] if value in schedule.rows else 1, n, features)
            for value, features in enumerate(program.features)
        }
        """For values computed row by row, the current row; for the others, the most recently computed pixel."""
        readers = {
            value: [r.layer for r in schedule.readings[value] if r.layer and (value == IMAGE or not r.layer.pointwise)]
            for value in range(len(program.features))
        }
        self._padded = {
            value: _Map(schedule, value, layers, n, like)
            for value, layers in readers.items()
            if layers or value == IMAGE
        }
        """The image, and the values that convolutions read at pixels other than the one at which they are computed."""
        nodes = [node for node in program.nodes if not isinstance(node.op, Condition)]
        self._by_row = [
            (schedule.grid(node.target)[2], self._prepared(node, None))
            for node in nodes
            if node.target in schedule.rows
        ]
        by_pixel = [node for node in nodes if node.target not in schedule.rows]
        # of a pixel that has been drawn, all colour groups are known
        self._late = [self._prepared(node, None) for node in by_pixel if schedule.leads[node.target] < 0]
        self._by_pixel = [
            [
                self._prepared(node, channel)
                for node in by_pixel
                if schedule.leads[node.target] == 0 and (channel == 0 or node.op.groups > 1)
            ]
            for channel in range(channels)
        ]
        output = next(node for node in nodes if node.target == program.output)
        self._outputs = [self.part(output, channel).columns for channel in range(channels)]

    def begin(self, step: int) -> None:
        """Moves to a step: computes what waited for the last pixel and, at a row's first pixel, the row-wise values."""
        self.step = step
        if step > 0:
            self._at = divmod(step - 1, self._width)
            for compute in self._late:
                compute()
        row, column = divmod(step, self._width)
        if column == 0:
            for scale, compute in self._by_row:
                if row % scale == 0:
                    self._at = row // scale, 0
                    compute()
        self._at = row, column

    def compute(self, channel: int) -> Tensor:
        """The raw parameters of the current pixel: of one channel, or of all if they are not grouped."""
        for compute in self._by_pixel[channel]:
            compute()
        output = self.schedule.program.output
        found = self._values[output][..., self._outputs[channel]]
        return found[self._at[1] :][:1] if output in self.schedule.rows else found

    def observe(self, channel: int, values: Tensor) -> None:
        """Stores what the network reads of a channel, (1, N, features), so that later sub-pixels can see it."""
        features = values.shape[-1]
        self._padded[IMAGE].pixel(*self._at)[:, channel * features : (channel + 1) * features] = values[0]

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Copies images `sources` over images `targets`, in everything that later steps read."""
        for values in self._values.values():
            values[:, targets] = values[:, sources]
        for kept in self._padded.values():
            kept.values[targets] = kept.values[sources]
        for history in self._histories.values():
            history.copy(sources, targets)

    def operand(self, value: int, node: Node, columns: slice) -> Callable[[], Tensor]:
        """See `pixelcnn.operations.base.Front`."""
        if value in self._conditions:
            per_image = self._conditions[value][1][:, columns].unsqueeze(0)
            return lambda: per_image
        if value == IMAGE:
            return lambda: self._padded[IMAGE].pixel(*self._at)[None, :, columns]
        values = self._values[value][..., columns]
        if value in self.schedule.rows and node.target not in self.schedule.rows:
            return lambda: values[self._at[1] :][:1]
        return lambda: values

    def seen(self, node: Node, layer: MaskedConv2d) -> list[tuple[list[tuple[int, int]], Callable[[], Tensor]]]:
        """The whole window in one piece; see `pixelcnn.operations.base.Front`."""
        source = node.inputs[0]
        if source != IMAGE and layer.pointwise:
            read = self.operand(source, node, slice(0, layer.in_channels))
            return [([(0, 0)], lambda: self.arithmetic.operand(read()).flatten(0, 1))]
        kept, by_row = self._padded[source], node.target in self.schedule.rows
        taps = [(dy, dx) for dy, dx in layer.window.taps() if dy <= 0]  # no row below the current one

        def windows() -> Tensor:
            row, column = self._at
            return self.arithmetic.operand(kept.windows(layer, row, None if by_row else column))

        return [(taps, windows)]

    def positions(self, node: Node) -> Callable[[], slice]:
        """See `pixelcnn.operations.base.Front`."""
        width = self.schedule.grid(node.target)[1]
        count = width if node.target in self.schedule.rows else 1

        def current() -> slice:
            first = self._at[0] * width + self._at[1]
            return slice(first, first + count)

        return current

    def row(self, value: int) -> Tensor:
        """See `pixelcnn.operations.base.Front`."""
        return self._values[value]

    def _prepared(self, node: Node, channel: int | None) -> Callable[[], None]:
        """An operation on one colour group, or on all, which also stores its result."""
        compute = node.op.at_front(self, node, channel)
        values = self._values[node.target][..., self.part(node, channel).columns]
        whole, kept = self._values[node.target], self._padded.get(node.target)
        histories = self.histories_of(node.target)
        by_row, columns = node.target in self.schedule.rows, self.part(node, channel).columns

        def compute_and_keep() -> None:
            values.copy_(compute())
            if kept is not None:
                stored = kept.row(self._at[0]) if by_row else kept.pixel(*self._at).unsqueeze(1)
                stored[..., columns] = values.transpose(0, 1)
            pixel = self._at[0] * self._width + self._at[1]
            for history in histories:
                history.write(slice(pixel, pixel + len(whole)), self.arithmetic.operand(whole))

        return compute_and_keep


class _Map:
    """A value at all positions of its grid, padded with as many zeros as its readers see."""

    def __init__(self, schedule: Schedule, value: int, readers: list[MaskedConv2d], n: int, like: Tensor) -> None:
        height, width, _ = schedule.grid(value)
        self._columns = width
        self._top = max((-layer.window.top for layer in readers), default=0)
        self._left = max((0, *(-layer.window.left for layer in readers)))
        right = max((0, *(layer.right_of(width) for layer in readers)))
        shape = (n, self._top + height, self._left + width + right, schedule.program.features[value])
        self.values = like.new_zeros(shape)

    def pixel(self, row: int, column: int) -> Tensor:
        """The features at one position: (N, features), no copy."""
        return self.values[:, self._top + row, self._left + column]

    def row(self, row: int) -> Tensor:
        """The features of one row: (N, columns, features), no copy."""
        return self.values[:, self._top + row, self._left : self._left + self._columns]

    def windows(self, layer: MaskedConv2d, row: int, column: int | None) -> Tensor:
        """What a kernel sees at one position, (N, seen), or at all positions of an output row, (columns * N, seen)."""
        window, stride = layer.window, layer.stride
        top = self._top + row * stride + window.top
        rows = self.values[:, top : top - window.top + min(window.bottom, 0) + 1]
        if column is not None:
            left = self._left + column + window.left
            return rows[:, :, left : left + window.width].flatten(1)
        left = self._left + window.left
        strip = rows[:, :, left : self._left + self._columns + layer.right_of(self._columns)]
        return strip.unfold(2, window.width, stride).permute(2, 0, 1, 4, 3).flatten(2).flatten(0, 1)
