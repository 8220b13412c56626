"""Pictures made for the tests of this folder."""

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


def opened(data, levels=None, **options):
    return open_training(str(data), "clean", levels, DataConfig(**options), progress=False)
