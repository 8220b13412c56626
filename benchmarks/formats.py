"""Other lossless formats and compressors, each from images to bytes and back, so that its round trip can be verified.

Formats of pictures get one picture, a mosaic of the images whose pixels are the levels as they are; general compressors
the levels image by image, of black and white images eight pixels to a byte, each row in whole bytes (of the packings
tried, the smallest or within 1 % of it).
"""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import math
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Format", "formats"]

Images = NDArray[np.uint8]
"""Levels (N, H, W, C), C of 1 or 3."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A competitor of the codec."""

    name: str
    encode: Callable[[Images], bytes]
    decode: Callable[[bytes, tuple[int, ...]], Images]
    """Of the bytes and the shape of the images."""
    general: bool = False
    """Whether it knows nothing of pictures."""


def formats(
    levels: int, channels: int, threads: int, efforts: Sequence[int] = (9, 10)
) -> tuple[list[Format], list[str]]:
    """Those that are installed and can hold such images; for each of the others, why not.

    Args:
        levels: Of the images, 2..256; of two levels are 1-bit files where the format has such.
        channels: 1 or 3.
        threads: What a format that can use several may use.
        efforts: Of JPEG XL.
    """
    found, absent = [_png(levels), _webp()], []
    try:
        importlib.import_module("pillow_jxl")
    except ImportError:
        absent.append("JPEG XL: pillow-jxl-plugin is not installed")
    else:
        found += [_jpeg_xl(effort, threads) for effort in efforts]
    if channels != 1:
        absent.append("JBIG1: not for colour")
    elif shutil.which("pbmtojbg") is None or shutil.which("jbgtopbm") is None:
        absent.append("JBIG1: pbmtojbg and jbgtopbm (Debian: jbigkit-bin) are not installed")
    else:
        found.append(_jbig1(levels))
    if channels != 3:
        absent.append("AVIF: only for colour")
    elif shutil.which("avifenc") is None or shutil.which("avifdec") is None:
        absent.append("AVIF: avifenc and avifdec (Debian: libavif-bin) are not installed")
    else:
        found.append(_avif(threads))
    found += [
        _general("xz -9e", levels, _xz, lzma.decompress),
        _general("bzip2 -9", levels, lambda data: bz2.compress(data, 9), bz2.decompress),
        _general("zlib -9", levels, lambda data: zlib.compress(data, 9), zlib.decompress),
    ]
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        absent.append("zstd: zstandard is not installed")
    else:
        found.append(  # a new one each time: threads must not share them
            _general(
                "zstd --ultra -22",
                levels,
                lambda data: zstandard.ZstdCompressor(level=22).compress(data),
                lambda data: zstandard.ZstdDecompressor().decompress(data),
            )
        )
    return found, absent


def _mosaic(images: Images) -> Images:
    """One picture (height, width) or (height, width, 3), as square as it can be; what is left over is level 0."""
    n, h, w, c = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    every = np.zeros((rows * columns, h, w, c), dtype=np.uint8)
    every[:n] = images
    picture = every.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)
    return picture[..., 0] if c == 1 else picture


def _images(picture: Images, shape: tuple[int, ...]) -> Images:
    """The images of a mosaic."""
    n, h, w, c = shape
    columns = math.ceil(math.sqrt(n))
    every: Images = picture.reshape(-1, h, columns, w, c).transpose(0, 2, 1, 3, 4).reshape(-1, h, w, c)[:n]
    return every


def _png(levels: int) -> Format:
    def encode(images: Images) -> bytes:
        picture = _mosaic(images)
        return _written(_bilevel(picture) if levels == 2 else Image.fromarray(picture), format="PNG", optimize=True)

    def decode(data: bytes, shape: tuple[int, ...]) -> Images:
        return _images(_read(data), shape)

    return Format(name="PNG, optimised", encode=encode, decode=decode)


def _webp() -> Format:
    def encode(images: Images) -> bytes:
        picture = Image.fromarray(_mosaic(images)).convert("RGB")  # WebP has no grey
        return _written(picture, format="WEBP", lossless=True, quality=100, method=6, exact=True)

    def decode(data: bytes, shape: tuple[int, ...]) -> Images:
        return _images(_read(data)[..., : shape[-1]], shape)

    return Format(name="WebP lossless", encode=encode, decode=decode)


def _jpeg_xl(effort: int, threads: int) -> Format:
    def encode(images: Images) -> bytes:
        picture = Image.fromarray(_mosaic(images))
        return _written(picture, format="JXL", lossless=True, effort=effort, num_threads=threads)

    def decode(data: bytes, shape: tuple[int, ...]) -> Images:
        return _images(_read(data), shape)

    return Format(name=f"JPEG XL lossless, effort {effort}", encode=encode, decode=decode)


def _jbig1(levels: int) -> Format:
    """By JBIG-KIT's programs, a process a call; more than two levels are eight planes in Gray code."""

    def encode(images: Images) -> bytes:
        picture = _mosaic(images)
        pnm = _written(_bilevel(1 - picture) if levels == 2 else Image.fromarray(picture), format="PPM")
        command = ["pbmtojbg", "-q", "-s", str(len(picture))]  # one layer, one stripe
        return subprocess.run(command, input=pnm, capture_output=True, check=True).stdout

    def decode(data: bytes, shape: tuple[int, ...]) -> Images:
        picture = _read(subprocess.run(["jbgtopbm"], input=data, capture_output=True, check=True).stdout)
        return _images(1 - picture if levels == 2 else picture, shape)

    return Format(name="JBIG1", encode=encode, decode=decode)


def _avif(threads: int) -> Format:
    """By libavif's programs, a process a call."""

    def run(program: str, options: Sequence[str], content: bytes, before: str, after: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, f"source{before}"), Path(folder, f"target{after}")
            source.write_bytes(content)
            subprocess.run([program, *options, source, target], capture_output=True, check=True)
            return target.read_bytes()

    def encode(images: Images) -> bytes:
        options = ["--lossless", "--speed", "4", "--jobs", str(threads)]
        return run("avifenc", options, _written(Image.fromarray(_mosaic(images)), format="PNG"), ".png", ".avif")

    def decode(data: bytes, shape: tuple[int, ...]) -> Images:
        return _images(_read(run("avifdec", ["--jobs", str(threads)], data, ".avif", ".png")), shape)

    return Format(name="AVIF lossless", encode=encode, decode=decode)


def _general(
    name: str, levels: int, compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]
) -> Format:
    def encode(images: Images) -> bytes:
        rows = images.reshape(*images.shape[:2], -1)
        return compress((np.packbits(rows, axis=-1) if levels == 2 else rows).tobytes())

    def decode(data: bytes, shape: tuple[int, ...]) -> Images:
        rows = np.frombuffer(decompress(data), dtype=np.uint8).reshape(*shape[:2], -1)
        return (np.unpackbits(rows, axis=-1, count=shape[2] * shape[3]) if levels == 2 else rows).reshape(shape)

    return Format(name=name, encode=encode, decode=decode, general=True)


def _xz(data: bytes) -> bytes:
    """What `xz -9e` writes, but with a dictionary no larger than the data: 64 MiB take a tenth of a second to clear."""
    filters: Sequence[dict[str, int]] = [
        {
            "id": lzma.FILTER_LZMA2,
            "preset": 9 | lzma.PRESET_EXTREME,
            "dict_size": min(2**26, max(2**12, len(data))),
        }
    ]
    return lzma.compress(data, filters=filters)


def _bilevel(picture: Images) -> Image.Image:
    return Image.fromarray(picture * np.uint8(255)).convert("1")


def _written(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _read(data: bytes) -> Images:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture).astype(np.uint8)
