"""A sub-pixel's mixture of logistics on the grid: the counterpart of `LogisticMixture`, without logarithms.

The cumulative distribution functions F((edge - mean) / scale) come from the grid's sigmoid. The weights of a later
channel are updated by Bayes' rule with the probabilities of the earlier channels, multiplied directly rather than as
logarithms. Scales are clamped to exp(-7)..exp(7) and means to -4..4, where `LogisticMixture` clamps only scales, to
exp(-7)..exp(100).

Levels lie evenly between -1 and 1, so with more than 256 of them distributions can be narrower, and means must be
finer: `Resolution` has what depends on their number.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelcnn.arithmetic import grid

__all__ = ["MAX_MIXTURES", "Mixture", "Resolution", "mixture_of"]

_EDGE_BITS = 18
_INVERSE_BITS = 20  # of 1 / scale, below 2^11 for 256 levels: its product with a distance below 2^3 is exact
_WEIGHT_BITS, _VALUE_BITS = 24, 22  # of a distribution's weight and values
MAX_MIXTURES = 64
"""Largest number of distributions for which a sum of products of weights and values is exact."""
_MAX_LOG_SCALE = 7.0
_FURTHEST_MEAN = 4.0


@dataclass(frozen=True)
class Resolution:
    """How fine mixtures of a number of levels are.

    Attributes:
        levels: Number of levels.
    """

    levels: int

    @property
    def _extra_bits(self) -> int:
        """Bits of a level beyond 8."""
        return max(0, (self.levels - 1).bit_length() - 8)

    @property
    def min_log_scale(self) -> float:
        """The smallest logarithm of a scale: -7 up to 256 levels, about a tenth of a level's width for any number."""
        return -7 - 0.75 * self._extra_bits

    @property
    def mean_bits(self) -> int:
        """Raw means are divided by 2^mean_bits: 0 up to 4,096 levels, so that half a level can be told on the grid."""
        return max(0, self._extra_bits - 4)

    @property
    def inverse_bits(self) -> int:
        """Bits of 1 / scale after the point: it is below 2^(31 - inverse_bits), so that products with it are exact."""
        return _INVERSE_BITS - self._extra_bits


@dataclass(frozen=True)
class Mixture:
    """Weights in [0, 1], the largest being 1, means and log-scales, (..., m) each, on their grids."""

    weights: Tensor
    means: Tensor
    log_scales: Tensor
    levels: int
    """Number of levels of the values."""

    def values(self) -> Tensor:
        """The distributions' CDFs at the upper edges of all levels but the last, increasing: (..., levels - 1, m)."""
        every = torch.arange(self.levels - 1, device=self.means.device)
        return self._at(every, self.means.unsqueeze(-2), self.log_scales.unsqueeze(-2))

    def values_at(self, x: Tensor) -> Tensor:
        """The distributions' CDFs at the upper edges of levels x (...) but the last: (..., m)."""
        return self._at(x, self.means, self.log_scales)

    def probabilities(self, x: Tensor) -> Tensor:
        """The distributions' probabilities of the levels x (...), at least 2^-22: (..., m)."""
        above = self.values_at(x.long().clamp(max=self.levels - 2))
        below = self.values_at((x.long() - 1).clamp(min=0))
        above = torch.where((x == self.levels - 1).unsqueeze(-1), 1.0, above)
        below = torch.where((x == 0).unsqueeze(-1), 0.0, below)
        return (above - below).clamp(min=2.0**-_VALUE_BITS)

    def _at(self, x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        """The CDFs at the upper edges of levels x (...), spaced evenly from -1 to 1."""
        edges = grid.rounded((2 * x.double() + 1) / (self.levels - 1) - 1, _EDGE_BITS).unsqueeze(-1)
        e = grid.exp_negative(log_scales.abs())
        inverse = grid.rounded(torch.where(log_scales > 0, e, 1 / e), Resolution(self.levels).inverse_bits)
        z = grid.clamped((edges - means) * inverse)
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
    resolution = Resolution(levels)
    bits = grid.ACTIVATION_BITS + resolution.mean_bits
    values = grid.rounded(2 * x.double() / (levels - 1) - 1, bits)

    def of_channel(k: int, weights: Tensor) -> Mixture:
        moved = means[..., k * m : (k + 1) * m] * 2.0**-resolution.mean_bits
        for j in range(k):
            moved = moved + slopes[..., pairs[j, k]] * values[..., j : j + 1]  # a multiple of 2^-40 below 2^11
        scales = log_scales[..., k * m : (k + 1) * m].clamp(resolution.min_log_scale, _MAX_LOG_SCALE)
        return Mixture(weights, grid.rounded(moved, bits).clamp(-_FURTHEST_MEAN, _FURTHEST_MEAN), scales, levels)

    weights = grid.rounded(grid.exp_negative(logits.amax(-1, keepdim=True) - logits), _WEIGHT_BITS)
    for k in range(channel):
        joint = weights * of_channel(k, weights).probabilities(x[..., k])  # a multiple of 2^-46
        weights = grid.rounded(joint / joint.amax(-1, keepdim=True), _WEIGHT_BITS)
    return of_channel(channel, weights)
