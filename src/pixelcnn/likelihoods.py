"""Likelihoods: what a network's outputs say about one sub-pixel.

A likelihood is a small object that the trainer, the scorer and the samplers share. It reads raw parameters of shape
(..., params) and levels of shape (...), and knows nothing of images, networks or their order.

    Bernoulli     levels = 2     params = 1        P(x = 1) = sigmoid(logit)
    Categorical   levels > 2     params = levels   P(x = k) = softmax(logits)_k

A draw inverts the cumulative distribution: `x` is the number of levels `k` with CDF(k) <= u, for a uniform `u` in
[0, 1). It is computed in float64 whatever the network's type, so that two ways of computing the same parameters
disagree only where `u` falls between two nearly equal thresholds.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Bernoulli", "Categorical", "Likelihood", "draw", "likelihood_of"]


class Likelihood(Protocol):
    """What every likelihood offers; `params` is the number of raw parameters a sub-pixel."""

    levels: int
    params: int

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """Natural logarithm of the probability of `levels` (...), integer, given `params` (..., params): (...)."""
        ...

    def cdf(self, params: Tensor, temperature: float = 1.0) -> Tensor:
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

    def cdf(self, params: Tensor, temperature: float = 1.0) -> Tensor:
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

    def cdf(self, params: Tensor, temperature: float = 1.0) -> Tensor:
        """See `Likelihood.cdf`."""
        return torch.softmax(params.double() / temperature, dim=-1).cumsum(-1)[..., :-1]


def likelihood_of(levels: int) -> Likelihood:
    """The likelihood for a number of levels: `Bernoulli` for 2, `Categorical` for more."""
    return Bernoulli() if levels == 2 else Categorical(levels)


def draw(likelihood: Likelihood, params: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
    """Levels drawn by inverting the cumulative distribution.

    Args:
        likelihood: What the parameters mean.
        params: Raw parameters, (..., params).
        uniforms: float64 in [0, 1), (...).
        temperature: The logits are divided by it; above 1 flattens, below 1 sharpens.

    Returns:
        uint8 levels, (...).
    """
    return (uniforms.unsqueeze(-1) >= likelihood.cdf(params, temperature)).sum(-1, dtype=torch.uint8)
