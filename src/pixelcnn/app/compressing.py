"""Compression for the page: images, their stream, what others need for them, and back. Nothing here knows Gradio."""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from PIL import Image
from torch import Tensor

import pixelcnn
from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.codec import StreamError, decompress_with_labels
from pixelcnn.codec.container import Header, unpack
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.images import to_pil
from pixelcnn.sampling.eager import cache_bytes
from pixelcnn.scoring import score

__all__ = [
    "Compressed",
    "Decompressed",
    "Size",
    "Twins",
    "compressed",
    "decompressed",
    "digest_of",
    "most_images",
    "most_probable",
]

_GREYS = 16  # levels up to which PNG has less than a byte a pixel


class Twins:
    """The exact twins of served models: made when first asked for, and kept."""

    def __init__(self, models: Sequence[Served]) -> None:
        self._models = models
        self._made: dict[str, PreparedModel] = {}
        self._lock = threading.Lock()

    def of(self, served: Served) -> PreparedModel:
        """A model's twin.

        Raises:
            ValueError: If it has none.
        """
        with self._lock:  # whoever comes meanwhile waits, instead of computing the same
            if served.name not in self._made:
                self._made[served.name] = prepare(served.model)
            return self._made[served.name]

    def named_by(self, header: Header) -> Served | None:
        """The model that a stream needs, if it is served."""
        for served in self._models:
            try:
                identity = self.of(served).identity
            except ValueError:  # no stream is of this one
                continue
            if bytes.fromhex(identity).startswith(header.identity):
                return served
        return None


@dataclass(frozen=True, kw_only=True)
class Size:
    """What something needs for the images."""

    name: str
    bytes: float | None
    """None if it is not installed here."""


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A stream, and what it is beside."""

    images: Tensor
    """uint8 levels (N, C, H, W)."""
    labels: Tensor | None
    """Classes, int64 (N,), that are in the stream as well."""
    data: bytes
    overhead: int
    """Bytes of header, lengths and checksums, which hardly grow with the number of images."""
    others: tuple[Size, ...]
    """The model's own likelihood first, pixels as they are last."""
    seconds: float
    """That encoding took."""


@dataclass(frozen=True, kw_only=True)
class Decompressed:
    """What was in a stream."""

    served: Served
    """The model that the stream names."""
    images: Tensor
    """uint8 levels (N, C, H, W)."""
    labels: Tensor | None
    """Classes, int64 (N,), if the stream has them."""
    bytes: int
    seconds: float


def most_images(served: Served, limits: Limits) -> int:
    """How many images of a model one stream may have here.

    So few that the stream fits into a message even if each sub-pixel takes the three bytes of the rarest ones.
    """
    return max(1, min(limits.images_of(served.model), limits.body // 8 // served.model.subpixels))


def most_probable(served: Served, images: Tensor) -> Tensor:
    """The class of each image by Bayes' rule, int64 (N,).

    Raises:
        ValueError: If the model has no classes.
    """
    return served.model.classify(images.to(served.model.device)).argmax(1).cpu()


def digest_of(images: Tensor) -> str:
    """The SHA-256 of levels (N, C, H, W), hexadecimal."""
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()


def compressed(served: Served, twins: Twins, images: Tensor, labels: Tensor | None, limits: Limits) -> Compressed:
    """Compresses images.

    Args:
        served: The model.
        twins: What has its twin.
        images: uint8 levels (N, C, H, W) on the CPU.
        labels: Classes to be coded too, int64 (N,).
        limits: Bounds their number.

    Raises:
        ValueError: If they are too many, or the model has no twin.
    """
    most = most_images(served, limits)
    if not 1 <= len(images) <= most:
        raise ValueError(f"the number of images must be in 1..{most}, got {len(images)}")
    twin = twins.of(served)
    begun = time.monotonic()
    data = pixelcnn.compress(twin, images, labels)
    seconds = time.monotonic() - begun
    _, places = unpack(data)
    nats = -score(served.model, images, labels).log_prob.sum().item()
    bits = nats / math.log(2) + (0.0 if labels is None else len(labels) * math.log2(served.classes))
    depth = (served.model.levels - 1).bit_length()
    return Compressed(
        images=images,
        labels=labels,
        data=data,
        overhead=len(data) - sum(length for _, length in places),
        others=(
            Size(name="model's likelihood" + (", with classes" if labels is not None else ""), bytes=bits / 8),
            *_pictures(images, served.model.levels),
            Size(name=f"raw, {depth} bit{'s' * (depth > 1)} a value", bytes=math.ceil(images.numel() * depth / 8)),
        ),
        seconds=seconds,
    )


def decompressed(twins: Twins, data: bytes, limits: Limits) -> Decompressed:
    """Decodes a stream with the served model that it names.

    Args:
        twins: What has the models' twins.
        data: Anything.
        limits: Bounds images and memory.

    Raises:
        StreamError: If it is damaged, no stream, of a model that is not served, or larger than this page decodes. It is
            a ValueError.
    """
    header, _ = unpack(data)
    served = twins.named_by(header)
    if served is None:
        raise StreamError(f"the stream is of a model that is not served here: it needs {header.identity.hex()}")
    twin, most = twins.of(served), most_images(served, limits)
    if header.count > most:
        raise StreamError(f"the stream has {header.count:,} images, and this page decodes {most}: use Python instead")
    together = min(header.count, header.per_group)
    if together > 1 and together * cache_bytes(twin.model) > limits.memory:
        raise StreamError(f"the stream has groups of {together} images, for which this page has no memory")
    begun = time.monotonic()
    images, labels = decompress_with_labels(twin, data, most_bytes=most * served.model.subpixels)
    seconds = time.monotonic() - begun
    return Decompressed(served=served, images=images, labels=labels, bytes=len(data), seconds=seconds)


def _pictures(images: Tensor, levels: int) -> list[Size]:
    """What picture formats need, all images in one mosaic and each by itself; nothing if they are no pictures."""
    if images.shape[1] not in (1, 3):
        return []
    found = []
    kinds: list[tuple[str, Callable[[Image.Image, int], int] | None]] = [
        ("JPEG XL", _jpeg_xl if _has_jpeg_xl() else None),
        ("PNG", _png),
    ]
    for kind, size in kinds:
        if size is None:
            found.append(Size(name=f"{kind}: pillow-jxl-plugin is not installed", bytes=None))
            continue
        each = sum(size(to_pil(image, levels), levels) for image in images)
        if len(images) > 1:
            found.append(Size(name=f"{kind}, one mosaic", bytes=size(to_pil(_mosaic(images), levels), levels)))
        found.append(Size(name=f"{kind}, a file each" if len(images) > 1 else kind, bytes=each))
    return found


def _mosaic(images: Tensor) -> Tensor:
    """All images in one, (C, H', W'), about as high as wide; black where there are no more."""
    n, c, h, w = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = torch.zeros(rows * columns, c, h, w, dtype=torch.uint8)
    sheet[:n] = images
    return sheet.view(rows, columns, c, h, w).permute(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)


def _png(picture: Image.Image, levels: int) -> int:
    """Optimised, with as few bits a pixel as the levels allow."""
    if picture.mode == "L" and levels == 2:
        return _size(picture.convert("1"), "PNG", optimize=True)
    sizes = [_size(picture, "PNG", optimize=True)]
    if picture.mode == "L" and levels <= _GREYS:
        few = picture.point([min(levels - 1, (value * (levels - 1) + 127) // 255) for value in range(256)])
        few.putpalette([grey for k in range(levels) for grey in [round(k * 255 / (levels - 1))] * 3])
        sizes.append(_size(few, "PNG", optimize=True))
    return min(sizes)


def _jpeg_xl(picture: Image.Image, levels: int) -> int:  # noqa: ARG001  # it sees itself how many there are
    """Lossless, as hard as its encoder tries."""
    return _size(picture, "JXL", lossless=True, effort=10, num_threads=1)


@cache
def _has_jpeg_xl() -> bool:
    """Whether Pillow writes JPEG XL, which a plug-in has taught it when this returns."""
    try:
        importlib.import_module("pillow_jxl")
    except ImportError:
        return False
    return True


def _size(picture: Image.Image, kind: str, **options: object) -> int:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.tell()
