"""The engines: what an engine is, and which one draws from a given model.

An engine is a module of this package, named in `pixelcnn.config.engines`. It has a class `SAMPLER`, see `Sampler`, and
a function `why_not`, which returns the reason why the engine cannot draw from a model at a given precision, or run
particles of it (`pixelcnn.sampling.particles`), or None if it can.
"""

from __future__ import annotations

import importlib
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor

from pixelcnn.arithmetic import Precision
from pixelcnn.config.engines import ENGINES
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.native import warn_of_slower

__all__ = ["Mixture", "Sampler", "engine_named", "engine_of"]

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


@runtime_checkable
class Mixture(Protocol):
    """A model whose images are drawn part by part, each part by an engine of its own."""

    def draw_by_parts(
        self, draw: Draw, *, engine: str, progress: bool, drawn: Callable[[int], object] | None
    ) -> Tensor:
        """What `sample` does, given a validated draw."""
        ...

    def engines(self, engine: str, precision: Precision | None) -> set[type[Sampler]]:
        """The result of `engine_of` for each part."""
        ...


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
    model: Autoregressive,
    engine: str,
    precision: Precision | None = None,
    particles: bool = False,
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
