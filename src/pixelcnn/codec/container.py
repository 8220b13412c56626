"""The container format of a stream: header, notes, smaller pictures and checksummed chunks.

docs/format.md is the specification.
"""

from __future__ import annotations

import bz2
import itertools
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixelcnn.levels import GREY_LEVELS

__all__ = [
    "Header", "StreamError", "block", "joined", "maps_of", "maps_shape", "pack_header", "pack_maps", "payload_of",
    "read_header", "separated", "unpack", "unpack_maps",
]  # fmt: skip

_MAGIC = b"PXCN"
_VERSION, _VERSION_OF_MANY = 1, 2
"""The version of streams with up to 256 levels, and that of streams with more, whose header holds levels - 1."""
_HEADER = struct.Struct("<4sBB16sHHHHQIH8s")  # without the checksum at its end
_CHECKSUM = struct.Struct("<I")
_BLOCK = struct.Struct("<II")
_MAX_SUBPIXELS = 2**24  # per group: what a decoder has to hold at a time
_MIN_PAYLOAD = 8
_MAX_NOTES = 2**24  # bytes, inflated
_MAX_NOTES_VALUES = 2**20  # each may take a hundred bytes once parsed

_LABELLED, _NOTED, _CONDITIONED, _LARGE, _SHRUNK = 1, 2, 4, 8, 16

_JOINED = b"PXCS"  # several streams, one after another
_COUNT = struct.Struct("<4sBI")
_LENGTH = struct.Struct("<Q")
_SIZE = struct.Struct("<HH")  # of a smaller picture
_NO_MAPS = "the small pictures are damaged: they are none of the stream's images"


class StreamError(ValueError):
    """Data that is not a stream, is damaged, or is for another model or version."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a stream records about itself."""

    identity: bytes
    """The first 16 bytes of the model's identity."""
    shape: tuple[int, int, int]
    """Channels, height and width."""
    levels: int
    """Number of levels of a sub-pixel."""
    count: int
    """Number of images."""
    per_chunk: int
    """Images per chunk; the last chunk may have fewer."""
    per_group: int
    """Images that are coded side by side."""
    labelled: bool
    """Whether each image has a class."""
    conditioned: bool = False
    """Whether the images are conditioned on vectors or maps, which the stream does not hold."""
    large: bool = False
    """Whether the images are so large that each is coded in parts: then a chunk is an image, see docs/format.md."""
    shrunk: bool = False
    """Whether the images are conditioned on smaller pictures of them, which the stream holds."""
    digest: bytes
    """The first 8 bytes of the SHA-256 of labels and levels."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What was stored along with the images; whoever reads it has to check it."""

    def needs(self, identity: str) -> bool:
        """Whether this is the identity, in hexadecimal, of the prepared model that the stream needs."""
        return bytes.fromhex(identity).startswith(self.identity)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.count // self.per_chunk)

    def images_of(self, chunk: int) -> range:
        """The indices of a chunk's images."""
        return range(chunk * self.per_chunk, min((chunk + 1) * self.per_chunk, self.count))

    def groups_of(self, chunk: int) -> Iterator[slice]:
        """The images of each of a chunk's groups; an iterator, since a header may ask for any number of them."""
        members = self.images_of(chunk)
        for start in range(members.start, members.stop, self.per_group):
            yield slice(start, min(start + self.per_group, members.stop))


def pack_header(header: Header, maps: bytes = b"") -> bytes:
    """The stream up to its first chunk; the chunks follow, each a `block`.

    Args:
        header: What the stream records about itself.
        maps: What `pack_maps` returned, if the images are `shrunk`.

    Raises:
        ValueError: If the notes cannot be written as JSON, or are too long.
    """
    notes = block(_deflated(header.notes)) if header.notes else b""
    many = header.levels > GREY_LEVELS
    begin = _HEADER.pack(
        _MAGIC, _VERSION_OF_MANY if many else _VERSION,
        _LABELLED * header.labelled + _NOTED * bool(notes) + _CONDITIONED * header.conditioned + _LARGE * header.large
        + _SHRUNK * header.shrunk,
        header.identity, *header.shape, header.levels - many, header.count, header.per_chunk, header.per_group,
        header.digest,
    )  # fmt: skip
    return begin + _CHECKSUM.pack(zlib.crc32(begin)) + notes + (block(maps) if header.shrunk else b"")


def block(payload: bytes) -> bytes:
    """A payload preceded by its length and checksum.

    Raises:
        ValueError: If it has 4 GiB or more.
    """
    if len(payload) >= 2**32:
        raise ValueError(f"chunk must be smaller: a block of a stream has less than {2**32} bytes, got {len(payload)}")
    return _BLOCK.pack(len(payload), zlib.crc32(payload)) + payload


def read_header(data: bytes) -> Header:
    """The header of a stream: its model's identity, its images, its notes. The chunks are not looked at.

    Args:
        data: What `pixelcnn.compress` returned, or its beginning.

    Raises:
        StreamError: If the data does not begin like an intact stream of a version that is known.
    """
    return _read_header(data)[0]


def joined(streams: Sequence[bytes]) -> bytes:
    """Several streams, such as those of images of several sizes, as one; a single one as it is."""
    if len(streams) == 1:
        return streams[0]
    begin = _COUNT.pack(_JOINED, _VERSION, len(streams)) + b"".join(_LENGTH.pack(len(each)) for each in streams)
    return b"".join([begin, _CHECKSUM.pack(zlib.crc32(begin)), *streams])


def separated(data: bytes, *, whole: bool = True) -> list[bytes]:
    """The streams that were joined.

    Args:
        data: What `joined` returned.
        whole: Whether all of it must be there; if not, the last streams may be cut short or empty.

    Raises:
        StreamError: If the data begins like joined streams and is damaged, or of another version.
    """
    if not data.startswith(_JOINED):
        return [data]
    if len(data) < _COUNT.size:
        raise StreamError("the stream is truncated: it ends within its header")
    _, version, count = _COUNT.unpack_from(data)
    start = _COUNT.size + count * _LENGTH.size
    if version != _VERSION:
        raise StreamError(f"the stream is of version {version}, and this reads version {_VERSION}")
    if len(data) < start + _CHECKSUM.size or _CHECKSUM.unpack_from(data, start)[0] != zlib.crc32(data[:start]):
        raise StreamError("the header of the joined streams is damaged or truncated")
    if count == 0:
        raise StreamError("the joined streams must be at least one, got none")
    lengths = [_LENGTH.unpack_from(data, _COUNT.size + k * _LENGTH.size)[0] for k in range(count)]
    ends = list(itertools.accumulate(lengths, initial=start + _CHECKSUM.size))
    if whole and ends[-1] != len(data):
        raise StreamError(f"the joined streams must have {ends[-1]} bytes, got {len(data)}")
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def unpack(data: bytes, *, whole: bool = True) -> tuple[Header, list[tuple[int, int]]]:
    """The header, and the offset and length of each chunk's payload. All lengths are checked, and no payload is read.

    Args:
        data: What `pixelcnn.compress` returned.
        whole: Whether all chunks must be there; if not, those before the first missing one are returned.

    Raises:
        StreamError: If the data is not a whole stream of this version, or without `whole` not its beginning.
    """
    header, offset = _read_header(data)
    if header.shrunk:
        offset = sum(_span_at(data, offset, "its small pictures"))
    if whole and header.chunks > (len(data) - offset) // (_BLOCK.size + _MIN_PAYLOAD):
        raise StreamError(f"the stream is too short for its {header.chunks} chunks")
    spans: list[tuple[int, int]] = []
    for chunk in range(header.chunks):
        try:
            spans.append(_span_at(data, offset, f"chunk {chunk} of {header.chunks}"))
        except StreamError:
            if whole:
                raise
            break
        offset = sum(spans[-1])
    if whole and offset != len(data):
        rest = len(data) - offset
        raise StreamError(
            f"{rest} byte{'s follow' if rest != 1 else ' follows'} the stream's end; a file holds one stream"
        )
    return header, spans


def maps_of(data: bytes) -> bytes:
    """The smaller pictures of a stream of `shrunk` images, as `pack_header` was given them.

    Raises:
        StreamError: If they are damaged.
    """
    _, offset = _read_header(data)
    return payload_of(data, _span_at(data, offset, "its small pictures"), "the small pictures are")


def pack_maps(maps: Tensor) -> bytes:
    """The smaller pictures of `shrunk` images, uint8 (N, C, h, w), as a payload.

    They are grey values whatever the images' levels (`pixelcnn.datasets.shrunk`), coded as differences from the pixel
    to the left and compressed by bzip2: a model would need fewer bytes, but they have a small share of the pixels.
    """
    values = maps.numpy()
    return _SIZE.pack(*values.shape[2:]) + bz2.compress(np.diff(values, axis=3, prepend=np.uint8(0)).tobytes())


def maps_shape(payload: bytes, header: Header) -> tuple[int, int, int, int]:
    """The shape of what `pack_maps` was given, from what it returned and the header of the images' stream.

    Raises:
        StreamError: If these are no pictures of its images.
    """
    channels, height, width = header.shape
    h, w = _SIZE.unpack_from(payload) if len(payload) >= _SIZE.size else (0, 0)
    if not h or not w or height % h or width % w:
        raise StreamError(_NO_MAPS)
    return header.count, channels, h, w


def unpack_maps(data: bytes, header: Header) -> Tensor:
    """What `pack_maps` was given, from a stream of images with this header.

    Raises:
        StreamError: If it is damaged, or these are no pictures of its images.
    """
    payload, wrong = maps_of(data), StreamError(_NO_MAPS)
    shape, decoder = maps_shape(payload, header), bz2.BZ2Decompressor()
    size = math.prod(shape)
    try:
        found = decoder.decompress(payload[_SIZE.size :], size + 1)
    except (OSError, OverflowError):
        raise wrong from None
    if len(found) != size or not decoder.eof or decoder.unused_data:
        raise wrong
    differences = np.frombuffer(found, np.uint8).reshape(shape)
    return torch.from_numpy(np.cumsum(differences, axis=3, dtype=np.uint8))


def payload_of(data: bytes, span: tuple[int, int], name: str) -> bytes:
    """The payload at an offset and of a length that `unpack` returned; `name` is for the error.

    Raises:
        StreamError: If it is damaged.
    """
    offset, length = span
    payload = data[offset : offset + length]
    (_, checksum) = _BLOCK.unpack_from(data, offset - _BLOCK.size)
    if zlib.crc32(payload) != checksum:
        raise StreamError(f"{name} damaged: the checksum does not match")
    return payload


def _span_at(data: bytes, offset: int, name: str) -> tuple[int, int]:
    """The offset and length of the payload of the block at an offset, all of which is there."""
    if len(data) - offset < _BLOCK.size:
        raise StreamError(f"the stream ends before {name}")
    length: int = _BLOCK.unpack_from(data, offset)[0]
    if len(data) - offset - _BLOCK.size < length:
        raise StreamError(f"the stream ends within {name}")
    return offset + _BLOCK.size, length


def _read_header(data: bytes) -> tuple[Header, int]:
    """The header, and the offset of the first chunk."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise StreamError("this is no pixelcnn stream: it does not begin with PXCN")
    offset = _HEADER.size + _CHECKSUM.size
    if len(data) < offset:
        raise StreamError(f"the stream ends within its header: {len(data)} of {offset} bytes")
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    _, version, flags, identity, c, h, w, levels, count, per_chunk, per_group, digest = _HEADER.unpack_from(data)
    if version not in (_VERSION, _VERSION_OF_MANY):
        raise StreamError(
            f"the stream has version {version}, and this program reads versions {_VERSION} and {_VERSION_OF_MANY}"
        )
    many = version == _VERSION_OF_MANY
    levels += many
    if zlib.crc32(data[: _HEADER.size]) != checksum:
        raise StreamError("the header is damaged: its checksum does not match")
    valid = (
        0 < per_group <= per_chunk and count > 0 and levels >= 2 and many == (levels > GREY_LEVELS) and c * h * w > 0
    )
    known = (
        flags < 2 * _SHRUNK
        and (not flags & _LARGE or per_chunk == 1)
        and not (flags & _SHRUNK and flags & _CONDITIONED)
    )
    if not valid or not known or (per_group > 1 and per_group * c * h * w > _MAX_SUBPIXELS):
        raise StreamError("the header has values that no encoder writes")
    notes: dict[str, Any] = {}
    if flags & _NOTED:
        span = _span_at(data, offset, "its notes")
        notes = _inflated(payload_of(data, span, "the notes are"))
        offset = sum(span)
    header = Header(
        identity=identity, shape=(c, h, w), levels=levels, count=count, per_chunk=per_chunk, per_group=per_group,
        labelled=bool(flags & _LABELLED), conditioned=bool(flags & _CONDITIONED), large=bool(flags & _LARGE),
        shrunk=bool(flags & _SHRUNK), digest=digest, notes=notes,
    )  # fmt: skip
    return header, offset


def _deflated(notes: Mapping[str, Any]) -> bytes:
    """Notes as they are stored."""
    try:
        text = json.dumps(notes, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"notes must be representable as JSON: {error}") from None
    if len(text) > _MAX_NOTES or _value_bound(text) > _MAX_NOTES_VALUES:
        raise ValueError(
            f"notes may have {_MAX_NOTES:,} bytes as JSON and {_MAX_NOTES_VALUES:,} commas, colons and brackets, got "
            f"{len(text):,} and {_value_bound(text):,}; compress fewer files at a time"
        )
    return zlib.compress(text, 9)


def _inflated(deflated: bytes) -> dict[str, Any]:
    """Stored notes, which are refused before they take much memory."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(deflated, _MAX_NOTES)
        if not inflate.eof or inflate.unused_data:
            raise StreamError("the notes are damaged, or too long")
        if _value_bound(text) > _MAX_NOTES_VALUES:
            raise StreamError("the notes have too many values")
        notes = json.loads(text)
    except StreamError:
        raise
    except (zlib.error, ValueError, RecursionError) as error:
        raise StreamError(f"the notes are damaged: {error}") from None
    if not isinstance(notes, dict):
        raise StreamError("the notes are damaged: they are no object of JSON")
    return notes


def _value_bound(text: bytes) -> int:
    """At least the number of JSON values, less one; such characters within strings are counted too."""
    return sum(map(text.count, (b",", b":", b"[", b"{")))
