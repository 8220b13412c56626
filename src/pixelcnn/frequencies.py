"""Cumulative frequencies: a sub-pixel's distribution as integers that sum to 2^24, as an entropy coder needs it.

Every level has a frequency of at least 1, so that any image can be coded. With weights w_0, w_1, ... on a grid, their
sum S, and W_k the sum of the first k + 1, all exact,

    C_k = floor(W_k / S * (2^24 - levels)) + k + 1

is computed with one division and one product, both rounded as IEEE 754 defines: C_k never falls as W_k rises, and
C_levels-1 is 2^24.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.likelihoods import Likelihood

__all__ = ["TOTAL_BITS", "Frequencies"]

TOTAL_BITS = 24
"""The frequencies of a sub-pixel's levels sum to 2^24."""
_NUMBERS = 2**22  # intermediate numbers per part of the pixels: 32 MiB

Sums = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


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
        self._sums_at: Sums | None = getattr(of, "on_grid_at", None)
        if self._sums_at is not None:
            self.cdf_at = self._cdf_at  # see `pixelcnn.likelihoods.draw`

    def cumulative(self, params: Tensor) -> Tensor:
        """0, C_0, ..., C_levels-1 = 2^24: int64 (..., levels + 1), increasing.

        Args:
            params: Raw parameters of sub-pixels on the activations' grid, float64 (..., params); see
                `Likelihood.on_grid`.
        """
        flat, count = params.flatten(0, -2), self.levels
        parts = []
        for part in torch.split(flat, self._rows) if len(flat) else [flat]:
            sums, total = self.of.on_grid(part)
            within = torch.floor(sums / total * (2**TOTAL_BITS - count)).long()
            within = within + torch.arange(1, count, device=within.device)
            parts.append(F.pad(F.pad(within, (1, 0)), (0, 1), value=2**TOTAL_BITS))
        return torch.cat(parts).view(*params.shape[:-1], count + 1)

    def edges(self, params: Tensor, levels: Tensor) -> Tensor:
        """Where the frequencies of levels (...), integer, start and stop: int64 (..., 2)."""
        x = levels.long()
        if self._sums_at is not None:
            below, above = self._start_of(params, x), self._start_of(params, x + 1)
            return torch.stack([below, above], -1)
        parts = zip(torch.split(params.flatten(0, -2), self._rows), torch.split(x.flatten(), self._rows), strict=True)
        found = [self.cumulative(part).gather(-1, torch.stack([k, k + 1], -1)) for part, k in parts]
        return torch.cat(found).view(*levels.shape, 2)

    def log_prob(self, params: Tensor, levels: Tensor) -> Tensor:
        """See `Likelihood.log_prob`: float64."""
        start, stop = self.edges(params, levels).unbind(-1)
        return torch.log((stop - start).double() * 2.0**-TOTAL_BITS)

    def cdf(self, params: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `Likelihood.cdf`: exact; the temperature must be 1."""
        assert temperature == 1, temperature
        return self.cumulative(params)[..., 1:-1].double() * 2.0**-TOTAL_BITS

    def on_grid(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """See `Likelihood.on_grid`."""
        return self.of.on_grid(params)

    def _cdf_at(self, params: Tensor, levels: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """See `LogisticMixture.cdf_at`: exact; the temperature must be 1."""
        assert temperature == 1, temperature
        return self._start_of(params, levels + 1).double() * 2.0**-TOTAL_BITS

    def _start_of(self, params: Tensor, levels: Tensor) -> Tensor:
        """Where the frequency of level k (...) starts, 0 <= k <= levels: int64 (...)."""
        assert self._sums_at is not None
        k = levels.clamp(1, self.levels - 1) - 1
        sums, total = self._sums_at(params, k)
        start = torch.floor(sums / total * (2**TOTAL_BITS - self.levels)).long() + k + 1
        return torch.where(levels == 0, 0, torch.where(levels == self.levels, 2**TOTAL_BITS, start))

    @property
    def _rows(self) -> int:
        """Sub-pixels whose distributions are computed at a time."""
        return max(1, _NUMBERS // (self.levels * max(1, self.mixtures)))
