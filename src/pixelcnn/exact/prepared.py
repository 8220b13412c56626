"""A model's exact twin: its parameters on the grid, the proof that its sums are exact, and its identity."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike
from pixelcnn.config import architecture_of
from pixelcnn.exact import grid
from pixelcnn.exact.frequencies import TOTAL_BITS, cumulative_frequencies
from pixelcnn.exact.mixture import MOST_MIXTURES
from pixelcnn.exact.view import ExactView
from pixelcnn.sampling.kept import Kept
from pixelcnn.sampling.program import IMAGE, Attention, Condition, Conv, Operation, Place, Sum, Upsample, record

if TYPE_CHECKING:
    from pixelcnn.models.base import AutoregressiveModel  # which draws exact samples, so it imports this module

__all__ = ["PreparedModel", "prepare"]

_EXACT = 2.0 ** (53 - grid.WEIGHT_BITS - grid.ACTIVATION_BITS)
"""Sums of products of weights and activations are exact below it."""
_MOST_PIXELS = 4096  # over which attention's sums are exact


@dataclass(frozen=True)
class PreparedModel:
    """What `prepare` makes: `model` has float64 parameters on their grids and is not to be changed.

    Args:
        model: The twin, on the device of the model that it is of.
        identity: SHA-256 of configuration, parameters as integers, and tables: hexadecimal. Equal identities compute
            equal bits.
        largest: The largest sum that a layer could come to, whatever the image, as a share of what is exact.
    """

    model: AutoregressiveModel
    identity: str
    largest: float

    @torch.no_grad()
    def cumulative(self, images: ArrayLike, labels: ArrayLike | None = None) -> Tensor:
        """The cumulative frequencies of every sub-pixel, each given the ones before it, by one forward.

        Args:
            images: uint8 levels (N, C, H, W).
            labels: As for `log_prob`.

        Returns:
            int64 (N, C, H, W, levels + 1): 0, ..., 2^24, rising.

        Raises:
            ValueError: If the shape, type or range of an argument is wrong.
        """
        images = self.model.checked_images(images).to(self.model.device)
        return self.cumulative_given(images, self.model.condition_of(labels, len(images)))

    def cumulative_given(self, images: Tensor, condition: Tensor | None) -> Tensor:
        """`cumulative` without looking at its arguments, and with what `condition_of` makes of labels."""
        model = self.model
        levels_nhwc = images.permute(0, 2, 3, 1)
        raw = model.network(ExactView(levels_nhwc.double() / (model.levels - 1), condition))
        channels = range(model.image_shape[0])
        if model.grouped:
            by_channel = raw.view(*raw.shape[:3], len(channels), model.likelihood.params)
            params = [by_channel[..., k, :] for k in channels]
        else:
            params = [raw for _ in channels]
        every = [cumulative_frequencies(model.likelihood, params[k], levels_nhwc, k) for k in channels]
        return torch.stack(every, 1)

    @torch.no_grad()
    def bits(self, images: ArrayLike, labels: ArrayLike | None = None) -> Tensor:
        """What an ideal coder spends on each image with these frequencies, in bits: float64 (N,).

        Arguments and errors as for `cumulative`. Memory does not grow with N.
        """
        images = self.model.checked_images(images).to(self.model.device)
        labels = None if labels is None else self.model.checked_labels(labels, len(images))
        size = self.model.slice_size
        parts = [images[k : k + size] for k in range(0, len(images), size)]
        given = [None if labels is None else labels[k : k + size] for k in range(0, len(images), size)]
        return torch.cat([self._bits(*both) for both in zip(parts, given, strict=True)])

    def _bits(self, images: Tensor, labels: Tensor | None) -> Tensor:
        cumulative, x = self.cumulative(images, labels), images.long().unsqueeze(-1)
        frequencies = cumulative.gather(-1, x + 1) - cumulative.gather(-1, x)
        return (TOTAL_BITS - torch.log2(frequencies.double())).flatten(1).sum(1)


def prepare(model: AutoregressiveModel) -> PreparedModel:
    """The exact twin of a model; kept as long as the model is and its weights are the same.

    Raises:
        ValueError: If a parameter is not finite, or weights are so large that a sum could be inexact, or the images too
            large for exact attention, or a mixture has too many distributions; says which.
    """
    return _kept.get(model, "twin", lambda: _prepared(model))


_kept: Kept[PreparedModel] = Kept(1)


def _prepared(model: AutoregressiveModel) -> PreparedModel:
    if (mixtures := getattr(model.config, "mixtures", 1)) > MOST_MIXTURES:
        raise ValueError(f"a mixture is exact of at most {MOST_MIXTURES} distributions, got {mixtures}")
    twin = copy.deepcopy(model).cpu().double().eval().requires_grad_(requires_grad=False)  # MPS has no float64
    for parameter in twin.parameters():
        parameter.copy_(grid.rounded(parameter, grid.WEIGHT_BITS))
    identity, largest = _identity(twin), _largest_sum(twin) / _EXACT
    return PreparedModel(twin.to(model.device) if model.device.type == "cuda" else twin, identity, largest)


def _identity(twin: AutoregressiveModel) -> str:
    digest = hashlib.sha256(grid.tables_digest().encode())
    digest.update(json.dumps([type(twin).__name__, architecture_of(twin.config)], sort_keys=True).encode())
    for name, parameter in sorted(twin.named_parameters()):
        digest.update(f"{name} {list(parameter.shape)}".encode())
        digest.update((parameter * 2.0**grid.WEIGHT_BITS).long().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def _largest_sum(twin: AutoregressiveModel) -> float:
    """The largest sum of sizes in any layer, by what its inputs can come to."""
    _, h, w = twin.image_shape
    names = {id(module): name for name, module in twin.named_modules()}
    program = record(twin)
    bounds, largest = {IMAGE: 1.0}, 0.0
    for op in program.operations:
        if isinstance(op, Attention) and h * w > _MOST_PIXELS:
            raise ValueError(f"attention is exact for images of at most {_MOST_PIXELS} pixels, got {h} x {w}")
        bounds[op.target], total = _bound(op, bounds, program.features)
        if total >= _EXACT:
            name = names.get(id(getattr(op, "layer", None)), type(op).__name__.lower())
            raise ValueError(
                f"the weights of {name} are too large for exact arithmetic: a sum could come to {total:.3g}, and is "
                f"exact below {_EXACT:.3g}"
            )
        largest = max(largest, total)
    return largest


def _bound(op: Operation, bounds: dict[int, float], features: tuple[int, ...]) -> tuple[float, float]:
    """What the operation's result can come to, and the largest sum in it, in units that make `_EXACT` the limit."""
    if isinstance(op, Conv):
        sizes = sum((op.layer.kernel_at(*tap).abs().sum(1) for tap in op.layer.taps), op.layer.bias.abs())
        largest = max(1.0, bounds[op.source])
        total = float(sizes.max()) * largest + (0.0 if op.add is None else bounds[op.add])
        result = grid.LIMIT + (0.0 if op.residual is None else bounds[op.residual])
        return result, max(total, result)
    if isinstance(op, Sum):
        return (result := bounds[op.left] + bounds[op.right]), result
    if isinstance(op, Condition):
        return grid.LIMIT, float(op.layer.weight.abs().sum(1).max()) * grid.LIMIT
    if isinstance(op, Place):
        return grid.LIMIT, grid.LIMIT
    if isinstance(op, Attention):
        products = bounds[op.query] * bounds[op.keys] * features[op.keys] / 4  # multiples of 2^-24
        means = bounds[op.values] * _MOST_PIXELS * 4  # shares have 16 bits, values 12
        return bounds[op.values], max(products, means)
    return bounds[op.source] if isinstance(op, Upsample) else max(1.0, bounds[op.source]), 0.0
