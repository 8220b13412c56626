"""Which images to draw: the arguments of sampling, validated once and in the form that every engine takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike, integer, number, tensor
from pixelcnn.arithmetic.precision import Precision, check_precision
from pixelcnn.likelihoods import Bernoulli, Categorical
from pixelcnn.randomness import check_seed
from pixelcnn.sampling.autoregressive import Autoregressive

__all__ = ["Draw", "checked_arguments", "labels_in_turn"]

_MAX_GUIDANCE = 1e6  # must not overflow when multiplied by logits


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Which images to draw from which distribution; see `AutoregressiveModel.sample` for the fields."""

    seed: int
    first: int
    temperature: float
    labels: ArrayLike | None
    guidance: float
    precision: Precision | None

    def checked(self, model: Autoregressive, n: int) -> tuple[Draw, int]:
        """This draw in the types that the samplers compute with, and n, validated before anything is computed.

        Raises:
            ValueError: If a field is out of range.
        """
        n, seed, temperature, first = checked_arguments(n, self.seed, self.temperature, self.first)
        guidance = number("guidance", self.guidance)
        if not math.isfinite(guidance):
            raise ValueError(f"guidance must be finite, got {guidance!r}")
        if abs(guidance) > _MAX_GUIDANCE:
            raise ValueError(f"guidance must be in -1e6..1e6, got {guidance!r}")
        labels = None if self.labels is None else model.checked_labels(self.labels, n).detach()
        if model.exact and (temperature, guidance, self.precision) != (1, 1, None):
            raise ValueError(
                "exact samples are of the model's own distribution: temperature and guidance must be 1 and precision "
                f"None, got {temperature!r}, {guidance!r} and {self.precision!r}"
            )
        check_precision(self.precision, model.dtype)
        if guidance != 1 and labels is None:
            raise ValueError(f"guidance must be 1 without labels, got {guidance!r}")
        if guidance != 1 and not isinstance(model.likelihood, Bernoulli | Categorical):
            raise ValueError(f"guidance must be 1 for a likelihood without logits, got {guidance!r}")
        draw = replace(self, seed=seed, temperature=temperature, first=first, guidance=guidance, labels=labels)
        return draw, n

    def part(self, start: int, stop: int) -> Draw:
        """The part of this draw that covers images start .. stop-1."""
        labels = None if self.labels is None else tensor("labels", self.labels)[start:stop]
        return replace(self, first=self.first + start, labels=labels)


def labels_in_turn(classes: tuple[int, ...] | None, first: int, count: int) -> Tensor | None:
    """The labels of the images from `first` on when the classes take turns, int64 (count,); None for no classes.

    Examples:
        >>> labels_in_turn((3, 5), 1, 4)
        tensor([5, 3, 5, 3])
    """
    if classes is None:
        return None
    return torch.tensor(classes, device="cpu")[torch.arange(first, first + count, device="cpu") % len(classes)]


def checked_arguments(n: int, seed: int, temperature: float, first: int = 0) -> tuple[int, int, float, int]:
    """A sampler's arguments as Python numbers, validated before anything is computed.

    Raises:
        ValueError: If one is out of range.
    """
    n, seed, first = integer("n", n, 1, 2**63 - 1), check_seed(seed), integer("first", first, 0, 2**62)
    temperature = number("temperature", temperature)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature!r}")
    return n, seed, temperature, first
