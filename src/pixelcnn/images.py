"""Levels as pictures: grids and animations in files."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from pixelcnn.files import write_file

__all__ = ["enlarged", "grid", "save_gif", "save_png", "to_pil"]


def to_pil(image: Tensor, levels: int) -> Image.Image:
    """One image of levels (C, H, W) as a picture: level 0 black, the highest white.

    One channel gives grey and three give colour; of any other number the first is shown.
    """
    values = np.rint(image.cpu().numpy().astype(np.float64) * (255 / (levels - 1))).astype(np.uint8)
    if values.shape[0] == 3:
        return Image.fromarray(values.transpose(1, 2, 0).copy())
    return Image.fromarray(values[0])


def grid(images: Tensor, columns: int | None = None, padding: int = 2, background: int = 0) -> Tensor:
    """Images (N, C, H, W) side by side in one, (C, rows * (H + padding) + padding, ...), of the same levels."""
    n, c, h, w = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = images.new_full((c, rows * (h + padding) + padding, columns * (w + padding) + padding), background)
    for k in range(n):
        y, x = padding + k // columns * (h + padding), padding + k % columns * (w + padding)
        sheet[:, y : y + h, x : x + w] = images[k]
    return sheet


def enlarged(picture: Image.Image, least: int = 448) -> Image.Image:
    """The picture magnified by the smallest whole number that makes its longer side at least `least` pixels."""
    factor = max(1, math.ceil(least / max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    write_file(path, buffer.getvalue())


def save_gif(frames: Sequence[Image.Image], path: Path, seconds: float = 4.0) -> None:
    """Writes an animation that runs for about `seconds`, then rests on its last frame; whole or not at all."""
    each = max(20, round(1000 * seconds / len(frames)))
    buffer = io.BytesIO()
    durations = [each] * (len(frames) - 1) + [2000]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    write_file(path, buffer.getvalue())
