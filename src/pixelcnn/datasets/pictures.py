"""Pictures as levels: greyscale or RGB, at one size or cut into patches, quantised.

The steps, in this order: take the first frame, or page; cut values of more than 8 bits to the upper 8 of those that the
pictures use (`Depth`); turn the picture upright as its EXIF data say; lay transparency on black; convert to Pillow's
"L" (ITU-R 601-2 luma) or RGB; scale with a Lanczos filter, which averages where it reduces; and quantise:
level = floor(value * levels / 256).

With more than 256 levels, pictures must be stored in grey with more than 8 bits, and all of these are used:
level = floor(value * levels / 2^bits), which is the value itself for 2^bits levels.

Colour profiles and gamma are not applied. Pixels of 32 bits, integer or floating point, have no known range and are
refused. Formats for drawings, textures or several sizes of one picture are not read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from pixelcnn.config import DataConfig
from pixelcnn.files import check_no_pointer, printable
from pixelcnn.levels import GREY_LEVELS, array_dtype, quantised

__all__ = [
    "SUFFIXES",
    "Depth",
    "check_channels",
    "deep_values",
    "frames_left_out",
    "is_grey",
    "mended",
    "named_picture",
    "open_picture",
    "opened",
    "read_picture",
    "stored_bits",
    "stored_values",
    "to_levels",
]

_TGA = (".tga",)  # a format without a signature, so anything could pass for it
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
"""Endings of the files that are read, in lower case."""

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def open_picture(path: Path) -> Image.Image:
    """Opens a picture file, of which only the header is read.

    Raises:
        OSError: If it cannot be read or has none of the formats that are read. Damaged files may raise anything.
        ValueError: If it is a pointer of Git LFS.
    """
    try:
        image = Image.open(path, formats=[*_ENDINGS, *(["TGA"] if path.suffix.lower() in _TGA else [])])
    except UnidentifiedImageError:
        check_no_pointer(path, path.name)
        raise
    return mended(image)


def mended(image: Image.Image) -> Image.Image:
    """A picture that has just been opened, itself, with what Pillow 12 gets wrong about its file put right."""
    if isinstance(image, ImageFile.ImageFile) and image.format == "TIFF":
        image.filename = ""  # or the file is mapped with the size that the picture has after it is turned upright
    if image.format == "PNG" and image.mode == "L" and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2 ** stored_bits(image) - 1)  # scaled to 8 bits, as the pixels will be
    return image


@contextlib.contextmanager
def named_picture(path: Path) -> Iterator[Image.Image]:
    """A picture file, open; whatever is wrong with it, also when its pixels are read, becomes an error that names it.

    Raises:
        ValueError: If there is no such file, or it cannot be read.
    """
    try:
        with open_picture(path) as picture:
            yield picture
    except FileNotFoundError:
        raise ValueError(f"there is no file {printable(str(path))!r}") from None
    except Exception as error:  # Pillow raises errors of any kind for damaged files
        raise ValueError(f"{path} cannot be read as a picture: {error}") from None


def opened(paths: Iterable[Path]) -> Iterator[Image.Image]:
    """Each picture in turn, closed when the next one is asked for; those that cannot be opened are skipped."""
    for path in paths:
        try:
            image = open_picture(path)
        except Exception:  # Pillow raises errors of any kind for damaged files
            continue
        with image:
            yield image


def check_channels(name: object, channels: int) -> None:
    """Raises ValueError, naming the pictures, unless a model's images have one channel or three."""
    if channels not in (1, 3):
        kinds = "pictures are grey or in colour"
        raise ValueError(f"{name}: {kinds}, and the model's images have {channels} channels: give it arrays")


def is_grey(image: Image.Image) -> bool:
    """Whether a picture is stored in greyscale, which a colour picture that happens to be grey is not."""
    return image.mode in _GREY


def frames_left_out(image: Image.Image) -> int:
    """The number of frames, or pages, of a picture after the first."""
    with contextlib.suppress(Exception):  # damage later in the file
        return int(getattr(image, "n_frames", 1)) - 1
    return 0


def stored_bits(image: Image.Image) -> int:
    """Bits per value in the file of a picture, 8 where Pillow does not know; call it before the pixels are read.

    Of values with more than 8 bits, Pillow gives all bits of greyscale, and the upper 8 of colours.
    """
    if (tags := getattr(image, "tag_v2", None)) is not None:
        return int(max(tags.get(ExifTags.Base.BitsPerSample, (1,))))
    if image.mode in ("1", "F"):
        return 1 if image.mode == "1" else 32
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        return 32
    codec, _, _, args = (getattr(image, "tile", None) or [("", None, 0, "")])[0]
    if image.format == "PPM" and isinstance(args, tuple):
        return int(args[1]).bit_length()  # the largest value
    if image.format in ("PNG", "SGI") and (found := re.search(r"(?:;|SGI)(\d+)", f"{codec} {args}")):
        return int(found[1])
    return 16 if image.mode.startswith("I") else 8


def stored_values(image: Image.Image) -> np.ndarray:
    """The values of a picture as its file has them, upright: for labels, which are numbers and no shades of grey.

    Pillow scales grey values of 2 or 4 bits, and those of PGM files, to the range of 8 or 16 bits. Call it before the
    pixels are read.
    """
    args = (getattr(image, "tile", None) or [("", None, 0, "")])[0][3]
    if image.format == "PPM" and isinstance(args, tuple):
        most = int(args[1])
    else:
        bits = stored_bits(image)
        most = 2**bits - 1 if image.mode == "L" and bits < 8 else 0
    values = np.asarray(ImageOps.exif_transpose(image))
    if most <= 0 or values.ndim != 2:
        return values
    white = GREY_LEVELS - 1 if values.dtype == np.uint8 else 2**16 - 1
    found: np.ndarray = (values.astype(np.int64) * most + white // 2) // white
    return found


class Depth:
    """Bits per value in those pictures of a set that are stored with more than 8.

    A file that says 9 to 15 means it. One that says 16 often holds 12 from a camera, and in some 255 is white, so that
    of these there are as many as the largest value needs. All are looked at, since a single one need not use the whole
    range; but only when the first of this kind is met, since their pixels must be read twice.

    Args:
        config: How the pictures are read; a given `bit_depth` is used for all.
        levels: Number of levels of the images.
        pictures: Opens the pictures, one after another.
    """

    def __init__(self, config: DataConfig, levels: int, pictures: Callable[[], Iterable[Image.Image]]) -> None:
        self._config = config
        self._levels = levels
        self._pictures = pictures
        self._lock = threading.Lock()
        self._bits: int | None = None
        self._stated: set[int] = set()

    def config_for(self, image: Image.Image) -> DataConfig:
        """The configuration to read a picture of the set with, its `bit_depth` settled if the picture needs one."""
        stored = stored_bits(image)
        if not 8 < stored <= 16:
            return self._config
        with self._lock:
            if stored < 16 and self._config.bit_depth is None:
                self._stated.add(stored)
                return self._config
            self._bits = self._bits or self._config.bit_depth or self._of_all()
        return dataclasses.replace(self._config, bit_depth=self._bits)

    @property
    def remarks(self) -> tuple[str, ...]:
        """A sentence on the depths that were used, if any picture needed one, for each kind of file."""
        why = " (as bit_depth says)" if self._config.bit_depth else " (as many as they use; bit_depth can say how many)"
        depths = [] if self._bits is None else [("stored with 16 bits", self._bits, why)]
        depths += [(f"whose files say {bits} bits", bits, "") for bits in sorted(self._stated)]
        return tuple(
            f"pictures {which} are read as {bits} bits, 0..{2**bits - 1}{why}{self._cut(bits)}"
            for which, bits, why in depths
        )

    def _cut(self, bits: int) -> str:
        """What is lost of so many bits."""
        if 2**bits <= max(self._levels, GREY_LEVELS):
            return ""
        few = "of which the upper 8 are kept: more than 256 levels keep more"
        return f", {few if self._levels <= GREY_LEVELS else f'cut to {self._levels} levels'}"

    def _of_all(self) -> int:
        bits = 8
        for image in self._pictures():
            with contextlib.suppress(Exception):  # reported when it is decoded
                if stored_bits(image) == 16:
                    bits = max(bits, deep_values(image)[1])
            if bits >= 16:
                break
        return bits


def to_levels(image: Image.Image, channels: int, levels: int, config: DataConfig) -> np.ndarray:
    """The images of a picture: one, or with `config.crop == "patches"` its patches, row by row.

    Args:
        image: The picture.
        channels: 1 or 3.
        levels: 2..65,536.
        config: Size, crop and bit depth; without a bit depth, as many bits as this picture uses.

    Returns:
        Levels (N, channels, H, W).

    Raises:
        ValueError: If the picture is smaller than a patch, its pixels have 32 bits or values that `bit_depth` does not
            allow, or they have not enough bits for more than 256 levels. Damaged pictures may raise anything.
    """
    if levels > GREY_LEVELS:
        return _cut(_deep_levels(image, levels, config)[..., None].repeat(channels, -1), config)
    image = _eight_bits(image, config.bit_depth)
    image = ImageOps.exif_transpose(image)
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    image = image.convert("L" if channels == 1 else "RGB")
    size = config.height_and_width
    if size is not None and config.crop == "centre":
        image = ImageOps.fit(image, size[::-1], Image.Resampling.LANCZOS)
    return _cut(quantised(np.asarray(image).reshape(image.height, image.width, channels), levels), config)


def read_picture(path: Path, channels: int, levels: int, config_for: Callable[[Image.Image], DataConfig]) -> Tensor:
    """The image of a picture file: levels (channels, H, W).

    Args:
        path: The file.
        channels: 1 or 3.
        levels: 2..65,536.
        config_for: The configuration to read it with, see `to_levels`.

    Warns:
        UserWarning: If it has several frames or pages, of which the first is taken.

    Raises:
        ValueError: If there is no such file, or it cannot be used; it is named.
    """
    with named_picture(path) as picture:
        image = to_levels(picture, channels, levels, config_for(picture))[0]
        left_out = frames_left_out(picture)
    if left_out:
        warnings.warn(f"{path} has several frames or pages, of which the first is taken", stacklevel=2)
    return torch.from_numpy(image.copy())  # Pillow's memory is read-only


def _cut(values: np.ndarray, config: DataConfig) -> np.ndarray:
    """Levels (H, W, channels) as images, (N, channels, H, W): one, or patches."""
    size = config.height_and_width
    if size is None or config.crop == "centre":
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None])
    return _patches(values, *size)


def _deep_levels(image: Image.Image, levels: int, config: DataConfig) -> np.ndarray:
    """A picture of more than 8 bits as more than 256 levels, int32 (H, W), upright and in the size asked for."""
    if stored_bits(image) <= 8:
        raise ValueError(f"its values have at most 8 bits, and {levels} levels need more")
    values, used = deep_values(image)
    if values is None:
        raise ValueError(f"it is in colour or transparent, of which 8 bits can be read, and {levels} levels need more")
    bits = config.bit_depth or max(8, used)
    _check_depth(values, bits)
    if "transparency" in image.info:
        values[values == image.info["transparency"]] = 0
    upright = Image.fromarray(values.astype(np.float32))  # which holds 16 bits exactly, and can be scaled
    upright.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    upright = ImageOps.exif_transpose(upright)
    size = config.height_and_width
    if size is not None and config.crop == "centre":
        upright = ImageOps.fit(upright, size[::-1], Image.Resampling.LANCZOS)
    whole = np.rint(np.asarray(upright)).clip(0, 2**bits - 1).astype(np.int64)
    found: np.ndarray = (whole * levels >> bits).astype(array_dtype(levels))
    return found


def _eight_bits(image: Image.Image, bit_depth: int | None) -> Image.Image:
    """The picture with 8 bits per value: the upper 8 of `bit_depth`, or of those that it uses."""
    if (stored := stored_bits(image)) <= 8:
        return image
    values, used = deep_values(image)
    bits = bit_depth or max(8, used)
    if values is None:
        if bits != stored:
            raise ValueError(
                f"its colours are stored with {stored} bits and use {bits}, and only the upper 8 of {stored} can be "
                "read: save it with 8 bits per channel"
            )
        return image
    _check_depth(values, bits)
    exif = image.getexif()
    upper = (values >> (bits - 8)).astype(np.uint8)
    if "transparency" in image.info:
        upper[values == image.info["transparency"]] = 0
    high = Image.fromarray(upper)
    high.getexif()[ExifTags.Base.Orientation] = exif.get(ExifTags.Base.Orientation, 1)
    return high


def _check_depth(values: np.ndarray, bits: int) -> None:
    if (largest := int(values.max())) >> bits:
        raise ValueError(f"it holds the value {largest}, and bit_depth = {bits} allows 0..{2**bits - 1}")


def deep_values(image: Image.Image) -> tuple[np.ndarray | None, int]:
    """The values of a picture stored with more than 8 bits, uint16 (H, W), and the number of bits that they use.

    If the file itself says fewer than 16 bits, that number counts, whatever the values are. Colours give no values.

    Raises:
        ValueError: If its pixels are signed or have 32 bits. Damaged pictures may raise anything.
    """
    stored = stored_bits(image)
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError(f"its pixels have {'a sign' if stored == 16 else '32 bits'}; save it with 8 or 16")
    scaled = image.format == "PPM" and stored < 16  # by Pillow, to 16 bits, or 8 of colours
    if not image.mode.startswith("I"):
        colours = np.asarray(image)[..., :3] if image.mode.startswith("RGB") else np.asarray(image)
        return None, stored if scaled else 8 + int(colours.max()).bit_length()
    values = np.asarray(image).astype(np.uint16)
    if scaled:
        values >>= 16 - stored
    if getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0:
        values = ~values  # 0 is white, which Pillow respects only up to 8 bits
    return values, stored if stored < 16 else int(values.max()).bit_length()


def _patches(values: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = values.shape[0] // height, values.shape[1] // width
    if rows * columns == 0:
        raise ValueError(f"it is {values.shape[0]} x {values.shape[1]}, smaller than a patch of {height} x {width}")
    tiles = values[: rows * height, : columns * width].reshape(rows, height, columns, width, -1)
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 1, 3)).reshape(rows * columns, -1, height, width)
