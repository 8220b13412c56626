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
from pixelcnn.sampling.draws import Draw, labels_in_turn
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
    "engine_of",
    "labels_in_turn",
    "sample",
    "sample_steps",
    "sample_stream",
    "why_not_native",
]


def sample(
    model: Autoregressive,
    draw: Draw,
    *,
    engine: str,
    progress: bool,
    drawn: Callable[[int], object] | None = None,
    log_prob: Tensor | None = None,
) -> Tensor:
    """Draws images; see `AutoregressiveModel.sample`.

    Args:
        model: Any model.
        draw: Which images.
        engine: The engine's name.
        progress: Show a progress bar.
        drawn: Called after each batch with the size of the batch.
        log_prob: float64 zeros (n,): becomes the images' log-probabilities where the engine knows them, the native one
            in floating point, and stays zero otherwise.
    """
    model, draw = draw.checked(model)
    sampler_class = engine_of(model, engine, draw.precision)
    if draw.n == 0:
        return blank(model, 0)
    if isinstance(model, Mixture):
        return model.draw_by_parts(draw, engine=engine, progress=progress, drawn=drawn)
    images, n = blank(model, draw.n), draw.n
    batches = 1 if n == 1 else math.ceil(n / sampler_class.batch(model))
    size = math.ceil(n / batches)
    sampler: Sampler | None = None
    with (
        exact_products(draw.precision, model.device),
        progress_bar(f"sampling {n}", None, "step", show=progress) as bar,
    ):
        for start in range(0, n, size):
            part = draw.part(start, min(start + size, n))
            if sampler is None or part.n != size:
                sampler = sampler_class(model, part)
                bar.total = sampler.steps * math.ceil(n / size)
            chunk = images[start : start + part.n]
            if log_prob is not None and isinstance(sampler, NativeSampler) and not model.exact:
                counts = sampler.run(chunk, part, log_prob[start : start + part.n])
            else:
                counts = sampler.run(chunk, part)
            for steps in counts:
                bar.update(steps)
            if drawn is not None:
                drawn(part.n)
    return images


def sample_stream(
    model: Autoregressive, draw: Draw, *, engine: str, progress: bool, chunk: int = 1024
) -> Iterator[Tensor]:
    """Draws images a chunk at a time; see `AutoregressiveModel.sample_stream`."""
    model, draw = draw.checked(model)
    chunk = integer("chunk", chunk, 1)
    engine_of(model, engine, draw.precision)

    def chunks() -> Iterator[Tensor]:
        with progress_bar(f"sampling {draw.n}", draw.n, "img", show=progress) as bar:
            for start in range(0, draw.n, chunk):
                part = draw.part(start, min(start + chunk, draw.n))
                yield sample(model, part, engine=engine, progress=False, drawn=bar.update).cpu()

    return chunks()


def sample_steps(model: Autoregressive, draw: Draw) -> Iterator[Tensor]:
    """Draws images in one batch and yields the canvas after every step; see `AutoregressiveModel.sample_steps`."""
    model, draw = draw.checked(model)
    images = blank(model, draw.n)
    if draw.n == 0:
        return iter(())
    # Not every engine can pause after a step.
    sampler_class = engine_of(model, "fast", draw.precision)
    with exact_products(draw.precision, model.device):
        if sampler_class is NativeSampler:
            sampler: Sampler = NativeSampler(model, draw, lockstep=True)
        else:
            sampler = (EagerSampler if sampler_class is GraphSampler else sampler_class)(model, draw)
    steps = in_exact_products(sampler.run(images, draw), draw.precision, model.device)
    return (images for _ in steps)
