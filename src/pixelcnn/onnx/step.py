"""One step of the sampler as an ONNX graph: the parameters of all pixels of a wavefront, from levels and caches.

Inputs, for N images of C channels and H * W pixels:

    step        int64 (), from -prelude on, in order; nothing is drawn before step 0
    images      uint8 (N, C, H, W), int32 for more than 256 levels: those drawn so far, any levels elsewhere
    labels, condition      for a conditional model, see `pixelcnn.onnx.graph.add_conditions`
    cache_K     float32 (H * W + 2, N, features): zeros before the first step, then what the last call returned

Outputs:

    pixels      int64 (P,): raster indices i * W + j of the step's pixels; H * W + 1 where the step has fewer than P
    params      float32 (P, N, C, params)
    next_K      the caches for the next call

The parameters of channel k are valid once the channels before k of the same pixels are in `images`: a step takes C
calls, each to draw one channel. A feature's index in its cache is its pixel's raster index; two rows follow: one of
zeros, for taps beyond the image, and one that is never read, to which missing pixels are written.

For a network with a coarse context each step is one pixel, and row-wise values (`Schedule.rows`) are recomputed for the
whole row at each of its pixels: a graph without state cannot know that they have been computed before. Caches on a
context's grid have one entry per cell.

The schedule (`pixelcnn.sampling.schedule`) determines when each value is computed, and which values run ahead. The
file's metadata hold `steps`, `prelude`, `levels` and the likelihood's name.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pixelcnn.layers import MaskedConv2d
from pixelcnn.levels import array_dtype
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.onnx.graph import Graph, add_conditions, check_model, image_features, kernel_rows, kind_of, mixture_params
from pixelcnn.operations import IMAGE, Node
from pixelcnn.sampling.schedule import Schedule, schedule_of

__all__ = ["step_graph"]


class _Front(Graph):
    """The pixels of a step, or of its row: features (P, N, channels)."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule
        wavefront = schedule.wavefront
        self.sides = wavefront.height, wavefront.width
        self.size = max(len(wavefront.rows(t)) for t in range(wavefront.steps))
        self.caches: dict[int, str] = {}
        self._fronts: dict[tuple[bool, int, int], str] = {}

    def start(self, step: str, image: str) -> None:
        """Sets the names of the step and of the scaled image with its padding, (H * W + 2, N, channels)."""
        self.begin(self._schedule.program, image)
        self._step = self.node("Add", step, self.constant(self._schedule.prelude))
        self.caches[IMAGE] = image

    def pixels(self, value: int) -> str:
        """Raster indices (P,) of the positions at which a value is computed, on its grid."""
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
            self._fronts[by_row, lead, scale] = self.node("Gather", self.constant(table), self._step)
        return self._fronts[by_row, lead, scale]

    def keep(self, value: int) -> None:
        """Writes a value that has been computed into its cache."""
        indices = self.node("Unsqueeze", self.pixels(value), self.constant([1]))
        self.caches[value] = self.node("ScatterND", self.caches[value], indices, self.values[value])

    def conv(self, node: Node, layer: MaskedConv2d) -> str:
        schedule, source = self._schedule, node.inputs[0]
        taps = schedule.inside(layer)
        size = schedule.grid(node.target)[1] if node.target in schedule.rows else self.size
        if not taps:  # everything that it would see lies outside the image
            n = self.node("Gather", self.node("Shape", self.caches[IMAGE]), self.constant([1]))
            sizes = self.constant([size]), n, self.constant([layer.out_channels])
            return self.node("Expand", self.constant(layer.bias), self.node("Concat", *sizes, axis=0))
        known = source in self.program.maps
        if taps == [(0, 0)] and source != IMAGE and (known or schedule.ahead(source, node.target) == 0):
            x = self.operand(source, node)
        else:
            seen = self.node("Gather", self.constant(self._neighbours(node, layer, taps)), self.pixels(node.target))
            x = self.node("Gather", self.values[source] if known else self.caches[source], seen)  # (P, taps, N, in)
            x = self.node("Transpose", x, perm=[0, 2, 1, 3])
            x = self.reshape(x, [size, -1, len(taps) * layer.in_channels])
        y = self.node("MatMul", x, self.constant(kernel_rows(layer, taps)))
        return self.node("Add", y, self.constant(layer.bias))

    def operand(self, value: int, node: Node) -> str:
        rows = self._schedule.rows
        if value in self.program.conditions:
            return self.values[value]
        if value in self.program.maps:
            return self.node("Gather", self.values[value], self.pixels(node.target))
        if value in rows and node.target not in rows and self._schedule.ahead(value, node.target) == 0:
            column = self.node("Mod", self._step, self.constant([self._schedule.wavefront.width]))
            return self.node("Gather", self.values[value], column)
        if self._schedule.ahead(value, node.target) == 0:
            return self.values[value]
        return self.node("Gather", self.caches[value], self.pixels(node.target))

    def at_positions(self, table: Tensor, node: Node) -> str:
        table = table.flatten(0, 1).unsqueeze(1)
        nothing = table.new_zeros(2, *table.shape[1:])  # for pixels that a step lacks
        return self.node("Gather", self.constant(torch.cat([table, nothing])), self.pixels(node.target))

    def upsampled(self, node: Node, factor: int) -> str:
        columns = np.arange(self._schedule.grid(node.target)[1]) // factor
        return self.node("Gather", self.values[node.inputs[0]], self.constant(columns))

    def known(self, per_pixel: str, features: int) -> str:
        """(H * W + 2, N, f), of which `operand` takes what a node needs."""
        height, width = self.sides
        rows = self.node("Transpose", per_pixel, perm=[1, 2, 0, 3])
        rows = self.reshape(rows, [height * width, -1, features])
        return self.node("Pad", rows, self.constant([0, 0, 0, 2, 0, 0]))

    def everywhere(self, per_image: str) -> str:
        return per_image

    def split(self, value: str, parts: int) -> str:
        return self.reshape(value, [0, 0, parts, -1])

    def joined(self, value: str, target: int) -> str:
        return self.reshape(value, [0, 0, self.program.features[target]])

    def _neighbours(self, node: Node, layer: MaskedConv2d, taps: list[tuple[int, int]]) -> np.ndarray:
        """The source index that each tap reads at each position of the target, (positions + 2, taps)."""
        (rows, columns, _), (h, w, _) = map(self._schedule.grid, (node.target, node.inputs[0]))
        table = np.full((rows * columns + 2, len(taps)), h * w)
        y, x = np.divmod(np.arange(rows * columns), columns)
        for k, (dy, dx) in enumerate(taps):
            up, across = y * layer.stride + dy, x * layer.stride + dx
            inside = (up >= 0) & (up < h) & (across >= 0) & (across < w)
            table[:-2, k][inside] = (up * w + across)[inside]
        return table


def step_graph(model: AutoregressiveModel) -> bytes:
    """One step of the sampler as an ONNX graph, with the inputs and outputs of `pixelcnn.onnx.step`.

    Args:
        model: A model of any family, no mixture, in float32 and without attention.

    Returns:
        The content of an .onnx file.

    Raises:
        ValueError: If the model cannot be exported or has a weight that is not finite, or onnx is not installed.
    """
    check_model(model)
    c, h, w = model.image_shape
    conditional = (model.num_classes, model.condition_dim) != (None, None) or model.conditions.channels > 0
    schedule = schedule_of(model, conditional=conditional)
    program, wavefront = schedule.program, schedule.wavefront
    graph = _Front(schedule)
    step = graph.input("step", np.int64, [])
    images = graph.input("images", array_dtype(model.levels).type, ["N", c, h, w])
    add_conditions(graph, model)

    levels = graph.reshape(graph.node("Transpose", images, perm=[2, 3, 0, 1]), [h * w, -1, c])
    levels, margin = graph.cast(levels, np.float32), graph.constant([0, 0, 0, 2, 0, 0])
    image = image_features(graph, levels, model, [h * w, -1, model.image_features])
    levels = graph.node("Pad", levels, margin)
    graph.start(step, graph.node("Pad", image, margin))
    stored = set(range(len(program.features))) - program.conditions - program.maps - {IMAGE}
    kept = [value for value in sorted(stored) if any(reading.later for reading in schedule.readings[value])]
    shapes: dict[int, list[int | str]] = {}
    for value in kept:
        height, width, _ = schedule.grid(value)
        shape = shapes[value] = [height * width + 2, "N", program.features[value]]
        graph.caches[value] = graph.input(f"cache_{value}", np.float32, shape)
    for node in program.nodes:
        graph.values[node.target] = node.op.exported(graph, node)
        if node.target in kept:
            graph.keep(node.target)

    pixels, raw = graph.pixels(program.output), graph.values[program.output]
    if model.grouped:
        params = graph.reshape(raw, [graph.size, -1, c, model.likelihood.params])
    else:
        params = mixture_params(graph, model, raw, graph.node("Gather", levels, pixels))
    graph.output(pixels, "pixels", np.int64, [graph.size])
    graph.output(params, "params", np.float32, [graph.size, "N", c, model.likelihood.params])
    for value in kept:
        graph.output(graph.caches[value], f"next_{value}", np.float32, shapes[value])
    metadata = {"steps": wavefront.steps, "prelude": schedule.prelude, "levels": model.levels}
    return graph.bytes("step", {"pixelcnn": "step", **metadata, "likelihood": kind_of(model)})
