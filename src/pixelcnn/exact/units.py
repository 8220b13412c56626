"""The units of networks on the grid, for whole images and for a front alike: what is not a convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelcnn.exact import grid

__all__ = ["attend", "concat_elu", "gated", "glu"]

_SHARE_BITS = 16  # of what a pixel of attention counts: the sum over 2^12 pixels of values below 2^13 is exact


def gated(x: Tensor, groups: int) -> Tensor:
    """See `View.gate`."""
    a, b = x.view(*x.shape[:-1], groups, 2, x.shape[-1] // groups // 2).unbind(-2)
    return grid.rounded(grid.tanh(a) * grid.sigmoid(b)).flatten(-2)


def glu(x: Tensor) -> Tensor:
    """See `View.glu`."""
    a, b = x.chunk(2, -1)
    return grid.rounded(a * grid.sigmoid(b))


def concat_elu(x: Tensor) -> Tensor:
    """See `View.concat_elu`."""
    return grid.elu(torch.cat([x, -x], -1))


def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What pixels find among others that they all see: (..., T, d) of (..., T, d), (..., P, d) and (..., P, d).

    Zeros for P = 0. A score is rounded, multiplied by d^-0.5 as a weight is, and rounded again; of the exponentials, of
    which the largest is 1, 16 bits count.
    """
    if keys.shape[-2] == 0:
        return torch.zeros_like(query)
    scale = round(query.shape[-1] ** -0.5 * 2.0**grid.WEIGHT_BITS) * 2.0**-grid.WEIGHT_BITS
    scores = grid.rounded(grid.clamped(query @ keys.transpose(-1, -2)) * scale)
    shares = grid.rounded(grid.exp_negative(scores.amax(-1, keepdim=True) - scores), _SHARE_BITS)
    return grid.rounded(shares @ values / shares.sum(-1, keepdim=True))
