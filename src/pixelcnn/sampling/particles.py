"""Particles: partially drawn copies of an image, whose known pixels are given and weighted instead of drawn.

Each engine advances a batch of particles step by step along its wavefront. At each step the unknown sub-pixels of every
particle are drawn from their conditional distributions, as in sampling; the known ones keep their levels, and the
logarithm of their conditional probability is added to the particle's evidence. Between two steps particles can be
copied over others, together with everything that their later steps read. `pixelcnn.completion` builds on this.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pixelcnn import likelihoods
from pixelcnn.randomness import uniforms
from pixelcnn.sampling import engine_of
from pixelcnn.sampling.autoregressive import Autoregressive, check_weights
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.eager import drawing
from pixelcnn.sampling.native.walk import NativeWalk
from pixelcnn.sampling.program import RecordingError
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.walk import Walk, numbers_of
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["EagerParticles", "NativeParticles", "Particles", "ReferenceParticles", "particles_of"]


class Particles(Protocol):
    """A batch of n particles.

    Args of the implementations:
        model: Any model of the package except a mixture.
        draw: The number of particles, and whether they are conditioned on something.
    """

    images: Tensor
    """uint8 levels (n, C, H, W): the known sub-pixels and those drawn so far."""
    evidence: Tensor
    """float64 (n,): log-probability of the known sub-pixels passed so far, each given those before it. May be
    overwritten."""
    wavefront: Wavefront
    """Which pixels belong to each step."""

    def start(self, images: Tensor, known: Tensor, draw: Draw) -> None:
        """Starts over.

        Args:
            images: uint8 levels (n, C, H, W), of which only the known ones matter; drawn into in place.
            known: bool (C, H, W), the same for all particles.
            draw: Particle k draws with the uniforms of its image `first + k`, and is conditioned on its label k.
        """
        ...

    def step(self, step: int) -> None:
        """Takes one step; steps must come in order, from 0 to `wavefront.steps - 1`."""
        ...

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Copies particles `sources` over particles `targets`, int64 (k,), no index in both; evidence stays."""
        ...


class NativeParticles:
    """Particles of the native engine, in compiled code, run by a single thread.

    All particles are identical up to the first unknown sub-pixel, so one particle takes these steps for all of them.
    """

    def __init__(self, model: Autoregressive, draw: Draw) -> None:
        self._model = model
        self._walk = NativeWalk(model, draw.n, conditional=draw.conditional)
        self._first = NativeWalk(model, 1, conditional=draw.conditional)
        self.wavefront = self._walk.wavefront
        self._last_step: int | None = None
        self.evidence = torch.zeros(draw.n, dtype=torch.float64, device="cpu")

    def start(self, images: Tensor, known: Tensor, draw: Draw) -> None:
        """See `Particles.start`."""
        self.images, known = images.contiguous(), known.to(torch.uint8).contiguous()
        self.evidence.zero_()
        self._last_step = None
        condition = draw.given(self._model)
        self._walk.begin(self.images, condition, draw, known=known, evidence=self.evidence)
        self._alone = self._known_steps(known) if _alike(self.images) and _alike(condition) else 0
        if self._alone:
            head = None if condition is None else condition[:1]
            self._first.begin(self.images[:1].clone(), head, draw.part(0, 1), known=known, evidence=self.evidence[:1])

    def step(self, step: int) -> None:
        """See `Particles.step`."""
        if step >= self._alone:
            self._last_step = step
            self._walk.run(step, step + 1)
            return
        self._first.run(step, step + 1)
        self.evidence[1:] = self.evidence[0]
        if step == self._alone - 1:
            everyone = torch.arange(len(self.images), device="cpu")
            self._walk.copy(self._first, step, torch.zeros_like(everyone), everyone)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """See `Particles.copy`."""
        if self._last_step is not None:  # until then they are identical
            self._walk.copy(self._walk, self._last_step, sources, targets)

    def _known_steps(self, known: Tensor) -> int:
        """The number of steps before the first one that draws."""
        flat = known.flatten(1)
        steps = range(self.wavefront.steps)
        return next((step for step in steps if not flat[:, self.wavefront.pixels(step)].all()), len(steps))


class EagerParticles:
    """Particles of the eager engine: in PyTorch, on any device."""

    def __init__(self, model: Autoregressive, draw: Draw) -> None:
        self._model = model
        self._walk = Walk(model, draw.n, conditional=draw.conditional)
        self.wavefront = self._walk.schedule.wavefront
        self.evidence = torch.zeros(draw.n, dtype=torch.float64, device=model.device)

    def start(self, images: Tensor, known: Tensor, draw: Draw) -> None:
        """See `Particles.start`."""
        self._walk.start(draw.given(self._model))
        self.images, self._known = images, known.flatten(1)
        self._draw = drawing(self._model, numbers_of(self._model, draw.seed, draw.first, draw.n))
        self.evidence.zero_()

    @torch.inference_mode()
    def step(self, step: int) -> None:
        """See `Particles.step`."""
        for k in range(self._walk.steps.start, 1) if step == 0 else (step,):
            self._walk.step(self._model, k, self.images, self._choose)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """See `Particles.copy`."""
        self._walk.copy(sources, targets)
        self.images[targets] = self.images[sources]

    def _choose(self, channel: int, pixels: slice, params: Tensor) -> Tensor:
        """Known levels, whose log-probability is added to the evidence, and drawn ones."""
        known = self._known[channel, pixels].unsqueeze(1)
        given = self.images.flatten(2)[:, channel, pixels].t()
        levels = torch.where(known, given, self._draw(channel, pixels, params))
        self.evidence += (_log_probs(self._model, params, levels) * known).sum(0)
        return levels


class ReferenceParticles:
    """Particles by one full forward pass per step and channel: the definition that the other engines must match."""

    def __init__(self, model: Autoregressive, draw: Draw) -> None:
        check_weights(model.named_parameters())
        self._model = model
        _, h, w = model.image_shape
        try:
            self.wavefront = schedule_of(model, conditional=draw.conditional).wavefront
        except RecordingError:
            self.wavefront = Wavefront(h, w, w)  # raster order
        self.evidence = torch.zeros(draw.n, dtype=torch.float64, device=model.device)

    def start(self, images: Tensor, known: Tensor, draw: Draw) -> None:
        """See `Particles.start`."""
        c, h, w = self._model.image_shape
        self._condition = draw.given(self._model)
        self.images, self._known = images, known.flatten(1)
        self._uniforms = uniforms(draw.seed, draw.first, draw.n, h * w * c, self._model.device).view(-1, h * w, c)
        self.evidence.zero_()

    @torch.inference_mode()
    def step(self, step: int) -> None:
        """See `Particles.step`."""
        model, pixels = self._model, self.wavefront.pixels(step)
        canvas = self.images.flatten(2)
        for channel in range(model.image_shape[0]):
            params = model.pixel_params(self.images, pixels, self._condition)[:, channel]
            drawn = likelihoods.draw(model.likelihood, params, self._uniforms[:, pixels, channel])
            known = self._known[channel, pixels]
            levels = torch.where(known, canvas[:, channel, pixels], drawn)
            self.evidence += (_log_probs(model, params, levels) * known).sum(1)
            canvas[:, channel, pixels] = levels

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """See `Particles.copy`."""
        self.images[targets] = self.images[sources]


def _alike(rows: Tensor | None) -> bool:
    return rows is None or bool((rows == rows[:1]).all())


def _log_probs(model: Autoregressive, params: Tensor, levels: Tensor) -> Tensor:
    """Log-probabilities of the levels in nats, in float64 as draws are: (...) from (..., params) and (...)."""
    return model.likelihood.log_prob(params.double(), levels).double()


_KINDS: dict[str, type[NativeParticles | EagerParticles | ReferenceParticles]] = {
    "native": NativeParticles,
    "eager": EagerParticles,
    "reference": ReferenceParticles,
}


def particles_of(model: Autoregressive, engine: str) -> type[NativeParticles | EagerParticles | ReferenceParticles]:
    """The class of an engine's particles; see `pixelcnn.sampling.engine_of`, also for warnings and errors."""
    return _KINDS[engine_of(model, engine, particles=True).name]
