"""A program's operations as nodes, over features with channels last, as the networks are written.

Everything but the convolution's neighbours is the same for whole images and for the pixels of a step: a `Places` says
where features lie and what a convolution sees there.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pixelcnn.layers import MaskedConv2d
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.ensemble import OrderEnsemble
from pixelcnn.onnx.graph import Graph
from pixelcnn.sampling.autoregressive import check_weights
from pixelcnn.sampling.program import Condition, Conv, Operation, Place, Sum, Unit, Upsample

__all__ = ["Places", "apply", "check_model", "condition_input", "kernel_rows", "scaled"]


class Places(Protocol):
    """Where features lie."""

    def conv(self, op: Conv) -> str:
        """The convolution of the source with the bias, (..., out)."""
        ...

    def operand(self, value: int, target: int) -> str:
        """A value at the places where the target is computed, (..., features)."""
        ...

    def place(self, op: Place) -> str:
        """The table's features where the target is computed, in a shape that can be added."""
        ...

    def upsample(self, op: Upsample) -> str:
        """The features of the cells in which the target is computed, (..., features)."""
        ...

    def everywhere(self, per_image: str) -> str:
        """Features (N, f) of each image in a shape that can be added."""
        ...

    def split(self, value: str, parts: int) -> str:
        """Features (..., parts * f) as (..., parts, f)."""
        ...

    def joined(self, value: str, features: int) -> str:
        """The reverse, (..., features)."""
        ...


def apply(graph: Graph, op: Operation, places: Places, features: tuple[int, ...], condition: str | None) -> str:
    """Adds an operation's nodes; returns its target."""
    if isinstance(op, Conv):
        y = places.conv(op)
        if op.add is not None:
            y = graph.node("Add", y, places.operand(op.add, op.target))
        if op.layer.activation == "relu":
            y = graph.node("Relu", y)
        return y if op.residual is None else graph.node("Add", y, places.operand(op.residual, op.target))
    if isinstance(op, Sum):
        return graph.node("Add", *(places.operand(value, op.target) for value in op.pointwise))
    if isinstance(op, Condition):
        assert condition is not None
        y = graph.node("MatMul", condition, graph.constant(op.layer.weight.t()))
        y = y if op.layer.bias is None else graph.node("Add", y, graph.constant(op.layer.bias))
        return places.everywhere(y)
    if isinstance(op, Place | Upsample):
        return places.place(op) if isinstance(op, Place) else places.upsample(op)
    assert isinstance(op, Unit), op  # `check_model` refuses attention
    x = places.operand(op.source, op.target)
    if op.kind == "concat_elu":
        return graph.node("Elu", graph.node("Concat", x, graph.node("Neg", x), axis=-1))
    groups = op.groups if op.kind == "gate" else 1
    x = places.split(x, 2 * groups)
    a, b = (graph.node("Gather", x, graph.constant(list(range(k, 2 * groups, 2))), axis=-2) for k in (0, 1))
    a = graph.node("Tanh", a) if op.kind == "gate" else a
    return places.joined(graph.node("Mul", a, graph.node("Sigmoid", b)), features[op.target])


def check_model(model: AutoregressiveModel) -> None:
    """Whether a model can be exported.

    Raises:
        ValueError: If not.
    """
    if isinstance(model, OrderEnsemble):
        raise ValueError("an OrderEnsemble has no forward of its own and is not exported to ONNX; export its members")
    if getattr(model.config, "attention", 0):
        raise ValueError(f"models with attention are not exported to ONNX, got attention {model.config.attention}")  # type: ignore[union-attr]
    if str(model.dtype) != "torch.float32":
        raise ValueError(f"models in torch.float32 are exported to ONNX, got {model.dtype}")
    check_weights(model.named_parameters())


def condition_input(graph: Graph, model: AutoregressiveModel) -> str | None:
    """The input `labels` of a conditional model, and what the images are conditioned on, (N, D); None for others.

    Classes are int64 (N,), -1 for the unconditional distribution; vectors float32 (N, D), zeros for that.
    """
    classes, size = (getattr(model.config, name, None) for name in ("num_classes", "condition_dim"))
    if size is not None:
        return graph.input("labels", np.float32, ["N", size])
    if classes is None:
        return None
    labels = graph.node("Unsqueeze", graph.input("labels", np.int64, ["N"]), graph.constant([1]))
    return graph.cast(graph.node("Equal", labels, graph.constant(list(range(classes)))), np.float32)


def scaled(graph: Graph, levels: str, model: AutoregressiveModel) -> str:
    """Float32 levels as the network reads them."""
    return graph.node("Div", levels, graph.constant(float(model.levels - 1)))


def kernel_rows(layer: MaskedConv2d, taps: list[tuple[int, int]]) -> np.ndarray:
    """The weights of some taps as a matrix (taps * in, out)."""
    columns = [layer.kernel_at(*tap).detach().cpu().numpy() for tap in taps]
    return np.ascontiguousarray(np.concatenate(columns, 1).T)
