"""A recorded network as the kernel reads it: weights, and one table of integers that says what is where.

Features are kept in two memories. *Operands* hold what convolutions read, rounded as `pixelcnn.precision` says: values
that are read at other pixels for as many steps as the furthest tap needs, in a ring of time slots of (height, images of
the group, features) each, others for the rows under way alone. *Sums* hold in float32 what sums and the draw read, for
the rows under way. A value that both read stands in both. Pixels outside the image are told by their coordinates, so
nothing need be cleared, and the image itself is read where it is drawn.

The table (int32) holds, one after the other:

    header      channels, height, width, slope, steps, images of a group, operations of a channel,
                offset and stride of the raw parameters in sums, numbers of a program's operands and of its sums
    steps       for each the first image row of its front and the end
    operations  for each channel and operation: kind (0 reads the image, 1 features, 2 is a sum), first column, columns,
                whether ReLU follows, where its taps or blocks start and how many there are, where its weights and its
                bias start, columns of its weights; then where it reads (operands, or sums for a sum), where it writes
                operands, the other term of its sum, and where it writes sums; offset -1 is nowhere
    taps        dy, dx, channel of each number that a convolution reads in the image
    blocks      dy, dx, steps ago, first and end of the features that a product takes in at a time
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.layers import group_bounds
from pixelcnn.precision import Precision, as_operand
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.program import IMAGE, Attention, Conv, Sum
from pixelcnn.sampling.schedule import Schedule, schedule_of

__all__ = ["HEADER", "OPERATION", "Layout", "Tables", "operations_of"]

HEADER = 11
"""Numbers before the steps."""
OPERATION = 23
"""Numbers of an operation."""
_ALIGNMENT = 16
_NOWHERE = (-1, 0, 0, 0, 1)


def operations_of(schedule: Schedule, channels: int) -> list[Conv | Sum]:
    """The operations, all of which the kernel knows.

    Raises:
        ValueError: If there is something that it does not.
    """
    if any(isinstance(op, Attention) for op in schedule.program.operations):
        raise ValueError("it does not know attention")
    if any(schedule.leads):
        raise ValueError("it does not know features that are computed ahead of the pixels")
    operations: list[Conv | Sum] = []
    for op in schedule.program.operations:
        if not isinstance(op, Conv | Sum):
            raise ValueError(
                f"it knows convolutions, ReLU and sums, not {getattr(op, 'kind', type(op).__name__.lower())}"
            )
        if isinstance(op, Conv) and op.add is not None:
            raise ValueError("it does not add to a convolution before its activation")
        if op.groups != channels:
            raise ValueError("it knows features of one colour group for each channel only")
        operations.append(op)
    return operations


class Layout:
    """Where the values of a schedule stand, for `rows` rows under way and `group` images drawn together."""

    def __init__(self, schedule: Schedule, channels: int, group: int, rows: int) -> None:
        self.operands: dict[int, tuple[int, int, int, int, int]] = {}
        """Offset, stride of a row, of height times the group's images, and of a step; slots."""
        self.sums: dict[int, tuple[int, int]] = {}
        """Offset and stride of a row."""
        self.operand_numbers = self.sum_numbers = 0
        program, operations = schedule.program, operations_of(schedule, channels)
        end = len(operations)
        read: dict[int, int] = {}  # by the last operation of these
        added = {program.output: end}
        for k, op in enumerate(operations):
            if isinstance(op, Conv):
                read[op.source] = k
            for value in (op.residual,) if isinstance(op, Conv) else (op.left, op.right):
                if value is not None:
                    added[value] = max(k, added.get(value, 0))
        taps = _taps_of(schedule)
        scratch: dict[int, list[int]] = {}
        terms: dict[int, list[int]] = {}
        for k, op in enumerate(operations):
            value = op.target
            stride = _aligned(program.features[value])
            if taps[value] - {(0, 0)}:
                slots = 1 + max(delay for delay, _ in taps[value])
                per_step = schedule.wavefront.height * group * stride
                self.operands[value] = (self._take_operands(slots * per_step), stride, stride, per_step, slots)
            elif value in read:
                free = scratch.get(stride)
                self.operands[value] = (free.pop() if free else self._take_operands(rows * stride), stride, 0, 0, 1)
            if value in added:
                free = terms.get(stride)
                self.sums[value] = (free.pop() if free else self._take_sums(rows * stride), stride)
            for other in [v for v, last in read.items() if last == k and v in self.operands and channels == 1]:
                offset, stride, _, per_step, _ = self.operands[other]  # with colours a later channel reads it again
                if per_step == 0:
                    scratch.setdefault(stride, []).append(offset)
            for other in [v for v, last in added.items() if last == k]:
                terms.setdefault(self.sums[other][1], []).append(self.sums[other][0])

    def _take_operands(self, numbers: int) -> int:
        self.operand_numbers += numbers
        return self.operand_numbers - numbers

    def _take_sums(self, numbers: int) -> int:
        self.sum_numbers += numbers
        return self.sum_numbers - numbers


class Tables:
    """What the kernel reads of a model, on the model's device. No reference to the model is kept.

    Args:
        model: A model whose operations are all known, see `operations_of`.
        precision: What operands are rounded to; with "bf16" they are kept in bfloat16.
        group: Images drawn together.
        rows: Rows computed at a time.
        depth: Numbers that a product takes in at a time.
    """

    def __init__(self, model: Autoregressive, precision: Precision | None, group: int, rows: int, depth: int) -> None:
        schedule = schedule_of(model)
        program, wavefront = schedule.program, schedule.wavefront
        c, h, w = model.image_shape
        every = operations_of(schedule, c)
        self.steps = wavefront.steps
        self.group = group
        self._schedule = schedule
        self._precision = precision
        self._depth = depth
        self._channels = c
        self._layout = layout = Layout(schedule, c, group, rows)
        self._taps: list[tuple[int, ...]] = []
        self._blocks: list[tuple[int, ...]] = []
        self._weights: list[Tensor] = []
        self._biases: list[Tensor] = []
        with torch.inference_mode():
            operations = [self._operation(op, channel) for channel in range(c) for op in every]
            levels = torch.arange(model.levels, device=model.device, dtype=model.dtype) / (model.levels - 1)
            kind = torch.bfloat16 if precision == "bf16" else model.dtype
            self.scale = levels.to(kind)
            self.weights = torch.cat(self._weights).to(kind)
            self.biases = torch.cat(self._biases)
            self._weights, self._biases = [], []
        self.operand_numbers = max(layout.operand_numbers, _ALIGNMENT)
        self.sum_numbers = layout.sum_numbers
        steps = [(r.start, r.stop) for r in map(wavefront.rows, range(wavefront.steps))]
        output = layout.sums[program.output]
        sizes = (self.operand_numbers, self.sum_numbers)
        header = (c, h, w, wavefront.slope, wavefront.steps, group, len(every), *output, *sizes)
        aligned = _is_aligned(operations, self._blocks)
        self.unit = _ALIGNMENT if aligned else 1
        """What the compiler may take every number of features, column and offset to be a multiple of."""
        if aligned:  # the columns that a product's tile has beyond a group's fall into a row's padding
            operations = [(*op[:2], _aligned(op[2]), *op[3:]) for op in operations]
        taps = HEADER + 2 * len(steps) + OPERATION * len(operations)
        starts = (taps, taps + 3 * len(self._taps))
        operations = [(*op[:4], starts[op[0] != 0] + op[4], *op[5:]) for op in operations]
        parts = (header, *steps, *operations, *self._taps, *self._blocks)
        numbers = np.array(list(itertools.chain(*parts)), dtype=np.int64)
        assert abs(numbers).max() < 2**31, "one program's memory is addressed by 32 bits"
        assert len(header) == HEADER and {len(op) for op in operations} == {OPERATION}  # noqa: PT018
        self.plan = torch.from_numpy(numbers.astype(np.int32)).to(model.device)

    @property
    def bytes(self) -> int:
        """What a program's features take."""
        return self.operand_numbers * self.weights.element_size() + self.sum_numbers * self.biases.element_size()

    def _operation(self, op: Conv | Sum, channel: int) -> tuple[int, ...]:
        layout = self._layout
        target = layout.operands.get(op.target, _NOWHERE)
        kept = layout.sums.get(op.target, _NOWHERE[:2])
        if isinstance(op, Sum):
            start, stop = group_bounds(self._schedule.program.features[op.target], self._channels)[channel]
            source = (*layout.sums[op.left], 0, 0, 1)
            return 2, start, stop - start, 0, 0, 0, 0, 0, 0, *source, *target, *layout.sums[op.right], *kept
        layer = op.layer
        start, stop = layer.out_groups[channel]
        reads_image = op.source == IMAGE
        source = _NOWHERE if reads_image else layout.operands[op.source]
        first, count, matrix = self._taps_of(op, channel) if reads_image else self._blocks_of(op, channel)
        padding = -(stop - start) % _ALIGNMENT
        weights = _keep(self._weights, F.pad(as_operand(matrix, self._precision), (0, padding)))
        bias = _keep(self._biases, F.pad(layer.bias[start:stop], (0, padding)))
        added = _NOWHERE[:2] if op.residual is None else layout.sums[op.residual]
        relu, pitch = int(layer.activation == "relu"), stop - start + padding
        product = (first, count, weights, bias, pitch)
        return int(not reads_image), start, stop - start, relu, *product, *source, *target, *added, *kept

    def _taps_of(self, op: Conv, channel: int) -> tuple[int, int, Tensor]:
        """First tap, number of taps, weights (taps, columns) of a convolution that reads the image."""
        first, rows = 3 * len(self._taps), [op.layer.bias.new_zeros(0, _columns(op, channel))]
        for dy, dx, kernel in self._kernels(op, channel):
            self._taps += [(dy, dx, k) for k in range(len(kernel))]
            rows.append(kernel)
        matrix = torch.cat(rows)
        return first, len(matrix), F.pad(matrix, (0, 0, 0, -len(matrix) % self._depth))

    def _blocks_of(self, op: Conv, channel: int) -> tuple[int, int, Tensor]:
        """First block, number of blocks, weights (blocks * depth, columns) of a convolution that reads features."""
        depth = self._depth
        first, rows = 5 * len(self._blocks), [op.layer.bias.new_zeros(0, _columns(op, channel))]
        for dy, dx, kernel in self._kernels(op, channel):
            seen, ago = len(kernel), self._schedule.delay(op, dy, dx)
            self._blocks += [(dy, dx, ago, k, min(k + depth, seen)) for k in range(0, seen, depth)]
            rows.append(F.pad(kernel, (0, 0, 0, -seen % depth)))
        matrix = torch.cat(rows)
        return first, len(matrix) // depth, matrix

    def _kernels(self, op: Conv, channel: int) -> Iterator[tuple[int, int, Tensor]]:
        """The taps that meet the image, each with its weights (features seen, columns)."""
        layer = op.layer
        start, stop = layer.out_groups[channel]
        for dy, dx in layer.taps:
            if self._schedule.wavefront.reaches(dy, dx):
                seen = layer.seen[channel] if (dy, dx) == (0, 0) else layer.in_channels
                yield dy, dx, layer.kernel_at(dy, dx)[start:stop, :seen].t()


def _taps_of(schedule: Schedule) -> dict[int, set[tuple[int, int]]]:
    """For each value how many steps ago, and how many rows up (as a negative number), convolutions read it."""
    taps: dict[int, set[tuple[int, int]]] = {value: set() for value in range(len(schedule.program.features))}
    for op in schedule.program.operations:
        if isinstance(op, Conv):
            inside = [(dy, dx) for dy, dx in op.layer.taps if schedule.wavefront.reaches(dy, dx)]
            taps[op.source].update((schedule.delay(op, dy, dx), dy) for dy, dx in inside)
    return taps


def _columns(op: Conv, channel: int) -> int:
    start, stop = op.layer.out_groups[channel]
    return stop - start


def _is_aligned(operations: list[tuple[int, ...]], blocks: list[tuple[int, ...]]) -> bool:
    """Whether groups of columns start, and blocks end, at multiples of 16; strides and offsets always are."""
    return all(op[1] % _ALIGNMENT == 0 for op in operations) and all(block[4] % _ALIGNMENT == 0 for block in blocks)


def _aligned(numbers: int) -> int:
    return numbers + -numbers % _ALIGNMENT


def _keep(kept: list[Tensor], values: Tensor) -> int:
    """Puts numbers behind the others, and says where."""
    offset = sum(len(other) for other in kept)
    assert values.numel() % _ALIGNMENT == 0
    kept.append(values.reshape(-1))
    return offset
