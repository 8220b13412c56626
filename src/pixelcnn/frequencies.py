"""Cumulative frequencies: a sub-pixel's distribution as integers that sum to 2^24, as an entropy coder needs it.

Every level has a frequency of at least 1, so that any image can be coded. With weights w_0, w_1, ... on a grid, their
sum S, and W_k the sum of the first k + 1, all exact,

    C_k = floor(W_k / S * (2^24 - levels)) + k + 1

is computed with one division and one product, both rounded as IEEE 754 defines: C_k never falls as W_k rises, and
C_levels-1 is 2^24.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.likelihoods import Likelihood

__all__ = ["TOTAL_BITS", "Frequencies"]

TOTAL_BITS = 24
"""The frequencies of a sub-pixel's levels sum to 2^24."""
_NUMBERS = 2**22  # intermediate numbers per part of the pixels: 32 MiB


class Frequencies:
    """The likelihood of a model in exact arithmetic: another likelihood, with probabilities in multiples of 2^-24.

    Args:
        of: The likelihood that interprets the parameters.

    Raises:
        TypeError: If it has no distribution on the grid.
    """

    def __init__(self, of: Likelihood) -> None:
        if not hasattr(of, "on_grid"):
            raise TypeError(f"no frequencies are known for the likelihood {type(of).__name__}")
        self.of = of
        self.levels, self.params, self.tag = of.levels, of.params, of.tag
        self.mixtures = getattr(of, "mixtures", 0)

    def cumulative(self, params: Tensor) -> Tensor:
        """0, C_0, ..., C_levels-1 = 2^24: int64 (..., levels + 1), increasing.

        Args:
            params: Raw parameters of sub-pixels on the activations' grid, float64 (..., params); see
                `Likelihood.on_grid`.
        """
        flat, count = params.flatten(0, -2), self.levels
        most = max(1, _NUMBERS // (count * max(1, self.mixtures)))
        parts = []
        for part in torch.split(flat, most) if len(flat) else [flat]:
            sums, total = self.of.on_grid(part)
            within = torch.floor(sums / total * (2**TOTAL_BITS - count)).long()
            within = within + torch.arange(1, count, device=within.device)
            parts.append(F.pad(F.pad(within, (1, 0)), (0, 1), value=2**TOTAL_BITS))
        return torch.cat(parts).view(*params.shape[:-1], count + 1)

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """See `Likelihood.log_prob`: float64."""
        cumulative, x = self.cumulative(params), levels.long().unsqueeze(-1)
        frequency = cumulative.gather(-1, x + 1) - cumulative.gather(-1, x)
        return torch.log(frequency.squeeze(-1).double() * 2.0**-TOTAL_BITS)

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `Likelihood.cdf`: exact; the temperature must be 1."""
        assert temperature == 1, temperature
        return self.cumulative(params)[..., 1:-1].double() * 2.0**-TOTAL_BITS

    def on_grid(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """See `Likelihood.on_grid`."""
        return self.of.on_grid(params)
