"""A sub-pixel's mixture of logistics on the grid: the counterpart of `LogisticMixture`, without logarithms.

The cumulative distribution functions F((edge - mean) / scale) come from the grid's sigmoid. The weights of a later
channel are updated by Bayes' rule with the probabilities of the earlier channels, multiplied directly rather than as
logarithms. Scales are clamped to exp(-7)..exp(7) and means to -4..4, where `LogisticMixture` clamps only scales, to
exp(-7)..exp(100).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelcnn.arithmetic import grid

__all__ = ["MAX_MIXTURES", "Mixture", "mixture_of"]

_EDGE_BITS = 18
_INVERSE_BITS = 20  # of 1 / scale, below 2^11: its product with a distance below 2^3 is exact
_WEIGHT_BITS, _VALUE_BITS = 24, 22  # of a distribution's weight and values
MAX_MIXTURES = 64
"""Largest number of distributions for which a sum of products of weights and values is exact."""
_MIN_LOG_SCALE, _MAX_LOG_SCALE = -7.0, 7.0
_FURTHEST_MEAN = 4.0


@dataclass(frozen=True)
class Mixture:
    """Weights in [0, 1], the largest being 1, means and log-scales, (..., m) each, on their grids."""

    weights: Tensor
    means: Tensor
    log_scales: Tensor

    def values(self, levels: int) -> Tensor:
        """The distributions' CDFs at the upper edges of all levels but the last, increasing: (..., levels - 1, m)."""
        return self._at(
            _edges(levels, self.means).unsqueeze(-1), self.means.unsqueeze(-2), self.log_scales.unsqueeze(-2)
        )

    def probabilities(self, x: Tensor, levels: int) -> Tensor:
        """The distributions' probabilities of the levels x (...), at least 2^-22: (..., m)."""
        edges = _edges(levels, self.means)
        above = self._at(edges[x.long().clamp(max=levels - 2)].unsqueeze(-1), self.means, self.log_scales)
        below = self._at(edges[(x.long() - 1).clamp(min=0)].unsqueeze(-1), self.means, self.log_scales)
        above = torch.where((x == levels - 1).unsqueeze(-1), 1.0, above)
        below = torch.where((x == 0).unsqueeze(-1), 0.0, below)
        return (above - below).clamp(min=2.0**-_VALUE_BITS)

    @staticmethod
    def _at(edges: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        e = grid.exp_negative(log_scales.abs())
        inverse = torch.where(log_scales > 0, e, 1 / e)
        z = grid.clamped((edges - means) * grid.rounded(inverse, _INVERSE_BITS))
        return grid.rounded(grid.sigmoid(z), _VALUE_BITS)


def mixture_of(raw: Tensor, x: Tensor, channel: int, mixtures: int, levels: int) -> Mixture:
    """The mixture of one channel of pixels given the earlier channels; see `PixelCNNPlusPlus.subpixel_params`.

    Args:
        raw: The network's output on the activations' grid, (..., raw features).
        x: Levels, (..., C), of which only the first `channel` matter.
        channel: Index of the channel.
        mixtures: Number of distributions per mixture, m.
        levels: Number of values that a sub-pixel can take.
    """
    c, m = x.shape[-1], mixtures
    logits, rest = raw[..., :m], raw[..., m:]
    means, log_scales, slopes = rest[..., : c * m], rest[..., c * m : 2 * c * m], grid.tanh(rest[..., 2 * c * m :])
    pairs = {pair: slice(k * m, (k + 1) * m) for k, pair in enumerate(itertools.combinations(range(c), 2))}
    values = grid.rounded(2 * x.double() / (levels - 1) - 1)

    def of_channel(k: int, weights: Tensor) -> Mixture:
        moved = means[..., k * m : (k + 1) * m]
        for j in range(k):
            moved = moved + slopes[..., pairs[j, k]] * values[..., j : j + 1]  # a multiple of 2^-36 below 2^11
        scales = log_scales[..., k * m : (k + 1) * m].clamp(_MIN_LOG_SCALE, _MAX_LOG_SCALE)
        return Mixture(weights, grid.rounded(moved).clamp(-_FURTHEST_MEAN, _FURTHEST_MEAN), scales)

    weights = grid.rounded(grid.exp_negative(logits.amax(-1, keepdim=True) - logits), _WEIGHT_BITS)
    for k in range(channel):
        joint = weights * of_channel(k, weights).probabilities(x[..., k], levels)  # a multiple of 2^-46
        weights = grid.rounded(joint / joint.amax(-1, keepdim=True), _WEIGHT_BITS)
    return of_channel(channel, weights)


def _edges(levels: int, like: Tensor) -> Tensor:
    """The edges between the levels, which are spaced evenly from -1 to 1: (levels - 1,)."""
    numerators = torch.arange(1, 2 * levels - 2, 2, dtype=torch.float64, device=like.device)
    return grid.rounded(numerators / (levels - 1) - 1, _EDGE_BITS)
