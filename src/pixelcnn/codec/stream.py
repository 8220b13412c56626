"""Images to a stream and back: `compress`, `decompress` of all images or some, and the model that a stream needs."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.arguments import ArrayLike, integer
from pixelcnn.codec import container, entropy
from pixelcnn.codec.container import Header, StreamError, block, pack_header, pack_maps, payload_of, unpack, unpack_maps
from pixelcnn.codec.groups import GroupCoder, group_size, has_room
from pixelcnn.conditions import Given
from pixelcnn.datasets import read_shrunk
from pixelcnn.density import DensityModel
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.levels import array_dtype
from pixelcnn.models.base import load
from pixelcnn.models.folder import shipped_models
from pixelcnn.progress import progress_bar
from pixelcnn.threads import in_order

__all__ = ["Stream", "compress", "decompress", "decompress_with_labels", "find_model"]

Decoded: TypeAlias = tuple[Tensor, Tensor | None]
"""Images and classes."""

_CHUNK_SUBPIXELS = 2**20
_LARGE_SUBPIXELS = 2**20  # of an image; beyond, it is coded in parts
_MAX_BYTES = 2**31
_MAX_NAME = 256  # characters of a model's name that an error repeats
_PART = struct.Struct("<I")
_CHUNKS_PER_THREAD = 4  # from this many on, each thread decodes chunks of its own; below, all decode one together


def compress(
    model: DensityModel,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    condition: ArrayLike | str | None = None,
    chunk: int | None = None,
    notes: Mapping[str, object] | None = None,
    progress: bool = False,
) -> bytes:
    """Compresses images into a stream from which `decompress` restores the same images.

    The bytes are a function of model, images, labels, condition, chunk and notes alone: not of threads, batches, device
    or machine. Memory beyond images, stream and a chunk does not grow with their number, nor, in compiled code, with
    the longer side of a large image; but the features of a map are held for all its pixels.

    Args:
        model: A model of such images; its exact twin, if it is prepared already.
        images: uint8 levels (N, C, H, W), N at least 1.
        labels: For a class-conditional model, classes, int64 (N,), which are coded too and cannot be -1; None codes by
            its unconditional distribution.
        condition: As for `AutoregressiveModel.log_prob`; it is not stored, and decoding needs the same. Or "shrink:S":
            the images themselves, S times smaller, which are coded before the images.
        chunk: Images per chunk, at least 1. A chunk can be decoded without the rest, and damage is confined to it; each
            costs some 16 bytes. By default as many as have 2^20 sub-pixels; of images with more, always 1.
        notes: A dictionary of what can be represented as JSON, to be stored with the images, such as their names;
            deflated.
        progress: Show a progress bar on standard error.

    Raises:
        ValueError: If the shape, type or range of an argument is wrong, a side of the images has 65,536 pixels or more,
            the notes are no JSON or too long, or the model cannot be prepared.
    """
    prepared = prepare(model)
    images = prepared.checked_images(images)
    if len(images) == 0:
        raise ValueError("images must be at least one, got none")
    chunk = None if chunk is None else integer("chunk", chunk, 1, 2**32 - 1)
    if notes is not None and not isinstance(notes, Mapping):
        raise ValueError(f"notes must be a dictionary, got {type(notes).__name__}")
    shrunk = isinstance(condition, str)
    if isinstance(condition, str):
        condition = read_shrunk(condition, images.cpu(), prepared.levels)
    labels, condition = prepared.checked_given(labels, condition, len(images))
    if labels is not None and (labels.is_floating_point() or (labels < 0).any()):
        raise ValueError("labels must be classes to be coded: neither vectors nor -1, which is none, can be")
    if max(prepared.image_shape) >= 2**16:
        raise ValueError(f"images must have sizes below 65536 to be coded, got {prepared.image_shape}")
    images, labels = images.cpu(), None if labels is None else labels.cpu()
    condition = None if condition is None else condition.cpu()
    subpixels = prepared.subpixels
    large = subpixels > _LARGE_SUBPIXELS
    per_chunk = 1 if large else min(chunk or max(1, _CHUNK_SUBPIXELS // subpixels), 2**32 - 1)
    header = Header(
        identity=bytes.fromhex(prepared.identity)[:16],
        shape=prepared.image_shape,
        levels=prepared.levels,
        count=len(images),
        per_chunk=per_chunk,
        per_group=min(per_chunk, group_size(prepared)),
        labelled=labels is not None,
        conditioned=condition is not None and not shrunk,
        large=large,
        shrunk=shrunk,
        digest=_digest(images, labels),
        notes=dict(notes or {}),
    )
    # raises for wrong notes before all the work
    begin = pack_header(header, pack_maps(condition) if shrunk and condition is not None else b"")
    given = labels, condition
    if large:
        return b"".join([begin, *map(block, _payloads_in_parts(prepared, header, images, given, progress=progress))])
    with progress_bar(f"compressing {len(images)}", len(images), "img", show=progress) as bar:
        return b"".join([begin, *map(block, _payloads(prepared, header, images, given, bar.update))])


def _payloads(
    prepared: PreparedModel, header: Header, images: Tensor, given: Given, done: Callable[[int], object]
) -> Iterator[bytes]:
    """The chunks' payloads, in compiled code several groups at a time; `done` is called with numbers of images."""
    threads = torch.get_num_threads()
    groups = sum(1 for chunk in range(header.chunks) for _ in header.groups_of(chunk))
    labels, condition = given
    conditional = labels is not None or condition is not None
    coder = GroupCoder(prepared, conditional=conditional, threads=max(1, threads // groups))

    def parts_of(chunk: int) -> list[slice]:
        members = header.images_of(chunk)
        return list(header.groups_of(chunk)) if coder.native else [slice(members.start, members.stop)]

    def edges_of(part: slice) -> NDArray[np.uint32]:
        some, maps = (None if each is None else each[part] for each in given)
        return coder.edges(images[part], (some, maps), header.per_group)

    parts = [parts_of(chunk) for chunk in range(header.chunks)]
    count = threads if coder.native else 1
    with in_order(edges_of, itertools.chain(*parts), threads=count, ahead=2 * threads) as results:
        for chunk in parts:
            edges = [] if labels is None else [coder.label_edges(labels[chunk[0].start : chunk[-1].stop])]
            for part in chunk:
                edges.append(next(results))
                done(part.stop - part.start)
            yield coder.encode(np.concatenate(edges))


def _payloads_in_parts(
    prepared: PreparedModel, header: Header, images: Tensor, given: Given, *, progress: bool
) -> Iterator[bytes]:
    """The payloads of large images: their parts, each preceded by its length."""
    labels, condition = given
    conditional = labels is not None or condition is not None
    coder = GroupCoder(prepared, conditional=conditional, threads=torch.get_num_threads())
    pixels = len(images) * math.prod(header.shape[1:])
    with progress_bar(f"compressing {len(images)}", pixels, "px", show=progress) as bar:
        for k in range(header.chunks):
            label, maps = (None if each is None else each[k : k + 1] for each in given)
            parts = [] if label is None else [coder.encode(coder.label_edges(label))]
            for edges in coder.edges_in_parts(images[k : k + 1], (label, maps)):
                parts.append(coder.encode(edges))
                bar.update(len(edges) // header.shape[0])
            yield b"".join(_PART.pack(len(part)) + part for part in parts)


def decompress(
    model: DensityModel,
    data: bytes,
    *,
    condition: ArrayLike | None = None,
    first: int = 0,
    n: int | None = None,
    progress: bool = False,
    most_bytes: int = _MAX_BYTES,
) -> Tensor:
    """The images of a stream: uint8 levels, int32 for more than 256, (N, C, H, W), on the CPU.

    Args:
        model: The model that compressed them; its exact twin, if it is prepared already.
        data: What `compress` returned.
        condition: What `compress` was given, for all of the stream's images; None if that was None or "shrink:S".
        first: Index of the first image to return.
        n: How many images to return, at least 1; by default all from `first` on. Only the chunks that hold them are
            decoded.
        progress: Show a progress bar on standard error.
        most_bytes: Limit on the size of the result, in which each class has 8 bytes, and of all small pictures that the
            stream holds, together; 2 GiB by default. Beyond it and one chunk's images per thread, decoding needs some
            64 MiB for what today's encoder wrote (three times that without compiled code), and at most about 1 GiB, or
            what a single image needs, for what a header may ask for. A stream's notes may take 0.2 GiB.

    Raises:
        StreamError: If the data is damaged, truncated, of another version or another model, there is a condition and
            should be none or the other way round, or the result would be too large. It is a ValueError.
        ValueError: If `first` or `n` is out of range, `data` does not consist of bytes, `condition` does not fit, or
            the model cannot be prepared.
    """
    return decompress_with_labels(
        model, data, condition=condition, first=first, n=n, progress=progress, most_bytes=most_bytes
    )[0]


def decompress_with_labels(
    model: DensityModel,
    data: bytes,
    *,
    condition: ArrayLike | None = None,
    first: int = 0,
    n: int | None = None,
    progress: bool = False,
    most_bytes: int = _MAX_BYTES,
) -> tuple[Tensor, Tensor | None]:
    """The images of a stream, as `decompress` returns them, and their classes, int64 (N,), or None if it has none.

    Arguments and errors as for `decompress`.
    """
    stream = Stream(model, data, condition)
    header = stream.header
    first = integer("first", first, 0, header.count - 1)
    most = header.count - first
    wanted = range(first, first + (most if n is None else integer("n", n, 1, most)))
    chunks = range(wanted.start // header.per_chunk, (wanted.stop - 1) // header.per_chunk + 1)
    members = range(header.images_of(chunks[0]).start, header.images_of(chunks[-1]).stop)
    size = len(members) * (math.prod(header.shape) * array_dtype(header.levels).itemsize + 8 * header.labelled)
    if header.shrunk:  # which are unpacked together, whatever is wanted
        size += stream.maps_bytes
    if size > most_bytes:
        raise StreamError(f"the images have {size} bytes, and most_bytes is {most_bytes}")
    images = torch.from_numpy(np.zeros((len(members), *header.shape), array_dtype(header.levels)))
    labels = torch.from_numpy(np.zeros(len(members), np.int64)) if header.labelled else None
    unit = "px" if header.large else "img"
    with progress_bar(f"decompressing {len(members)}", stream.units(len(members)), unit, show=progress) as bar:
        for chunk, (chunk_images, chunk_labels) in stream.decode(chunks, bar.update):
            start = header.images_of(chunk).start - members.start
            images[start : start + len(chunk_images)] = chunk_images
            if labels is not None and chunk_labels is not None:
                labels[start : start + len(chunk_images)] = chunk_labels
    if len(members) == header.count and not _matches_digest(header, images, labels):
        raise StreamError("the images are not those that were compressed: their digest does not match")
    within = slice(wanted.start - members.start, wanted.stop - members.start)
    return images[within], None if labels is None else labels[within]


class Stream:
    """A stream and the model that it needs: any chunk can be decoded without the others.

    Args:
        model: The model that compressed it; its exact twin, if it is prepared already.
        data: What `compress` returned: bytes, or another object that holds some, such as an array of uint8.
        condition: As for `decompress`.
        whole: Whether all chunks must be there; if not, those at the end may be missing.

    Raises:
        StreamError: If the data is no stream, its header is damaged, chunks are missing, it is not for this model, or
            there is a condition and should be none or the other way round.
        ValueError: If the data does not consist of bytes, `condition` does not fit, or the model cannot be prepared.
    """

    def __init__(
        self, model: DensityModel, data: bytes, condition: ArrayLike | None = None, *, whole: bool = True
    ) -> None:
        self._prepared = prepared = prepare(model)
        try:
            self._data = data if isinstance(data, bytes) else memoryview(data).tobytes()
        except (TypeError, BufferError):
            raise ValueError(f"data must be bytes, got {type(data).__name__}") from None
        header, self._spans = unpack(self._data, whole=whole)
        self.header = header
        """What the stream records about itself."""
        self.chunks = len(self._spans)
        """Number of chunks that are there."""
        if not header.needs(prepared.identity):
            raise StreamError(
                f"the stream is of another model: it needs {header.identity.hex()}, this one is "
                f"{prepared.identity[:32]}"
            )
        alike = (header.shape, header.levels) == (prepared.image_shape, prepared.levels)
        if not alike or not has_room(prepared, header.per_group):
            raise StreamError("the header has values that no encoder writes for this model")
        if header.labelled and prepared.num_classes is None:
            raise StreamError("the stream has classes, and the model has none")
        if header.shrunk and prepared.conditions.channels != header.shape[0]:
            raise StreamError("the stream has small pictures, and the model is not conditional on such")
        if header.conditioned != (condition is not None):
            raise StreamError(f"condition must be {'given' if header.conditioned else 'None'}, as in compressing")
        _, self._given = prepared.checked_given(None, condition, header.count)

    @functools.cached_property
    def _condition(self) -> Tensor | None:
        """What the images are conditioned on."""
        if not self.header.shrunk:
            return self._given
        return self._prepared.checked_given(None, unpack_maps(self._data, self.header), self.header.count)[1]

    def decode(
        self,
        chunks: Sequence[int],
        done: Callable[[int], object] = lambda _: None,
        damaged: Callable[[int, StreamError], object] | None = None,
    ) -> Iterator[tuple[int, Decoded]]:
        """Decodes chunks, on all cores.

        Args:
            chunks: Their indices, of those that are there.
            done: Called with numbers of images as they are decoded, or of pixels of large ones.
            damaged: Called with the index of each damaged chunk and its error; the chunk is then left out. Without it
                the error is raised.

        Yields:
            A chunk's index; its images, as of `decompress`, and classes, int64 (n,) or None. If a stream was changed
            together with its checksums, only the digest over all chunks shows it, which `decompress` compares.

        Raises:
            StreamError: If a chunk is damaged.
        """
        threads = torch.get_num_threads()
        apart = len(chunks) >= _CHUNKS_PER_THREAD * threads and not self.header.large
        coder = self._coder(1 if apart else threads)
        _ = self._condition  # raises for all chunks

        def decoded(chunk: int) -> Decoded | StreamError:
            try:
                return self._decoded(coder, chunk, done)
            except entropy.PayloadError as error:
                other = ", or the condition is not that of compressing" if self.header.conditioned else ""
                return StreamError(f"chunk {chunk} is damaged{other}: {error}")
            except StreamError as error:
                return error

        if self.header.large:  # in this thread, where Ctrl-C ends it between parts
            each_chunk: AbstractContextManager[Iterator[Decoded | StreamError]] = nullcontext(map(decoded, chunks))
        else:
            count = threads if apart and coder.native else 1
            each_chunk = in_order(decoded, chunks, threads=count, ahead=2 * threads)
        with each_chunk as results:
            for chunk, result in zip(chunks, results, strict=True):
                if not isinstance(result, StreamError):
                    yield chunk, result
                elif damaged is None:
                    try:
                        raise result
                    finally:
                        del result  # it has this frame, and that one the images, until garbage is collected
                else:
                    damaged(chunk, result)

    @property
    def maps_bytes(self) -> int:
        """Size of the small pictures of all images, once unpacked, if the stream holds them; it may be damaged."""
        return math.prod(container.maps_shape(container.maps_of(self._data), self.header))

    def units(self, images: int) -> int:
        """How many pixels so many images have, if they are large; otherwise the number itself."""
        return images * math.prod(self.header.shape[1:]) if self.header.large else images

    def _coder(self, threads: int) -> GroupCoder:
        conditional = self.header.labelled or self.header.conditioned or self.header.shrunk
        return GroupCoder(self._prepared, conditional=conditional, threads=threads)

    def _decoded_in_parts(self, coder: GroupCoder, chunk: int, done: Callable[[int], object]) -> Decoded:
        """A chunk that is a large image."""
        payload = payload_of(self._data, self._spans[chunk], f"chunk {chunk} is")
        parts, start = [], 0
        while start < len(payload):
            if len(payload) - start < _PART.size:
                raise StreamError(f"chunk {chunk} is damaged: it ends within the length of a part")
            stop = start + _PART.size + _PART.unpack_from(payload, start)[0]
            parts.append(payload[start + _PART.size : stop])
            start = stop
        if start != len(payload) or len(parts) != len(coder.parts) + self.header.labelled:
            raise StreamError(f"chunk {chunk} is damaged: its parts are not those of an image")
        labels = None
        if self.header.labelled:
            labels = coder.decode_labels(1, decoder := entropy.Decoder(parts.pop(0)))
            decoder.end()
        image = torch.from_numpy(np.zeros((1, *self.header.shape), array_dtype(self.header.levels)))
        maps = None if self._condition is None else self._condition[chunk : chunk + 1]
        for pixels in coder.decode_in_parts(image, (labels, maps), map(entropy.Decoder, parts)):
            done(pixels)
        return image, labels

    def _decoded(self, coder: GroupCoder, chunk: int, done: Callable[[int], object]) -> Decoded:
        header = self.header
        if header.large:
            return self._decoded_in_parts(coder, chunk, done)
        decoder = entropy.Decoder(payload_of(self._data, self._spans[chunk], f"chunk {chunk} is"))
        members = header.images_of(chunk)
        labels = coder.decode_labels(len(members), decoder) if header.labelled else None
        # NumPy's zeros take no memory until they are written to
        images = torch.from_numpy(np.zeros((len(members), *header.shape), array_dtype(header.levels)))
        maps = None if self._condition is None else self._condition[members.start : members.stop]
        for group in header.groups_of(chunk):
            part = slice(group.start - members.start, group.stop - members.start)
            given = None if labels is None else labels[part], None if maps is None else maps[part]
            coder.decode(images[part], given, decoder)
            done(group.stop - group.start)
        decoder.end()
        return images, labels


def find_model(
    header: Header,
    names: Sequence[str] = (),
    *,
    device: torch.device | str = "cpu",
    loaded: dict[str, PreparedModel] | None = None,
) -> tuple[str, PreparedModel]:
    """The model that a stream was compressed with, found by its identity: its name, and its exact prepared.

    Args:
        header: The stream's header, see `read_header`.
        names: Models to choose from, as `pixelcnn.load` takes them; by default the shipped ones.
        device: Where the model is to compute.
        loaded: Models that are prepared there already, by name; others are added.

    Raises:
        StreamError: If it is none of them; says which model is needed.
        ValueError: If one of them cannot be loaded or prepared.
    """
    models = {} if loaded is None else loaded

    def fitting(name: str) -> PreparedModel:
        if name not in models:
            models[name] = prepare(load(name).to(device))
        prepared = models[name]
        resizable = header.shape[1:] != prepared.image_shape[1:] and prepared.any_size
        return prepared.resized(header.shape[1:]) if resizable else prepared

    others = []
    for name in names or shipped_models():
        prepared = fitting(name)
        if header.needs(prepared.identity):
            return name, prepared
        others.append(f"{name} ({prepared.identity[:32]})")
    original = header.notes.get("model")
    printable = isinstance(original, str) and len(original) <= _MAX_NAME and original.isprintable()
    known = f", called {original!r} where it was compressed," if printable else ""
    shipped = [name for name in shipped_models() if header.needs(fitting(name).identity)] if names else []
    hint = f"; it is the shipped model {shipped[0]}" if shipped else ""
    kind = f"{' x '.join(map(str, header.shape))} in {header.levels} levels"
    raise StreamError(
        f"the stream needs the model of identity {header.identity.hex()}{known} for images of {kind}, and that is "
        f"none of {', '.join(others)}{hint}"
    )


def _matches_digest(header: Header, images: Tensor, labels: Tensor | None) -> bool:
    return header.digest == _digest(images, labels)


def _digest(images: Tensor, labels: Tensor | None) -> bytes:
    """The first 8 bytes of the SHA-256 of labels and levels."""
    digest = hashlib.sha256(b"" if labels is None else labels.numpy().astype("<i8").data)
    levels = images.contiguous().numpy()
    digest.update(levels.astype(levels.dtype.newbyteorder("<"), copy=False).data)
    return digest.digest()[:8]
