"""Pictures as levels: greyscale or RGB, at one size or cut into patches, quantised.

What a picture is, in this order: the first frame, or page; values of more than 8 bits cut to the upper 8 of those that
the pictures use (`Depth`); turned upright as its EXIF data say; transparency laid on black; "L" of Pillow (ITU-R 601-2
luma) or RGB; scaled with a Lanczos filter, which averages over what it makes smaller; and
level = floor(value * levels / 256).

Colour profiles and gamma are not applied. Pixels of 32 bits, integers or floating point, have no known range and are
refused. Formats that hold drawings, textures or several sizes of one picture are not read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pixelcnn.config import DataConfig
from pixelcnn.files import check_no_pointer

__all__ = ["SUFFIXES", "Depth", "frames_left_out", "is_grey", "open_picture", "opened", "stored_bits", "to_levels"]

_TGA = (".tga",)  # has no mark at its beginning, so anything could pass for it
_ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
    "PCX": (".pcx",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "XBM": (".xbm",),
    "JPEG2000": (".jp2", ".j2k"),
    **({"AVIF": (".avif",)} if importlib.util.find_spec("PIL._avif") else {}),
}
SUFFIXES = (*(suffix for suffixes in _ENDINGS.values() for suffix in suffixes), *_TGA)
"""Endings of the files that are read, in small letters."""

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def open_picture(path: Path) -> Image.Image:
    """The picture of a file, of which only the header has been read.

    Raises:
        OSError: If it cannot be read or is of none of the formats that are. Damaged files may raise anything.
        ValueError: If it is a pointer of Git LFS.
    """
    try:
        image = Image.open(path, formats=[*_ENDINGS, *(["TGA"] if path.suffix.lower() in _TGA else [])])
    except UnidentifiedImageError:
        with path.open("rb") as file:
            check_no_pointer(file.read(64), path.name)
        raise
    if image.format == "TIFF":
        image.filename = ""  # else Pillow 12 maps the file at the size that it has when it is turned upright
    return image


def opened(paths: Iterable[Path]) -> Iterator[Image.Image]:
    """Each picture, closed when the next one is asked for; those that cannot be opened are passed over."""
    for path in paths:
        try:
            image = open_picture(path)
        except Exception:  # Pillow meets damaged files with errors of any kind
            continue
        with image:
            yield image


def is_grey(image: Image.Image) -> bool:
    """Whether a picture is stored in greyscale; one in colours that all happen to be grey is not."""
    return image.mode in _GREY


def frames_left_out(image: Image.Image) -> int:
    """How many frames, or pages, of a picture come after the first."""
    with contextlib.suppress(Exception):  # damage further back
        return int(getattr(image, "n_frames", 1)) - 1
    return 0


def stored_bits(image: Image.Image) -> int:
    """Bits in which the file of a picture stores a value; to be asked before its pixels are read.

    Of more than 8, Pillow gives greyscale as it is, and colours' upper 8. Where it does not know, 8.
    """
    if (tags := getattr(image, "tag_v2", None)) is not None:
        return int(max(tags.get(ExifTags.Base.BitsPerSample, (1,))))
    if image.mode in ("1", "F"):
        return 1 if image.mode == "1" else 32
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        return 32
    codec, _, _, args = (getattr(image, "tile", None) or [("", None, 0, "")])[0]
    if image.format == "PPM" and isinstance(args, tuple):
        return int(args[1]).bit_length()  # of the largest value
    if image.format in ("PNG", "SGI") and (found := re.search(r"(?:;|SGI)(\d+)", f"{codec} {args}")):
        return int(found[1])
    return 16 if image.mode.startswith("I") else 8


class Depth:
    """Bits of a value in those pictures of a set that are stored with more than 8: what their largest value needs.

    Files often say 16 where a camera has 12, and 255 is white in some. All pictures are looked at, since one alone need
    not have the whole range; and only when the first of the kind is met, for their pixels have to be read twice.

    Args:
        config: How the pictures are read; its `bit_depth` is taken as it is.
        pictures: Opens them, one after another.
    """

    def __init__(self, config: DataConfig, pictures: Callable[[], Iterable[Image.Image]]) -> None:
        self._config = config
        self._pictures = pictures
        self._lock = threading.Lock()
        self._bits: int | None = None

    def config_for(self, image: Image.Image) -> DataConfig:
        """How a picture of the set is read, with `bit_depth` settled if that matters for it."""
        if not 8 < stored_bits(image) <= 16:
            return self._config
        with self._lock:
            self._bits = self._bits or self._config.bit_depth or self._of_all()
        return dataclasses.replace(self._config, bit_depth=self._bits)

    @property
    def remarks(self) -> tuple[str, ...]:
        """A sentence on what was done, if something was."""
        if self._bits is None:
            return ()
        told = "as bit_depth says" if self._config.bit_depth else "as many as they use; bit_depth can say how many"
        kept = "" if self._bits == 8 else ", of which the upper 8 are kept: a model has at most 256 levels"
        return (f"pictures stored with 16 bits are read as {self._bits} bits, 0..{2**self._bits - 1} ({told}){kept}",)

    def _of_all(self) -> int:
        bits = 8
        for image in self._pictures():
            with contextlib.suppress(Exception):  # told when it is decoded
                if 8 < stored_bits(image) <= 16:
                    bits = max(bits, _deep(image)[1])
            if bits >= 16:
                break
        return bits


def to_levels(image: Image.Image, channels: int, levels: int, config: DataConfig) -> np.ndarray:
    """The images of a picture: one, or with `config.crop == "patches"` its patches, row by row.

    Args:
        image: The picture.
        channels: 1 or 3.
        levels: 2..256.
        config: Size, crop and bit depth; without one, what this picture uses.

    Returns:
        uint8 (N, channels, H, W) holding 0 .. levels-1.

    Raises:
        ValueError: If the picture is smaller than a patch, its pixels have 32 bits, or values that `bit_depth` does not
            allow. Damaged ones may raise anything.
    """
    image = _eight_bits(image, config.bit_depth)
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


def _eight_bits(image: Image.Image, bit_depth: int | None) -> Image.Image:
    if stored_bits(image) <= 8:
        return image
    values, used = _deep(image)
    bits = bit_depth or max(8, used)
    if values is None:
        if bits < 16:
            raise ValueError(
                f"its colours are stored with 16 bits and use {bits}, and only the upper 8 of 16 can be read: save it "
                "with 8 bits a channel"
            )
        return image
    if (most := int(values.max())) >> bits:
        raise ValueError(f"it holds the value {most}, and bit_depth = {bits} allows 0..{2**bits - 1}")
    exif = image.getexif()
    upper = (values >> (bits - 8)).astype(np.uint8)
    if "transparency" in image.info:
        upper[values == image.info["transparency"]] = 0
    high = Image.fromarray(upper)
    high.getexif()[ExifTags.Base.Orientation] = exif.get(ExifTags.Base.Orientation, 1)
    return high


def _deep(image: Image.Image) -> tuple[np.ndarray | None, int]:
    """Of a picture stored with more than 8 bits: its values, uint16 (H, W), and the bits that they use.

    Fewer than 16 that the file itself speaks of are used, whatever the values are. Of colours there are no values.

    Raises:
        ValueError: If its pixels have a sign or 32 bits. Damaged ones may raise anything.
    """
    stored = stored_bits(image)
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError(f"its pixels have {'a sign' if stored == 16 else '32 bits'}; save it with 8 or 16")
    scaled = image.format == "PPM" and stored < 16  # by Pillow, to 16 bits, or 8 of colours
    if not image.mode.startswith("I"):
        colours = np.asarray(image)[..., :3] if image.mode.startswith("RGB") else np.asarray(image)
        return None, 16 if scaled else 8 + int(colours.max()).bit_length()
    values = np.asarray(image).astype(np.uint16)
    if scaled:
        values >>= 16 - stored
    if getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0:
        values = ~values  # 0 is white, which Pillow minds up to 8 bits only
    return values, stored if stored < 16 else int(values.max()).bit_length()


def _patches(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = grey.shape[0] // height, grey.shape[1] // width
    if rows * columns == 0:
        raise ValueError(f"it is {grey.shape[0]} x {grey.shape[1]}, smaller than a patch of {height} x {width}")
    tiles = grey[: rows * height, : columns * width].reshape(rows, height, columns, width, -1)
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 1, 3)).reshape(rows * columns, -1, height, width)
