"""Exact sampling: draw images sub-pixel by sub-pixel from a model's conditional distributions.

The engines draw the same images from the same uniforms (`pixelcnn.randomness`):

- `reference` runs one full forward for every sub-pixel. Slow and obvious.
- `eager` computes each feature once, a wavefront of pixels at a time (`pixelcnn.sampling.wavefront`), in PyTorch.
- `native` does the same in compiled code (`native/engine.c`) on the CPU, for float32 and float64.
- `graph` replays the eager engine's steps as one CUDA graph.

`fast` is, on the CPU, `native` where there is a C compiler, and `eager` elsewhere; on a CUDA device it is `graph`. A
network that does more than ask its view for operations is left to `reference`.

They add the same numbers in another order; a float32 parameter then differs in its last digits and a draw where a
uniform falls into that gap: none of 10,000 images of the seed network (`benchmarks/agreement.py`). In float64 that does
not happen in practice. Within the native engine there is one order, so image i is the same bit for bit for every batch
and number of threads. `precision="bf16"` is another model, so to say (`pixelcnn.arithmetic.precision`), with the same
engines but `native`. From a model in exact arithmetic (`pixelcnn.exact`) all engines and machines draw the same images
bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike, integer, number, tensor
from pixelcnn.arithmetic.precision import Precision, check_precision, exact_products, in_exact_products
from pixelcnn.likelihoods import Bernoulli, Categorical
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import check_seed
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.eager import EagerSampler, why_not_eager
from pixelcnn.sampling.graph import GraphSampler, why_not_graph
from pixelcnn.sampling.native import NativeSampler, warn_of_slower, why_not_native
from pixelcnn.sampling.reference import ReferenceSampler

__all__ = [
    "Autoregressive",
    "Draw",
    "Engine",
    "Mixture",
    "Sampler",
    "checked_arguments",
    "engine_of",
    "labels_in_turn",
    "sample",
    "sample_steps",
    "sample_stream",
    "why_not_graph",
    "why_not_native",
]

_MAX_GUIDANCE = 1e6  # times logits it must not overflow

Engine = Literal["fast", "native", "graph", "eager", "reference"]


class Sampler(Protocol):
    """Draws batches of `n` images, each by as many steps."""

    name: str
    """The engine's."""
    steps: int
    """Steps of a batch."""

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        precision: Precision | None = None,
        /,
    ) -> None: ...

    @staticmethod
    def batch(model: Autoregressive, precision: Precision | None = None, /) -> int:
        """The best `n` for many images."""
        ...

    def run(self, images: Tensor, seed: int, first: int, temperature: float, /) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step."""
        ...


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Which images of which distribution; see `AutoregressiveModel.sample` for the fields."""

    seed: int
    first: int
    temperature: float
    labels: ArrayLike | None
    guidance: float
    precision: Precision | None

    def checked(self, model: Autoregressive, n: int) -> tuple[Draw, int]:
        """The same in the types that the samplers compute with, and n, looked at before anything is done.

        Raises:
            ValueError: If a field is out of range.
        """
        n, seed, temperature, first = checked_arguments(n, self.seed, self.temperature, self.first)
        guidance = number("guidance", self.guidance)
        if not math.isfinite(guidance):
            raise ValueError(f"guidance must be finite, got {guidance!r}")
        if abs(guidance) > _MAX_GUIDANCE:
            raise ValueError(f"guidance must be in -1e6..1e6, got {guidance!r}")
        labels = None if self.labels is None else model.checked_labels(self.labels, n).detach()
        if model.exact and (temperature, guidance, self.precision) != (1, 1, None):
            raise ValueError(
                "exact samples are of the model's own distribution: temperature and guidance must be 1 and precision "
                f"None, got {temperature!r}, {guidance!r} and {self.precision!r}"
            )
        check_precision(self.precision, model.dtype)
        if guidance != 1 and labels is None:
            raise ValueError(f"guidance must be 1 without labels, got {guidance!r}")
        if guidance != 1 and not isinstance(model.likelihood, Bernoulli | Categorical):
            raise ValueError(f"guidance must be 1 for a likelihood without logits, got {guidance!r}")
        draw = replace(self, seed=seed, temperature=temperature, first=first, guidance=guidance, labels=labels)
        return draw, n

    def part(self, start: int, stop: int) -> Draw:
        """The images start .. stop-1 of these."""
        labels = None if self.labels is None else tensor("labels", self.labels)[start:stop]
        return replace(self, first=self.first + start, labels=labels)


@runtime_checkable
class Mixture(Protocol):
    """A model that is drawn by its parts, each by an engine of its own."""

    def draw_by_parts(
        self, n: int, draw: Draw, *, engine: str, progress: bool, drawn: Callable[[int], object] | None
    ) -> Tensor:
        """What `sample` does, of arguments that have been checked."""
        ...

    def engines(self, engine: str, precision: Precision | None, conditional: bool) -> set[type[Sampler]]:
        """`engine_of` each part."""
        ...


def sample(
    model: Autoregressive,
    n: int,
    draw: Draw,
    *,
    engine: str,
    progress: bool,
    drawn: Callable[[int], object] | None = None,
) -> Tensor:
    """Draws images; see `AutoregressiveModel.sample`. `drawn` is told how many are new after each batch."""
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
    c, h, w = model.image_shape
    images = torch.zeros(n, c, h, w, dtype=torch.uint8, device=model.device)
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
    c, h, w = model.image_shape
    images = torch.zeros(n, c, h, w, dtype=torch.uint8, device=model.device)
    condition = model.condition_of(draw.labels, n)
    # Not all engines stop after a step.
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


def labels_in_turn(classes: tuple[int, ...] | None, first: int, count: int) -> Tensor | None:
    """The labels of images `first` and on where classes take turns, int64 (count,); None for no classes.

    Examples:
        >>> labels_in_turn((3, 5), 1, 4)
        tensor([5, 3, 5, 3])
    """
    if classes is None:
        return None
    return torch.tensor(classes, device="cpu")[torch.arange(first, first + count, device="cpu") % len(classes)]


def engine_of(
    model: Autoregressive,
    engine: str,
    precision: Precision | None = None,
    conditional: bool = False,
) -> type[Sampler]:
    """The class that an engine's name stands for, for this model on this machine, in a precision, with labels or not.

    Of a mixture whose parts have several it is the one that draws from most models.

    Warns:
        UserWarning: If on a CPU `fast` is not the native engine.

    Raises:
        ValueError: If there is none.
    """
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
    if isinstance(model, Mixture):
        found = model.engines(engine, precision, conditional)
        return [sampler_class for sampler_class, _ in _CHOICES.values() if sampler_class in found][-1]
    reasons: list[str] = []
    for name in _CHOICES if engine == "fast" else [engine]:
        sampler_class, why_not = _CHOICES[name]
        reason = why_not(model, precision, conditional)
        if reason is None:
            if reasons:
                warn_of_slower(model, reasons[0])
            return sampler_class
        reasons.append(reason)
    raise ValueError(f"engine {engine!r} cannot run this model here: {reasons[-1]}")


_Choices = dict[str, tuple[type[Sampler], Callable[[Autoregressive, Precision | None, bool], str | None]]]
_CHOICES: _Choices = {
    "native": (NativeSampler, why_not_native),
    "graph": (GraphSampler, why_not_graph),
    "eager": (EagerSampler, why_not_eager),
    "reference": (ReferenceSampler, lambda *_: None),
}
"""By name, the faster first: an engine, and why it cannot sample from a model."""


def checked_arguments(n: int, seed: int, temperature: float, first: int = 0) -> tuple[int, int, float, int]:
    """A sampler's arguments as Python's numbers, looked at before anything is done.

    Raises:
        ValueError: If one is out of range.
    """
    n, seed, first = integer("n", n, 1, 2**63 - 1), check_seed(seed), integer("first", first, 0, 2**62)
    temperature = number("temperature", temperature)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature!r}")
    return n, seed, temperature, first
