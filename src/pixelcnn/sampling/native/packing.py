"""A program with its weights packed, as the native engine reads them.

The weights of a colour group's convolution are a matrix, (taps * in, out), cut into panels as wide as two vector
registers, each read from start to end. What does not depend on the number of images is prepared here once a model.
"""

from __future__ import annotations

import typing
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.exact import grid
from pixelcnn.layers import MaskedConv2d, group_bounds
from pixelcnn.likelihoods import Bernoulli, Categorical, LogisticMixture
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.kept import Kept
from pixelcnn.sampling.program import IMAGE, Attention, Condition, Conv, Operation, Place, Program, Upsample, reads
from pixelcnn.sampling.schedule import Schedule, schedule_of

if typing.TYPE_CHECKING:
    from pixelcnn.sampling.native.layout import Plan

__all__ = ["ALIGNMENT", "PackedNetwork", "packed"]

ALIGNMENT = 16
"""Numbers after which an array of weights or features may start."""
_MOST_RUNS = 512  # as in engine.c


def packed(
    model: Autoregressive, panel: int, slope: int | None = None, *, conditional: bool = False, exact: bool = False
) -> PackedNetwork:
    """The model's network, packed again only if its weights have changed since the last time."""

    def pack() -> PackedNetwork:
        return PackedNetwork(model, schedule_of(model, slope, conditional=conditional), panel, exact=exact)

    return _networks.get(model, (panel, slope, conditional, exact), pack)


_networks: Kept[PackedNetwork] = Kept(most=4)


class PackedNetwork:
    """A program with its weights packed: what does not depend on the number of images.

    Args:
        model: Any model.
        schedule: Of its network.
        panel: Columns of a panel of weights.
        exact: Whether it is an exact twin, computed on the grid (`pixelcnn.exact`).
    """

    def __init__(self, model: Autoregressive, schedule: Schedule, panel: int, *, exact: bool = False) -> None:
        assert schedule.program is not None
        self.exact = exact
        self.schedule = schedule
        self.program: Program = schedule.program
        self.image_shape = model.image_shape
        self.levels = model.levels
        self.params = model.likelihood.params
        kinds = [Bernoulli, Categorical, LogisticMixture]
        self.likelihood = (kinds.index(type(model.likelihood)), getattr(model.likelihood, "mixtures", 0))
        """As `engine.c` counts them, and the distributions of a mixture."""
        self.panel = panel
        self.plans: dict[tuple[int, int], Plan] = {}
        """Of `pixelcnn.sampling.native.layout.plan_of`."""
        self.real = torch.empty(0, dtype=model.dtype, device="cpu").numpy().dtype
        self._runs: list[tuple[int, int, int]] = []
        self._weights: list[Tensor] = []
        self._size = 0
        readers = [op for op in self.program.operations if isinstance(op, Conv)]
        conditions = {op.target for op in self.program.operations if isinstance(op, Condition)}
        values = set(range(len(self.program.features))) - conditions
        taps = {value: self._taps(value, readers) for value in values}
        self.reach = max((op.layer.window.right for op in readers), default=0)
        """Zero columns to the right of an image that some convolution sees."""
        self.by_rows = bool(schedule.rows)
        """Whether the steps are the pixels in raster order, and some values computed a row at a time."""
        self.slots = (
            {}
            if self.by_rows
            else {v: 1 + max(delay for delay, _ in seen) for v, seen in taps.items() if seen - {(0, 0)}}
        )
        """Steps for which a value is kept, for those that are read at other pixels."""
        self.kept_rows = self._kept_rows(readers) if self.by_rows else {}
        """By rows, what is kept beyond the operation that computes it: how far it is read up, left and right."""
        self.rows_above = {v: max(-up for _, up in seen) for v, seen in taps.items() if seen}
        channels = range(self.image_shape[0])
        with torch.inference_mode():
            self.groups = [
                [(op, self._pack(op, group)) for op, group in self._operations_of(channel)] for channel in channels
            ]
            """For each channel its operations, each with what `engine.c` knows of it beside its places."""
            self.weights = torch.cat([*self._weights, torch.zeros(ALIGNMENT, dtype=model.dtype, device="cpu")]).numpy()
        self.runs = np.array(self._runs or [(0, 0, 0)], dtype=np.int64)

    def _operations_of(self, channel: int) -> list[tuple[Operation, int]]:
        """Those of a channel, each with its colour group, in the order in which they run.

        By rows what is computed a step late comes first, and what is computed a row at a time next, in all its groups.
        """
        every: list[tuple[Operation, int]] = []
        for op in self.program.operations:
            if op.target in self.schedule.rows:
                every += [(op, group) for group in range(op.groups if channel == 0 else 0)]
            elif channel == 0 or op.groups > 1:
                every.append((op, channel if op.groups > 1 else 0))
        if self.by_rows:
            leads, rows = self.schedule.leads, self.schedule.rows
            every.sort(key=lambda each: (leads[each[0].target] >= 0, each[0].target not in rows))
        return every

    def _taps(self, value: int, readers: list[Conv]) -> set[tuple[int, int]]:
        """How many steps ago and how many rows up (as a negative number) the value is read."""
        by_products = {
            (self.schedule.delay(op, dy, dx), dy)
            for op in readers
            if op.source == value
            for dy, dx in op.layer.taps
            if self.schedule.wavefront.reaches(dy, dx)
        }
        operations = [op for op in self.program.operations if value in op.pointwise]
        return by_products | {(self.schedule.ahead(value, op.target), 0) for op in operations}

    def _kept_rows(self, readers: list[Conv]) -> dict[int, tuple[int, int, int]]:
        schedule = self.schedule
        kept: dict[int, tuple[int, int, int]] = {}
        for op in self.program.operations:
            late = [value for value in reads(op) if value != IMAGE and schedule.ahead(value, op.target) != 0]
            of_attention = (op.keys, op.values) if isinstance(op, Attention) else ()
            kept |= dict.fromkeys((*late, *of_attention), (0, 0, 0))
        constant = {op.target for op in self.program.operations if isinstance(op, Condition)}
        kept |= dict.fromkeys(schedule.rows - constant, (0, 0, 0))
        for op in readers:
            taps = {tap for tap in op.layer.taps if tap != (0, 0)}
            if op.source != IMAGE and taps:
                window = op.layer.window
                sides = -window.top, max(0, -window.left), max(0, window.right)
                before = kept.get(op.source, (0, 0, 0))
                kept[op.source] = (max(before[0], sides[0]), max(before[1], sides[1]), max(before[2], sides[2]))
        return kept

    def _pack(self, op: Operation, group: int) -> tuple[int, ...]:
        """An operation of one colour group, as `struct op` has it from `column` on."""
        if not isinstance(op, Conv):
            start, stop = group_bounds(self.program.features[op.target], op.groups)[group]
            table = self._keep(self._on_grid(op.table.forward())[..., start:stop]) if isinstance(op, Place) else 0
            heads = op.heads if isinstance(op, Attention) else 0
            of_row = self._of_row(op)
            return start, stop - start, 0, 0, heads, table, 0, of_row, op.scale if isinstance(op, Upsample) else 0
        layer = op.layer
        start, stop = layer.out_groups[group]
        first_run = len(self._runs)
        rows = []
        for run in self._runs_of(op, layer):
            hidden = layer.in_channels - layer.seen[group] if run[-1] == (0, 0) else 0  # of the own pixel
            length = len(run) * layer.in_channels - hidden
            if length == 0:
                continue
            (dy, dx) = run[0]
            slope = 0 if self.by_rows else self.schedule.wavefront.slope
            self._runs.append((-(slope * dy + dx), dy, length))
            rows.append(torch.cat([layer.kernel_at(*tap)[start:stop] for tap in run], 1)[:, :length].t())
        count = len(self._runs) - first_run
        assert count <= _MOST_RUNS, count
        padding = -(stop - start) % self.panel
        bias = self._keep(F.pad(layer.bias[start:stop], (0, padding)))
        matrix = F.pad(torch.cat(rows) if rows else layer.bias.new_zeros(0, stop - start), (0, padding))
        panels = matrix.view(len(matrix), matrix.shape[1] // self.panel, self.panel).transpose(0, 1)
        relu = int(layer.activation == "relu")
        place = self._keep(panels), bias, self._of_row(op), layer.stride
        return start, stop - start, relu, first_run, count, *place

    def _of_row(self, op: Operation) -> int:
        """Of what is computed a row at a time, how many pixels apart its places are; else 0."""
        return self.schedule.grid(op.target)[2] if op.target in self.schedule.rows else 0

    def _runs_of(self, op: Conv, layer: MaskedConv2d) -> list[list[tuple[int, int]]]:
        """Taps that are read in one go: those of a kernel row in the image, single ones elsewhere."""
        inside = [tap for tap in layer.taps if layer.stride > 1 or self.schedule.wavefront.reaches(*tap)]
        if op.source != IMAGE:
            return [[tap] for tap in inside]
        return [list(taps) for _, taps in groupby(inside, key=lambda tap: tap[0])]

    def _on_grid(self, values: Tensor) -> Tensor:
        return grid.clamped(values) if self.exact else values

    def _keep(self, values: Tensor) -> int:
        """Puts numbers behind the others, aligned, and says where."""
        offset = self._size
        flat = F.pad(values.reshape(-1), (0, -values.numel() % ALIGNMENT))
        self._weights.append(flat)
        self._size += len(flat)
        return offset
