"""Exact samples: from the frequencies of a model's exact twin, so that they are the same bits on any machine.

Image k of a seed is drawn with the uniform numbers u that all engines use: the level whose cumulative frequencies hold
floor(2^24 u). Nothing is rounded that another machine could round otherwise, so not one image of any number differs
between engines, devices, batches or threads. The classes have the interface of the samplers of `pixelcnn.sampling`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from pixelcnn.exact.frequencies import TOTAL_BITS
from pixelcnn.exact.native import NativeWalk
from pixelcnn.exact.native import why_not_native as why_not_native_walk
from pixelcnn.exact.prepared import PreparedModel, prepare
from pixelcnn.exact.walk import walk
from pixelcnn.precision import Precision
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.reference import ReferenceSampler
from pixelcnn.sampling.schedule import schedule_of

if TYPE_CHECKING:
    from pixelcnn.models.base import AutoregressiveModel
    from pixelcnn.sampling import Sampler

__all__ = ["EXACT_CHOICES", "ExactEagerSampler", "ExactNativeSampler", "ExactReferenceSampler"]

_SHARE = 16  # images that a thread draws side by side: their features stay in a core's caches


def _twin_of(model: Autoregressive) -> PreparedModel:
    return prepare(cast("AutoregressiveModel", model))


class _ExactSampler:
    """Draws batches of n images.

    Args:
        model: Any model; a twin is made of it.
        n: Images of a batch.
        condition: What each image is conditioned on, (n, D); None for nothing.
        guidance: 1.
        precision: None.
    """

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        precision: Precision | None = None,
    ) -> None:
        assert guidance == 1, guidance
        assert precision != "bf16", precision
        self._prepared = _twin_of(model)
        self._n = n
        self._condition = None if condition is None else condition.double()
        self.steps = schedule_of(self._prepared.model, conditional=condition is not None).wavefront.steps
        """Steps of a batch."""

    def _goals(self, seed: int, first: int) -> Tensor:
        """floor(2^24 u): int64 (n, pixels, channels)."""
        c, h, w = self._prepared.model.image_shape
        u = uniforms(seed, first, self._n, h * w * c, self._prepared.model.device)
        return torch.floor(u * 2.0**TOTAL_BITS).long().view(self._n, h * w, c)


class ExactNativeSampler(_ExactSampler):
    """In compiled code, a share of the images for each thread."""

    name = "native"

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        precision: Precision | None = None,
    ) -> None:
        super().__init__(model, n, condition, guidance, precision)
        threads = min(torch.get_num_threads(), n)
        bounds = [k * n // threads for k in range(threads + 1)]
        self._walks = [
            (slice(start, stop), NativeWalk(self._prepared, stop - start, conditional=condition is not None))
            for start, stop in itertools.pairwise(bounds)
        ]

    @staticmethod
    def batch(_model: Autoregressive, _precision: Precision | None = None) -> int:
        """What the cores' caches hold."""
        return torch.get_num_threads() * _SHARE

    @torch.inference_mode()
    def run(self, images: Tensor, seed: int, first: int, _temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; all steps are one."""
        condition = self._condition

        def draw(part: slice, native: NativeWalk) -> None:
            native.sample(images[part], None if condition is None else condition[part], seed, first + part.start)

        with ThreadPoolExecutor(len(self._walks)) as pool:
            for _ in pool.map(lambda job: draw(*job), self._walks):
                pass
        for _ in range(self.steps):
            yield


class ExactEagerSampler(_ExactSampler):
    """In PyTorch, a wavefront at a time."""

    name = "eager"

    @staticmethod
    def batch(model: Autoregressive, _precision: Precision | None = None) -> int:
        """The best `n` for many images."""
        return EagerSampler.batch(model)

    def run(self, images: Tensor, seed: int, first: int, _temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step."""
        goals = self._goals(seed, first)

        def choose(channel: int, pixels: slice, cumulative: Tensor) -> Tensor:
            goal = goals[:, pixels, channel].t().unsqueeze(-1)
            return (cumulative[..., 1:-1] <= goal).sum(-1)

        return walk(self._prepared, images, self._condition, choose)


class ExactReferenceSampler(_ExactSampler):
    """By one forward of whole images for every sub-pixel."""

    name = "reference"

    @staticmethod
    def batch(model: Autoregressive, _precision: Precision | None = None) -> int:
        """The best `n` for many images."""
        return ReferenceSampler.batch(model)

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        precision: Precision | None = None,
    ) -> None:
        super().__init__(model, n, condition, guidance, precision)
        self.steps = math.prod(model.image_shape)

    @torch.inference_mode()
    def run(self, images: Tensor, seed: int, first: int, _temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed, a sub-pixel a step."""
        c, h, w = self._prepared.model.image_shape
        goals = self._goals(seed, first)
        for k in range(h * w * c):
            pixel, channel = divmod(k, c)
            cumulative = self._prepared.cumulative_given(images, self._condition)[:, channel, pixel // w, pixel % w]
            levels = (cumulative[:, 1:-1] <= goals[:, pixel, channel].unsqueeze(1)).sum(1)
            images[:, channel, pixel // w, pixel % w] = levels.to(torch.uint8)
            yield


def _why_not_native(model: Autoregressive, _precision: Precision | None, _conditional: bool) -> str | None:
    return why_not_native_walk(_twin_of(model))


EXACT_CHOICES: dict[str, tuple[type[Sampler], Callable[[Autoregressive, Precision | None, bool], str | None]]] = {
    "native": (ExactNativeSampler, _why_not_native),
    "eager": (ExactEagerSampler, lambda *_: None),
    "reference": (ExactReferenceSampler, lambda *_: None),
}
"""By name, the faster first: an engine, and why it cannot draw exactly from a model here."""
