"""Recorded programs as ONNX nodes: what the graphs of whole images and of a step's pixels have in common.

Every operation makes its own nodes (`Operation.exported`), over features with channels last, as in the networks. An
exporter defines how features are laid out and what a convolution sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from pixelcnn.layers import MaskedConv2d
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.ensemble import OrderEnsemble
from pixelcnn.onnx.graph import Graph
from pixelcnn.operations import IMAGE, Node
from pixelcnn.sampling.autoregressive import check_weights
from pixelcnn.sampling.program import Program

__all__ = ["Exporter", "check_model", "condition_input", "kernel_rows", "kind_of", "scaled"]


class Exporter(Graph, ABC):
    """A graph to which a program is added; see `pixelcnn.operations.base.Exporter` for what operations ask of it."""

    program: Program
    condition: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[int, str] = {}
        """The names of the values available so far."""

    def begin(self, program: Program, image: str) -> None:
        """Sets the program, and the name of the scaled image."""
        self.program = program
        self.values = {IMAGE: image}

    @abstractmethod
    def conv(self, node: Node, layer: MaskedConv2d) -> str:
        """See `pixelcnn.operations.base.Exporter`."""

    @abstractmethod
    def operand(self, value: int, node: Node) -> str:
        """See `pixelcnn.operations.base.Exporter`."""

    @abstractmethod
    def at_positions(self, table: Tensor, node: Node) -> str:
        """See `pixelcnn.operations.base.Exporter`."""

    @abstractmethod
    def upsampled(self, node: Node, factor: int) -> str:
        """See `pixelcnn.operations.base.Exporter`."""

    @abstractmethod
    def everywhere(self, per_image: str) -> str:
        """See `pixelcnn.operations.base.Exporter`."""

    @abstractmethod
    def split(self, value: str, parts: int) -> str:
        """See `pixelcnn.operations.base.Exporter`."""

    @abstractmethod
    def joined(self, value: str, target: int) -> str:
        """See `pixelcnn.operations.base.Exporter`."""


def check_model(model: AutoregressiveModel) -> None:
    """Checks that a model can be exported.

    Raises:
        ValueError: If it cannot.
    """
    if isinstance(model, OrderEnsemble):
        raise ValueError("an OrderEnsemble has no forward of its own and is not exported to ONNX; export its members")
    if attention := getattr(model.config, "attention", 0):
        raise ValueError(f"models with attention are not exported to ONNX, got attention {attention}")
    if str(model.dtype) != "torch.float32":
        raise ValueError(f"models in torch.float32 are exported to ONNX, got {model.dtype}")
    check_weights(model.named_parameters())


def condition_input(graph: Graph, model: AutoregressiveModel) -> str | None:
    """Adds the input `labels` of a conditional model; returns what the images are conditioned on, (N, D), or None.

    Classes are int64 (N,), -1 for the unconditional distribution; vectors are float32 (N, D), NaN for the same.
    """
    classes, size = model.num_classes, model.condition_dim
    if size is not None:
        vectors, zero = graph.input("labels", np.float32, ["N", size]), graph.constant(0.0)
        missing = graph.node("IsNaN", vectors)
        vectors = graph.node("Where", missing, zero, vectors)
        first = graph.node("Gather", missing, graph.constant([0]), axis=1)
        return graph.node("Concat", vectors, graph.cast(graph.node("Not", first), np.float32), axis=1)
    if classes is None:
        return None
    labels = graph.node("Unsqueeze", graph.input("labels", np.int64, ["N"]), graph.constant([1]))
    return graph.cast(graph.node("Equal", labels, graph.constant(list(range(classes)))), np.float32)


def scaled(graph: Graph, levels: str, model: AutoregressiveModel) -> str:
    """Float32 levels scaled to 0..1, as the network reads them."""
    return graph.node("Div", levels, graph.constant(float(model.levels - 1)))


def kernel_rows(layer: MaskedConv2d, taps: list[tuple[int, int]]) -> np.ndarray:
    """The weights of some taps as a matrix (taps * in, out)."""
    columns = [layer.kernel_at(*tap).detach().cpu().numpy() for tap in taps]
    return np.ascontiguousarray(np.concatenate(columns, 1).T)


def kind_of(model: AutoregressiveModel) -> str:
    """The likelihood's name: Bernoulli, Categorical or LogisticMixture."""
    return type(model.likelihood).__name__
