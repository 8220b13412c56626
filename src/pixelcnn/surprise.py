"""Maps of surprise: where in an image a model did not expect what it sees."""

from __future__ import annotations

import io
import math

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from pixelcnn.arguments import ArrayLike, tensor
from pixelcnn.images import to_pil

__all__ = ["surprise_map", "surprise_of"]


def surprise_of(log_prob_map: ArrayLike) -> Tensor:
    """-log2 p of each pixel given those before it, in bits, summed over its channels.

    Args:
        log_prob_map: Of an image, in nats, (C, H, W); see `AutoregressiveModel.log_prob_map`.

    Returns:
        (H, W), at least 0 but for rounding.
    """
    return -tensor("log_prob_map", log_prob_map).sum(0) / math.log(2)


def surprise_map(
    image: ArrayLike, log_prob_map: ArrayLike, levels: int, title: str = "", most: float | None = None
) -> bytes:
    """A PNG of an image beside its map of surprise, with a colour bar in bits.

    Args:
        image: uint8 levels (C, H, W).
        log_prob_map: Of the image, (C, H, W).
        levels: What white is.
        title: Of the picture.
        most: Bits at the upper end of the colour bar; the image's own largest by default.
    """
    bits = surprise_of(log_prob_map).detach().clamp(min=0).cpu().numpy()
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    picture = np.asarray(to_pil(image, levels))
    left.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    drawn = right.imshow(bits, cmap="magma", vmin=0, vmax=most or max(float(bits.max()), 1e-9), interpolation="nearest")
    figure.colorbar(drawn, ax=right, label="bits a pixel")
    right.set_title(f"{bits.sum():.1f} bits", fontsize=10)
    left.set_title(title, fontsize=10, parse_math=False)
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
