"""The lossless codec: images as about as many bytes as the model's likelihood says, and back, to the bit.

What is coded is the model's exact twin (`pixelcnn.exact`): its frequencies are integers that are the same on every
machine and for every batch, so a decoder is never out of step with the encoder. Encoding is one forward over whole
images; decoding draws images along the wavefront, as sampling does, but by what the stream says.

    >>> import pixelcnn
    >>> model = pixelcnn.PixelCNN((1, 6, 6), filters=4, blocks=1)
    >>> images = model.sample(10)
    >>> data = pixelcnn.compress(model, images)
    >>> bool((pixelcnn.decompress(model, data) == images).all())
    True
"""

from __future__ import annotations

import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.codec import entropy
from pixelcnn.codec.container import Header, StreamError, pack, payload_of, unpack
from pixelcnn.exact.frequencies import TOTAL_BITS
from pixelcnn.exact.native import NativeWalk, why_not_native
from pixelcnn.exact.native import encode as encode_natively
from pixelcnn.exact.prepared import PreparedModel, prepare
from pixelcnn.exact.walk import walk
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.progress import progress_bar
from pixelcnn.sampling.eager import cache_bytes
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["StreamError", "compress", "decompress", "decompress_with_labels"]

_CHUNK_SUBPIXELS = 2**20
_GROUP_BYTES = 2**26
_GROUP_SUBPIXELS = 2**18
_MOST_BYTES = 2**31


def compress(
    model: AutoregressiveModel | PreparedModel,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    progress: bool = False,
) -> bytes:
    """A stream from which `decompress` makes the same images.

    Memory beyond images and stream does not grow with their number.

    Args:
        model: What knows such images; its twin, if it is prepared already.
        images: uint8 levels (N, C, H, W), N at least 1.
        labels: For a class-conditional model, classes, int64 (N,), which are coded too; None is its unconditional
            distribution.
        progress: Show a progress bar on standard error.

    Raises:
        ValueError: If the shape, type or range of an argument is wrong, or the model cannot be prepared.
    """
    prepared = _prepared(model)
    twin = prepared.model
    twin.check_images(images)
    if len(images) == 0:
        raise ValueError("images must be at least one, got none")
    twin.condition_of(labels, len(images))
    if labels is not None and labels.is_floating_point():
        raise ValueError("labels must be classes to be coded: vectors cannot be")
    images, labels = images.cpu(), None if labels is None else labels.cpu()
    header = Header(
        identity=bytes.fromhex(prepared.identity)[:16],
        shape=twin.image_shape,
        levels=twin.levels,
        count=len(images),
        per_chunk=(per_chunk := _per_chunk(twin)),
        per_group=min(per_chunk, _per_group(twin)),
        labelled=labels is not None,
        digest=_digest(images, labels),
    )
    order, native = _order(twin, labels is not None), why_not_native(prepared) is None

    def encoded(chunk: int) -> bytes:
        members = header.images_of(chunk)
        part = slice(members.start, members.stop)
        given = None if labels is None else labels[part]
        with torch.inference_mode():
            return _encoded(prepared, header, order, images[part], given, native)

    payloads = []
    with (
        progress_bar(f"compressing {len(images)}", len(images), "img", show=progress) as bar,
        ThreadPoolExecutor(torch.get_num_threads() if native else 1) as pool,
    ):
        for chunk, payload in enumerate(pool.map(encoded, range(header.chunks))):
            payloads.append(payload)
            bar.update(len(header.images_of(chunk)))
    return pack(header, payloads)


def decompress(
    model: AutoregressiveModel | PreparedModel, data: bytes, *, progress: bool = False, most_bytes: int = _MOST_BYTES
) -> Tensor:
    """The images of a stream: uint8 levels (N, C, H, W), on the CPU.

    Args:
        model: The one that compressed them; its twin, if it is prepared already.
        data: What `compress` returned.
        progress: Show a progress bar on standard error.
        most_bytes: What the result may have. Beyond it a thread needs some 64 MiB for what an encoder of today wrote,
            and at most about 1 GiB, or what a single image needs, for what a header may ask for.

    Raises:
        StreamError: If the data is damaged, cut, of another version or another model, or the result too large. It is a
            ValueError.
    """
    return decompress_with_labels(model, data, progress=progress, most_bytes=most_bytes)[0]


def decompress_with_labels(
    model: AutoregressiveModel | PreparedModel, data: bytes, *, progress: bool = False, most_bytes: int = _MOST_BYTES
) -> tuple[Tensor, Tensor | None]:
    """The images of a stream, as `decompress`, and their classes, int64 (N,), or None."""
    prepared = _prepared(model)
    twin = prepared.model
    header, places = unpack(data)
    if header.identity != bytes.fromhex(prepared.identity)[:16]:
        raise StreamError(
            f"the stream is of another model: it needs {header.identity.hex()}, this one is {prepared.identity[:32]}"
        )
    if header.shape != twin.image_shape or header.levels != twin.levels or not _has_room(twin, header):
        raise StreamError("the header has values that no encoder writes for this model")
    if header.labelled and getattr(twin.config, "num_classes", None) is None:
        raise StreamError("the stream has classes, and the model has none")
    size = header.count * int(np.prod(header.shape))
    if size > most_bytes:
        raise StreamError(f"the images have {size} bytes, and most_bytes is {most_bytes}")
    native = why_not_native(prepared) is None

    def decoded(chunk: int) -> tuple[Tensor, Tensor | None]:
        count = len(header.images_of(chunk))
        try:
            with torch.inference_mode():
                return _decoded(prepared, header, payload_of(data, places[chunk], chunk), count, native)
        except entropy.PayloadError as error:
            raise StreamError(f"chunk {chunk} is damaged: {error}") from None

    parts = []
    with (
        progress_bar(f"decompressing {header.count}", header.count, "img", show=progress) as bar,
        ThreadPoolExecutor(torch.get_num_threads() if native else 1) as pool,
    ):
        for part in pool.map(decoded, range(header.chunks)):
            parts.append(part)
            bar.update(len(part[0]))
    images = torch.cat([images for images, _ in parts])
    labels = torch.cat([labels for _, labels in parts if labels is not None]) if header.labelled else None
    if _digest(images, labels) != header.digest:
        raise StreamError("the images are not those that were compressed: their digest does not match")
    return images, labels


def _prepared(model: AutoregressiveModel | PreparedModel) -> PreparedModel:
    return model if isinstance(model, PreparedModel) else prepare(model)


def _per_chunk(twin: AutoregressiveModel) -> int:
    return max(1, _CHUNK_SUBPIXELS // int(np.prod(twin.image_shape)))


def _per_group(twin: AutoregressiveModel) -> int:
    """As many as a decoder has room for."""
    most = min(_GROUP_BYTES // cache_bytes(twin), _GROUP_SUBPIXELS // int(np.prod(twin.image_shape)), 2**16 - 1)
    return max(1, most)


def _digest(images: Tensor, labels: Tensor | None) -> bytes:
    digest = hashlib.sha256(b"" if labels is None else labels.numpy().astype("<i8").tobytes())
    digest.update(images.contiguous().numpy().tobytes())
    return digest.digest()[:8]


def _has_room(twin: AutoregressiveModel, header: Header) -> bool:
    """Whether a group fits into sixteen times the memory that an encoder of today plans with."""
    return header.per_group == 1 or header.per_group * cache_bytes(twin) <= 16 * _GROUP_BYTES


def _encoded(
    prepared: PreparedModel, header: Header, order: Tensor, images: Tensor, labels: Tensor | None, native: bool
) -> bytes:
    """A chunk's payload: its classes, then group by group what the walk asks for."""
    edges: list[NDArray[np.uint32]] = []
    if labels is not None:
        edges.append(_of_classes(prepared)[labels.numpy()[:, None] + np.array([0, 1])].astype(np.uint32))
    walks: dict[int, NativeWalk] = {}
    for start in range(0, len(images), header.per_group):
        group = images[start : start + header.per_group]
        given = None if labels is None else labels[start : start + header.per_group]
        if not native:
            edges.append(_edges(prepared, order, group, given))
            continue
        size = len(group)
        if size not in walks:
            walks[size] = NativeWalk(prepared, size, conditional=given is not None)
        edges.append(walks[size].edges(group, prepared.model.condition_of(given, size)))
    every = np.concatenate(edges)
    return encode_natively(every) if native else entropy.encode(every)


def _edges(prepared: PreparedModel, order: Tensor, group: Tensor, labels: Tensor | None) -> NDArray[np.uint32]:
    """Where the frequencies of each sub-pixel start and stop, in the order of the walk, by forwards of whole images."""
    size, parts = prepared.model.slice_size, []
    for k in range(0, len(group), size):
        x = group[k : k + size]
        cumulative = prepared.cumulative(x, None if labels is None else labels[k : k + size])
        levels = x.long().unsqueeze(-1)
        edges = torch.cat([cumulative.gather(-1, levels), cumulative.gather(-1, levels + 1)], -1)
        parts.append(edges.flatten(1, 3)[:, order])
    found: NDArray[np.uint32] = torch.cat(parts).transpose(0, 1).reshape(-1, 2).numpy().astype(np.uint32)
    return found


def _decoded(
    prepared: PreparedModel, header: Header, payload: bytes, count: int, native: bool
) -> tuple[Tensor, Tensor | None]:
    twin, decoder = prepared.model, entropy.Decoder(payload)
    labels = None
    if header.labelled:
        cumulative = _of_classes(prepared)
        labels = torch.from_numpy(decoder.take(np.broadcast_to(cumulative, (count, len(cumulative)))))

    def choose(_channel: int, _pixels: slice, cumulative: Tensor) -> Tensor:
        return torch.from_numpy(decoder.take(cumulative.flatten(0, 1).numpy())).view(cumulative.shape[:2])

    images = torch.zeros(count, *header.shape, dtype=torch.uint8)
    walks: dict[int, NativeWalk] = {}
    for start in range(0, count, header.per_group):
        group = images[start : start + header.per_group]
        given = None if labels is None else labels[start : start + header.per_group]
        condition, size = twin.condition_of(given, len(group)), len(group)
        if native:
            if size not in walks:
                walks[size] = NativeWalk(prepared, size, conditional=condition is not None)
            walks[size].decode(group, condition, state := decoder.state())
            decoder.go_on_from(state)
            continue
        for _ in walk(prepared, group, condition, choose):
            pass
    decoder.end()
    return images, labels


def _of_classes(prepared: PreparedModel) -> NDArray[np.int64]:
    """The cumulative frequencies of classes, as even as integers are."""
    classes = getattr(prepared.model.config, "num_classes", None)
    assert classes is not None
    edges: NDArray[np.int64] = np.arange(classes + 1, dtype=np.int64) * 2**TOTAL_BITS // classes
    return edges


def _order(twin: AutoregressiveModel, conditional: bool) -> Tensor:
    """The indices of sub-pixels, in (C, H, W), in the order of the walk."""
    c, h, w = twin.image_shape
    wavefront = schedule_of(twin, conditional=conditional).wavefront
    steps = [range(h * w)[wavefront.pixels(step)] for step in range(wavefront.steps)]
    return torch.tensor([
        channel * h * w + pixel for pixels, channel in itertools.product(steps, range(c)) for pixel in pixels
    ])  # fmt: skip
