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

A draw inverts the cumulative distribution: `x` is the number of levels `k` with CDF(k) <= u, for a uniform `u` in [0,
1); it is counted or, for a mixture, found by bisection, since CDF(k) does not need those below. It is computed in
float64 whatever the network's type, so that two ways of computing the same parameters disagree only where `u` falls
between two nearly equal thresholds. The largest logit is subtracted before dividing by the temperature, so that no
temperature overflows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arithmetic import grid
from pixelcnn.arithmetic.mixture import Mixture, Resolution
from pixelcnn.levels import level_dtype

__all__ = ["MAX_LOG_SCALE", "Bernoulli", "Categorical", "Likelihood", "LogisticMixture", "draw", "likelihood_of"]

MAX_LOG_SCALE = 100.0
"""The log-scales of logistic distributions are at most this, where a level other than the lowest and highest has a
probability below exp(-100); far above it, terms that depend on the scale would underflow."""
_DRAWN = 2**22  # numbers of distributions from which levels are drawn at a time


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
    of each; the scales are clamped to exp(min_log_scale)..exp(100). Probabilities are differences of sigmoids, computed
    as products in which nothing cancels, in float64 whatever the network's type: a narrow distribution far away, or a
    wide one, keeps its precision.

    References:
        | PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    """

    tag: int | None = 2

    def __init__(self, levels: int, mixtures: int) -> None:
        self.levels = levels
        self.mixtures = mixtures
        self.params = 3 * mixtures
        self.min_log_scale = Resolution(levels).min_log_scale
        """Logarithm of the smallest scale."""

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
        every = torch.arange(self.levels - 1, device=params.device)
        return self.cdf_at(params.unsqueeze(-2), every, temperature)

    def cdf_at(self, params: Tensor, levels: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """CDF(k) for levels k (...) except the last, float64 (...), given `params` (..., params); see `cdf`."""
        weights, means, log_scales = self._unpack(params)
        edges = (2 * levels.double() + 1) / (self.levels - 1) - 1  # exactly 0 in the middle, as an untrained mean
        inverse = (torch.exp(-log_scales) / temperature).clamp(max=1e300)  # finite: a mean can lie on an edge
        each = torch.sigmoid((edges.unsqueeze(-1) - means) * inverse)
        return (each * _tempered(weights, temperature)).sum(-1)

    def on_grid(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """See `Likelihood.on_grid`; takes weights in 0..1 instead of logits, see `pixelcnn.arithmetic.mixture`."""
        mixture = self._on_grid(params)
        sums = (mixture.weights.unsqueeze(-2) * mixture.values()).sum(-1)
        return sums, mixture.weights.sum(-1, keepdim=True)

    def on_grid_at(self, params: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """`on_grid` for one level k each, (...), but the last: the sum of the weights of levels 0 .. k, and of all."""
        mixture = self._on_grid(params)
        return (mixture.weights * mixture.values_at(levels)).sum(-1), mixture.weights.sum(-1)

    def _on_grid(self, params: Tensor) -> Mixture:
        weights, means, log_scales = params.chunk(3, -1)
        return Mixture(weights, means, log_scales, self.levels)

    def _unpack(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and logarithms of scales, in float64."""
        weights, means, log_scales = params.double().chunk(3, -1)
        return weights, means, log_scales.clamp(self.min_log_scale, MAX_LOG_SCALE)


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
        Levels (...), in their `level_dtype`.
    """
    cdf_at = getattr(likelihood, "cdf_at", None)
    if cdf_at is not None:
        return _bisected(likelihood.levels, uniforms, lambda k: cdf_at(params, k, temperature))
    flat, u = params.flatten(0, -2), uniforms.flatten()
    rows = max(1, _DRAWN // likelihood.levels)
    found = [
        (given.unsqueeze(-1) >= likelihood.cdf(part, temperature)).sum(-1, dtype=level_dtype(likelihood.levels))
        for part, given in zip(torch.split(flat, rows), torch.split(u, rows), strict=True)
    ]
    return torch.cat(found).view(uniforms.shape)


def _bisected(levels: int, uniforms: Tensor, cdf_at: Callable[[Tensor], Tensor]) -> Tensor:
    """The number of levels k with CDF(k) <= u, for a cumulative distribution that never falls."""
    low = torch.zeros_like(uniforms, dtype=torch.int64)
    high = torch.full_like(low, levels - 1)
    for _ in range((levels - 1).bit_length()):
        middle = (low + high) // 2
        above = (uniforms >= cdf_at(middle.clamp(max=levels - 2))) & (low < high)
        low = torch.where(above, middle + 1, low)
        high = torch.where(above, high, middle)
    return low.to(level_dtype(levels))
