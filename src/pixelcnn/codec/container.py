"""The bytes of a stream: a header, then chunks that can be read by themselves. docs/format.md is the specification."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["VERSION", "Header", "StreamError", "bytes_of", "deflated", "pack", "payload_of", "read_header", "unpack"]

MAGIC = b"PXCN"
VERSION = 1
_HEADER = struct.Struct("<4sBB16sHHHHQIH8s")  # without the check at its end
_CHECK = struct.Struct("<I")
_CHUNK = struct.Struct("<II")
_MOST_SUBPIXELS = 2**24  # of a group: what a decoder has to hold at a time
_LEAST_PAYLOAD = 8
_MOST_NOTES = 2**24  # bytes, inflated
_MOST_VALUES = 2**20  # of the notes: each may take a hundred bytes

LABELLED, NOTED = 1, 2


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
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What was kept with the images; whoever reads it checks it."""

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-self.count // self.per_chunk)

    def images_of(self, chunk: int) -> range:
        """Which images a chunk has."""
        return range(chunk * self.per_chunk, min((chunk + 1) * self.per_chunk, self.count))

    def groups_of(self, chunk: int) -> Iterator[slice]:
        """Which images each of a chunk's groups has; as many as a header likes, so they are not kept."""
        members = self.images_of(chunk)
        for start in range(members.start, members.stop, self.per_group):
            yield slice(start, min(start + self.per_group, members.stop))


def pack(header: Header, payloads: Iterable[bytes]) -> bytes:
    """The stream.

    Raises:
        ValueError: If JSON cannot say the notes, or they are too long.
    """
    noted = _block(deflated(header.notes)) if header.notes else b""
    begin = _HEADER.pack(
        MAGIC, VERSION, LABELLED * header.labelled + NOTED * bool(noted), header.identity, *header.shape, header.levels,
        header.count, header.per_chunk, header.per_group, header.digest,
    )  # fmt: skip
    return b"".join([begin, _CHECK.pack(zlib.crc32(begin)), noted, *map(_block, payloads)])


def deflated(notes: Mapping[str, Any]) -> bytes:
    """Notes as they are kept.

    Raises:
        ValueError: If JSON cannot say them, or they are too long.
    """
    try:
        text = json.dumps(notes, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"notes must be what JSON can say: {error}") from None
    if len(text) > _MOST_NOTES or _values(text) > _MOST_VALUES:
        raise ValueError(
            f"notes may have {_MOST_NOTES:,} bytes as JSON and {_MOST_VALUES:,} commas, colons and brackets, got "
            f"{len(text):,} and {_values(text):,}; compress fewer files at a time"
        )
    return zlib.compress(text, 9)


def _block(payload: bytes) -> bytes:
    return _CHUNK.pack(len(payload), zlib.crc32(payload)) + payload


def bytes_of(data: object) -> bytes:
    """The bytes of a stream: of `bytes` itself, and of anything else that holds some, such as an array of uint8.

    Raises:
        ValueError: If there are none.
    """
    try:
        return data if isinstance(data, bytes) else memoryview(data).tobytes()  # type: ignore[arg-type]
    except (TypeError, BufferError):
        raise ValueError(f"data must be bytes, got {type(data).__name__}") from None


def read_header(data: bytes) -> Header:
    """What a stream says of itself: its model's identity, images, notes. Looks at no chunk.

    Raises:
        StreamError: If it does not begin like a sound stream of this version.
    """
    return _read_header(data)[0]


def unpack(data: bytes) -> tuple[Header, list[tuple[int, int]]]:
    """The header, and the start and length of each chunk's payload; looks at all sizes, and at no payload.

    Raises:
        StreamError: If it is not a whole stream of this version.
    """
    header, position = _read_header(data)
    if header.chunks > (len(data) - position) // (_CHUNK.size + _LEAST_PAYLOAD):
        raise StreamError(f"the stream is too short for its {header.chunks} chunks")
    places = []
    for chunk in range(header.chunks):
        length = _length_at(data, position, f"chunk {chunk} of {header.chunks}")
        places.append((position + _CHUNK.size, length))
        position += _CHUNK.size + length
    if position != len(data):
        raise StreamError(f"{len(data) - position} bytes follow the stream's end")
    return header, places


def _read_header(data: bytes) -> tuple[Header, int]:
    """The header, and where the chunks begin."""
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
    sound = 0 < per_group <= per_chunk and count > 0 and 2 <= levels <= 256 and c * h * w > 0
    if not sound or flags > LABELLED | NOTED or (per_group > 1 and per_group * c * h * w > _MOST_SUBPIXELS):
        raise StreamError("the header has values that no encoder writes")
    notes: dict[str, Any] = {}
    if flags & NOTED:
        length = _length_at(data, size, "its notes")
        notes = _notes_of(_checked(data, (size + _CHUNK.size, length), "the notes are"))
        size += _CHUNK.size + length
    header = Header(
        identity=identity, shape=(c, h, w), levels=levels, count=count, per_chunk=per_chunk, per_group=per_group,
        labelled=bool(flags & LABELLED), digest=digest, notes=notes,
    )  # fmt: skip
    return header, size


def _notes_of(deflated: bytes) -> dict[str, Any]:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(deflated, _MOST_NOTES)
        if not inflate.eof or inflate.unused_data:
            raise StreamError("the notes are damaged, or too long")
        if _values(text) > _MOST_VALUES:
            raise StreamError("the notes have too many values")
        notes = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, StreamError):
            raise
        raise StreamError(f"the notes are damaged: {error}") from None
    if not isinstance(notes, dict):
        raise StreamError("the notes are damaged: they are no object of JSON")
    return notes


def _values(text: bytes) -> int:
    """At least how many values there are, but one; what strings have of these characters counts as well."""
    return sum(map(text.count, (b",", b":", b"[", b"{")))


def _length_at(data: bytes, position: int, what: str) -> int:
    """The length of the block that begins there, all of which is there."""
    if len(data) - position < _CHUNK.size:
        raise StreamError(f"the stream ends before {what}")
    length: int = _CHUNK.unpack_from(data, position)[0]
    if len(data) - position - _CHUNK.size < length:
        raise StreamError(f"the stream ends within {what}")
    return length


def payload_of(data: bytes, place: tuple[int, int], chunk: int) -> bytes:
    """A chunk's payload.

    Raises:
        StreamError: If it is damaged.
    """
    return _checked(data, place, f"chunk {chunk} is")


def _checked(data: bytes, place: tuple[int, int], what: str) -> bytes:
    start, length = place
    payload = data[start : start + length]
    (_, check) = _CHUNK.unpack_from(data, start - _CHUNK.size)
    if zlib.crc32(payload) != check:
        raise StreamError(f"{what} damaged: the checksum does not match")
    return payload
