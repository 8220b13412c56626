"""Exact twins of models, whose outputs are the same bits on any machine and in any order of summation.

`prepare` rounds a model's parameters to a fixed grid (`pixelcnn.arithmetic.grid`) and proves from them that no sum in
its network can be inexact. The twin has the methods of any model: what it samples, scores and codes is reproducible bit
for bit, whatever the machine, device, engine, batch size and number of threads. Its probabilities are multiples of
2^-24 (`pixelcnn.frequencies`): the integers that the codec works with.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from pixelcnn.arguments import ArrayLike
from pixelcnn.arithmetic import GRID, Arithmetic, Precision, grid
from pixelcnn.arithmetic.mixture import MAX_MIXTURES
from pixelcnn.bounded import in_stripes, stripes_of
from pixelcnn.config import architecture_of
from pixelcnn.density import DensityModel, checked_model
from pixelcnn.frequencies import Frequencies
from pixelcnn.layers import MaskedConv2d, ReparametrisedConv2d, parametrized
from pixelcnn.operations import IMAGE, Attention, ExactView, View
from pixelcnn.operations.attention import MAX_EXACT_PIXELS
from pixelcnn.sampling.autoregressive import MakeView
from pixelcnn.sampling.program import record
from pixelcnn.sampling.weight_cache import WeightKeyedCache

__all__ = ["PreparedModel", "prepare"]

_EXACT = 2.0 ** (53 - grid.WEIGHT_BITS - grid.ACTIVATION_BITS)
"""Sums of products of weights and activations are exact below this."""


class PreparedModel(DensityModel):
    """The result of `prepare`, with the methods of any model.

    Args:
        model: The twin: parameters in float64, on their grid, not to be changed.
        identity: SHA-256 of configuration, parameters as integers, and tables: hexadecimal. Models with equal
            identities compute equal bits.
        largest: The largest sum that any layer could reach, for any image, as a fraction of the exact range.
    """

    exact = True
    likelihood: Frequencies

    def __init__(self, model: DensityModel, identity: str, largest: float) -> None:
        self.model = model
        self.identity = identity
        self.largest = largest
        self.config = model.config
        self.level_embedding = model.level_embedding
        self.likelihood = Frequencies(model.likelihood)

    @property
    def grouped(self) -> bool:  # type: ignore[override]
        """See `DensityModel.grouped`."""
        return self.model.grouped

    def prepared(self) -> PreparedModel:
        """Itself."""
        return self

    def network(self, view: View) -> Tensor:
        """See `Autoregressive.network`."""
        return self.model.network(view)

    @property
    def logit_layer(self) -> MaskedConv2d | None:
        """See `Autoregressive.logit_layer`."""
        return self.model.logit_layer

    def penultimate(self, view: View) -> Tensor:
        """See `Autoregressive.penultimate`."""
        return self.model.penultimate(view)

    def subpixel_params(self, raw: Tensor, levels: Tensor, channel: int) -> Tensor:
        """See `DensityModel.subpixel_params`: on the grid."""
        return self.model.subpixel_params_on_grid(raw, levels, channel)

    def arithmetic_of(self, precision: Precision | None) -> Arithmetic:
        """See `DensityModel.arithmetic_of`: the grid's."""
        assert precision is None, precision
        return GRID

    def view_of(self, precision: Precision | None) -> MakeView:
        """See `DensityModel.view_of`."""
        assert precision is None, precision
        return ExactView

    @property
    def masked_layers(self) -> list[MaskedConv2d]:
        """See `DensityModel.masked_layers`."""
        return self.model.masked_layers

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: ARG002
        """All weights."""
        return self.model.parameters()

    def named_parameters(self, *_: object, **__: object) -> Iterator[tuple[str, nn.Parameter]]:
        """All weights, by name."""
        return self.model.named_parameters()

    @property
    def any_size(self) -> bool:
        """See `AutoregressiveModel.any_size`."""
        return bool(cast(Any, self.model).any_size)

    def resized(self, size: tuple[int, int]) -> PreparedModel:
        """See `AutoregressiveModel.resized`: the twin of the model of that size, with that one's identity."""
        resized = cast(Any, self.model).resized(size)
        return PreparedModel(resized, _identity(resized), self.largest)

    def fitting(self, images: ArrayLike) -> PreparedModel:
        """See `AutoregressiveModel.fitting`."""
        fitting = cast(Any, self.model).fitting(images)
        return self if fitting is self.model else self.resized(fitting.image_shape[1:])

    def to(self, device: torch.device | str) -> PreparedModel:
        """The same model on another device, which must support float64."""
        moved = copy.deepcopy(cast(nn.Module, self.model)).to(device)
        return PreparedModel(cast(DensityModel, moved), self.identity, self.largest)

    @torch.no_grad()
    def cumulative(
        self, images: ArrayLike, labels: ArrayLike | None = None, *, condition: ArrayLike | None = None
    ) -> Tensor:
        """The cumulative frequencies of every sub-pixel, each given the ones before it, in one forward pass.

        Args:
            images: uint8 levels (N, C, H, W).
            labels: As for `log_prob`.
            condition: As for `log_prob`.

        Returns:
            int64 (N, C, H, W, levels + 1): 0, ..., 2^24, increasing.

        Raises:
            ValueError: If the shape, type or range of an argument is wrong.
        """
        images = self.checked_images(images).to(self.device)
        given = self.condition_of(labels, len(images), condition)
        return self.likelihood.cumulative(self.raw_params(images, given))

    @torch.no_grad()
    def edges(self, images: Tensor, condition: Tensor | None) -> Tensor:
        """Where the frequencies of the images' own levels start and stop: int64 (N, C, H, W, 2), or int32 if the images
        are large.

        Args:
            images: Levels (N, C, H, W), not checked.
            condition: The result of `condition_of` for their labels.
        """
        if len(images) == 1 and (stripes := stripes_of(self, condition)):
            parts = in_stripes(self._edges, self, stripes, images, condition)
            return torch.cat([part.to(torch.int32) for part in parts], 2)
        return self._edges(images, condition)

    def _edges(self, images: Tensor, condition: Tensor | None) -> Tensor:
        if self._many_logits:
            return self._by_parts(self.likelihood.edges, images, condition, None)
        return self.likelihood.edges(self.raw_params(images, condition), images)

    @torch.no_grad()
    def bits(self, images: ArrayLike, labels: ArrayLike | None = None, *, condition: ArrayLike | None = None) -> Tensor:
        """The code length of each image under an ideal coder with these frequencies, in bits: float64 (N,).

        Arguments and errors as for `cumulative`. Memory does not grow with N beyond that of the images.
        """
        return -self.log_prob(images, labels, condition=condition) / math.log(2)


def prepare(model: DensityModel) -> PreparedModel:
    """The exact twin of a model, cached while the model exists and its weights stay the same.

    Args:
        model: A model of one scan order; its exact twin is returned as it is.

    Returns:
        The twin, on the model's device if that is a CUDA device, otherwise on the CPU.

    Raises:
        ValueError: If a parameter is not finite, weights are so large that a sum could be inexact, images are too large
            for exact attention, a mixture of logistics has too many distributions, the network cannot be recorded as a
            program, or the model is a mixture over scan orders or symmetries; the message says which.
    """
    model = checked_model(model)
    if isinstance(model, PreparedModel):
        return model
    return _prepared_models.get(model, "twin", lambda: _prepared(model))


_prepared_models: WeightKeyedCache[PreparedModel] = WeightKeyedCache(size=1)


def _prepared(model: DensityModel) -> PreparedModel:
    if (mixtures := getattr(model.config, "mixtures", 1)) > MAX_MIXTURES:
        raise ValueError(f"a mixture is exact of at most {MAX_MIXTURES} distributions, got {mixtures}")
    twin = copy.deepcopy(cast(nn.Module, model)).cpu().eval().requires_grad_(requires_grad=False)
    for layer in list(twin.modules()):
        # What parametrizations make of a parameter on the grid need not lie on it. PyTorch's own function would take
        # them from the model too, with which the copy shares the class that they made.
        if made := {name: getattr(layer, name).detach().clone() for name in parametrized(layer)}:
            layer.__class__ = type(layer).__bases__[0]
            del layer.parametrizations
            for name, weight in made.items():
                layer.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    for layer in twin.double().modules():
        if isinstance(layer, ReparametrisedConv2d):
            layer.settle()
    for parameter in twin.parameters():
        parameter.copy_(grid.rounded(parameter, grid.WEIGHT_BITS))
    trained = cast(DensityModel, twin)
    identity, largest = _identity(trained), _largest_sum(trained) / _EXACT
    if model.device.type == "cuda":  # MPS has no float64
        twin.to(model.device)
    return PreparedModel(trained, identity, largest)


def _identity(twin: DensityModel) -> str:
    digest = hashlib.sha256(grid.tables_digest().encode())
    digest.update(json.dumps([type(twin).__name__, architecture_of(twin.config)], sort_keys=True).encode())
    for name, parameter in sorted(twin.named_parameters()):
        digest.update(f"{name} {list(parameter.shape)}".encode())
        digest.update((parameter * 2.0**grid.WEIGHT_BITS).long().cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def _largest_sum(twin: DensityModel) -> float:
    """An upper bound on the sum of magnitudes in any layer, from bounds on its inputs."""
    _, h, w = twin.image_shape
    names = {id(module): name for name, module in cast(nn.Module, twin).named_modules()}
    program = record(twin)
    image = 1.0 if twin.level_embedding is None else float(twin.level_embedding.weight.abs().max())
    bounds, largest = {IMAGE: image}, 0.0
    for node in program.nodes:
        if isinstance(node.op, Attention) and h * w > MAX_EXACT_PIXELS:
            raise ValueError(f"attention is exact for images of at most {MAX_EXACT_PIXELS} pixels, got {h} x {w}")
        features = [program.features[value] for value in node.inputs]
        result, total = node.op.bound(features, *(bounds[value] for value in node.inputs))
        if node.residual is not None:
            result += bounds[node.residual]
            total = max(total, result)
        if total >= _EXACT:
            name = names.get(id(getattr(node.op, "layer", None)), type(node.op).__name__.lower())
            raise ValueError(
                f"the weights of {name} are too large for exact arithmetic: a sum could come to {total:.3g}, and is "
                f"exact below {_EXACT:.3g}"
            )
        bounds[node.target], largest = result, max(largest, total)
    return largest
