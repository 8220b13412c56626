"""What both ONNX graphs share: nodes under construction, and what surrounds the network.

A graph's nodes have generated names, and its constants no duplicates. Before the network come its levels and what they
are conditioned on, after it the parameters made of its output.

Every operation of a program makes its own nodes (`Operation.exported`), over features with channels last, as in the
networks. How features are laid out and what a convolution sees is defined by the graphs of whole images and of a step,
which have what `pixelcnn.operations.base.Exporter` describes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pixelcnn.arithmetic.mixture import Resolution
from pixelcnn.density import checked_model
from pixelcnn.layers import MaskedConv2d
from pixelcnn.likelihoods import MAX_LOG_SCALE, LogisticMixture
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.mixture import MixtureModel
from pixelcnn.operations import IMAGE
from pixelcnn.sampling.autoregressive import check_weights
from pixelcnn.sampling.program import Program
from pixelcnn.version import __version__

__all__ = [
    "Graph", "add_conditions", "check_model", "image_features", "kernel_rows", "kind_of", "mixture_params",
    "onnx_module",
]  # fmt: skip

_OPSET, _IR = 17, 8  # from 2022: old enough for every runtime in use
_SMALL = -40.0  # log w below which 1 - exp(-w) equals w


def onnx_module() -> Any:
    """The `onnx` module.

    Raises:
        ValueError: If onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise ValueError("exporting to ONNX needs onnx: pip install 'pixelcnn[onnx]'") from None
    return onnx


class Graph:
    """Nodes, constants, inputs and outputs, and the program that is being added."""

    program: Program
    condition: str | None = None
    """Name of the class and the vector that the images are conditioned on, (N, D)."""
    condition_map: str | None = None
    """Name of the map that they are conditioned on, (N, D, h, w)."""
    sides: tuple[int, int]
    """Height and width of the images."""
    values: dict[int, str]
    """Names of the program's values available so far."""

    def __init__(self) -> None:
        self._onnx = onnx_module()
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def begin(self, program: Program, image: str) -> None:
        """Sets the program, and the name of the scaled image."""
        self.program = program
        self.values = {IMAGE: image}

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        """Adds a named input; a string in its shape stands for a dimension of any size."""
        self._inputs.append(self._described(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> None:
        """Makes a value an output of the given name."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [name]))
        self._outputs.append(self._described(name, dtype, shape))

    def constant(self, value: Tensor | np.ndarray | Sequence[int] | int | float) -> str:
        """The name of a constant; integers are int64, other numbers float32."""
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        default = np.float32 if isinstance(value, float) else np.int64
        array = np.asarray(value, value.dtype if isinstance(value, np.ndarray) else default)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = self._constants[key] = f"c{len(self._constants)}"
            self._initializers.append(self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return self._constants[key]

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with a single output; returns its name."""
        return self.nodes(kind, 1, *inputs, **attributes)[0]

    def nodes(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node; returns the names of its outputs."""
        names = [f"v{len(self._nodes)}_{k}" for k in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """A value converted to another dtype."""
        return self.node("Cast", value, to=self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """A value in another shape, one dimension of which may be -1."""
        return self.node("Reshape", value, self.constant(list(shape)))

    def bytes(self, name: str, metadata: Mapping[str, object]) -> bytes:
        """The content of an .onnx file."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR,
            producer_name="pixelcnn",
            producer_version=__version__,
        )
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _described(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> Any:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, kind, list(shape))


def check_model(model: AutoregressiveModel) -> None:
    """Checks that a model can be exported.

    Raises:
        ValueError: If it cannot.
    """
    if isinstance(checked_model(model), MixtureModel):
        raise ValueError("a mixture has no forward of its own and is not exported to ONNX; export its networks")
    if attention := getattr(model.config, "attention", 0):
        raise ValueError(f"models with attention are not exported to ONNX, got attention {attention}")
    if str(model.dtype) != "torch.float32":
        raise ValueError(f"models in torch.float32 are exported to ONNX, got {model.dtype}")
    check_weights(model.named_parameters())


def add_conditions(graph: Graph, model: AutoregressiveModel) -> bool:
    """Adds the inputs of a conditional model, and sets the graph's `condition` and `condition_map`; returns whether it
    is one.

    `labels` are classes, int64 (N,), -1 for none; `condition` is vectors, float32 (N, D), or maps, float32
    (N, D, h, w) with any sides that divide the images', NaN throughout for none.
    """
    if channels := model.conditions.channels:
        graph.condition_map = graph.input("condition", np.float32, ["N", channels, "h", "w"])
    graph.condition = _rows(graph, model)
    return graph.condition is not None or graph.condition_map is not None


def _rows(graph: Graph, model: AutoregressiveModel) -> str | None:
    """Classes and vectors as one tensor, (N, D)."""
    classes, size, parts = model.num_classes, model.condition_dim, []
    if classes is not None:
        labels = graph.node("Unsqueeze", graph.input("labels", np.int64, ["N"]), graph.constant([1]))
        parts.append(graph.cast(graph.node("Equal", labels, graph.constant(list(range(classes)))), np.float32))
    if size is not None:
        vectors, zero = graph.input("condition", np.float32, ["N", size]), graph.constant(0.0)
        missing = graph.node("IsNaN", vectors)
        first = graph.node("Gather", missing, graph.constant([0]), axis=1)
        parts += [graph.node("Where", missing, zero, vectors), graph.cast(graph.node("Not", first), np.float32)]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=1)


def image_features(graph: Graph, levels: str, model: AutoregressiveModel, shape: list[int]) -> str:
    """Float32 levels (..., C) as the network reads them: scaled to 0..1 or embedded, of the given shape."""
    if model.level_embedding is None:
        return graph.node("Div", levels, graph.constant(float(model.levels - 1)))
    first = np.arange(model.image_shape[0]) * model.levels
    rows = graph.node("Add", graph.cast(levels, np.int64), graph.constant(first))
    return graph.reshape(graph.node("Gather", graph.constant(model.level_embedding.weight), rows), shape)


def kernel_rows(layer: MaskedConv2d, taps: list[tuple[int, int]]) -> np.ndarray:
    """The weights of some taps as a matrix (taps * in, out)."""
    columns = [layer.kernel_at(*tap).detach().cpu().numpy() for tap in taps]
    return np.ascontiguousarray(np.concatenate(columns, 1).T)


def kind_of(model: AutoregressiveModel) -> str:
    """The likelihood's name: Bernoulli, Categorical or LogisticMixture."""
    return type(model.likelihood).__name__


def mixture_params(graph: Graph, model: AutoregressiveModel, raw: str, levels: str) -> str:
    """The mixture of each channel given the earlier ones, as in `LogisticsModel.subpixel_params`.

    Args:
        graph: The graph to which the nodes are added.
        model: A `LogisticsModel`.
        raw: The network's output, (..., raw features).
        levels: Levels of the same pixels, float32 (..., C).

    Returns:
        (..., C, 3 m).
    """
    likelihood = model.likelihood
    assert isinstance(likelihood, LogisticMixture)
    c = model.image_shape[0]
    pairs = list(itertools.combinations(range(c), 2))
    weights, *parts = graph.nodes("Split", 1 + 2 * c + len(pairs), raw, axis=-1)
    unit = 2.0 ** -Resolution(model.levels).mean_bits
    parts[:c] = [part if unit == 1 else _times(graph, part, unit) for part in parts[:c]]
    means, log_scales, slopes = parts[:c], parts[c : 2 * c], parts[2 * c :]
    each = [graph.node("Gather", levels, graph.constant([k]), axis=-1) for k in range(c)]  # (..., 1)
    top = float(model.levels - 1)
    values = [_plus(graph, _times(graph, level, 2 / top), -1.0) for level in each]
    found = []
    for k in range(c):
        for j in range(k):
            slope = graph.node("Tanh", slopes[pairs.index((j, k))])
            means[k] = graph.node("Add", means[k], graph.node("Mul", slope, values[j]))
        mixture = graph.node("Concat", weights, means[k], log_scales[k], axis=-1)
        found.append(graph.node("Unsqueeze", mixture, graph.constant([-2])))
        if k < c - 1:
            terms = _log_prob_terms(graph, values[k], means[k], log_scales[k], 1 / top, likelihood.min_log_scale)
            weights = graph.node("LogSoftmax", graph.node("Add", weights, terms), axis=-1)
    return found[0] if c == 1 else graph.node("Concat", *found, axis=-2)


def _log_prob_terms(graph: Graph, x: str, mean: str, log_scale: str, half: float, least: float) -> str:
    """Log-probability of the scaled values x under each distribution, see `LogisticMixture`."""
    log_scale = graph.node("Clip", log_scale, graph.constant(least), graph.constant(MAX_LOG_SCALE))
    inverse = graph.node("Exp", graph.node("Neg", log_scale))
    centred = graph.node("Sub", x, mean)
    upper, lower = (graph.node("Mul", _plus(graph, centred, edge), inverse) for edge in (half, -half))
    below = graph.node("Neg", graph.node("Softplus", graph.node("Neg", upper)))  # log sigmoid(upper)
    above = graph.node("Neg", graph.node("Softplus", lower))
    # 1 - exp(-w) = tanh(w / 2) (1 + exp(-w)), in which nothing cancels; in float32 log w where w would underflow
    log_width = _plus(graph, graph.node("Neg", log_scale), math.log(2 * half))
    held = graph.node("Max", log_width, graph.constant(_SMALL))
    width = graph.node("Exp", held)
    grown = _plus(graph, graph.node("Exp", graph.node("Neg", width)), 1.0)
    inside = graph.node("Log", graph.node("Mul", graph.node("Tanh", _times(graph, width, 0.5)), grown))
    inside = graph.node("Add", inside, graph.node("Sub", log_width, held))
    inside = graph.node("Add", graph.node("Add", below, above), inside)
    first = graph.node("Less", x, graph.constant(half - 1))  # the lowest level is -1, the next one -1 + 2 half
    last = graph.node("Greater", x, graph.constant(1 - half))
    return graph.node("Where", first, below, graph.node("Where", last, above, inside))


def _plus(graph: Graph, x: str, number: float) -> str:
    return graph.node("Add", x, graph.constant(number))


def _times(graph: Graph, x: str, number: float) -> str:
    return graph.node("Mul", x, graph.constant(number))
