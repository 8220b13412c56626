"""Particles of the native engine, run by a single thread; see `pixelcnn.sampling.particles`."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.native.walk import NativeWalk

__all__ = ["NativeParticles"]


class NativeParticles:
    """See `pixelcnn.sampling.particles.Particles`.

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


def _alike(rows: Tensor | None) -> bool:
    return rows is None or bool((rows == rows[:1]).all())
