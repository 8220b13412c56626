"""From images to a stream."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.arguments import ArrayLike, integer
from pixelcnn.codec import entropy
from pixelcnn.codec.container import Header, deflated, pack
from pixelcnn.codec.groups import Groups, mapped, workers
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.progress import progress_bar
from pixelcnn.sampling.eager import cache_bytes
from pixelcnn.sampling.native.coding import encode as encode_natively

__all__ = ["GROUP_BYTES", "compress", "digest_of"]

_CHUNK_SUBPIXELS = 2**20
GROUP_BYTES = 2**26
"""What a group's features may take, where an encoder has the choice."""
_GROUP_SUBPIXELS = 2**18
_GROUP_IMAGES = 2**14


def compress(
    model: AutoregressiveModel | PreparedModel,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    chunk: int | None = None,
    notes: Mapping[str, object] | None = None,
    progress: bool = False,
) -> bytes:
    """A stream from which `decompress` makes the same images.

    The bytes are a function of model, images, labels, chunk and notes alone: not of threads, batches, device or
    machine. Memory beyond images and stream does not grow with their number.

    Args:
        model: What knows such images; its twin, if it is prepared already.
        images: uint8 levels (N, C, H, W), N at least 1.
        labels: For a class-conditional model, classes, int64 (N,), which are coded too and cannot be -1; None is its
            unconditional distribution.
        chunk: Images of a chunk, which is what can be decoded without the rest, and what damage is confined to; each
            costs some 16 bytes. By default as many as have 2^20 sub-pixels.
        notes: Anything that JSON can say, to be kept with the images, such as their names; deflated.
        progress: Show a progress bar on standard error.

    Raises:
        ValueError: If the shape, type or range of an argument is wrong, or the model cannot be prepared.
    """
    prepared = model if isinstance(model, PreparedModel) else prepare(model)
    twin = prepared
    images = twin.checked_images(images)
    if len(images) == 0:
        raise ValueError("images must be at least one, got none")
    chunk = None if chunk is None else integer("chunk", chunk, 1, 2**32 - 1)
    labels = None if labels is None else twin.checked_labels(labels, len(images))
    if labels is not None and (labels.is_floating_point() or (labels < 0).any()):
        raise ValueError("labels must be classes to be coded: neither vectors nor -1, which is none, can be")
    if max(twin.image_shape) >= 2**16:
        raise ValueError(f"images must have sizes below 65536 to be coded, got {twin.image_shape}")
    images, labels = images.cpu(), None if labels is None else labels.cpu()
    subpixels = int(np.prod(twin.image_shape))
    per_chunk = min(chunk or max(1, _CHUNK_SUBPIXELS // subpixels), 2**32 - 1)
    header = Header(
        identity=bytes.fromhex(prepared.identity)[:16],
        shape=twin.image_shape,
        levels=twin.levels,
        count=len(images),
        per_chunk=per_chunk,
        per_group=min(per_chunk, _per_group(twin, subpixels)),
        labelled=labels is not None,
        digest=digest_of(images, labels),
        notes=dict(notes) if notes else {},
    )
    deflated(header.notes)  # raises now rather than after all the work
    with progress_bar(f"compressing {len(images)}", len(images), "img", show=progress) as bar:
        return pack(header, list(_payloads(prepared, header, images, labels, bar.update)))


def _payloads(
    prepared: PreparedModel, header: Header, images: Tensor, labels: Tensor | None, done: Callable[[int], object]
) -> Iterator[bytes]:
    """The chunks', in compiled code groups side by side; `done` is told of images."""
    threads = torch.get_num_threads()
    groups = sum(1 for chunk in range(header.chunks) for _ in header.groups_of(chunk))
    coder = Groups(prepared, labelled=labels is not None, threads=max(1, threads // groups))

    def parts_of(chunk: int) -> list[slice]:
        members = header.images_of(chunk)
        return list(header.groups_of(chunk)) if coder.native else [slice(members.start, members.stop)]

    def edges_of(part: slice) -> NDArray[np.uint32]:
        return coder.edges(images[part], None if labels is None else labels[part], header.per_group)

    parts = [parts_of(chunk) for chunk in range(header.chunks)]
    with workers(threads if coder.native else 1) as pool:
        found = mapped(pool, edges_of, itertools.chain(*parts), 2 * threads)
        for chunk in parts:
            edges = []
            if labels is not None:
                edges.append(coder.edges_of_labels(labels[chunk[0].start : chunk[-1].stop]))
            for part in chunk:
                edges.append(next(found))
                done(part.stop - part.start)
            symbols = np.concatenate(edges)
            yield encode_natively(symbols) if coder.native else entropy.encode(symbols)


def _per_group(twin: PreparedModel, subpixels: int) -> int:
    """As many as a decoder has room for; a multiple of 8, if it is not fewer, for threads to have equal shares."""
    most = max(1, min(GROUP_BYTES // cache_bytes(twin), _GROUP_SUBPIXELS // subpixels, _GROUP_IMAGES))
    return most if most < 8 else (most + 4) // 8 * 8


def digest_of(images: Tensor, labels: Tensor | None) -> bytes:
    """The first 8 bytes of the SHA-256 of labels and levels."""
    digest = hashlib.sha256(b"" if labels is None else labels.numpy().astype("<i8").data)
    digest.update(images.contiguous().numpy().data)
    return digest.digest()[:8]
