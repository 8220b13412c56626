"""Particles of the native engine; see `pixelcnn.sampling.particles`. One thread runs them."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from pixelcnn.randomness import mixed_seed
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.native.compiler import native_library
from pixelcnn.sampling.native.layout import plan_of
from pixelcnn.sampling.native.packing import PackedNetwork, packed
from pixelcnn.sampling.native.share import Share

__all__ = ["NativeParticles"]


class NativeParticles:
    """See `pixelcnn.sampling.particles.Particles`.

    Until the first unknown sub-pixel all particles are the same: one particle takes these steps for all.
    """

    def __init__(self, model: Autoregressive, n: int, conditional: bool, seed: int) -> None:
        self._library = native_library(model.dtype)
        self._network = packed(model, self._library.panel(), None, conditional=conditional)
        self.wavefront = self._network.schedule.wavefront
        self._batch = _Batch(self._library, self._network, n)
        self._first: _Batch | None = None
        self._seed = seed
        self.evidence = torch.zeros(n, dtype=torch.float64, device="cpu")

    def start(self, images: Tensor, known: Tensor, first: int, condition: Tensor | None = None) -> None:
        """See `Particles.start`."""
        self.images, known = images.contiguous(), known.contiguous()
        self.evidence.zero_()
        self._batch.start(self.images, known, self.evidence, self._seed, first, condition)
        self._alone = self._known_steps(known) if _alike(self.images) and _alike(condition) else 0
        if self._alone:
            self._first = self._first or _Batch(self._library, self._network, 1)
            head = None if condition is None else condition[:1]
            self._first.start(self.images[:1].clone(), known, self.evidence[:1], self._seed, first, head)

    def step(self, step: int) -> None:
        """See `Particles.step`."""
        if step >= self._alone:
            self._batch.step(step)
            return
        assert self._first is not None
        self._first.step(step)
        self.evidence[1:] = self.evidence[0]
        if step == self._alone - 1:
            everyone = torch.arange(len(self.images), device="cpu")
            self._batch.copy(self._first, step, torch.zeros_like(everyone), everyone)

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """See `Particles.copy`."""
        if self._batch.last_step is not None:  # before, they are alike
            self._batch.copy(self._batch, self._batch.last_step, sources, targets)

    def _known_steps(self, known: Tensor) -> int:
        """How many steps there are before the first that draws."""
        flat = known.flatten(1)
        steps = range(self.wavefront.steps)
        return next((step for step in steps if not flat[:, self.wavefront.pixels(step)].all()), len(steps))


class _Batch:
    """Memory for n particles, and how far they are."""

    def __init__(self, library: ctypes.CDLL, network: PackedNetwork, n: int) -> None:
        self._library = library
        self._prelude = network.schedule.prelude
        self._plan = plan_of(network, n)
        self._arena = self._plan.arena()

    def start(
        self, images: Tensor, known: Tensor, evidence: Tensor, seed: int, first: int, condition: Tensor | None
    ) -> None:
        assert len(images) == self._plan.images, images.shape
        self.last_step: int | None = None
        self._kept = images, known.to(torch.uint8), evidence  # as long as the engine has their addresses
        images, known, evidence = self._kept
        self._plan.begin(self._arena, condition)
        self._share = Share(
            self._arena.ctypes.data, images.data_ptr(), len(images), self._plan.n, first, mixed_seed(seed),
            1.0, 1.0, known.data_ptr(), evidence.data_ptr(),
        )  # fmt: skip
        self._job = ctypes.byref(self._plan.struct), ctypes.byref(self._share)

    def step(self, step: int) -> None:
        self.last_step = step
        start = -self._prelude if step == 0 else step
        self._library.run_steps(*self._job, ctypes.c_int64(start), ctypes.c_int64(step + 1))

    def copy(self, other: _Batch, step: int, sources: Tensor, targets: Tensor) -> None:
        """Makes particles `targets` what those of `other` at `sources` are."""
        sources, targets = sources.contiguous(), targets.contiguous()
        places = ctypes.c_void_p(sources.data_ptr()), ctypes.c_void_p(targets.data_ptr())
        self._library.copy_images(*self._job, *other._job, ctypes.c_int64(step), *places, ctypes.c_int64(len(sources)))


def _alike(rows: Tensor | None) -> bool:
    return rows is None or bool((rows == rows[:1]).all())
