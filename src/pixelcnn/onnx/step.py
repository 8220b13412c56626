"""One step of the sampler as an ONNX graph: the parameters of all pixels of a wavefront, from levels and caches.

Inputs, for N images of C channels and H * W pixels:

    step        int64 (), from -prelude on, in order; before step 0 nothing is drawn
    images      uint8 (N, C, H, W): levels drawn so far, anything elsewhere
    labels      of a conditional model, see `pixelcnn.onnx.operations.condition_input`
    cache_K     float32 (H * W + 2, N, features): zeros before the first step, then what the last call returned

Outputs:

    pixels      int64 (P,): raster indices i * W + j of the step's pixels; H * W + 1 where the step has fewer than P
    params      float32 (P, N, C, params)
    next_K      the caches for the next call

The parameters of channel k are right once the channels before k of the same pixels are in `images`: a step takes C
calls, each to draw one channel. A feature's place in its cache is its pixel's raster index; then come a row of zeros,
which taps beyond the image read, and one that nothing reads, into which missing pixels are written.

For a network with a coarse context a step is a pixel, and what is computed a row at a time (`Schedule.rows`) is
computed for the whole row at each of its pixels again: a graph without state cannot tell that it has been. The caches
on a context's grid have a place for each cell.

What is computed when is the schedule's (`pixelcnn.sampling.schedule`), and so are the values that are computed ahead.
`steps`, `prelude`, `levels` and the likelihood's name stand in the file's metadata.
"""

from __future__ import annotations

import numpy as np
import torch

from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.onnx.full import kind_of
from pixelcnn.onnx.graph import Graph
from pixelcnn.onnx.operations import apply, check_model, condition_input, kernel_rows, scaled
from pixelcnn.onnx.parameters import mixture_params
from pixelcnn.sampling.program import IMAGE, Condition, Conv, Place, Upsample
from pixelcnn.sampling.schedule import Schedule, schedule_of

__all__ = ["step_graph"]


class _Front:
    """The pixels of a step, or of its row: features (P, N, channels). See `pixelcnn.onnx.operations.Places`."""

    def __init__(self, graph: Graph, schedule: Schedule, step: str, image: str) -> None:
        self._graph = graph
        self._schedule = schedule
        self._step = graph.node("Add", step, graph.constant(schedule.prelude))
        wavefront = schedule.wavefront
        self.size = max(len(wavefront.rows(t)) for t in range(wavefront.steps))
        self.values: dict[int, str] = {}
        self.caches = {IMAGE: image}
        self._fronts: dict[tuple[bool, int, int], str] = {}
        self._conditions = {op.target for op in schedule.program.operations if isinstance(op, Condition)}

    def pixels(self, value: int) -> str:
        """Raster indices (P,), on its grid, of the places at which a value is computed."""
        lead, (height, width, scale) = self._schedule.leads[value], self._schedule.grid(value)
        by_row = value in self._schedule.rows
        if (by_row, lead, scale) not in self._fronts:
            wavefront, prelude = self._schedule.wavefront, self._schedule.prelude
            if by_row:
                rows = np.arange(wavefront.steps) // wavefront.width // scale
                table = rows[:, None] * width + np.arange(width)
            else:
                outside = height * width
                table = np.full((wavefront.steps + prelude, self.size), outside + 1)
                for row, time in enumerate(range(lead - prelude, lead + wavefront.steps)):
                    if wavefront.rows(time):
                        found = np.arange(outside)[wavefront.pixels(time)]
                        table[row, : len(found)] = found
            found_here = self._graph.node("Gather", self._graph.constant(table), self._step)
            self._fronts[by_row, lead, scale] = found_here
        return self._fronts[by_row, lead, scale]

    def keep(self, value: int) -> str:
        """Writes a value that has been computed into its cache."""
        graph = self._graph
        places = graph.node("Unsqueeze", self.pixels(value), graph.constant([1]))
        self.caches[value] = graph.node("ScatterND", self.caches[value], places, self.values[value])
        return self.caches[value]

    def conv(self, op: Conv) -> str:
        graph, layer, schedule = self._graph, op.layer, self._schedule
        taps = [tap for tap in layer.taps if layer.stride > 1 or schedule.wavefront.reaches(*tap)]
        size = schedule.grid(op.target)[1] if op.target in schedule.rows else self.size
        if not taps:  # everything that it would see lies outside
            shape = graph.node("Shape", self.caches[IMAGE])
            n = graph.node("Gather", shape, graph.constant([1]))
            sizes = graph.constant([size]), n, graph.constant([layer.out_channels])
            return graph.node("Expand", graph.constant(layer.bias), graph.node("Concat", *sizes, axis=0))
        if taps == [(0, 0)] and op.source != IMAGE and self._schedule.ahead(op.source, op.target) == 0:
            x = self.operand(op.source, op.target)
        else:
            seen = graph.node("Gather", graph.constant(self._neighbours(op, taps)), self.pixels(op.target))  # (P, taps)
            x = graph.node("Gather", self.caches[op.source], seen)  # (P, taps, N, in)
            x = graph.node("Transpose", x, perm=[0, 2, 1, 3])
            x = graph.reshape(x, [size, -1, len(taps) * layer.in_channels])
        y = graph.node("MatMul", x, graph.constant(kernel_rows(layer, taps)))
        return graph.node("Add", y, graph.constant(layer.bias))

    def operand(self, value: int, target: int) -> str:
        rows = self._schedule.rows
        if value in rows and target not in rows and value not in self._conditions:
            column = self._graph.node("Mod", self._step, self._graph.constant([self._schedule.wavefront.width]))
            return self._graph.node("Gather", self.values[value], column)
        if value in self._conditions or self._schedule.ahead(value, target) == 0:
            return self.values[value]
        return self._graph.node("Gather", self.caches[value], self.pixels(target))

    def place(self, op: Place) -> str:
        table = op.table.forward().flatten(0, 1).unsqueeze(1)
        nothing = table.new_zeros(2, *table.shape[1:])  # for pixels that a step has not
        both = self._graph.constant(torch.cat([table, nothing]))
        return self._graph.node("Gather", both, self.pixels(op.target))

    def upsample(self, op: Upsample) -> str:
        columns = np.arange(self._schedule.grid(op.target)[1]) // op.scale
        return self._graph.node("Gather", self.values[op.source], self._graph.constant(columns))

    def everywhere(self, per_image: str) -> str:
        return per_image

    def split(self, value: str, parts: int) -> str:
        return self._graph.reshape(value, [0, 0, parts, -1])

    def joined(self, value: str, features: int) -> str:
        return self._graph.reshape(value, [0, 0, features])

    def _neighbours(self, op: Conv, taps: list[tuple[int, int]]) -> np.ndarray:
        """What each tap of each place of the target reads of the source, (places + 2, taps)."""
        (rows, columns, _), (h, w, _) = map(self._schedule.grid, (op.target, op.source))
        table = np.full((rows * columns + 2, len(taps)), h * w)
        y, x = np.divmod(np.arange(rows * columns), columns)
        for k, (dy, dx) in enumerate(taps):
            up, across = y * op.layer.stride + dy, x * op.layer.stride + dx
            inside = (up >= 0) & (up < h) & (across >= 0) & (across < w)
            table[:-2, k][inside] = (up * w + across)[inside]
        return table


def step_graph(model: AutoregressiveModel) -> bytes:
    """The content of an .onnx file.

    Args:
        model: Of any family, in float32 and without attention.

    Raises:
        ValueError: If the model cannot be exported, or onnx is not installed.
    """
    check_model(model)
    graph = Graph()
    c, h, w = model.image_shape
    step = graph.input("step", np.int64, [])
    images = graph.input("images", np.uint8, ["N", c, h, w])
    condition = condition_input(graph, model)
    schedule = schedule_of(model, conditional=condition is not None)
    program, wavefront = schedule.program, schedule.wavefront

    levels = graph.reshape(graph.node("Transpose", images, perm=[2, 3, 0, 1]), [h * w, -1, c])
    levels = graph.node("Pad", graph.cast(levels, np.float32), graph.constant([0, 0, 0, 2, 0, 0]))
    front = _Front(graph, schedule, step, scaled(graph, levels, model))
    kept = _kept(schedule)
    shapes: dict[int, list[int | str]] = {}
    for value in kept:
        height, width, _ = schedule.grid(value)
        shape = shapes[value] = [height * width + 2, "N", program.features[value]]
        front.caches[value] = graph.input(f"cache_{value}", np.float32, shape)
    for op in program.operations:
        front.values[op.target] = apply(graph, op, front, program.features, condition)
        if op.target in kept:
            front.keep(op.target)

    pixels, raw = front.pixels(program.output), front.values[program.output]
    if model.grouped:
        params = graph.reshape(raw, [front.size, -1, c, model.likelihood.params])
    else:
        params = mixture_params(graph, model, raw, graph.node("Gather", levels, pixels))
    graph.output(pixels, "pixels", np.int64, [front.size])
    graph.output(params, "params", np.float32, [front.size, "N", c, model.likelihood.params])
    for value in kept:
        graph.output(front.caches[value], f"next_{value}", np.float32, shapes[value])
    metadata = {"steps": wavefront.steps, "prelude": schedule.prelude, "levels": model.levels}
    return graph.bytes("step", {"pixelcnn": "step", **metadata, "likelihood": kind_of(model)})


def _kept(schedule: Schedule) -> list[int]:
    """The values that are read elsewhere or later than they are computed."""
    kept = set()
    for op in schedule.program.operations:
        late = [value for value in op.pointwise if schedule.ahead(value, op.target) != 0]
        if isinstance(op, Conv) and op.source != IMAGE:
            taps = [tap for tap in op.layer.taps if schedule.wavefront.reaches(*tap)]
            if taps not in ([], [(0, 0)]) or schedule.ahead(op.source, op.target) != 0:
                late.append(op.source)
        kept |= set(late)
    return sorted(kept - {op.target for op in schedule.program.operations if isinstance(op, Condition)})
