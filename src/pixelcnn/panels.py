"""Panels: pictures side by side in columns with headings, a row an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pixelcnn.arguments import ArrayLike, tensor
from pixelcnn.images import to_pil

__all__ = ["completion_panel", "hidden", "panel", "shades"]

_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_UNKNOWN = np.array([214, 120, 60])  # of what is hidden
_HEADING = 22  # pixels


def panel(rows: Sequence[Sequence[Image.Image]], headings: Sequence[str], side: int = 112) -> Image.Image:
    """Pictures of one size in rows and columns, magnified by the smallest whole number that makes them `side` high.

    Args:
        rows: At least one, of as many pictures as there are headings.
        headings: Of the columns; an empty one continues the column before.
        side: Least length of a picture's longer side, in pixels.
    """
    w, h = rows[0][0].size
    factor = max(1, -(-side // max(w, h)))
    w, h, gap = w * factor, h * factor, 6
    sheet = Image.new("RGB", (len(headings) * (w + gap) + gap, len(rows) * (h + gap) + gap + _HEADING), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, heading in enumerate(headings):
        draw.text((gap + column * (w + gap), 4), heading, _INK, font)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            shown = picture.convert("RGB").resize((w, h), Image.Resampling.NEAREST)
            sheet.paste(shown, (gap + j * (w + gap), _HEADING + gap + i * (h + gap)))
    return sheet


def completion_panel(images: ArrayLike, known: ArrayLike, draws: ArrayLike, levels: int, most: int = 6) -> Image.Image:
    """What was known, the mask, some completions, their mean and their standard deviation: a row an image.

    Args:
        images: uint8 levels (N, C, H, W).
        known: bool (N, C, H, W).
        draws: uint8 levels (N, n, C, H, W).
        levels: What white is.
        most: Completions that are shown; mean and deviation are those of all.
    """
    images, known, draws = tensor("images", images), tensor("known", known).bool(), tensor("draws", draws)
    shown = min(most, draws.shape[1])
    deviating = draws.shape[1] > 1
    headings = ["known", "mask", f"{shown} of {draws.shape[1]} draws" if shown > 1 else "a draw", *[""] * (shown - 1)]
    headings += ["mean", "deviation"] if deviating else []
    rows = []
    for image, mask, several in zip(images, known, draws, strict=True):
        values = several.double() / (levels - 1)
        row = [hidden(image, mask, levels), _mask(mask), *(to_pil(each, levels) for each in several[:shown])]
        if deviating:
            row += [shades(values.mean(0)), shades(2 * values.std(0))]  # of two equally likely extremes: white
        rows.append(row)
    return panel(rows, headings)


def hidden(image: Tensor, known: Tensor, levels: int) -> Image.Image:
    """An image of levels (C, H, W), with what is unknown of any channel painted over."""
    picture = np.asarray(to_pil(image, levels).convert("RGB")).copy()
    picture[~known.all(0).cpu().numpy()] = _UNKNOWN
    return Image.fromarray(picture)


def _mask(known: Tensor) -> Image.Image:
    """White where all channels are known."""
    return to_pil(known.all(0, keepdim=True).to(torch.uint8), 2)


def shades(values: Tensor) -> Image.Image:
    """Values (C, H, W) as a picture: 0 black and 1 white."""
    return to_pil((values.clamp(0, 1) * 255).round().to(torch.uint8), 256)
