"""Pictures made for tests."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from pixelcnn.config import DataConfig
from pixelcnn.datasets import open_training


def noise(*shape, seed=0, top=256):
    return np.random.default_rng(seed).integers(0, top, shape, dtype=np.uint8)


def picture(path, shape=(6, 7, 3), seed=0):
    """Writes noise as a picture, and returns it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = noise(*shape, seed=seed)
    Image.fromarray(pixels).save(path)
    return pixels


def pictures(folder, n, shape=(6, 7, 3), first=0):
    return [picture(Path(folder) / f"{k:05d}.png", shape, k) for k in range(first, first + n)]


def png(width, height, bits, colour, rows, *chunks):
    """A PNG file by its parts: colour is its type of colour, `rows` its packed rows, and `chunks` come before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def shallow(path, values, bits, transparent=None):
    """Writes a PNG of grey values of 2 or 4 bits, perhaps with one that is transparent, which Pillow cannot."""
    values = np.array(values, np.uint8)
    height, width = values.shape
    lines = (np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]).tobytes() for row in values)
    chunks = [] if transparent is None else [(b"tRNS", transparent.to_bytes(2, "big"))]
    Path(path).write_bytes(png(width, height, bits, 0, b"".join(b"\0" + line for line in lines), *chunks))


def opened(data, levels=None, **options):
    return open_training(str(data), "clean", levels, DataConfig(**options), progress=False)
