"""Likelihoods: what a network's outputs say about one sub-pixel.

A likelihood is a small object that the trainer, the scorer and the samplers share. It reads raw parameters of shape
(..., params) and levels of shape (...), and knows nothing of images, networks or their order.

    Bernoulli     levels = 2     params = 1        P(x = 1) = sigmoid(logit)
    Categorical   levels > 2     params = levels   P(x = k) = softmax(logits)_k
    LogisticMixture              params = 3 m      P(x = k) = sum_m softmax(weights)_m (F_m(k + 1/2) - F_m(k - 1/2))

The last has m logistic distributions F_m with a mean and a scale each, over levels placed evenly from -1 to 1; what
lies beyond the lowest and the highest level is theirs.

A draw inverts the cumulative distribution: `x` is the number of levels `k` with CDF(k) <= u, for a uniform `u` in
[0, 1). It is computed in float64 whatever the network's type, so that two ways of computing the same parameters
disagree only where `u` falls between two nearly equal thresholds.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Bernoulli", "Categorical", "Likelihood", "LogisticMixture", "draw", "likelihood_of"]

_LEAST_LOG_SCALE = -7.0


class Likelihood(Protocol):
    """What every likelihood offers; `params` is the number of raw parameters a sub-pixel."""

    levels: int
    params: int

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """Natural logarithm of the probability of `levels` (...), integer, given `params` (..., params): (...)."""
        ...

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """CDF(0), ..., CDF(levels - 2) as float64 (..., levels - 1); CDF(levels - 1) is 1 and left out."""
        ...


class Bernoulli:
    """Two levels from one logit."""

    levels = 2
    params = 1

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """See `Likelihood.log_prob`."""
        logit = params.squeeze(-1)
        return -F.binary_cross_entropy_with_logits(logit, levels.to(logit.dtype), reduction="none")

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `Likelihood.cdf`."""
        return torch.sigmoid(params.double() / -temperature)


class Categorical:
    """Any number of levels from as many logits."""

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.params = levels

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """See `Likelihood.log_prob`."""
        return F.log_softmax(params, dim=-1).gather(-1, levels.long().unsqueeze(-1)).squeeze(-1)

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `Likelihood.cdf`."""
        return torch.softmax(params.double() / temperature, dim=-1).cumsum(-1)[..., :-1]


class LogisticMixture:
    """Any number of levels from a mixture of discretised logistic distributions.

    The raw parameters of a sub-pixel are the mixture's logits, the means and the logarithms of the scales, `mixtures`
    of each; scales below exp(-7) are held there. Probabilities are differences of sigmoids, computed as products in
    which nothing cancels, so that a narrow distribution far away keeps its precision in float32.

    References:
        | PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    """

    def __init__(self, levels: int, mixtures: int) -> None:
        self.levels = levels
        self.mixtures = mixtures
        self.params = 3 * mixtures

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """See `Likelihood.log_prob`."""
        weights, _, _ = self._unpack(params)
        terms = torch.log_softmax(weights, -1) + self.log_prob_terms(params, levels)
        return torch.logsumexp(terms, -1).clamp(max=0)  # rounding can leave a little more than certainty

    def log_prob_terms(self, params: Tensor, levels: Tensor) -> Tensor:
        """The logarithm of each distribution's probability of `levels` (...): (..., mixtures)."""
        _, means, log_scales = self._unpack(params)
        half = 1 / (self.levels - 1)
        x = (2 * half * levels.to(params.dtype) - 1).unsqueeze(-1)
        inverse = torch.exp(-log_scales)
        upper, lower = (x + half - means) * inverse, (x - half - means) * inverse
        # sigmoid(upper) - sigmoid(lower) = sigmoid(upper) sigmoid(-lower) (1 - exp(lower - upper)), nothing cancels
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        first, last = (levels == 0).unsqueeze(-1), (levels == self.levels - 1).unsqueeze(-1)
        return torch.where(first, below, torch.where(last, above, inside))

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `Likelihood.cdf`; the temperature divides the mixture's logits and multiplies the scales."""
        weights, means, log_scales = (part.double() for part in self._unpack(params))
        half = 1 / (self.levels - 1)
        edges = torch.arange(self.levels - 1, dtype=torch.float64, device=params.device) * (2 * half) - 1 + half
        inverse = torch.exp(-log_scales) / temperature
        each = torch.sigmoid((edges.unsqueeze(-1) - means.unsqueeze(-2)) * inverse.unsqueeze(-2))
        return (each * torch.softmax(weights / temperature, -1).unsqueeze(-2)).sum(-1)

    def _unpack(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, means, log_scales = params.chunk(3, -1)
        return weights, means, log_scales.clamp(min=_LEAST_LOG_SCALE)


def likelihood_of(levels: int) -> Likelihood:
    """The likelihood for a number of levels: `Bernoulli` for 2, `Categorical` for more."""
    return Bernoulli() if levels == 2 else Categorical(levels)


def draw(likelihood: Likelihood, params: Tensor, uniforms: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Levels drawn by inverting the cumulative distribution.

    Args:
        likelihood: What the parameters mean.
        params: Raw parameters, (..., params).
        uniforms: float64 in [0, 1), (...).
        temperature: The logits are divided by it; above 1 flattens, below 1 sharpens. A tensor is a float64 scalar.

    Returns:
        uint8 levels, (...).
    """
    return (uniforms.unsqueeze(-1) >= likelihood.cdf(params, temperature)).sum(-1, dtype=torch.uint8)
