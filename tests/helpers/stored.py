"""What the tests of `pixelcnn compress` and `decompress` share: pictures of one size, and the commands."""

import numpy as np
from PIL import Image

from pixelcnn.cli import main

SHAPE = (6, 5)  # rows, columns


def picture(mode, seed=0, size=SHAPE):
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    if mode == "1":
        return Image.fromarray((values[..., 0] > 127).astype(np.uint8) * 255).convert("1")
    return Image.fromarray(values[..., 0] if mode == "L" else values)


def run(capsys, *arguments):
    code = main([*map(str, arguments), "--device", "cpu"])
    said = capsys.readouterr()
    return code, said.out, said.err


def same(a, b):
    return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()
