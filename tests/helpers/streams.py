"""What these tests do to the codec and its streams: other engines, other groups, bytes changed with their checksums."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
import torch

CHECKED = 52  # bytes of the header before its checksum
HEADER = struct.Struct("<4sBB16sHHHHQIH8s")
FIELDS = (
    "magic", "version", "flags", "identity", "channels", "height", "width", "levels", "count", "per_chunk", "per_group",
    "digest",
)  # fmt: skip


@contextlib.contextmanager
def engine(name):
    """Within it "eager" has no compiled code to code with; "native" has, where there is any."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "eager":
            patch.setattr("pixelcnn.codec.groups.why_not_native", lambda _: "not now")
        yield


@contextlib.contextmanager
def groups_of(size):
    """Within it an encoder codes so many images side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelcnn.codec.stream.group_size", lambda *_: size)
        yield


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def any_digest():
    """Within it a decoder does not compare what it found with the digest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelcnn.codec.stream._matches_digest", lambda *_: True)
        yield


def header_of(data):
    return dict(zip(FIELDS, HEADER.unpack_from(data), strict=True))


def with_header(data, **changes):
    """The stream with some fields of its header changed, and the checksum with them."""
    begin = HEADER.pack(*{**header_of(data), **changes}.values())
    return begin + struct.pack("<I", zlib.crc32(begin)) + data[CHECKED + 4 :]


def block(payload):
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


def blocks_of(data):
    """Where the payloads of notes and chunks start and end; of damaged streams, of those that can be found."""
    found, position = [], CHECKED + 4
    while position + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, position)
        end = min(position + 8 + length, len(data))
        found.append((position + 8, end))
        position = end
    return found


def repaired(data):
    """The stream with all checksums made right, as whoever changes one on purpose would."""
    data = bytearray(data)
    for start, end in blocks_of(data):
        struct.pack_into("<I", data, start - 4, zlib.crc32(data[start:end]))
    if len(data) >= CHECKED + 4:
        struct.pack_into("<I", data, CHECKED, zlib.crc32(data[:CHECKED]))
    return bytes(data)


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def random_payload(seed, words):
    """As an encoder's: its first word is not 0."""
    numbers = np.random.default_rng(seed).integers(1, 2**32, words, dtype=np.uint32)
    return numbers.astype("<u4").tobytes()
