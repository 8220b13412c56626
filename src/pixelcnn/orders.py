"""Scan orders: the eight ways to read an image line by line, as rearrangements of its pixels.

A model draws pixels in raster order, along each row to the right and from row to row downwards. Given images that are
flipped and perhaps transposed, it draws them in another order: T(x) scanned in raster order is x scanned in the order
that T is named after, first the direction along a line, then the direction from line to line. `down-left` reads the
last column from top to bottom, then the column to its left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pixelcnn.config import ORDERS, is_transposed

__all__ = ["ORDERS", "is_transposed", "rearranged", "rearranged_each"]


def rearranged(images: Tensor, order: str) -> Tensor:
    """Images rearranged so that a model in raster order reads them in another order.

    Args:
        images: (..., H, W).
        order: One of `ORDERS`.

    Returns:
        A view or copy, (..., W, H) if the order `is_transposed`, else (..., H, W).
    """
    flipped = images.flip([axis for axis, back in ((-1, "left"), (-2, "up")) if back in order.split("-")])
    return flipped.transpose(-1, -2) if is_transposed(order) else flipped


def rearranged_each(images: Tensor, which: Tensor) -> Tensor:
    """`rearranged` for each image in an order of its own; the orders are not looked at on the host.

    Args:
        images: (N, C, H, W), square if an order `is_transposed`.
        which: Each image's order, its index in `ORDERS`, int64 (N,) on the same device.

    Returns:
        (N, C, H, W).
    """
    n, c, h, w = images.shape
    positions = torch.arange(h * w, device=images.device).view(h, w)
    orders = ORDERS if h == w else [order for order in ORDERS if not is_transposed(order)]
    table = torch.stack([rearranged(positions, order).reshape(-1) for order in orders])
    return images.flatten(2).gather(2, table[which][:, None].expand(n, c, h * w)).view_as(images)
