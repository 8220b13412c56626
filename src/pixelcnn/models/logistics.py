"""Models whose pixels are mixtures of logistics: what the raw features of a network say about each channel in turn.

The network outputs the parameters of a pixel's mixture, which all channels share: weights, means, scales, and a slope
for each pair of channels. The means of a later channel depend linearly on the values of the earlier ones, and the
weights are updated by Bayes' rule. The result is one mixture per sub-pixel given those before it, so sampling, scoring
and coding need no special treatment of channels.

References:
    | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications (Salimans,
      Karpathy, Chen & Kingma, 2017), https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from pixelcnn.arithmetic.mixture import Resolution, mixture_of
from pixelcnn.config import ModelConfig
from pixelcnn.levels import GREY_LEVELS
from pixelcnn.likelihoods import LogisticMixture
from pixelcnn.models.base import AutoregressiveModel

__all__ = ["LogisticsModel"]


class LogisticsModel(AutoregressiveModel):
    """A model whose network outputs raw features of mixtures: `raw_features` of them, in this order, m of each kind:
    weights; the means of each channel; its log-scales; the slopes of each pair of channels.
    """

    grouped = False
    likelihood: LogisticMixture

    def __init__(self, config: ModelConfig, mixtures: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__(config, LogisticMixture(config.levels, mixtures), generator=generator)
        self._resolution = Resolution(config.levels)

    @property
    def means(self) -> slice:
        """Which raw features are means."""
        m = self.likelihood.mixtures
        return slice(m, m * (1 + self.image_shape[0]))

    @property
    def raw_features(self) -> int:
        """Number of features that the network outputs for a pixel."""
        c = self.image_shape[0]
        return self.likelihood.mixtures * (1 + 2 * c + c * (c - 1) // 2)

    def subpixel_params(self, raw: Tensor, levels: Tensor, channel: int) -> Tensor:
        """See `AutoregressiveModel.subpixel_params`: the mixture of one channel given the earlier ones, (..., 3 m)."""
        c, m = self.image_shape[0], self.likelihood.mixtures
        raw = raw.double() if self.levels > GREY_LEVELS else raw  # so many levels need more digits than float32 has
        weights, rest = raw[..., :m], raw[..., m:]
        means = rest[..., : c * m] * 2.0**-self._resolution.mean_bits
        log_scales, slopes = rest[..., c * m : 2 * c * m], torch.tanh(rest[..., 2 * c * m :])
        pairs = {pair: slice(k * m, (k + 1) * m) for k, pair in enumerate(itertools.combinations(range(c), 2))}
        values = 2 * levels.to(raw.dtype) / (self.levels - 1) - 1

        def mean(k: int) -> Tensor:
            moved = means[..., k * m : (k + 1) * m]
            for j in range(k):
                moved = moved + slopes[..., pairs[j, k]] * values[..., j : j + 1]
            return moved

        def mixture(k: int) -> Tensor:
            return torch.cat([weights, mean(k), log_scales[..., k * m : (k + 1) * m]], -1)

        for k in range(channel):
            weights = self.likelihood.posterior(mixture(k), levels[..., k])
        return mixture(channel)

    def subpixel_params_on_grid(self, raw: Tensor, levels: Tensor, channel: int) -> Tensor:
        """See `DensityModel.subpixel_params_on_grid`: weights in 0..1 instead of logits."""
        mixture = mixture_of(raw, levels, channel, self.likelihood.mixtures, self.levels)
        return torch.cat([mixture.weights, mixture.means, mixture.log_scales], -1)
