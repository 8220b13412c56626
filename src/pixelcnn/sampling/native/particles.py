"""Particles of the native engine; see `pixelcnn.sampling.particles`. One thread runs them."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from pixelcnn.randomness import mixed_seed
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.native.compiler import native_library
from pixelcnn.sampling.native.layout import Plan
from pixelcnn.sampling.native.packing import packed
from pixelcnn.sampling.native.share import Share

__all__ = ["NativeParticles"]


class NativeParticles:
    """See `pixelcnn.sampling.particles.Particles`."""

    def __init__(self, model: Autoregressive, n: int, conditional: bool, seed: int) -> None:
        self._library = native_library(model.dtype)
        network = packed(model, self._library.panel(), None, conditional=conditional)
        self.wavefront = network.schedule.wavefront
        self._prelude = network.schedule.prelude
        self._plan = Plan(network, n)
        self._arena = self._plan.arena()
        self._seed = seed
        self.evidence = torch.zeros(n, dtype=torch.float64)

    def start(self, images: Tensor, known: Tensor, first: int, condition: Tensor | None = None) -> None:
        """See `Particles.start`."""
        assert len(images) == self._plan.images, images.shape
        self.images, self._known = images.contiguous(), known.to(torch.uint8).contiguous()
        self.evidence.zero_()
        self._plan.begin(self._arena, condition)
        self._share = Share(
            self._arena.ctypes.data, self.images.data_ptr(), len(images), self._plan.n, first, mixed_seed(self._seed),
            1.0, 1.0, self._known.data_ptr(), self.evidence.data_ptr(),
        )  # fmt: skip
        self._job = ctypes.byref(self._plan.struct), ctypes.byref(self._share)

    def step(self, step: int) -> None:
        """See `Particles.step`."""
        self._step = step
        start = -self._prelude if step == 0 else step
        self._library.run_steps(*self._job, ctypes.c_int64(start), ctypes.c_int64(step + 1))

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """See `Particles.copy`."""
        sources, targets = sources.contiguous(), targets.contiguous()
        places = ctypes.c_void_p(sources.data_ptr()), ctypes.c_void_p(targets.data_ptr())
        self._library.copy_images(*self._job, ctypes.c_int64(self._step), *places, ctypes.c_int64(len(sources)))
