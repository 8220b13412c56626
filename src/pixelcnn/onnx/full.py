"""The whole forward as an ONNX graph.

images   uint8 or float32 levels (N, C, H, W), N any
labels   of a conditional model, see `pixelcnn.onnx.operations.condition_input`
params   float32 (N, C, H, W, params), what the model itself returns
"""

from __future__ import annotations

import numpy as np

from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.onnx.graph import Graph
from pixelcnn.onnx.operations import apply, check_model, condition_input, kernel_rows, scaled
from pixelcnn.onnx.parameters import mixture_params
from pixelcnn.sampling.program import IMAGE, Conv, Place, Program, Upsample, record, scales_of

__all__ = ["full_graph"]


class _Everywhere:
    """Whole images: features (N, H, W, channels). See `pixelcnn.onnx.operations.Places`."""

    def __init__(self, graph: Graph, model: AutoregressiveModel, program: Program, image: str) -> None:
        self._graph = graph
        self._scales = scales_of(program)
        _, self._h, self._w = model.image_shape
        self.values = {IMAGE: image}

    def conv(self, op: Conv) -> str:
        graph, layer, x = self._graph, op.layer, self.values[op.source]
        if layer.pointwise:
            rows = kernel_rows(layer, [(0, 0)])
            return graph.node("Add", graph.node("MatMul", x, graph.constant(rows)), graph.constant(layer.bias))
        window = layer.window
        causal = layer.masked_weight()[:, :, : 1 - window.top]
        left, right = -window.left, max(window.right, 0)
        size = [-(-side // layer.stride) for side in (self._h, self._w)]
        y = graph.node(
            "Conv",
            graph.node("Transpose", x, perm=[0, 3, 1, 2]),
            graph.constant(causal),
            graph.constant(layer.bias),
            pads=[-window.top, left, 0, right],
            strides=[layer.stride, layer.stride],
        )
        ends = graph.constant(size)  # a window can end before the own row or column
        y = graph.node("Slice", y, graph.constant([0, 0]), ends, graph.constant([2, 3]))
        return graph.node("Transpose", y, perm=[0, 2, 3, 1])

    def operand(self, value: int, target: int) -> str:  # noqa: ARG002 - all values are there
        return self.values[value]

    def place(self, op: Place) -> str:
        return self._graph.constant(op.table.forward().unsqueeze(0))

    def upsample(self, op: Upsample) -> str:
        y = self.values[op.source]
        for axis, side in ((1, self._h), (2, self._w)):
            cells = -(-side // self._scales[op.target])
            y = self._graph.node("Gather", y, self._graph.constant(np.arange(cells) // op.scale), axis=axis)
        return y

    def everywhere(self, per_image: str) -> str:
        return self._graph.node("Unsqueeze", per_image, self._graph.constant([1, 2]))

    def split(self, value: str, parts: int) -> str:
        return self._graph.node("Reshape", value, self._graph.constant([0, self._h, self._w, parts, -1]))

    def joined(self, value: str, features: int) -> str:
        return self._graph.reshape(value, [0, self._h, self._w, features])


def full_graph(model: AutoregressiveModel, *, floating: bool = False) -> bytes:
    """The content of an .onnx file.

    Args:
        model: Of any family, in float32 and without attention.
        floating: Whether the images are float32 levels instead of uint8.

    Raises:
        ValueError: If the model cannot be exported, or onnx is not installed.
    """
    check_model(model)
    graph, likelihood = Graph(), model.likelihood
    c, h, w = model.image_shape
    images = graph.input("images", np.float32 if floating else np.uint8, ["N", c, h, w])
    condition = condition_input(graph, model)
    levels = graph.node("Transpose", images if floating else graph.cast(images, np.float32), perm=[0, 2, 3, 1])
    program = record(model)
    places = _Everywhere(graph, model, program, scaled(graph, levels, model))
    for op in program.operations:
        places.values[op.target] = apply(graph, op, places, program.features, condition)
    raw = places.values[program.output]
    if model.grouped:
        params = graph.reshape(raw, [-1, h, w, c, likelihood.params])
    else:
        params = mixture_params(graph, model, raw, levels)
    params = graph.node("Transpose", params, perm=[0, 3, 1, 2, 4])
    graph.output(params, "params", np.float32, ["N", c, h, w, likelihood.params])
    return graph.bytes("forward", {"pixelcnn": "forward", "levels": model.levels, "likelihood": kind_of(model)})


def kind_of(model: AutoregressiveModel) -> str:
    """The likelihood's name: Bernoulli, Categorical or LogisticMixture."""
    return type(model.likelihood).__name__
