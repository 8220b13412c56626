"""A program with its weights packed, as the native engine reads them.

The weights of a colour group's convolution are a matrix, (taps * in, out), cut into panels as wide as two vector
registers, each read from start to end. What does not depend on the number of images is prepared here once a model.
"""

from __future__ import annotations

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
from pixelcnn.sampling.program import IMAGE, Attention, Condition, Conv, Operation, Place, Program
from pixelcnn.sampling.schedule import Schedule, schedule_of

__all__ = ["ALIGNMENT", "PackedNetwork", "packed"]

ALIGNMENT = 16
"""Numbers after which an array of weights or features may start."""
_MOST_RUNS = 64  # as in engine.c


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
        self.real = torch.empty(0, dtype=model.dtype).numpy().dtype
        self._runs: list[tuple[int, int, int]] = []
        self._weights: list[Tensor] = []
        self._size = 0
        readers = [op for op in self.program.operations if isinstance(op, Conv)]
        conditions = {op.target for op in self.program.operations if isinstance(op, Condition)}
        values = set(range(len(self.program.features))) - conditions
        taps = {value: self._taps(value, readers) for value in values}
        self.reach = max((op.layer.window.right for op in readers), default=0)
        """Zero columns to the right of an image that some convolution sees."""
        self.slots = {v: 1 + max(delay for delay, _ in seen) for v, seen in taps.items() if seen - {(0, 0)}}
        """Steps for which a value is kept, for those that are read at other pixels."""
        self.rows_above = {v: max(-up for _, up in seen) for v, seen in taps.items() if seen}
        channels = range(self.image_shape[0])
        with torch.inference_mode():
            self.groups = [
                [(op, self._pack(op, channel)) for op in self.program.operations if channel == 0 or op.groups > 1]
                for channel in channels
            ]
            """For each channel its operations, each with what `engine.c` knows of it beside its places."""
            self.weights = torch.cat([*self._weights, torch.zeros(ALIGNMENT, dtype=model.dtype)]).numpy()
        self.runs = np.array(self._runs or [(0, 0, 0)], dtype=np.int64)

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

    def _pack(self, op: Operation, channel: int) -> tuple[int, ...]:
        """An operation of one colour group: first column, columns, ReLU, first run, runs, weights, bias."""
        if not isinstance(op, Conv):
            start, stop = group_bounds(self.program.features[op.target], op.groups)[channel if op.groups > 1 else 0]
            table = self._keep(self._on_grid(op.table.forward())[..., start:stop]) if isinstance(op, Place) else 0
            heads = op.heads if isinstance(op, Attention) else 0
            return start, stop - start, 0, 0, heads, table, 0
        layer = op.layer
        group = channel if op.groups > 1 else 0
        start, stop = layer.out_groups[group]
        first_run = len(self._runs)
        rows = []
        for run in self._runs_of(op, layer):
            hidden = layer.in_channels - layer.seen[group] if run[-1] == (0, 0) else 0  # of the own pixel
            length = len(run) * layer.in_channels - hidden
            if length == 0:
                continue
            (dy, dx) = run[0]
            self._runs.append((-(self.schedule.wavefront.slope * dy + dx), dy, length))
            rows.append(torch.cat([layer.kernel_at(*tap)[start:stop] for tap in run], 1)[:, :length].t())
        count = len(self._runs) - first_run
        assert count <= _MOST_RUNS, count
        padding = -(stop - start) % self.panel
        bias = self._keep(F.pad(layer.bias[start:stop], (0, padding)))
        matrix = F.pad(torch.cat(rows) if rows else layer.bias.new_zeros(0, stop - start), (0, padding))
        panels = matrix.view(len(matrix), matrix.shape[1] // self.panel, self.panel).transpose(0, 1)
        return start, stop - start, int(layer.activation == "relu"), first_run, count, self._keep(panels), bias

    def _runs_of(self, op: Conv, layer: MaskedConv2d) -> list[list[tuple[int, int]]]:
        """Taps that are read in one go: those of a kernel row in the image, single ones elsewhere."""
        inside = [tap for tap in layer.taps if self.schedule.wavefront.reaches(*tap)]
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
