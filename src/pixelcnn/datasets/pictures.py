"""Pictures as levels: greyscale or RGB, at one size or cut into patches, quantised.

What a picture is, in this order: the first frame, or page; turned upright as its EXIF data say; transparency laid on
black; 16 bits a channel cut to the upper 8; "L" of Pillow (ITU-R 601-2 luma) or RGB; scaled with a Lanczos filter,
which averages over what it makes smaller; and level = floor(value * levels / 256).

Colour profiles are not applied. Pixels of 32 bits, integers or floating point, have no known range and are refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pixelcnn.config import DataConfig
from pixelcnn.files import check_no_pointer

__all__ = ["FORMATS", "SUFFIXES", "is_grey", "open_picture", "to_levels"]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif")

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def open_picture(path: Path) -> Image.Image:
    """The picture of a file, of which only the header has been read.

    Raises:
        OSError: If it cannot be read or is no PNG, JPEG, WebP, TIFF or GIF file. Damaged files may raise anything.
        ValueError: If it is a pointer of Git LFS.
    """
    try:
        return Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            check_no_pointer(file.read(64), path.name)
        raise


def is_grey(image: Image.Image) -> bool:
    """Whether a picture is stored in greyscale; one in colours that all happen to be grey is not."""
    return image.mode in _GREY


def to_levels(image: Image.Image, channels: int, levels: int, config: DataConfig) -> np.ndarray:
    """The images of a picture: one, or with `config.crop == "patches"` its patches, row by row.

    Args:
        image: The picture.
        channels: 1 or 3.
        levels: 2..256.
        config: Size and crop.

    Returns:
        uint8 (N, channels, H, W) holding 0 .. levels-1.

    Raises:
        ValueError: If the picture is smaller than a patch, or its pixels have 32 bits. Damaged ones may raise anything.
    """
    image = _eight_bits(image)
    image = ImageOps.exif_transpose(image)
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    image = image.convert("L" if channels == 1 else "RGB")
    size = config.height_and_width
    if size is not None and config.crop == "centre":
        image = ImageOps.fit(image, size[::-1], Image.Resampling.LANCZOS)
    grey = np.asarray(image).reshape(image.height, image.width, channels)
    if levels < 256:
        grey = (np.arange(256) * levels // 256).astype(np.uint8)[grey]
    if size is None or config.crop == "centre":
        return np.ascontiguousarray(grey.transpose(2, 0, 1)[None])
    return _patches(grey, *size)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # "I": Pillow before version 11
        exif = image.getexif()
        high = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        high.getexif()[_ORIENTATION] = exif.get(_ORIENTATION, 1)
        return high
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits; save it with 8 or 16")
    return image


_ORIENTATION = 0x0112  # the EXIF tag


def _patches(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = grey.shape[0] // height, grey.shape[1] // width
    if rows * columns == 0:
        raise ValueError(f"it is {grey.shape[0]} x {grey.shape[1]}, smaller than a patch of {height} x {width}")
    tiles = grey[: rows * height, : columns * width].reshape(rows, height, columns, width, -1)
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 1, 3)).reshape(rows * columns, -1, height, width)
