"""Compression for the page: images into a stream, the sizes of other formats for comparison, and back to images."""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from PIL import Image
from torch import Tensor

import pixelcnn
from pixelcnn.app.parts import count, whole
from pixelcnn.app.served import Limits, Served
from pixelcnn.codec import StreamError, decompress_with_labels
from pixelcnn.codec.container import Header, separated, unpack
from pixelcnn.images import encoded, exact_channels, exact_picture
from pixelcnn.levels import GREY_LEVELS, grey_values, level_dtype
from pixelcnn.sampling.eager import cache_bytes
from pixelcnn.scoring import coded_bits

__all__ = ["Compressed", "Decompressed", "compressed", "decompressed", "max_images"]

_GREYS = 16  # levels up to which PNG has less than a byte per pixel


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A stream, and the sizes it compares with."""

    images: Tensor
    """Levels (N, C, H, W)."""
    data: bytes
    overhead: int
    """Bytes of header, lengths and checksums, which hardly grow with the number of images."""
    others: dict[str, float]
    """Bytes by the model's own likelihood, then in other formats that are installed here; raw pixels come last."""
    seconds: float
    """Of encoding."""


@dataclass(frozen=True, kw_only=True)
class Decompressed:
    """The content of a stream."""

    served: Served
    """The model that the stream names."""
    images: Tensor
    """Levels (N, C, H, W)."""
    labels: Tensor | None
    """Classes, int64 (N,), if the stream has them."""
    bytes: int
    seconds: float


def max_images(served: Served, limits: Limits) -> int:
    """How many images of a model one stream may have here.

    Few enough that the stream fits into a message even if each sub-pixel takes the three bytes of the rarest ones.
    """
    return max(1, min(limits.images_of(served), limits.body // 8 // served.model.subpixels))


def compressed(served: Served, images: Tensor, labels: Tensor | None, limits: Limits) -> Compressed:
    """Compresses levels (N, C, H, W), of any size if the model `keeps_sizes`.

    With their classes, int64 (N,), if these are to be coded too.

    Raises:
        ValueError: If they are too many, or the model cannot be prepared.
    """
    height, width = images.shape[2:]
    served = served.of_size(height, width) if served.keeps_sizes else served
    whole(f"number of images of {height} x {width} pixels", len(images), 1, max_images(served, limits))
    model = served.prepared
    begun = time.monotonic()
    data = pixelcnn.compress(model, images, labels)
    seconds = time.monotonic() - begun
    _, chunks = unpack(data)
    bits = coded_bits(served.model, images, labels)
    depth = (served.model.levels - 1).bit_length()
    return Compressed(
        images=images,
        data=data,
        overhead=len(data) - sum(length for _, length in chunks),
        others={
            "model's likelihood" + (", with classes" if labels is not None else ""): bits / 8,
            **_picture_sizes(images, served.model.levels),
            f"raw, {count(depth, 'bit')} per value": math.ceil(images.numel() * depth / 8),
        },
        seconds=seconds,
    )


def decompressed(models: Iterable[Served], data: bytes, limits: Limits) -> Decompressed:
    """Decodes a stream, which may be anything, with the served model that it names.

    Raises:
        StreamError: If it is damaged, not a stream, of a model that is not served, or larger than this page decodes. It
            is a ValueError.
    """
    data, *others = separated(data)
    if others:
        raise StreamError(
            f"the file joins {1 + len(others)} streams, and this page decodes one: use pixelcnn decompress"
        )
    header, _ = unpack(data)
    served = _named_by(header, models, limits)
    model, most = served.prepared, max_images(served, limits)
    if header.count > most:
        raise StreamError(
            f"the stream has {header.count:,} images, and this page decodes at most {most}: use pixelcnn decompress"
        )
    together = min(header.count, header.per_group)
    if together > 1 and together * cache_bytes(model.model) > limits.memory:
        raise StreamError(f"the stream has groups of {together} images, which need more memory than this page may use")
    begun = time.monotonic()
    size = served.model.subpixels * level_dtype(header.levels).itemsize + 8  # with a class
    images, labels = decompress_with_labels(model, data, most_bytes=most * size)
    seconds = time.monotonic() - begun
    return Decompressed(served=served, images=images, labels=labels, bytes=len(data), seconds=seconds)


def _named_by(header: Header, models: Iterable[Served], limits: Limits) -> Served:
    """The model that a stream needs, for images of the stream's size."""
    height, width = header.shape[1:]
    for served in models:
        if not _is_of(header, served):
            continue
        own = (height, width) == served.model.image_shape[1:]
        if not own and not served.keeps_sizes:
            raise StreamError(
                f"the stream's images are {height} x {width}, and those of {served.name} here "
                f"{' x '.join(map(str, served.model.image_shape[1:]))}: use pixelcnn decompress"
            )
        if not own and height * width > limits.coded:
            raise StreamError(
                f"the stream's images have {height * width:,} pixels, and this page decodes at most {limits.coded:,}: "
                "use pixelcnn decompress"
            )
        return served if own else served.of_size(height, width)
    raise StreamError(f"the stream is of a model that is not served here: it needs {header.identity.hex()}")


def _is_of(header: Header, served: Served) -> bool:
    """Whether a stream is of this model, for images of whatever size."""
    with contextlib.suppress(ValueError):  # no stream is of a model that cannot be prepared
        prepared = served.prepared
        if header.needs(prepared.identity):
            return True
        return prepared.any_size and header.needs(prepared.resized(header.shape[1:]).identity)
    return False


def _picture_sizes(images: Tensor, levels: int) -> dict[str, float]:
    """What picture formats need to keep every level, all images in one mosaic and one file each; nothing if the images
    are no pictures.
    """
    sizes: dict[str, float] = {}
    deep = levels > GREY_LEVELS  # in 16 bits, which Pillow has in grey only; JPEG XL is left out
    if images.shape[1] not in exact_channels(levels):
        return sizes
    for kind, size in (*([("JPEG XL", _jpeg_xl_size)] if not deep and _has_jpeg_xl() else []), ("PNG", _png_size)):
        if len(images) > 1:
            sizes[f"{kind}, one mosaic"] = size(exact_picture(_mosaic(images), levels), levels)
        each = sum(size(exact_picture(image, levels), levels) for image in images)
        sizes[f"{kind}, one file each" if len(images) > 1 else kind] = each
    return sizes


def _mosaic(images: Tensor) -> Tensor:
    """All images in one, (C, H', W'), about as high as wide; black where there are no more."""
    n, c, h, w = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = images.new_zeros(rows * columns, c, h, w)
    sheet[:n] = images
    return sheet.view(rows, columns, c, h, w).permute(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)


def _png_size(picture: Image.Image, levels: int) -> int:
    """Bytes of an optimised PNG with as few bits per pixel as the levels allow."""
    if picture.mode == "L" and levels == 2:
        return len(encoded(picture.convert("1"), optimize=True))
    sizes = [len(encoded(picture, optimize=True))]
    if picture.mode == "L" and levels <= _GREYS:
        indexed = picture.point([min(levels - 1, (value * (levels - 1) + 127) // 255) for value in range(256)])
        indexed.putpalette([grey for grey in grey_values(levels).tolist() for _ in range(3)])
        sizes.append(len(encoded(indexed, optimize=True)))
    return min(sizes)


def _jpeg_xl_size(picture: Image.Image, levels: int) -> int:  # noqa: ARG001  # the encoder counts them itself
    """Bytes of a lossless JPEG XL at its encoder's highest effort."""
    return len(encoded(picture, "JXL", lossless=True, effort=10, num_threads=1))


@cache
def _has_jpeg_xl() -> bool:
    """Whether Pillow can write JPEG XL, which importing the plug-in teaches it."""
    try:
        importlib.import_module("pillow_jxl")
    except ImportError:
        return False
    return True
