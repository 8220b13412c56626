"""The bytes of a stream: a header, then chunks that can be read by themselves. docs/format.md is the specification."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["VERSION", "Header", "StreamError", "pack", "unpack"]

MAGIC = b"PXCN"
VERSION = 1
_HEADER = struct.Struct("<4sBB16sHHHHQIH8s")  # without the check at its end
_CHECK = struct.Struct("<I")
_CHUNK = struct.Struct("<II")
_MOST_SUBPIXELS = 2**24  # of a group: what a decoder has to hold at a time

LABELLED = 1


class StreamError(ValueError):
    """Data that is no stream, damaged, or not for this model or version."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a stream says of itself."""

    identity: bytes
    """The first 16 bytes of the model's identity."""
    shape: tuple[int, int, int]
    """Channels, height and width."""
    levels: int
    count: int
    """Images."""
    per_chunk: int
    """Images of a chunk, but for the last."""
    per_group: int
    """Images that are coded side by side."""
    labelled: bool
    """Whether there is a class for each image."""
    digest: bytes
    """The first 8 bytes of the SHA-256 of labels and levels."""

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-self.count // self.per_chunk)

    def images_of(self, chunk: int) -> range:
        """Which images a chunk has."""
        return range(chunk * self.per_chunk, min((chunk + 1) * self.per_chunk, self.count))


def pack(header: Header, payloads: Iterable[bytes]) -> bytes:
    """The stream."""
    begin = _HEADER.pack(
        MAGIC, VERSION, LABELLED * header.labelled, header.identity, *header.shape, header.levels, header.count,
        header.per_chunk, header.per_group, header.digest,
    )  # fmt: skip
    parts = [begin, _CHECK.pack(zlib.crc32(begin))]
    for payload in payloads:
        parts += [_CHUNK.pack(len(payload), zlib.crc32(payload)), payload]
    return b"".join(parts)


def unpack(data: bytes) -> tuple[Header, list[tuple[int, int]]]:
    """The header, and the start and length of each chunk's payload; looks at all sizes, and at no payload.

    Raises:
        StreamError: If it is not a whole stream of this version.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise StreamError("this is no pixelcnn stream: it does not begin with PXCN")
    size = _HEADER.size + _CHECK.size
    if len(data) < size:
        raise StreamError(f"the stream ends within its header: {len(data)} of {size} bytes")
    (check,) = _CHECK.unpack_from(data, _HEADER.size)
    fields = _HEADER.unpack_from(data)
    if fields[1] != VERSION:
        raise StreamError(f"the stream has version {fields[1]}, and this program reads version {VERSION}")
    if zlib.crc32(data[: _HEADER.size]) != check:
        raise StreamError("the header is damaged: its checksum does not match")
    _, _, flags, identity, c, h, w, levels, count, per_chunk, per_group, digest = fields
    sound = 0 < per_group <= per_chunk and count > 0 and 2 <= levels <= 256 and c * h * w > 0 and flags <= LABELLED
    if not sound or (per_group > 1 and per_group * c * h * w > _MOST_SUBPIXELS):
        raise StreamError("the header has values that no encoder writes")
    header = Header(
        identity=identity, shape=(c, h, w), levels=levels, count=count, per_chunk=per_chunk, per_group=per_group,
        labelled=bool(flags & LABELLED), digest=digest,
    )  # fmt: skip
    if header.chunks > (len(data) - size) // _CHUNK.size:
        raise StreamError(f"the stream is too short for its {header.chunks} chunks")
    places, position = [], size
    for chunk in range(header.chunks):
        if len(data) - position < _CHUNK.size:
            raise StreamError(f"the stream ends before chunk {chunk} of {header.chunks}")
        length, _ = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        if len(data) - position < length:
            raise StreamError(f"the stream ends within chunk {chunk} of {header.chunks}")
        places.append((position, length))
        position += length
    if position != len(data):
        raise StreamError(f"{len(data) - position} bytes follow the stream's end")
    return header, places


def payload_of(data: bytes, place: tuple[int, int], chunk: int) -> bytes:
    """A chunk's payload.

    Raises:
        StreamError: If it is damaged.
    """
    start, length = place
    payload = data[start : start + length]
    (_, check) = _CHUNK.unpack_from(data, start - _CHUNK.size)
    if zlib.crc32(payload) != check:
        raise StreamError(f"chunk {chunk} is damaged: its checksum does not match")
    return payload
