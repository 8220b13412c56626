"""Attention over all earlier pixels: what a pixel asks for, it finds wherever it was drawn.

    a(p) = sum over p' < p of w(p, p') v(p'),      w(p, p') = exp(q(p) k(p') / sqrt(d)) / sum over p'' < p of the same

with p' < p the pixels before p in raster order, without p itself. The first pixel has none, and a is exactly 0 there.
Queries, keys and values of d features belong to heads, each with a sum of its own. Queries, and so a, may belong to
colour groups as well: those of each channel ask the same keys, which know of each earlier pixel all its channels.

Attention does not know where a pixel lies, so a table with a row for each image row and for each image column is added
to queries and keys, the linear function of a place's coordinates, one-hot.

References:
    | Attention Is All You Need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762
    | PixelSNAIL: An Improved Autoregressive Generative Model (Chen et al., 2018), https://arxiv.org/abs/1712.09763
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelcnn.precision import Precision, as_operand

__all__ = ["PlaceTable", "attend", "attend_all"]


class PlaceTable(nn.Module):
    """Features of a place, learned: those of its row plus those of its column, or of each place its own.

    Args:
        height: Of the image.
        width: Of the image.
        features: Of each place.
        full: Whether each place has features of its own.
        scale: Pixels of the image from one place to the next; there are as many as it takes to cover the image.
        generator: Source of the initial values: normal, with a standard deviation of 0.05.
    """

    def __init__(
        self,
        height: int,
        width: int,
        features: int,
        generator: torch.Generator | None = None,
        *,
        full: bool = False,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.features = features
        self.scale = scale
        self.full = full
        height, width = -(-height // scale), -(-width // scale)

        def parameter(*places: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*places, features).normal_(std=0.05, generator=generator))

        if full:
            self.table = parameter(height, width)
        else:
            self.rows, self.columns = parameter(height), parameter(width)

    def forward(self) -> Tensor:
        """All places: (ceil(H / scale), ceil(W / scale), features)."""
        return self.table if self.full else self.rows[:, None] + self.columns


def attend(query: Tensor, keys: Tensor, values: Tensor, precision: Precision | None = None) -> Tensor:
    """What a pixel finds among pixels that it all sees.

    Args:
        query: (B, T, d), as it enters a product.
        keys: (B, P, d) of the same, P at least 0.
        values: (B, P, d) of the same.
        precision: What the weights are rounded to, see `pixelcnn.precision`.

    Returns:
        (B, T, d); zeros for P = 0.
    """
    return _weighted(torch.bmm(query, keys.transpose(1, 2)), values, query.shape[-1], precision)


def attend_all(
    query: Tensor, keys: Tensor, values: Tensor, heads: int, groups: int, precision: Precision | None = None
) -> Tensor:
    """What every pixel of whole images finds among those before it.

    Args:
        query: (N, H, W, groups * heads * d).
        keys: (N, H, W, heads * d).
        values: (N, H, W, heads * d).
        heads: Parts of the features that have weights of their own.
        groups: Colour groups of the query.
        precision: What operands are rounded to, see `pixelcnn.precision`.

    Returns:
        (N, H, W, groups * heads * d).
    """
    n, h, w, features = query.shape
    size = features // (groups * heads)
    # the second pixel asks the first, the third the first two: one less of each, and the mask is the usual triangle
    q, k, v = (
        as_operand(x.reshape(n, h * w, -1, size), precision).transpose(1, 2) for x in (query, keys, values)
    )  # (N, heads, H * W, d)
    q, k, v = q[:, :, 1:], k[:, :, :-1].repeat(1, groups, 1, 1), v[:, :, :-1].repeat(1, groups, 1, 1)
    if precision == "bf16":
        products = q @ k.transpose(2, 3)
        later = torch.ones(products.shape[2:], dtype=torch.bool, device=products.device).triu(1)
        found = _weighted(products.masked_fill(later, -torch.inf), v, size, precision)
    else:
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.pad(found, (0, 0, 1, 0)).transpose(1, 2).reshape(query.shape)


def _weighted(products: Tensor, values: Tensor, size: int, precision: Precision | None) -> Tensor:
    """The values' mean, weighted by products of so many features: scaled after them, for operands to stay rounded."""
    return as_operand((products * size**-0.5).softmax(-1), precision) @ values
