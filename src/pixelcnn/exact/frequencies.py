"""Cumulative frequencies: a sub-pixel's distribution as integers that sum to 2^24, what an entropy coder wants.

Every level has a frequency of at least 1, so that anything can be coded. With weights w_0, w_1, ... on a grid, of sum
S, all exact, and W_k the sum of the first k + 1,

    C_k = floor(W_k / S * (2^24 - levels)) + k + 1

by one division and one product, both rounded as IEEE 754 says: they never fall as W rises, and C_levels-1 is 2^24.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pixelcnn.exact import grid
from pixelcnn.exact.mixture import mixture_of
from pixelcnn.likelihoods import Bernoulli, Categorical, Likelihood, LogisticMixture

__all__ = ["TOTAL_BITS", "cumulative_frequencies"]

TOTAL_BITS = 24
"""The frequencies of a sub-pixel's levels sum to 2^24."""
_NUMBERS = 2**22  # that a part of the pixels has in between: 32 MiB


def cumulative_frequencies(likelihood: Likelihood, params: Tensor, levels: Tensor, channel: int) -> Tensor:
    """0, C_0, ..., C_levels-1 = 2^24 of one channel of pixels: int64 (..., levels + 1), rising.

    Args:
        likelihood: What the parameters mean.
        params: On the activations' grid: of that channel, (..., params); of a mixture of logistics, of the whole pixel.
        levels: The pixels' levels, (..., C), of which a mixture reads the first `channel`.
        channel: Which one.
    """
    most = max(1, _NUMBERS // (256 * getattr(likelihood, "mixtures", 1)))
    if len(params) > most:
        parts = [slice(k, k + most) for k in range(0, len(params), most)]
        return torch.cat([cumulative_frequencies(likelihood, params[k], levels[k], channel) for k in parts])
    if isinstance(likelihood, Bernoulli):
        upper = grid.sigmoid(params.squeeze(-1))
        sums, total = (1 - upper).unsqueeze(-1), torch.ones_like(params)
    elif isinstance(likelihood, Categorical):
        weights = grid.exp_negative(params.amax(-1, keepdim=True) - params)
        every = weights.cumsum(-1)  # exact, so in any order
        sums, total = every[..., :-1], every[..., -1:]
    elif isinstance(likelihood, LogisticMixture):
        mixture = mixture_of(params, levels, channel, likelihood.mixtures, likelihood.levels)
        sums = (mixture.weights.unsqueeze(-2) * mixture.values(likelihood.levels)).sum(-1)
        total = mixture.weights.sum(-1, keepdim=True)
    else:
        raise TypeError(f"no frequencies are known for the likelihood {type(likelihood).__name__}")
    count = likelihood.levels
    within = torch.floor(sums / total * (2**TOTAL_BITS - count)).long()
    within = within + torch.arange(1, count, device=within.device)
    return torch.nn.functional.pad(torch.nn.functional.pad(within, (1, 0)), (0, 1), value=2**TOTAL_BITS)
