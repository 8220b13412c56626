"""Levels as pictures: grids, strips and animations in files."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pixelcnn.arguments import ArrayLike, tensor
from pixelcnn.files import write_file

__all__ = ["grid", "save_gif", "save_png", "to_pil"]

_BETWEEN = 64  # grey of the lines between the images of a grid


def to_pil(image: ArrayLike, levels: int) -> Image.Image:
    """One image of levels (C, H, W) as a picture: level 0 black, the highest white.

    Three channels give colour; of any other number the first is shown in grey.
    """
    values = np.rint(tensor("image", image).cpu().numpy().astype(np.float64) * (255 / (levels - 1))).astype(np.uint8)
    if values.shape[0] == 3:
        return Image.fromarray(values.transpose(1, 2, 0).copy())
    return Image.fromarray(values[0])


def grid(images: ArrayLike, levels: int, columns: int | None = None, side: int = 56) -> Image.Image:
    """Images of levels (N, C, H, W) side by side in one picture.

    Args:
        images: At least one.
        levels: What white is.
        columns: Images in a row; as many as rows by default.
        side: Each image is magnified by the smallest whole number that makes its longer side this many pixels.
    """
    images = tensor("images", images)
    n, c, h, w = images.shape
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    factor = max(1, math.ceil(side / max(h, w)))
    cell_w, cell_h, line = w * factor, h * factor, 2
    size = (columns * (cell_w + line) + line, math.ceil(n / columns) * (cell_h + line) + line)
    sheet = Image.new("RGB" if c == 3 else "L", size, (_BETWEEN,) * 3 if c == 3 else _BETWEEN)
    for k in range(n):
        picture = to_pil(images[k], levels).resize((cell_w, cell_h), Image.Resampling.NEAREST)
        sheet.paste(picture, (line + k % columns * (cell_w + line), line + k // columns * (cell_h + line)))
    return sheet


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    write_file(path, buffer.getvalue())


def save_gif(frames: Sequence[Image.Image], path: Path, seconds: float = 4.0) -> None:
    """Writes an animation that runs for about `seconds` and rests on its last frame; whole or not at all."""
    each = max(20, round(1000 * seconds / len(frames)))
    buffer = io.BytesIO()
    durations = [each] * (len(frames) - 1) + [2000]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    write_file(path, buffer.getvalue())
