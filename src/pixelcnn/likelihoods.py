"""Likelihoods: what a network's outputs say about one sub-pixel.

A likelihood is a small object that the trainer, the scorer and the samplers share. It reads raw parameters of shape
(..., params) and levels of shape (...), and knows nothing of images, networks or their order.

    Bernoulli     levels = 2     params = 1        P(x = 1) = sigmoid(logit)
    Categorical   levels > 2     params = levels   P(x = k) = softmax(logits)_k
    LogisticMixture              params = 3 m      P(x = k) = sum_m softmax(weights)_m (F_m(k + 1/2) - F_m(k - 1/2))

The last has m logistic distributions F_m with a mean and a scale each, over levels placed evenly from -1 to 1; the
probability beyond the lowest and the highest level is added to theirs.

Logarithms and their gradients are finite and correct whatever a network in float32 outputs, including logits of 1e38,
means of 1e30 and any scales.

A draw inverts the cumulative distribution: `x` is the number of levels `k` with CDF(k) <= u, for a uniform `u` in
[0, 1). It is computed in float64 whatever the network's type, so that two ways of computing the same parameters
disagree only where `u` falls between two nearly equal thresholds. The largest logit is subtracted before dividing by
the temperature, so that no temperature overflows.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arithmetic import grid
from pixelcnn.arithmetic.mixture import Mixture
from pixelcnn.levels import level_dtype

__all__ = [
    "MAX_LOG_SCALE",
    "MIN_LOG_SCALE",
    "Bernoulli",
    "Categorical",
    "Likelihood",
    "LogisticMixture",
    "draw",
    "likelihood_of",
]

MIN_LOG_SCALE, MAX_LOG_SCALE = -7.0, 100.0
"""The log-scales of logistic distributions are clamped to this range. At its upper end, a level other than the lowest
and highest has a probability below exp(-100); far above it, terms that depend on the scale would underflow."""


class Likelihood(Protocol):
    """What every likelihood offers; `params` is the number of raw parameters per sub-pixel."""

    levels: int
    params: int
    tag: int | None
    """Its number in engine.c; None if compiled code does not know it."""

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """Log-probability in nats of `levels` (...), integer, given `params` (..., params): (...)."""
        ...

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """CDF(0), ..., CDF(levels - 2) as float64 (..., levels - 1); CDF(levels - 1), which is 1, is left out."""
        ...

    def on_grid(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """The distribution in exact arithmetic, for `pixelcnn.frequencies`.

        Args:
            params: Raw parameters on the activations' grid (`pixelcnn.arithmetic.grid`), float64 (..., params).

        Returns:
            Sums of the weights of levels 0 .. k for each k but the last, (..., levels - 1), and of all, (..., 1).
        """
        ...


class Bernoulli:
    """Two levels from one logit."""

    levels = 2
    params = 1
    tag: int | None = 0

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """See `Likelihood.log_prob`."""
        logit = params.squeeze(-1)
        return -F.binary_cross_entropy_with_logits(logit, levels.to(logit.dtype), reduction="none")

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `Likelihood.cdf`."""
        return torch.sigmoid(params.double() / -temperature)

    def on_grid(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """See `Likelihood.on_grid`."""
        return 1 - grid.sigmoid(params), torch.ones_like(params)


class Categorical:
    """Any number of levels from as many logits."""

    tag: int | None = 1

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.params = levels

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """See `Likelihood.log_prob`."""
        return F.log_softmax(params, dim=-1).gather(-1, levels.long().unsqueeze(-1)).squeeze(-1)

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `Likelihood.cdf`."""
        return _tempered(params.double(), temperature).cumsum(-1)[..., :-1]

    def on_grid(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """See `Likelihood.on_grid`."""
        sums = grid.exp_negative(params.amax(-1, keepdim=True) - params).cumsum(-1)  # exact, whatever the order
        return sums[..., :-1], sums[..., -1:]


class LogisticMixture:
    """Any number of levels from a mixture of discretised logistic distributions.

    The raw parameters of a sub-pixel are the mixture's logits, the means and the logarithms of the scales, `mixtures`
    of each; the scales are clamped to exp(-7)..exp(100). Probabilities are differences of sigmoids, computed as
    products in which nothing cancels, in float64 whatever the network's type: a narrow distribution far away, or a wide
    one, keeps its precision.

    References:
        | PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    """

    tag: int | None = 2

    def __init__(self, levels: int, mixtures: int) -> None:
        self.levels = levels
        self.mixtures = mixtures
        self.params = 3 * mixtures

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """See `Likelihood.log_prob`."""
        found = torch.logsumexp(self._joint(params, levels), -1)
        return found.clamp(max=0).to(params.dtype)  # rounding can push it slightly above 0

    def posterior(self, params: Tensor, levels: Tensor) -> Tensor:
        """Logarithm of each distribution's weight given that `levels` (...) were observed: (..., mixtures)."""
        return torch.log_softmax(self._joint(params, levels), -1).to(params.dtype)

    def _joint(self, params: Tensor, levels: Tensor) -> Tensor:
        """Logarithm of each distribution's weight times its probability of `levels` (...): float64 (..., mixtures)."""
        weights, means, log_scales = self._unpack(params)
        half = 1 / (self.levels - 1)
        x = (2 * half * levels.to(means.dtype) - 1).unsqueeze(-1)
        inverse = torch.exp(-log_scales)
        upper, lower = (x + half - means) * inverse, (x - half - means) * inverse
        width = 2 * half * inverse  # `upper - lower`, without cancellation for large means
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        # sigmoid(upper) - sigmoid(lower) = sigmoid(upper) sigmoid(-lower) (1 - exp(-width)): nothing cancels
        inside = below + above + torch.log(-torch.expm1(-width))
        first, last = (levels == 0).unsqueeze(-1), (levels == self.levels - 1).unsqueeze(-1)
        return torch.log_softmax(weights, -1) + torch.where(first, below, torch.where(last, above, inside))

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `Likelihood.cdf`; the temperature divides the mixture's logits and multiplies the scales."""
        weights, means, log_scales = self._unpack(params)
        steps = torch.arange(1, 2 * (self.levels - 1), 2, dtype=torch.float64, device=params.device)
        edges = steps / (self.levels - 1) - 1  # exactly 0 in the middle, where an untrained mixture has a mean
        inverse = (torch.exp(-log_scales) / temperature).clamp(max=1e300)  # finite: a mean can lie on an edge
        each = torch.sigmoid((edges.unsqueeze(-1) - means.unsqueeze(-2)) * inverse.unsqueeze(-2))
        return (each * _tempered(weights, temperature).unsqueeze(-2)).sum(-1)

    def on_grid(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """See `Likelihood.on_grid`; takes weights in 0..1 instead of logits, see `pixelcnn.arithmetic.mixture`."""
        mixture = Mixture(*params.chunk(3, -1))
        sums = (mixture.weights.unsqueeze(-2) * mixture.values(self.levels)).sum(-1)
        return sums, mixture.weights.sum(-1, keepdim=True)

    def _unpack(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and logarithms of scales, in float64."""
        weights, means, log_scales = params.double().chunk(3, -1)
        return weights, means, log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)


def _tempered(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """The probabilities of logits divided by a temperature."""
    return torch.softmax((logits - logits.amax(-1, keepdim=True)) / temperature, -1)


def likelihood_of(levels: int) -> Likelihood:
    """The likelihood for a number of levels: `Bernoulli` for 2, `Categorical` for more."""
    return Bernoulli() if levels == 2 else Categorical(levels)


def draw(likelihood: Likelihood, params: Tensor, uniforms: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Levels drawn by inverting the cumulative distribution.

    Args:
        likelihood: What the parameters mean.
        params: Raw parameters, (..., params).
        uniforms: float64 in [0, 1), (...).
        temperature: The logits are divided by it; above 1 flattens, below 1 sharpens. If a tensor, a float64 scalar.

    Returns:
        uint8 levels, (...).
    """
    return (uniforms.unsqueeze(-1) >= likelihood.cdf(params, temperature)).sum(-1, dtype=level_dtype(likelihood.levels))
