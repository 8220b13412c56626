"""TensorFlow's checkpoints ("tensor bundles"): an index of names, shapes and places, and the tensors' bytes.

    NAME.index                  a sorted table: blocks of entries whose keys share prefixes, then a block that says
                                where they are, then 48 bytes that say where that is
    NAME.data-00000-of-00001    the tensors, one after the other

Every block and every tensor carries a CRC-32C, and all are verified. Read here rather than by TensorFlow, which would
be an installation of more than a gigabyte for the sake of this page. TensorFlow does not compress these tables.

References:
    | tensorflow/core/util/tensor_bundle, tensorflow/core/lib/io/table_format.txt, https://github.com/tensorflow/tensorflow
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pixelcnn.keras.layout import check_bytes
from pixelcnn.keras.wire import fields, integer, message, varint

__all__ = ["Bundle"]

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER, _TRAILER = 48, 5  # bytes; a block's trailer is its compression and its checksum
_TYPES: dict[int, np.dtype[np.floating]] = {1: np.dtype("<f4"), 2: np.dtype("<f8")}
_STRING = 7
_LARGEST = 2**28  # bytes of an index


class Bundle:
    """A checkpoint of one shard.

    Args:
        prefix: Its name, without .index.

    Raises:
        ValueError: If it is missing or damaged.
    """

    def __init__(self, prefix: Path) -> None:
        self._index = prefix.with_name(prefix.name + ".index")
        self._shard = prefix.with_name(prefix.name + ".data-00000-of-00001")
        for path in (self._index, self._shard):
            if not path.is_file():
                raise ValueError(f"{path} is missing")
        if self._index.stat().st_size > _LARGEST:
            raise ValueError(f"{self._index} is not the example's network: it has {self._index.stat().st_size:,} bytes")
        try:
            self._entries = {key.decode(): fields(value) for key, value in self._table()}
        except (ValueError, LookupError) as error:
            raise ValueError(f"{self._index} is damaged: {error}") from None

    def tensor(self, name: str) -> np.ndarray:
        """A tensor of float32 or float64.

        Raises:
            ValueError: If it is not there, of another type, or damaged.
        """
        entry = self._entry(name)
        kind = _TYPES.get(integer(entry.get(1)))
        if kind is None:
            raise ValueError(f"{self._shard}: {name} must be float32 or float64")
        shape = tuple(integer(message(dim).get(1)) for dim in message(entry.get(2, [b""])[0]).get(2, []))
        check_bytes(shape, kind.itemsize, name, self._shard)
        data = self._bytes(name)
        if len(data) != int(np.prod(shape)) * kind.itemsize:
            raise ValueError(f"{self._index} is damaged: {name} has {len(data)} bytes for the shape {shape}")
        if _masked(data) != _crc(entry):
            raise ValueError(f"{self._shard} is damaged: {name} does not match its checksum")
        return np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("="))

    def text(self, name: str) -> bytes:
        """A string.

        Raises:
            ValueError: If it is not there, not a single string, or damaged.
        """
        if integer(self._entry(name).get(1)) != _STRING:
            raise ValueError(f"{self._shard}: {name} must be a string")
        data = self._bytes(name)
        try:
            length, start = varint(data, 0)
        except ValueError as error:
            raise ValueError(f"{self._shard} is damaged: {name}: {error}") from None
        # TensorFlow sums the length as a number of 4 bytes, its checksum, and the string
        said, content = data[start : start + 4], data[start + 4 :]
        size = length.to_bytes(4, "little")
        whole = _crc32c(content, _crc32c(said, _crc32c(size)))
        if len(content) != length or _rotated(whole) != _crc(self._entry(name)):
            raise ValueError(f"{self._shard} is damaged: {name} does not match its checksum")
        return content

    def _entry(self, name: str) -> dict[int, list[int | bytes]]:
        if name not in self._entries:
            raise ValueError(f"{self._index}: {name} is missing")
        entry = self._entries[name]
        if integer(entry.get(3)) != 0:
            raise ValueError(f"{self._index}: {name} lies in another shard; checkpoints of one shard are read")
        return entry

    def _bytes(self, name: str) -> bytes:
        entry = self._entry(name)
        offset, size = integer(entry.get(4)), integer(entry.get(5))
        if offset + size > self._shard.stat().st_size:
            raise ValueError(f"{self._shard} is damaged: it ends before {name} does")
        with self._shard.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _table(self) -> Iterator[tuple[bytes, bytes]]:
        content = self._index.read_bytes()
        footer = content[-_FOOTER:]
        if len(footer) < _FOOTER or footer[-8:] != _MAGIC:
            raise ValueError("it does not end as a table does")
        _, at = varint(footer, 0)
        _, at = varint(footer, at)
        for _, handle in _block(content, footer[at:]):
            yield from _block(content, handle)


def _block(content: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the block that a handle (offset, size) points to."""
    offset, at = varint(handle, 0)
    size, _ = varint(handle, at)
    block, trailer = content[offset : offset + size], content[offset + size : offset + size + _TRAILER]
    if len(trailer) < _TRAILER or size < 4:
        raise ValueError("a block does not end")
    if _masked(block + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise ValueError("a block does not match its checksum")
    if trailer[0]:
        raise ValueError("it is compressed")
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _crc(entry: dict[int, list[int | bytes]]) -> int:
    value = entry.get(6, [b""])[0]
    return int.from_bytes(value, "little") if isinstance(value, bytes) else -1


def _masked(data: bytes) -> int:
    return _rotated(_crc32c(data))


def _rotated(crc: int) -> int:
    """How the format keeps a checksum, so that checksums of checksums are not trivial."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C (Castagnoli) of some bytes, or of more bytes after those of an earlier one."""
    table = _table_of_bytes()
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@functools.cache
def _table_of_bytes() -> tuple[int, ...]:
    def of(crc: int) -> int:
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        return crc

    return tuple(map(of, range(256)))
