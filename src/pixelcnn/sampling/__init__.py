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

An engine is a module of this package, named in `pixelcnn.config.engines`. It has a class `SAMPLER`, see `Sampler`, and
a function `why_not`, which returns the reason why the engine cannot draw from a model at a given precision, or run
particles of it (`pixelcnn.sampling.particles`), or None if it can.
"""

from __future__ import annotations

import importlib
import math
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from pixelcnn.arguments import integer
from pixelcnn.arithmetic import Precision
from pixelcnn.arithmetic.precision import exact_products, in_exact_products
from pixelcnn.config.engines import ENGINES, Engine
from pixelcnn.progress import progress_bar
from pixelcnn.sampling.autoregressive import Autoregressive, blank
from pixelcnn.sampling.draws import Draw, labels_in_turn
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.graph import GraphSampler
from pixelcnn.sampling.native import NativeSampler, warn_of_slower, why_not_native

__all__ = [
    "Autoregressive",
    "Draw",
    "EagerSampler",
    "Engine",
    "Mixture",
    "Sampler",
    "blank",
    "engine_named",
    "engine_of",
    "labels_in_turn",
    "sample",
    "sample_steps",
    "sample_stream",
    "why_not_native",
]


_WARNED: weakref.WeakSet[Autoregressive] = weakref.WeakSet()
WhyNot = Callable[[Autoregressive, Precision | None, bool], str | None]


class Sampler(Protocol):
    """Draws batches of images, each in the same number of steps.

    A sampler is made for draws that are alike: the number of images, the precision, and whether there are labels and
    guidance are those of `draw`. It keeps the weights as they were when it was made.
    """

    name: str
    """Name of the engine."""
    steps: int
    """Number of steps per batch."""

    def __init__(self, model: Autoregressive, draw: Draw, /) -> None: ...

    @staticmethod
    def batch(model: Autoregressive, /) -> int:
        """The best number of images per batch for drawing many."""
        ...

    def run(self, images: Tensor, draw: Draw, /) -> Iterator[int]:
        """Fills `images`, level 0 everywhere, (n, C, H, W), with those of the draw; yields how many steps were done."""
        ...


class Mixture(ABC):
    """A model whose images are drawn part by part, each part by an engine of its own."""

    @abstractmethod
    def draw_by_parts(
        self, draw: Draw, *, engine: str, progress: bool, drawn: Callable[[int], object] | None
    ) -> Tensor:
        """What `sample` does, given a validated draw."""

    @abstractmethod
    def engines(self, engine: str, precision: Precision | None) -> set[type[Sampler]]:
        """The result of `engine_of` for each part."""


def _warn_of_reference(model: Autoregressive, reason: str) -> None:
    """Warns, once for each model, that only the reference sampler can draw from it."""
    if model not in _WARNED:
        _WARNED.add(model)
        text = f"slower than it could be, by one full forward pass for each sub-pixel: {reason}"
        warnings.warn(text, stacklevel=2)


def engine_named(name: str) -> tuple[type[Sampler], WhyNot]:
    """An engine's class, and the function that says why it cannot draw from a model."""
    module = importlib.import_module(f"pixelcnn.sampling.{name}")
    return module.SAMPLER, module.why_not


def engine_of(
    model: Autoregressive, engine: str, precision: Precision | None = None, particles: bool = False
) -> type[Sampler]:
    """The class that an engine's name stands for, given the model, this machine and the precision, or for particles.

    For a mixture whose parts use different engines, it is the one of them that can draw from the most models.

    Warns:
        UserWarning: If `fast` is not the native engine on a CPU.

    Raises:
        ValueError: If no engine fits.
    """
    if engine not in ("fast", *ENGINES):
        raise ValueError(f"engine must be one of fast, {', '.join(ENGINES)}, got {engine!r}")
    if isinstance(model, Mixture):
        found = model.engines(engine, precision)
        return [sampler_class for sampler_class, _ in map(engine_named, ENGINES) if sampler_class in found][-1]
    reasons: list[str] = []
    for name in ENGINES if engine == "fast" else [engine]:
        sampler_class, why_not = engine_named(name)
        reason = why_not(model, precision, particles)
        if reason is None:
            if reasons and name == "reference":
                _warn_of_reference(model, reasons[-1])
            elif reasons:
                warn_of_slower(model, reasons[0])
            return sampler_class
        reasons.append(reason)
    raise ValueError(f"engine {engine!r} cannot run this model here: {reasons[-1]}")


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
