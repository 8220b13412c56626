"""The whole forward pass as an ONNX graph.

images   uint8 levels, int32 if there are more than 256, or float32 levels (N, C, H, W), for any N
labels, condition   for a conditional model, see `pixelcnn.onnx.graph.add_conditions`
params   float32 (N, C, H, W, params), what the model itself returns
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from pixelcnn.layers import MaskedConv2d
from pixelcnn.levels import array_dtype
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.onnx.graph import Graph, add_conditions, check_model, image_features, kernel_rows, kind_of, mixture_params
from pixelcnn.operations import Node
from pixelcnn.sampling.program import record

__all__ = ["full_graph"]


class _Everywhere(Graph):
    """Whole images: features (N, H, W, channels)."""

    def __init__(self, model: AutoregressiveModel) -> None:
        super().__init__()
        _, self._h, self._w = model.image_shape
        self.sides = self._h, self._w

    def conv(self, node: Node, layer: MaskedConv2d) -> str:
        x = self.values[node.inputs[0]]
        if layer.pointwise:
            rows = kernel_rows(layer, [(0, 0)])
            return self.node("Add", self.node("MatMul", x, self.constant(rows)), self.constant(layer.bias))
        window = layer.window
        causal = layer.causal_weight()
        left, right = -window.left, max(window.right, 0)
        start = max(window.left, 0) if layer.stride == 1 else 0  # of windows to the right: pads are never negative
        size = [-(-side // layer.stride) for side in (self._h, self._w)]
        y = self.node(
            "Conv",
            self.node("Transpose", x, perm=[0, 3, 1, 2]),
            self.constant(causal),
            self.constant(layer.bias),
            pads=[-window.top, left + start, 0, right],
            strides=[layer.stride, layer.stride],
            dilations=[layer.dilation, layer.dilation],
        )
        ends = self.constant([size[0], start + size[1]])  # a window can end before the current row or column
        y = self.node("Slice", y, self.constant([0, start]), ends, self.constant([2, 3]))
        return self.node("Transpose", y, perm=[0, 2, 3, 1])

    def operand(self, value: int, node: Node) -> str:  # noqa: ARG002 - all values are available
        return self.values[value]

    def at_positions(self, table: Tensor, node: Node) -> str:  # noqa: ARG002 - all positions are here
        return self.constant(table.unsqueeze(0))

    def upsampled(self, node: Node, factor: int) -> str:
        y = self.values[node.inputs[0]]
        for axis, side in ((1, self._h), (2, self._w)):
            cells = -(-side // self.program.scales[node.target])
            y = self.node("Gather", y, self.constant(np.arange(cells) // factor), axis=axis)
        return y

    def known(self, per_pixel: str, features: int) -> str:  # noqa: ARG002 - they stay as they are
        return per_pixel

    def everywhere(self, per_image: str) -> str:
        return self.node("Unsqueeze", per_image, self.constant([1, 2]))

    def split(self, value: str, parts: int) -> str:
        return self.node("Reshape", value, self.constant([0, self._h, self._w, parts, -1]))

    def joined(self, value: str, target: int) -> str:
        return self.reshape(value, [0, self._h, self._w, self.program.features[target]])


def full_graph(model: AutoregressiveModel, *, floating: bool = False) -> bytes:
    """The whole forward pass as an ONNX graph, with the inputs and the output of `pixelcnn.onnx.full`.

    Args:
        model: A model of any family, no mixture, in float32 and without attention.
        floating: Whether the images are float32 levels instead of uint8 or int32; for models without an embedding.

    Returns:
        The content of an .onnx file.

    Raises:
        ValueError: If the model cannot be exported or has a weight that is not finite, or onnx is not installed.
    """
    check_model(model)
    if floating and model.level_embedding is not None:
        raise ValueError("a model with an embedding reads levels as integers: --input float32 is for those without")
    graph, likelihood = _Everywhere(model), model.likelihood
    c, h, w = model.image_shape
    images = graph.input("images", np.float32 if floating else array_dtype(model.levels).type, ["N", c, h, w])
    conditional = add_conditions(graph, model)
    levels = graph.node("Transpose", images if floating else graph.cast(images, np.float32), perm=[0, 2, 3, 1])
    program = record(model, conditional=conditional)
    graph.begin(program, image_features(graph, levels, model, [-1, h, w, model.image_features]))
    for node in program.nodes:
        graph.values[node.target] = node.op.exported(graph, node)
    raw = graph.values[program.output]
    if model.grouped:
        params = graph.reshape(raw, [-1, h, w, c, likelihood.params])
    else:
        params = mixture_params(graph, model, raw, levels)
    params = graph.node("Transpose", params, perm=[0, 3, 1, 2, 4])
    graph.output(params, "params", np.float32, ["N", c, h, w, likelihood.params])
    return graph.bytes("forward", {"pixelcnn": "forward", "levels": model.levels, "likelihood": kind_of(model)})
