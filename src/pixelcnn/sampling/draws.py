"""Which images to draw: the arguments of sampling, in the one form in which they go from the command line to C."""

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

__all__ = ["Draw", "labels_in_turn"]

_MAX_GUIDANCE = 1e6  # must not overflow when multiplied by logits


@dataclass(frozen=True)
class Draw:
    """Which images to draw from which distribution; the fields are arguments of `AutoregressiveModel.sample`."""

    n: int
    labels: ArrayLike | None = None
    seed: int = 0
    temperature: float = 1.0
    first: int = 0
    guidance: float = 1.0
    precision: Precision | None = None
    exact: bool = False
    condition: ArrayLike | None = None

    def plain(self) -> Draw:
        """This draw with its numbers as Python's, each within its range.

        Raises:
            ValueError: If one is out of range.
        """
        n, seed, first = (
            integer("n", self.n, 0, 2**63 - 1),
            check_seed(self.seed),
            integer("first", self.first, 0, 2**62),
        )
        temperature, guidance = number("temperature", self.temperature), number("guidance", self.guidance)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {temperature!r}")
        if not math.isfinite(guidance):
            raise ValueError(f"guidance must be finite, got {guidance!r}")
        if abs(guidance) > _MAX_GUIDANCE:
            raise ValueError(f"guidance must be in -1e6..1e6, got {guidance!r}")
        return replace(self, n=n, seed=seed, first=first, temperature=temperature, guidance=guidance)

    def checked(self, model: Autoregressive) -> tuple[Autoregressive, Draw]:
        """The model to draw from, which is the exact twin if `exact`, and this draw in the types that engines take.

        Everything is validated before anything is computed.

        Raises:
            ValueError: If a field is out of range or does not fit the model.
        """
        draw = self.plain()
        given = model.checked_given(draw.labels, draw.condition, draw.n)
        labels, condition = (None if each is None else each.detach() for each in given)
        model = model.prepared() if draw.exact else model
        if model.exact and (draw.temperature, draw.guidance, draw.precision) != (1, 1, None):
            raise ValueError(
                "exact samples are of the model's own distribution: temperature and guidance must be 1 and precision "
                f"None, got {draw.temperature!r}, {draw.guidance!r} and {draw.precision!r}"
            )
        check_precision(draw.precision, model.dtype)
        if draw.guided and not draw.conditional:
            raise ValueError(f"guidance must be 1 without labels or a condition, got {draw.guidance!r}")
        if draw.guided and not isinstance(model.likelihood, Bernoulli | Categorical):
            raise ValueError(f"guidance must be 1 for a likelihood without logits, got {draw.guidance!r}")
        precision: Precision | None = "bf16" if draw.precision == "bf16" else None
        return model, replace(draw, labels=labels, condition=condition, precision=precision)

    @property
    def guided(self) -> bool:
        """Whether each image needs an unconditional copy."""
        return self.guidance != 1

    @property
    def conditional(self) -> bool:
        """Whether the images are conditioned on something."""
        return self.labels is not None or self.condition is not None

    def given(self, model: Autoregressive) -> Tensor | None:
        """What the images are conditioned on, (n, D); None for nothing."""
        return model.condition_of(self.labels, self.n, self.condition)

    def part(self, start: int, stop: int) -> Draw:
        """The part of this draw that covers images start .. stop-1."""
        labels = None if self.labels is None else tensor("labels", self.labels)[start:stop]
        condition = None if self.condition is None else tensor("condition", self.condition)[start:stop]
        return replace(self, n=stop - start, first=self.first + start, labels=labels, condition=condition)


def labels_in_turn(classes: tuple[int, ...] | None, first: int, count: int) -> Tensor | None:
    """The labels of the images from `first` on when the classes take turns, int64 (count,); None for no classes.

    Examples:
        >>> labels_in_turn((3, 5), 1, 4)
        tensor([5, 3, 5, 3])
    """
    if classes is None:
        return None
    return torch.tensor(classes, device="cpu")[torch.arange(first, first + count, device="cpu") % len(classes)]
