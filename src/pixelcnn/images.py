"""Images of levels as pictures: grids, animations, panels of completions, maps of surprise, and their files."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pixelcnn.arguments import ArrayLike, integer, tensor
from pixelcnn.files import write_file
from pixelcnn.levels import GREY_LEVELS, MAX_LEVELS, checked_levels, grey_values, level_dtype, levels_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "completion_panel",
    "encoded",
    "exact_channels",
    "exact_picture",
    "figure_png",
    "grid",
    "hidden",
    "panel",
    "save_gif",
    "save_png",
    "shades",
    "show",
    "surprise_map",
    "surprise_of",
    "to_pil",
]

_LINE, _LINE_GREY = 2, 64  # pixels between the images of a grid, and their grey value
_PAPER, _INK = (255, 255, 255), (40, 40, 40)  # of a panel
_UNKNOWN = np.array([214, 120, 60])  # the colour painted over unknown pixels
_GAP, _HEADING = 6, 22  # pixels between the pictures of a panel, and for its headings


def to_pil(image: ArrayLike, levels: int) -> Image.Image:
    """One image of levels (C, H, W) as a picture: level 0 is black, `levels - 1` white.

    Three channels give a colour picture, in mode RGB; of any other number the first is shown, in mode L.

    Raises:
        ValueError: If it is no image of so many levels.
    """
    levels = checked_levels(levels)
    values = _image_values(image, levels)
    values = values.copy() if levels == GREY_LEVELS else grey_values(levels)[values]
    return Image.fromarray(values.transpose(1, 2, 0).copy() if len(values) == 3 else values[0])


def exact_picture(image: ArrayLike, levels: int) -> Image.Image:
    """One image of levels (C, H, W) as a picture that keeps every level: above 256 of them, 16 bits that hold the level
    itself.

    Raises:
        ValueError: If it is no image of so many levels, or has another number of channels than `exact_channels` allows.
    """
    allowed, values = exact_channels(levels), _image_values(image, levels)
    if len(values) not in allowed:
        raise ValueError(
            f"pictures of {levels} levels must have {' or '.join(map(str, allowed))} channels, got {len(values)}"
        )
    return to_pil(values, levels) if levels <= GREY_LEVELS else Image.fromarray(values[0].astype(np.uint16))


def _image_values(image: ArrayLike, levels: int) -> np.ndarray:
    """The levels (C, H, W) of one image, validated."""
    found = tensor("image", image)
    if found.dim() != 3 or 0 in found.shape:
        raise ValueError(f"image must have shape (C, H, W), got {tuple(found.shape)}")
    values: np.ndarray = levels_of("image", found, levels).cpu().numpy()
    return values


def exact_channels(levels: int) -> tuple[int, ...]:
    """The numbers of channels that pictures of so many levels can have: grey or in colour, and of 16 bits only grey."""
    return (1, 3) if checked_levels(levels) <= GREY_LEVELS else (1,)


def grid(images: ArrayLike, levels: int, columns: int | None = None, side: int = 56) -> Image.Image:
    """Images of levels (N, C, H, W) side by side in one picture.

    Args:
        images: At least one. Three channels are colours; of any other number the first is shown.
        levels: Number of levels, 2..65,536; `levels - 1` is white.
        columns: Images per row, at least 1; by default the square root of their number, rounded up.
        side: Each image is magnified by the smallest whole number that makes its longer side this many pixels or more.

    Raises:
        ValueError: If an argument is something else.
    """
    images = levels_of("images", tensor("images", images), checked_levels(levels))
    if images.dim() != 4 or 0 in images.shape:
        raise ValueError(f"images must have shape (N, C, H, W), N at least 1, got {tuple(images.shape)}")
    n, c, h, w = images.shape
    columns = min(math.ceil(math.sqrt(n)) if columns is None else integer("columns", columns, 1), n)
    factor = max(1, math.ceil(integer("side", side, 1) / max(h, w)))
    cell_w, cell_h = w * factor, h * factor
    size = (columns * (cell_w + _LINE) + _LINE, math.ceil(n / columns) * (cell_h + _LINE) + _LINE)
    sheet = Image.new("RGB" if c == 3 else "L", size, (_LINE_GREY,) * 3 if c == 3 else _LINE_GREY)
    for k in range(n):
        picture = to_pil(images[k], levels).resize((cell_w, cell_h), Image.Resampling.NEAREST)
        sheet.paste(picture, (_LINE + k % columns * (cell_w + _LINE), _LINE + k // columns * (cell_h + _LINE)))
    return sheet


def show(images: ArrayLike, levels: int | None = None, *, columns: int | None = None, side: int = 56) -> Image.Image:
    """Images as one picture, which a notebook displays where it is a cell's result; `.save("images.png")` keeps it.

    Args:
        images: Levels (C, H, W), (N, C, H, W) or, with one row for each of N, (N, n, C, H, W) as of a completion. Three
            channels are colours; of any other number the first is shown.
        levels: Number of levels, 2..65,536; `levels - 1` is white. By default the largest level in `images` is.
        columns: Images per row, at least 1; by default the square root of their number, rounded up, or n.
        side: Each image is magnified by the smallest whole number that makes its longer side this many pixels or more.

    Returns:
        The picture, in mode RGB for three channels, otherwise L.

    Raises:
        ValueError: If an argument is something else.

    Examples:
        >>> import pixelcnn
        >>> model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1)
        >>> pixelcnn.show(model.sample(6, seed=0)).size
        (176, 118)
    """
    images = tensor("images", images)
    if images.dim() not in (3, 4, 5) or 0 in images.shape:
        raise ValueError(f"images must be (C, H, W), (N, C, H, W) or (N, n, C, H, W), got {tuple(images.shape)}")
    if columns is None and images.dim() == 5:
        columns = images.shape[1]
    images = levels_of("images", images, MAX_LEVELS if levels is None else checked_levels(levels))
    levels = max(2, int(images.max()) + 1) if levels is None else levels
    return grid(images.reshape(-1, *images.shape[-3:]), levels, columns, side)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The content of a picture's file in one of Pillow's formats, with Pillow's options."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Writes a PNG file, whole or not at all; its folder must exist.

    Raises:
        OSError: If it cannot be written.
    """
    write_file(Path(path), encoded(picture, optimize=True))


def save_gif(frames: Sequence[Image.Image], path: str | Path) -> None:
    """Writes an animation that runs for about four seconds and rests on its last frame for two more.

    A frame is shown for 20 ms at least, so that more than 200 take longer. The file is written whole or not at all; its
    folder must exist.

    Raises:
        ValueError: If there is no frame.
        OSError: If it cannot be written.
    """
    if not frames:
        raise ValueError("frames must be at least one picture, got none")
    each = max(20, round(4000 / len(frames)))
    durations = [each] * (len(frames) - 1) + [2000]
    options = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
    write_file(Path(path), encoded(frames[0], "GIF", **options))


def panel(rows: Sequence[Sequence[Image.Image]], headings: Sequence[str], side: int = 112) -> Image.Image:
    """Pictures of one size in rows and columns, magnified by the smallest whole number that makes them `side` high.

    Args:
        rows: At least one row, each with as many pictures as there are headings.
        headings: One per column; an empty heading continues the column before.
        side: Least length of a picture's longer side, in pixels.
    """
    w, h = rows[0][0].size
    factor = max(1, math.ceil(side / max(w, h)))
    w, h = w * factor, h * factor
    size = (len(headings) * (w + _GAP) + _GAP, len(rows) * (h + _GAP) + _GAP + _HEADING)
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, heading in enumerate(headings):
        draw.text((_GAP + column * (w + _GAP), 4), heading, _INK, font)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            shown = picture.convert("RGB").resize((w, h), Image.Resampling.NEAREST)
            sheet.paste(shown, (_GAP + j * (w + _GAP), _HEADING + _GAP + i * (h + _GAP)))
    return sheet


def completion_panel(images: ArrayLike, known: ArrayLike, draws: ArrayLike, levels: int, most: int = 6) -> Image.Image:
    """One row per image: what was known, the mask, some completions, their mean and their standard deviation.

    Args:
        images: Levels (N, C, H, W), N at least 1.
        known: As for `AutoregressiveModel.complete`: bool, (N, C, H, W) or broadcastable to it.
        draws: Levels (N, n, C, H, W), n at least 1, as in `Completion.images`.
        levels: Number of levels, 2..65,536; `levels - 1` is white.
        most: How many completions of each image are shown at most; mean and deviation are those of all n.

    Raises:
        ValueError: If an argument is something else.
    """
    images, known, draws = tensor("images", images), tensor("known", known).bool(), tensor("draws", draws)
    if images.dim() != 4 or 0 in images.shape:
        raise ValueError(f"images must have shape (N, C, H, W), N at least 1, got {tuple(images.shape)}")
    if draws.dim() != 5 or 0 in draws.shape or draws.shape[:1] + draws.shape[2:] != images.shape:
        n, *shape = images.shape
        raise ValueError(f"draws must have shape ({n}, n, {', '.join(map(str, shape))}), got {tuple(draws.shape)}")
    try:
        known = known.expand(images.shape)
    except RuntimeError:
        raise ValueError(
            f"known must be broadcastable to the images' {tuple(images.shape)}, got {tuple(known.shape)}"
        ) from None
    shown = min(integer("most", most, 1), draws.shape[1])
    spread = draws.shape[1] > 1
    headings = ["known", "mask", f"{shown} of {draws.shape[1]} draws" if shown > 1 else "a draw", *[""] * (shown - 1)]
    headings += ["mean", "deviation"] if spread else []
    rows = []
    for image, mask, several in zip(images, known, draws, strict=True):
        everywhere = to_pil(mask.all(0, keepdim=True), 2)
        row = [hidden(image, mask, levels), everywhere, *(to_pil(each, levels) for each in several[:shown])]
        if spread:
            values = several.double() / (levels - 1)
            row += [shades(values.mean(0)), shades(2 * values.std(0))]  # two equally likely extremes show as white
        rows.append(row)
    return panel(rows, headings)


def hidden(image: Tensor, known: Tensor, levels: int) -> Image.Image:
    """An image of levels (C, H, W) in which every pixel that is unknown in any channel is painted over."""
    picture = np.asarray(to_pil(image, levels).convert("RGB")).copy()
    picture[~known.all(0).cpu().numpy()] = _UNKNOWN
    return Image.fromarray(picture)


def shades(values: Tensor) -> Image.Image:
    """Values (C, H, W) as a picture: 0 is black, 1 white."""
    return to_pil((values.clamp(0, 1) * (GREY_LEVELS - 1)).round().to(level_dtype(GREY_LEVELS)), GREY_LEVELS)


def surprise_of(log_prob_map: ArrayLike) -> Tensor:
    """-log2 p of each pixel given those before it, in bits, summed over its channels.

    Args:
        log_prob_map: Of one image, in nats, (C, H, W); see `AutoregressiveModel.log_prob_map`.

    Returns:
        (H, W), in the map's dtype, at least 0 up to rounding.

    Raises:
        ValueError: If it is no map of one image.
    """
    found = tensor("log_prob_map", log_prob_map)
    if found.dim() != 3 or not found.is_floating_point():
        raise ValueError(f"log_prob_map must be floating-point (C, H, W), got {found.dtype} {tuple(found.shape)}")
    return -found.sum(0) / math.log(2)


def surprise_map(
    image: ArrayLike, log_prob_map: ArrayLike, levels: int, title: str = "", most: float | None = None
) -> bytes:
    """A picture of an image beside its map of surprise, where the model did not expect what it sees.

    Args:
        image: Levels (C, H, W).
        log_prob_map: Of the image, in nats, (C, H, W), as for `surprise_of`.
        levels: Number of levels, 2..65,536; `levels - 1` is white.
        title: Written above the image.
        most: Upper end of the colour bar, in bits per pixel; by default the image's own largest value.

    Returns:
        The content of a PNG file.

    Raises:
        ValueError: If an argument is something else.
    """
    from matplotlib.figure import Figure  # which nothing else here should wait for

    bits = surprise_of(log_prob_map).detach().clamp(min=0).cpu().numpy()
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    picture = np.asarray(to_pil(image, levels))
    left.imshow(picture, cmap="gray", vmin=0, vmax=GREY_LEVELS - 1, interpolation="nearest")
    drawn = right.imshow(bits, cmap="magma", vmin=0, vmax=most or max(float(bits.max()), 1e-9), interpolation="nearest")
    figure.colorbar(drawn, ax=right, label="bits per pixel")
    right.set_title(f"{bits.sum():.1f} bits", fontsize=10)
    left.set_title(title, fontsize=10, parse_math=False)
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
    return figure_png(figure)


def figure_png(figure: Figure, dpi: int = 100) -> bytes:
    """The content of a PNG file of a matplotlib figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
