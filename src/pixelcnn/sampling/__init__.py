"""Exact sampling: draw images sub-pixel by sub-pixel from a model's conditional distributions.

Three engines draw the same images from the same uniforms (`pixelcnn.randomness`):

- `reference` runs one full forward for every sub-pixel. Slow and obvious.
- `eager` computes each feature once, a wavefront of pixels at a time (`pixelcnn.sampling.wavefront`), in PyTorch.
- `native` does the same in compiled code (`native/engine.c`) on the CPU, for float32 and float64.

`fast` is `native` where there is a C compiler and the network is one it knows, and `eager` elsewhere.

They add the same numbers in another order; a float32 parameter then differs in its last digits and a draw where a
uniform falls into that gap: none of 10,000 images of the seed network (`benchmarks/agreement.py`). In float64 that does
not happen in practice. Within the native engine there is one order, so image i is the same bit for bit for every batch
and number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from pixelcnn.likelihoods import Bernoulli, Categorical
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import check_seed
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.native import NativeSampler, why_not_native
from pixelcnn.sampling.reference import ReferenceSampler

__all__ = ["Autoregressive", "Engine", "check_arguments", "engine_of", "sample", "sample_steps", "why_not_native"]

Engine = Literal["fast", "native", "eager", "reference"]
_CLASSES = {"native": NativeSampler, "eager": EagerSampler, "reference": ReferenceSampler}


def sample(
    model: Autoregressive,
    n: int,
    *,
    condition: Tensor | None,
    guidance: float,
    seed: int,
    temperature: float,
    engine: str,
    progress: bool,
) -> Tensor:
    """Draws images; see `AutoregressiveModel.sample`."""
    check_guidance(model, condition, guidance)
    sampler_class = engine_of(model, engine)
    c, h, w = model.image_shape
    images = torch.zeros(n, c, h, w, dtype=torch.uint8, device=model.device)
    batches = math.ceil(n / sampler_class.batch(model))
    size = math.ceil(n / batches)
    sampler: NativeSampler | EagerSampler | ReferenceSampler | None = None
    with progress_bar(f"sampling {n}", None, "step", show=progress) as bar:
        for first in range(0, n, size):
            chunk = images[first : first + size]
            given = None if condition is None else condition[first : first + size]
            if sampler is None or given is not None or len(chunk) != size:
                sampler = sampler_class(model, len(chunk), given, guidance)
                bar.total = sampler.steps * math.ceil(n / size)
            for _ in sampler.run(chunk, seed, first, temperature):
                bar.update()
    return images


def sample_steps(
    model: Autoregressive, n: int, *, condition: Tensor | None, guidance: float, seed: int, temperature: float
) -> Iterator[Tensor]:
    """Draws images in one batch and yields the canvas after every step; see `AutoregressiveModel.sample_steps`."""
    check_guidance(model, condition, guidance)
    c, h, w = model.image_shape
    images = torch.zeros(n, c, h, w, dtype=torch.uint8, device=model.device)
    native = engine_of(model, "fast") is NativeSampler
    sampler = (
        NativeSampler(model, n, condition, guidance, lockstep=True)
        if native
        else EagerSampler(model, n, condition, guidance)
    )
    return (images for _ in sampler.run(images, seed, 0, temperature))


def check_guidance(model: Autoregressive, condition: Tensor | None, guidance: float) -> None:
    """Looks at a guidance before it is used.

    Raises:
        ValueError: If it is not a number, or there is nothing to be guided by.
    """
    if not math.isfinite(guidance):
        raise ValueError(f"guidance must be finite, got {guidance!r}")
    if guidance == 1:
        return
    if condition is None:
        raise ValueError(f"guidance must be 1 without labels, got {guidance!r}")
    if not isinstance(model.likelihood, Bernoulli | Categorical):
        raise ValueError(f"guidance must be 1 for a likelihood without logits, got {guidance!r}")


def engine_of(model: Autoregressive, engine: str) -> type[NativeSampler | EagerSampler | ReferenceSampler]:
    """The class that an engine's name stands for, for this model on this machine.

    Raises:
        ValueError: If there is none.
    """
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
    if engine in ("fast", "native"):
        reason = why_not_native(model)
        if reason is not None and engine == "native":
            raise ValueError(f"engine 'native' cannot run this model here: {reason}")
        engine = "native" if reason is None else "eager"
    return _CLASSES[engine]


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
