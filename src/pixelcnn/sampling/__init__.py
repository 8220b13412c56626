"""Exact sampling: draw images sub-pixel by sub-pixel from a model's conditional distributions.

All engines draw the same images from the same uniforms (`pixelcnn.randomness`):

- `reference` runs one full forward pass per sub-pixel. Slow and obvious.
- `eager` computes each feature once, a wavefront of pixels at a time (`pixelcnn.sampling.wavefront`), in PyTorch.
- `native` does the same in compiled code (`native/engine.c`) on the CPU, for float32 and float64.
- `graph` replays the eager engine's steps as one CUDA graph.

On the CPU, `fast` is `native` if there is a C compiler and `eager` otherwise; on a CUDA device it is `graph`. A network
that does more than ask its view for operations is left to `reference`.

The engines add the same numbers in different orders, so a float32 parameter may differ in its last digits, and a draw
differs where a uniform falls into that gap: in none of 10,000 images of the seed network (`benchmarks/agreement.py`).
In float64 this does not happen in practice. The native engine always adds in the same order, so image i is the same bit
for bit for every batch size and number of threads. `precision="bf16"` is in effect a different model
(`pixelcnn.arithmetic.precision`), supported by every engine except `native`. From a model in exact arithmetic
(`pixelcnn.exact`) all engines and machines draw the same images bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from pixelcnn.arguments import integer
from pixelcnn.arithmetic.precision import exact_products, in_exact_products
from pixelcnn.config.engines import Engine
from pixelcnn.progress import progress_bar
from pixelcnn.sampling.autoregressive import Autoregressive, blank
from pixelcnn.sampling.draws import Draw, checked_arguments, labels_in_turn
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.engines import Mixture, Sampler, engine_of
from pixelcnn.sampling.graph import GraphSampler
from pixelcnn.sampling.native import NativeSampler, why_not_native

__all__ = [
    "Autoregressive",
    "Draw",
    "EagerSampler",
    "Engine",
    "Mixture",
    "NativeSampler",
    "Sampler",
    "blank",
    "checked_arguments",
    "engine_of",
    "labels_in_turn",
    "sample",
    "sample_steps",
    "sample_stream",
    "why_not_native",
]


def sample(
    model: Autoregressive,
    n: int,
    draw: Draw,
    *,
    engine: str,
    progress: bool,
    drawn: Callable[[int], object] | None = None,
) -> Tensor:
    """Draws images; see `AutoregressiveModel.sample`. `drawn` is called after each batch with the size of the batch."""
    draw, n = draw.checked(model, n)
    sampler_class = engine_of(model, engine, draw.precision, draw.labels is not None)
    if isinstance(model, Mixture):
        return model.draw_by_parts(n, draw, engine=engine, progress=progress, drawn=drawn)
    with exact_products(draw.precision, model.device):
        return _sample(model, n, draw, sampler_class, progress, drawn)


def _sample(
    model: Autoregressive,
    n: int,
    draw: Draw,
    sampler_class: type[Sampler],
    progress: bool,
    drawn: Callable[[int], object] | None,
) -> Tensor:
    images = blank(model, n)
    batches = 1 if n == 1 else math.ceil(n / sampler_class.batch(model, draw.precision))
    size = math.ceil(n / batches)
    sampler: Sampler | None = None
    with progress_bar(f"sampling {n}", None, "step", show=progress) as bar:
        for start in range(0, n, size):
            chunk = images[start : start + size]
            part = draw.part(start, start + len(chunk))
            if sampler is None or part.labels is not None or len(chunk) != size:
                condition = model.condition_of(part.labels, len(chunk))
                sampler = sampler_class(model, len(chunk), condition, part.guidance, part.precision)
                bar.total = sampler.steps * math.ceil(n / size)
            for _ in sampler.run(chunk, part.seed, part.first, part.temperature):
                bar.update()
            if drawn is not None:
                drawn(len(chunk))
    return images


def sample_stream(
    model: Autoregressive, n: int, draw: Draw, *, engine: str, progress: bool, chunk: int
) -> Iterator[Tensor]:
    """Draws images a chunk at a time; see `AutoregressiveModel.sample_stream`."""
    draw, n = draw.checked(model, n)
    chunk = integer("chunk", chunk, 1)
    engine_of(model, engine, draw.precision, draw.labels is not None)

    def chunks() -> Iterator[Tensor]:
        with progress_bar(f"sampling {n}", n, "img", show=progress) as bar:
            for start in range(0, n, chunk):
                stop = min(start + chunk, n)
                part = draw.part(start, stop)
                yield sample(model, stop - start, part, engine=engine, progress=False, drawn=bar.update).cpu()

    return chunks()


def sample_steps(model: Autoregressive, n: int, draw: Draw) -> Iterator[Tensor]:
    """Draws images in one batch and yields the canvas after every step; see `AutoregressiveModel.sample_steps`."""
    draw, n = draw.checked(model, n)
    images = blank(model, n)
    condition = model.condition_of(draw.labels, n)
    # Not every engine can pause after a step.
    sampler_class = engine_of(model, "fast", draw.precision)
    if sampler_class is GraphSampler:
        sampler_class = EagerSampler
    with exact_products(draw.precision, model.device):
        sampler = (
            NativeSampler(model, n, condition, draw.guidance, lockstep=True)
            if sampler_class is NativeSampler
            else sampler_class(model, n, condition, draw.guidance, draw.precision)
        )
    steps = sampler.run(images, draw.seed, draw.first, draw.temperature)
    return (images for _ in in_exact_products(steps, draw.precision, model.device))
