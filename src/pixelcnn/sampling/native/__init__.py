"""The native engine: a recorded network run by compiled code on the CPU, each thread drawing a share of the images.

`engine.c` does the arithmetic, `compiler` makes a library of it, `packing` prepares the weights, `layout` the memory.
Threads share nothing but the weights, so there is nothing to wait for, and since every sum has one order, image i is
the same bit for bit whatever the batch and the number of threads.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.likelihoods import Bernoulli, Categorical
from pixelcnn.randomness import mixed_seed
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.native.compiler import NativeError, native_library
from pixelcnn.sampling.native.layout import Plan
from pixelcnn.sampling.native.packing import packed
from pixelcnn.sampling.program import RecordingError, record
from pixelcnn.sampling.wavefront import Wavefront, wavefront_of

__all__ = ["NativeSampler", "why_not_native"]

_MOST_IMAGES = 32  # of a thread: more gain nothing
_MOST_BYTES = 2**26  # of a thread's memory, as long as one image fits


def why_not_native(model: Autoregressive) -> str | None:
    """Why the native engine cannot sample from a model here; None if it can."""
    if model.device.type != "cpu":
        return f"the model is on {model.device}"
    if not isinstance(model.likelihood, Bernoulli | Categorical):
        return f"it does not know the likelihood {type(model.likelihood).__name__}"
    try:
        record(model)
        native_library(model.dtype)
    except (RecordingError, NativeError) as error:
        return str(error)
    return None


class NativeSampler:
    """Draws batches of `n` images on the CPU.

    Args:
        model: A model of which `why_not_native` says None; its weights are copied, changing them later has no effect.
        n: Images of a batch.
        wavefront: The schedule, by default the fastest that the model's taps allow.
        threads: At most so many; `torch.get_num_threads()` by default.
        lockstep: Whether the threads wait for each other after every step.
    """

    name = "native"

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        wavefront: Wavefront | None = None,
        threads: int | None = None,
        lockstep: bool = False,
    ) -> None:
        wavefront = wavefront or wavefront_of(model)
        self.steps = wavefront.steps
        """Steps of a batch."""
        self._shape = model.image_shape
        self._n = n
        self._lockstep = lockstep
        self._library = native_library(model.dtype)
        network = packed(model, wavefront, self._library.panel())
        count = min(threads or torch.get_num_threads(), n)
        bounds = itertools.pairwise(k * n // count for k in range(count + 1))
        plans: dict[int, Plan] = {}
        self._shares = [
            (start, plan, plan.arena())
            for start, stop in bounds
            for plan in [plans.get(stop - start) or plans.setdefault(stop - start, Plan(network, stop - start))]
        ]

    @staticmethod
    def batch(model: Autoregressive) -> int:
        """The best `n` for many images: as many as a thread's memory of 64 MB holds, at most 32 a thread."""
        network = packed(model, wavefront_of(model), native_library(model.dtype).panel())
        bytes_ = Plan(network, 1).arena().nbytes
        return torch.get_num_threads() * max(1, min(_MOST_IMAGES, _MOST_BYTES // bytes_))

    def run(self, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step.

        Other threads may be behind or ahead until the last one, but in lockstep.
        """
        assert images.shape == (self._n, *self._shape), images.shape
        assert images.is_contiguous()
        library, steps, lockstep = self._library, self.steps, self._lockstep
        root = mixed_seed(seed)
        subpixels = images[0].numel()
        jobs = []
        for start, plan, arena in self._shares:
            arena.fill(0)
            share = _Share(
                arena.ctypes.data, images.data_ptr() + start * subpixels, plan.n, first + start, root, temperature
            )
            jobs.append((ctypes.byref(plan.struct), ctypes.byref(share)))
        allowed = ctypes.c_int64(0 if lockstep else steps)
        done = [ctypes.c_int64(0) for _ in jobs[1:]]
        threads = [
            threading.Thread(
                target=library.follow,
                args=(*other, ctypes.c_int64(steps), ctypes.byref(allowed), ctypes.byref(said)),
                daemon=True,
            )
            for other, said in zip(jobs[1:], done, strict=True)
        ]
        for thread in threads:
            thread.start()
        job = jobs[0]
        try:
            for step in range(steps):
                if lockstep:
                    allowed.value = step + 1
                library.run_steps(*job, ctypes.c_int64(step), ctypes.c_int64(step + 1))
                if lockstep or step == steps - 1:
                    while any(said.value <= step for said in done):
                        time.sleep(0)
                yield
        finally:
            allowed.value = -1
            for thread in threads:
                thread.join()


class _Share(ctypes.Structure):
    _fields_ = [
        ("arena", ctypes.c_void_p),
        ("images", ctypes.c_void_p),
        ("n", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("root", ctypes.c_uint64),
        ("temperature", ctypes.c_double),
    ]
