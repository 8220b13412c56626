"""A program with its weights packed as the native engine reads them.

The weights of a colour group's convolution form a matrix, (taps * in, out), cut into panels as wide as two vector
registers, each read from start to end. Everything independent of the number of images is prepared here once per model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.layers import MaskedConv2d, adjacent
from pixelcnn.operations import IMAGE, Conv, Node, Part
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.native.compiler import NativeError
from pixelcnn.sampling.program import Program
from pixelcnn.sampling.schedule import Schedule, schedule_of
from pixelcnn.sampling.wavefront import Wavefront
from pixelcnn.sampling.weight_cache import WeightKeyedCache

__all__ = ["ALIGNMENT", "PackedNetwork", "check_program", "packed"]

ALIGNMENT = 16
"""Arrays of weights or features start at a multiple of this many numbers."""
_MAX_RUNS = 512  # as in engine.c
_OPERATIONS = 14  # cases in operations.h


def check_program(program: Program, height: int, width: int) -> None:
    """Checks that compiled code has a case for each operation, and room for what it reads in images of a size.

    Raises:
        NativeError: If it has not.
    """
    wavefront = Wavefront(height, width, 0)
    for node in program.nodes:
        if "opcode" not in vars(type(node.op)) or node.op.opcode >= _OPERATIONS:
            raise NativeError(f"it has no case for the operation {type(node.op).__name__}")
        if isinstance(node.op, Conv):
            layer, source = node.op.layer, node.inputs[0]
            if layer.stride > 1 and source != IMAGE:
                raise NativeError(f"a convolution may have a stride over the image alone, got {layer.stride}")
            if source in program.maps and not layer.pointwise:
                raise NativeError("a convolution may read a map at the current pixel alone")
            count = len(_runs(node, [tap for tap in layer.taps if layer.stride > 1 or wavefront.reaches(*tap)]))
            if count > _MAX_RUNS:
                raise NativeError(f"a convolution may read at most {_MAX_RUNS} pieces of memory, got {count}")


def _runs(node: Node, inside: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """A convolution's taps in runs: of the image, those of a kernel row, adjacent in memory; otherwise single taps."""
    return adjacent(inside) if node.inputs[0] == IMAGE else [[tap] for tap in inside]


def packed(model: Autoregressive, panel: int, slope: int | None = None, *, conditional: bool = False) -> PackedNetwork:
    """The model's packed network, packed again only if its weights have changed."""

    def pack() -> PackedNetwork:
        return PackedNetwork(model, schedule_of(model, slope, conditional=conditional), panel)

    return _networks.get(model, (panel, slope, conditional), pack)


_networks: WeightKeyedCache[PackedNetwork] = WeightKeyedCache(size=4)


class PackedNetwork:
    """A program with its weights packed: everything that does not depend on the number of images.

    Args:
        model: Any model.
        schedule: The schedule of its network.
        panel: Number of columns in a panel of weights.
    """

    def __init__(self, model: Autoregressive, schedule: Schedule, panel: int) -> None:
        self.arithmetic = model.arithmetic_of(None)
        self.schedule = schedule
        self.program = program = schedule.program
        self.image_shape = model.image_shape
        self.levels = model.levels
        self.image_features = model.image_features
        """Number of features by which the network reads a pixel."""
        self.params = model.likelihood.params
        self.likelihood = model.likelihood.tag, getattr(model.likelihood, "mixtures", 0)
        """Its number in `engine.c`, and the number of distributions in a mixture."""
        self.panel = panel
        self.plans: dict[tuple[int, int], Any] = {}
        """The plans that `pixelcnn.sampling.native.layout.plan_of` has made for it."""
        self.real = torch.empty(0, dtype=model.dtype, device="cpu").numpy().dtype
        self._runs: list[tuple[int, int, int]] = []
        self._weights: list[Tensor] = []
        self._size = 0
        layers = [node.op.layer for node in program.nodes if isinstance(node.op, Conv)]
        self.reach = max((layer.window.right for layer in layers), default=0)
        """Number of zero columns to the right of the image that some convolution sees."""
        self.by_rows = bool(schedule.rows)
        """Whether the steps are the pixels in raster order, with some values computed a row at a time."""
        stored = set(range(len(program.features))) - program.conditions - program.maps
        in_rings = {v: [r for r in schedule.readings[v] if not r.everywhere] for v in stored if not self.by_rows}
        self.slots = {v: 1 + max(r.delay for r in seen) for v, seen in in_rings.items() if any(r.later for r in seen)}
        """For each value that is read at other pixels, the number of steps for which it is kept."""
        self.rows_above = {v: self._rows_above(v) for v in self.slots}
        """For the same values, how many rows up they are read."""
        self.kept_rows = self._kept_rows(stored - {IMAGE}) if self.by_rows else {}
        """If run row by row, the values to keep after their operation, and how far each is read up, left and right."""
        with torch.inference_mode():
            table = None if model.level_embedding is None else self.arithmetic.rounded(model.level_embedding.weight)
            self.embedding = -1 if table is None else self.keep(table)
            """Where the vectors of the levels start among the weights; -1 if there are none."""
            self.groups = [
                [(node, self._fields(node, group)) for node, group in self._nodes_of(channel)]
                for channel in range(self.image_shape[0])
            ]
            """For each channel, its operations and their fields of `struct op`, except those of the layout."""
            self.weights = torch.cat([*self._weights, torch.zeros(ALIGNMENT, dtype=model.dtype, device="cpu")]).numpy()
        self.runs = np.array(self._runs or [(0, 0, 0)], dtype=np.int64)

    def _nodes_of(self, channel: int) -> list[tuple[Node, int]]:
        """The operations of a channel, each with its colour group, in the order in which they run.

        If run row by row, values computed one step late come first, then row-wise values, both with all their groups.
        """
        every: list[tuple[Node, int]] = []
        for node in self.program.nodes:
            if node.target in self.program.conditions | self.program.maps:  # already in memory
                continue
            late = self.by_rows and self.schedule.leads[node.target] < 0  # of a pixel that has been drawn
            if late or node.target in self.schedule.rows:
                every += [(node, group) for group in range(node.op.groups if channel == 0 else 0)]
            elif channel == 0 or node.op.groups > 1:
                every.append((node, channel if node.op.groups > 1 else 0))
        if self.by_rows:
            leads, rows = self.schedule.leads, self.schedule.rows
            every.sort(key=lambda each: (leads[each[0].target] >= 0, each[0].target not in rows))
        return every

    def _rows_above(self, value: int) -> int:
        layers = [reading.layer for reading in self.schedule.readings[value] if reading.layer]
        return max((-dy for layer in layers for dy, _ in self.schedule.inside(layer)), default=0)

    def _kept_rows(self, values: set[int]) -> dict[int, tuple[int, int, int]]:
        kept = {}
        for value in values:
            readings = self.schedule.readings[value]
            windows = [r.layer.window for r in readings if r.layer and r.elsewhere]
            if windows or value in self.schedule.rows or any(r.everywhere or r.delay for r in readings):
                up = max((-window.top for window in windows), default=0)
                left = max((-window.left for window in windows), default=0)
                right = max((window.right for window in windows), default=0)
                kept[value] = up, max(0, left), max(0, right)
        return kept

    def _fields(self, node: Node, group: int) -> dict[str, int]:
        part = Part.of(self.program.features[node.target], node.op.groups, group)
        fields = node.op.packed(self, node, part)
        start, stop = part.columns.start, part.columns.stop
        scale = self.schedule.grid(node.target)[2] if node.target in self.schedule.rows else 0
        return {"kind": node.op.opcode, "column": start, "columns": stop - start, "scale": scale} | fields

    def features(self, value: int) -> int:
        """See `pixelcnn.operations.base.Packer`."""
        return self.program.features[value]

    def product(self, node: Node, layer: MaskedConv2d, columns: slice) -> dict[str, int]:
        """See `pixelcnn.operations.base.Packer`: taps that are adjacent in memory form a run."""
        first_run = len(self._runs)
        rows = []
        for run in _runs(node, self.schedule.inside(layer)):
            own = layer.in_channels - self._hidden(layer, columns) if run[-1] == (0, 0) else layer.in_channels
            length = (len(run) - 1) * layer.in_channels + own
            if length == 0:
                continue
            (dy, dx) = run[0]
            slope = 0 if self.by_rows else self.schedule.wavefront.slope
            self._runs.append((-(slope * dy + dx), dy, length))
            rows.append(torch.cat([layer.kernel_at(*tap)[columns] for tap in run], 1)[:, :length].t())
        count = len(self._runs) - first_run
        assert count <= _MAX_RUNS, count
        width = columns.stop - columns.start
        padding = -width % self.panel
        bias = self.keep(F.pad(layer.bias[columns], (0, padding)))
        matrix = F.pad(torch.cat(rows) if rows else layer.bias.new_zeros(0, width), (0, padding))
        panels = matrix.view(len(matrix), matrix.shape[1] // self.panel, self.panel).transpose(0, 1)
        return {"runs": first_run, "count": count, "weights": self.keep(panels), "bias": bias}

    def keep(self, values: Tensor) -> int:
        """See `pixelcnn.operations.base.Packer`."""
        offset = self._size
        flat = F.pad(values.reshape(-1), (0, -values.numel() % ALIGNMENT))
        self._weights.append(flat)
        self._size += len(flat)
        return offset

    @staticmethod
    def _hidden(layer: MaskedConv2d, columns: slice) -> int:
        """How many features of the current pixel these output channels do not see."""
        group = next(k for k, (start, _) in enumerate(layer.out_groups) if start == columns.start)
        return layer.in_channels - layer.seen[group]
