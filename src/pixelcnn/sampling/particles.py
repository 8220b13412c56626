"""Particles: copies of an image under way, whose known pixels are given and weighed instead of drawn.

Each engine runs a batch of them step by step along its wavefront. At a step the unknown sub-pixels of every particle
are drawn from their conditional distributions, as in sampling; the known ones keep their levels, and the logarithm of
their conditional probability is added to the particle's evidence. Between two steps particles can be copied over
others: what their later steps read goes with them. What is made of this is `pixelcnn.completion`'s business.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pixelcnn.likelihoods import draw
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive, check_weights
from pixelcnn.sampling.eager import Batch, log_probs
from pixelcnn.sampling.native import warn_of_slower, why_not_native
from pixelcnn.sampling.native.particles import NativeParticles
from pixelcnn.sampling.program import RecordingError, record
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["EagerParticles", "Particles", "ReferenceParticles", "particles_of"]


class Particles(Protocol):
    """A batch of n particles.

    Args of the implementations:
        model: Any model of the package but a mixture.
        n: Particles.
        conditional: Whether they are conditioned on something.
        seed: Of the uniforms.
    """

    images: Tensor
    """uint8 levels (n, C, H, W): what is known, and what has been drawn so far."""
    evidence: Tensor
    """float64 (n,): log-probability of the known sub-pixels that were passed, each given those before it. May be
    written."""
    wavefront: Wavefront
    """Which pixels a step has."""

    def start(self, images: Tensor, known: Tensor, first: int, condition: Tensor | None = None) -> None:
        """Begins anew.

        Args:
            images: uint8 levels (n, C, H, W), of which the known ones count; drawn into.
            known: bool (C, H, W), the same for all particles.
            first: Particle k draws with the uniforms of image `first + k`.
            condition: What each particle is conditioned on, (n, D); None for nothing.
        """
        ...

    def step(self, step: int) -> None:
        """Takes a step; they come in order, from 0 to `wavefront.steps - 1`."""
        ...

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Makes particles `targets` what `sources` are, int64 (k,), none in both; evidence stays."""
        ...


class EagerParticles:
    """In PyTorch, on any device."""

    def __init__(self, model: Autoregressive, n: int, conditional: bool, seed: int) -> None:
        self._model = model
        self._seed = seed
        self._batch = Batch(model, n, conditional=conditional)
        self.wavefront = self._batch.schedule.wavefront
        self.evidence = torch.zeros(n, dtype=torch.float64, device=model.device)

    def start(self, images: Tensor, known: Tensor, first: int, condition: Tensor | None = None) -> None:
        """See `Particles.start`."""
        self._batch.start(condition)
        self.images, self._known = images, known.flatten(1)
        self._uniforms = self._batch.uniforms(self._model, self._seed, first)
        self.evidence.zero_()

    @torch.inference_mode()
    def step(self, step: int) -> None:
        """See `Particles.step`."""
        for k in range(self._batch.steps.start, 1) if step == 0 else (step,):
            self._batch.step(self._model, k, self.images, self._uniforms, 1.0, 1.0, self._known, self.evidence)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """See `Particles.copy`."""
        self._batch.copy(sources, targets)
        self.images[targets] = self.images[sources]


class ReferenceParticles:
    """By one full forward for every step and channel: the definition of the others."""

    def __init__(self, model: Autoregressive, n: int, conditional: bool, seed: int) -> None:
        check_weights(model.named_parameters())
        self._model = model
        self._seed = seed
        _, h, w = model.image_shape
        try:
            self.wavefront = schedule_of(model, conditional=conditional).wavefront
        except RecordingError:
            self.wavefront = Wavefront(h, w, w)  # raster order
        self.evidence = torch.zeros(n, dtype=torch.float64, device=model.device)

    def start(self, images: Tensor, known: Tensor, first: int, condition: Tensor | None = None) -> None:
        """See `Particles.start`."""
        c, h, w = self._model.image_shape
        self._condition = condition
        self.images, self._known = images, known.flatten(1)
        self._uniforms = uniforms(self._seed, first, len(images), h * w * c, self._model.device).view(-1, h * w, c)
        self.evidence.zero_()

    @torch.inference_mode()
    def step(self, step: int) -> None:
        """See `Particles.step`."""
        model, pixels = self._model, self.wavefront.pixels(step)
        canvas = self.images.flatten(2)
        for channel in range(model.image_shape[0]):
            params = model.raw_params(self.images, self._condition)[:, channel].flatten(1, 2)[:, pixels]
            drawn = draw(model.likelihood, params, self._uniforms[:, pixels, channel])
            known = self._known[channel, pixels]
            levels = torch.where(known, canvas[:, channel, pixels], drawn)
            self.evidence += (log_probs(model, params, levels) * known).sum(1)
            canvas[:, channel, pixels] = levels

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """See `Particles.copy`."""
        self.images[targets] = self.images[sources]


def particles_of(
    model: Autoregressive, n: int, conditional: bool, seed: int, engine: str
) -> NativeParticles | EagerParticles | ReferenceParticles:
    """Particles of an engine.

    Args:
        model: See `Particles`, and so are `n`, `conditional` and `seed`.
        n: See above.
        conditional: See above.
        seed: See above.
        engine: `native`, `eager` or `reference`; `fast` is the first of them that can.

    Raises:
        ValueError: If it cannot run this model here.
    """
    if engine not in ("fast", "native", "eager", "reference"):
        raise ValueError(f"engine must be one of fast, native, eager, reference, got {engine!r}")
    if engine in ("fast", "native"):
        reason = why_not_native(model)
        if reason is None:
            return NativeParticles(model, n, conditional, seed)
        if engine == "native":
            raise ValueError(f"engine {engine!r} cannot run this model here: {reason}")
        warn_of_slower(model, reason)
    if engine != "reference":
        try:
            record(model)
            return EagerParticles(model, n, conditional, seed)
        except RecordingError as error:
            if engine == "eager":
                raise ValueError(f"engine {engine!r} cannot run this model here: {error}") from None
    return ReferenceParticles(model, n, conditional, seed)
