"""Exact sampling: draw images sub-pixel by sub-pixel from a model's conditional distributions.

Two engines draw the same images from the same uniforms (`pixelcnn.randomness`):

- `reference` runs one full forward for every sub-pixel. Slow and obvious.
- `fast` computes each feature once, a wavefront of pixels at a time (`pixelcnn.sampling.wavefront`).

They add the same numbers in another order, and so do two batch sizes; a float32 parameter then differs in its last
digits and a draw where a uniform falls into that gap: none of 10,000 images of the seed network
(`benchmarks/agreement.py`). In float64 that does not happen in practice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.progress import progress_bar
from pixelcnn.randomness import check_seed
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.fast import FastSampler
from pixelcnn.sampling.reference import ReferenceSampler

__all__ = ["Autoregressive", "check_arguments", "sample", "sample_steps"]

_CHUNK = 64  # images drawn together: larger batches fall out of the processor's caches


def sample(model: Autoregressive, n: int, *, seed: int, temperature: float, engine: str, progress: bool) -> Tensor:
    """Draws images; see `AutoregressiveModel.sample`."""
    check_arguments(n, seed, temperature)
    if engine not in ("fast", "reference"):
        raise ValueError(f"engine must be 'fast' or 'reference', got {engine!r}")
    c, h, w = model.image_shape
    images = torch.zeros(n, c, h, w, dtype=torch.uint8, device=model.device)
    engine_class = FastSampler if engine == "fast" else ReferenceSampler
    sampler: FastSampler | ReferenceSampler | None = None
    size = 0
    with progress_bar(f"sampling {n}", None, "step", show=progress) as bar:
        for first in range(0, n, _CHUNK):
            chunk = images[first : first + _CHUNK]
            if sampler is None or len(chunk) != size:
                size = len(chunk)
                sampler = engine_class(model, size)
                bar.total = sampler.steps * math.ceil(n / _CHUNK)
            for _ in sampler.run(chunk, seed, first, temperature):
                bar.update()
    return images


def sample_steps(model: Autoregressive, n: int, *, seed: int, temperature: float) -> Iterator[Tensor]:
    """Draws images in one batch and yields the canvas after every step; see `AutoregressiveModel.sample_steps`."""
    check_arguments(n, seed, temperature)
    c, h, w = model.image_shape
    images = torch.zeros(n, c, h, w, dtype=torch.uint8, device=model.device)
    return (images for _ in FastSampler(model, n).run(images, seed, 0, temperature))


def check_arguments(n: int, seed: int, temperature: float) -> None:
    """Looks at a sampler's arguments before anything is done.

    Raises:
        ValueError: If one is out of range.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n < 2**63:
        raise ValueError(f"n must be an integer in 1..2**63-1, got {n!r}")
    check_seed(seed)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature!r}")
