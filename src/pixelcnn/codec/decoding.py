"""From a stream to images: all of them, or those of some chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pixelcnn.arguments import integer
from pixelcnn.codec import entropy
from pixelcnn.codec.container import Header, StreamError, bytes_of, payload_of, unpack
from pixelcnn.codec.encoding import GROUP_BYTES, digest_of
from pixelcnn.codec.groups import Groups, mapped, workers
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.progress import progress_bar
from pixelcnn.sampling.eager import cache_bytes

__all__ = ["Stream", "decompress", "decompress_with_labels"]

_MOST_BYTES = 2**31
_CHUNKS_A_THREAD = 4  # from so many on, each thread decodes chunks of its own; below, all decode one together


def decompress(
    model: AutoregressiveModel | PreparedModel,
    data: bytes,
    *,
    first: int = 0,
    n: int | None = None,
    progress: bool = False,
    most_bytes: int = _MOST_BYTES,
) -> Tensor:
    """The images of a stream: uint8 levels (N, C, H, W), on the CPU.

    Args:
        model: The one that compressed them; its twin, if it is prepared already.
        data: What `compress` returned.
        first: The first image that is wanted.
        n: How many are wanted; all from `first` on by default. Only the chunks that have them are decoded.
        progress: Show a progress bar on standard error.
        most_bytes: What the result may have, classes with 8 bytes each. Beyond it and a chunk's images a thread needs
            some 64 MiB for what an encoder of today wrote (thrice that without compiled code), and at most about 1 GiB,
            or what a single image needs, for what a header may ask for. A stream's notes may take 0.2 GiB.

    Raises:
        StreamError: If the data is damaged, cut, of another version or another model, or the result too large. It is a
            ValueError.
        ValueError: If `first` or `n` is out of range.
    """
    return decompress_with_labels(model, data, first=first, n=n, progress=progress, most_bytes=most_bytes)[0]


def decompress_with_labels(
    model: AutoregressiveModel | PreparedModel,
    data: bytes,
    *,
    first: int = 0,
    n: int | None = None,
    progress: bool = False,
    most_bytes: int = _MOST_BYTES,
) -> tuple[Tensor, Tensor | None]:
    """The images of a stream, as `decompress`, and their classes, int64 (N,), or None."""
    stream = Stream(model, data)
    header = stream.header
    first = integer("first", first, 0, header.count - 1)
    most = header.count - first
    wanted = range(first, first + (most if n is None else integer("n", n, 1, most)))
    chunks = range(wanted.start // header.per_chunk, (wanted.stop - 1) // header.per_chunk + 1)
    members = range(header.images_of(chunks[0]).start, header.images_of(chunks[-1]).stop)
    size = len(members) * (math.prod(header.shape) + 8 * header.labelled)
    if size > most_bytes:
        raise StreamError(f"the images have {size} bytes, and most_bytes is {most_bytes}")
    images = torch.from_numpy(np.zeros((len(members), *header.shape), np.uint8))
    labels = torch.from_numpy(np.zeros(len(members), np.int64)) if header.labelled else None
    with progress_bar(f"decompressing {len(members)}", len(members), "img", show=progress) as bar:
        for chunk, part in stream.decode(chunks, bar.update):
            start = header.images_of(chunk).start - members.start
            into = slice(start, start + len(part[0]))
            images[into] = part[0]
            if labels is not None and part[1] is not None:
                labels[into] = part[1]
    if len(members) == header.count and digest_of(images, labels) != header.digest:
        raise StreamError("the images are not those that were compressed: their digest does not match")
    within = slice(wanted.start - members.start, wanted.stop - members.start)
    return images[within], None if labels is None else labels[within]


class Stream:
    """A stream and the model that it needs: any chunk can be decoded without the others.

    Args:
        model: The one that compressed it; its twin, if it is prepared already.
        data: What `compress` returned.

    Raises:
        StreamError: If the data is no stream, its header is damaged, or it is not for this model.
    """

    def __init__(self, model: AutoregressiveModel | PreparedModel, data: bytes) -> None:
        self._prepared = prepared = model if isinstance(model, PreparedModel) else prepare(model)
        self._data = bytes_of(data)
        self.header, self._places = header, _ = unpack(self._data)
        """What the stream says of itself."""
        twin = prepared
        if header.identity != bytes.fromhex(prepared.identity)[:16]:
            raise StreamError(
                f"the stream is of another model: it needs {header.identity.hex()}, this one is "
                f"{prepared.identity[:32]}"
            )
        if header.shape != twin.image_shape or header.levels != twin.levels or not _has_room(prepared, header):
            raise StreamError("the header has values that no encoder writes for this model")
        if header.labelled and twin.num_classes is None:
            raise StreamError("the stream has classes, and the model has none")

    def decode(
        self,
        chunks: Sequence[int],
        done: Callable[[int], object] = lambda _: None,
        damaged: Callable[[int, StreamError], object] | None = None,
    ) -> Iterator[tuple[int, tuple[Tensor, Tensor | None]]]:
        """Decodes chunks, on all cores.

        Args:
            chunks: Which.
            done: Told of images, as they come.
            damaged: Told of chunks that are damaged, which are then left out; without it they raise.

        Yields:
            A chunk's index; its images, uint8 (n, C, H, W), and classes, int64 (n,) or None. What a changed stream with
            changed checksums decodes to is known to be wrong only where all chunks are decoded and `digest_of` them
            compared with the header's, as `decompress` does.

        Raises:
            StreamError: If a chunk is damaged.
        """
        threads = torch.get_num_threads()
        apart = len(chunks) >= _CHUNKS_A_THREAD * threads
        coder = Groups(self._prepared, labelled=self.header.labelled, threads=1 if apart else threads)

        def decoded(chunk: int) -> tuple[Tensor, Tensor | None] | StreamError:
            try:
                return self._decoded(coder, chunk, done)
            except entropy.PayloadError as error:
                return StreamError(f"chunk {chunk} is damaged: {error}")
            except StreamError as error:
                return error

        with workers(threads if apart and coder.native else 1) as pool:
            for chunk, found in zip(chunks, mapped(pool, decoded, chunks, 2 * threads), strict=True):
                if not isinstance(found, StreamError):
                    yield chunk, found
                elif damaged is None:
                    try:
                        raise found
                    finally:
                        del found  # it has this frame, and that one the images, until garbage is collected
                else:
                    damaged(chunk, found)

    def _decoded(self, coder: Groups, chunk: int, done: Callable[[int], object]) -> tuple[Tensor, Tensor | None]:
        header = self.header
        decoder = entropy.Decoder(payload_of(self._data, self._places[chunk], chunk))
        members = header.images_of(chunk)
        labels = coder.decode_labels(len(members), decoder) if header.labelled else None
        images = torch.from_numpy(np.zeros((len(members), *header.shape), np.uint8))  # of no memory until it is filled
        for group in header.groups_of(chunk):
            part = slice(group.start - members.start, group.stop - members.start)
            coder.decode(images[part], None if labels is None else labels[part], decoder)
            done(group.stop - group.start)
        decoder.end()
        return images, labels


def _has_room(prepared: PreparedModel, header: Header) -> bool:
    """Whether a group fits into sixteen times the memory that an encoder of today plans with."""
    return header.per_group == 1 or header.per_group * cache_bytes(prepared) <= 16 * GROUP_BYTES
