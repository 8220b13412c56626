"""SavedModel folders, read without TensorFlow: a checkpoint, in which a graph of objects says what each tensor is.

    root -> layer_with_weights-K -> [conv1 | pixel_conv ->] [conv ->] kernel, bias       Keras 2
    root -> _operations -> K -> ... -> _kernel, bias                                     Keras 3, tf.saved_model.save
    root -> variables -> 0, 1, 2, ...                                                    Keras 3, model.export

The images' size is that of the signature's input. No function of the model is run, and no operation looked at.

A checkpoint (a "tensor bundle") is two files; what they hold of objects is in protocol buffers:

    NAME.index                  a sorted table: blocks of entries whose keys share prefixes, then a block with the
                                offsets of these, then a footer of 48 bytes with the offset of that
    NAME.data-00000-of-00001    the tensors, one after the other

Every block and every tensor carries a CRC-32C, and all are verified. TensorFlow itself would be an installation of more
than a gigabyte for what this file does. TensorFlow does not compress these tables.

References:
    | tensorflow/core/util/tensor_bundle, tensorflow/core/lib/io/table_format.txt, https://github.com/tensorflow/tensorflow
    | Protocol buffers, encoding, https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelcnn.keras.network import KerasFileError, Weights, check_size, paired

__all__ = ["read_saved_model"]

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_PARTS = ((), ("conv",), ("conv1",), ("pixel_conv", "conv"), ("conv2",))  # of layers, in the order of a block
_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER, _TRAILER = 48, 5  # bytes; a block's trailer is its compression and its checksum
_MAX_BYTES = 2**28  # of a file that is read whole
_TYPES: dict[int, np.dtype[np.floating]] = {1: np.dtype("<f4"), 2: np.dtype("<f8")}
_STRING = 7


@dataclass(frozen=True)
class _Object:
    children: dict[str, int]
    """The children's indices in the graph."""
    key: str | None
    """Its tensor in the checkpoint, if it is a variable."""


def read_saved_model(folder: Path) -> Weights:
    """Reads a SavedModel folder; the tensors' checksums are verified."""
    bundle = _Bundle(folder / "variables" / "variables")
    names = list(_variables([_object(node) for node in _Message(bundle.text(_GRAPH)).messages(1)]))
    size = _size(folder / "saved_model.pb")
    if not names:
        raise KerasFileError("not the example's network: it has no layer with weights")
    convolutions = paired((name, bundle.tensor(key)) for name, key in names)
    return Weights(format="SavedModel", convolutions=convolutions, size=size, verified=True)


def _object(node: _Message) -> _Object:
    children = {child.texts(2)[0]: child.integer(1) for child in node.messages(1)}
    keys = [key for attribute in node.messages(2) for key in attribute.texts(3)]
    return _Object(children, keys[0] if keys else None)


def _variables(objects: list[_Object]) -> Iterator[tuple[str, str]]:
    """Name and checkpoint key of each kernel and each bias, in the network's order."""

    def below(node: _Object, path: tuple[str, ...]) -> _Object | None:
        for part in path:
            if part not in node.children:
                return None
            node = objects[node.children[part]]
        return node

    def numbered(node: _Object, prefix: str) -> list[tuple[str, _Object]]:
        """The children with a prefix and a number, sorted by it."""
        found = {name: re.fullmatch(rf"{prefix}(\d{{1,5}})", name) for name in node.children}
        order = sorted((int(match[1]), name) for name, match in found.items() if match)
        return [(name, objects[node.children[name]]) for _, name in order]

    root = objects[0]
    operations, variables = below(root, ("_operations",)), below(root, ("variables",))
    layers = numbered(root, "layer_with_weights-")
    if not layers and operations is not None:
        layers = [(f"_operations/{name}", layer) for name, layer in numbered(operations, "")]
    for name, layer in layers:
        for path in _PARTS:
            for leaves in (("kernel", "_kernel"), ("bias",)):
                nodes = [(leaf, below(layer, (*path, leaf))) for leaf in leaves]
                keys = [("/".join((name, *path, leaf.strip("_"))), node.key) for leaf, node in nodes if node]
                yield from [(leaf, key) for leaf, key in keys if key is not None][:1]
    if not layers and variables is not None:
        for name, variable in numbered(variables, ""):
            if variable.key is not None:
                yield f"variables/{name}", variable.key


def _size(path: Path) -> tuple[int, int] | None:
    """Height and width in the first signature whose input is a batch of images of one channel."""
    graphs = _Message(_read_whole(path)).messages(2)
    if not graphs:
        raise KerasFileError(f"{path.name} is damaged: it holds no graph")
    signatures = [named.message(2) for graph in graphs for named in graph.messages(5)]
    for tensor in (named.message(2) for signature in signatures for named in signature.messages(1)):
        dims = [dim.integer(1) for dim in tensor.message(3).messages(2)]
        if len(dims) == 4 and dims[3] == 1 and max(dims[1:3]) < 2**31:
            return dims[1], dims[2]
    return None


# Checkpoints and protocol buffers ------------------------------------------------------------------------------------


def _read_whole(path: Path) -> bytes:
    """The content of a file of a SavedModel folder."""
    if not path.is_file():
        raise KerasFileError(f"{path.name} is missing")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise KerasFileError(f"not the example's network: {path.name} has {size:,} bytes")
    return path.read_bytes()


class _Message:
    """A protocol buffer: the values of its fields, by the fields' numbers. Fields of another type are refused."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        at = 0
        while at < len(data):
            tag, at = _varint(data, at)
            value: int | bytes
            match tag & 7:
                case 0:
                    value, at = _varint(data, at)
                case 2:
                    size, at = _varint(data, at)
                    value, at = data[at : at + size], at + size
                case 1 | 5 as kind:
                    size = 8 if kind == 1 else 4
                    value, at = int.from_bytes(data[at : at + size], "little"), at + size
                case kind:
                    raise KerasFileError(f"damaged: a field has the unknown type {kind}")
            if at > len(data):
                raise KerasFileError("damaged: a field is cut off")
            self._fields.setdefault(tag >> 3, []).append(value)

    def integer(self, number: int) -> int:
        """The value of an integer field; 0 if it is not there."""
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise KerasFileError(f"damaged: field {number} must be a number")
        return value

    def texts(self, number: int) -> list[str]:
        """All values of a field of strings."""
        return [value.decode() for value in self._contents(number)]

    def messages(self, number: int) -> list[_Message]:
        """All values of a field of messages."""
        return [_Message(value) for value in self._contents(number)]

    def message(self, number: int) -> _Message:
        """The value of a field that is a message; an empty one if it is not there."""
        return (self.messages(number) or [_Message(b"")])[-1]

    def _contents(self, number: int) -> Iterator[bytes]:
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                raise KerasFileError(f"damaged: field {number} must not be a number")
            yield value


class _Bundle:
    """A checkpoint of one shard.

    Args:
        prefix: Its path, without .index.
    """

    def __init__(self, prefix: Path) -> None:
        self._shard = prefix.with_name(f"{prefix.name}.data-00000-of-00001")
        if not self._shard.is_file():
            raise KerasFileError(f"{self._shard.name} is missing")
        self._entries: dict[str, bytes] = {}
        size = 0
        for key, value in _table(_read_whole(prefix.with_name(f"{prefix.name}.index"))):
            size += len(key)  # which repeats what it shares with the one before
            if size > _MAX_BYTES:
                raise KerasFileError(f"the checkpoint's index is damaged: its keys have {size:,} bytes")
            self._entries[key.decode()] = value

    def tensor(self, name: str) -> np.ndarray:
        """A tensor of float32 or float64."""
        entry, data = self._read(name)
        kind = _TYPES.get(entry.integer(1))
        if kind is None:
            raise KerasFileError(f"{name} must be float32 or float64")
        shape = tuple(dim.integer(1) for dim in entry.message(2).messages(2))
        if len(data) != math.prod(shape) * kind.itemsize:
            raise KerasFileError(f"damaged: {name} has {len(data)} bytes for the shape {shape}")
        self._verify(name, data, entry)
        return np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("="))

    def text(self, name: str) -> bytes:
        """A string."""
        entry, data = self._read(name)
        length, start = _varint(data, 0)
        content = data[start + 4 :]
        if entry.integer(1) != _STRING or len(content) != length:
            raise KerasFileError(f"{name} must be a string")
        # the checksum covers the length as a number of 4 bytes, that number's own checksum, and the string
        self._verify(name, length.to_bytes(4, "little") + data[start:], entry)
        return content

    def _read(self, name: str) -> tuple[_Message, bytes]:
        """What the index says of a tensor, and its bytes."""
        if name not in self._entries:
            raise KerasFileError(f"{name} is missing")
        entry = _Message(self._entries[name])
        if entry.integer(3) != 0:
            raise KerasFileError(f"{name} lies in another shard; only checkpoints of one shard are read")
        offset, size = entry.integer(4), entry.integer(5)
        if offset + size > self._shard.stat().st_size:
            raise KerasFileError(f"{self._shard.name} is damaged: it ends before {name} does")
        check_size((size,), 1, name)
        with self._shard.open("rb") as file:
            file.seek(offset)
            return entry, file.read(size)

    def _verify(self, name: str, data: bytes, entry: _Message) -> None:
        if _checksum(data) != entry.integer(6):
            raise KerasFileError(f"{self._shard.name} is damaged: {name} does not match its checksum")


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or not footer.endswith(_MAGIC):
        raise KerasFileError("the checkpoint's index is damaged: it does not end as a table does")
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    end = 0
    for _, handle in _block(content, footer[at:]):
        offset, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        if offset < end:  # else a small file could be read any number of times
            raise KerasFileError("the checkpoint's index is damaged: its blocks overlap")
        end = offset + size
        yield from _block(content, handle)


def _block(content: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the block that a handle (offset, size) points to."""
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    block, trailer = content[offset : offset + size], content[offset + size : offset + size + _TRAILER]
    if len(trailer) < _TRAILER or size < 4:
        raise KerasFileError("the checkpoint's index is damaged: a block is cut off")
    if _checksum(block + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise KerasFileError("the checkpoint's index is damaged: a block does not match its checksum")
    if trailer[0]:
        raise KerasFileError("the checkpoint's index is compressed")
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at an offset, 7 bits per byte, the lowest first; and the offset after it."""
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at
    raise KerasFileError("damaged: a number is cut off")


def _checksum(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as the format stores it, so that checksums can be summed again."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    """The CRC of each byte."""

    def crc_of(crc: int) -> int:
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        return crc

    return tuple(map(crc_of, range(256)))
