"""Pictures made for the tests of this folder."""

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


def shallow(path, values, bits, transparent=None):
    """Writes a PNG of grey values of 2 or 4 bits, perhaps with one that is transparent, which Pillow cannot."""

    def chunk(name, content):
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    values = np.array(values, np.uint8)
    size = b"".join(side.to_bytes(4, "big") for side in values.shape[::-1])
    lines = (np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]).tobytes() for row in values)
    parts = [chunk(b"IHDR", size + bytes([bits, 0, 0, 0, 0]))]
    parts += [] if transparent is None else [chunk(b"tRNS", transparent.to_bytes(2, "big"))]
    parts += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))), chunk(b"IEND", b"")]
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def opened(data, levels=None, **options):
    return open_training(str(data), "clean", levels, DataConfig(**options), progress=False)
