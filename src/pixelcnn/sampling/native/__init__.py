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
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.likelihoods import Bernoulli, Categorical, LogisticMixture
from pixelcnn.precision import Precision
from pixelcnn.randomness import mixed_seed
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.native.compiler import NativeError, native_library
from pixelcnn.sampling.native.layout import plan_of
from pixelcnn.sampling.native.packing import packed
from pixelcnn.sampling.native.share import Share
from pixelcnn.sampling.program import RecordingError, record

__all__ = ["NativeSampler", "warn_of_slower", "why_not_native"]

_MOST_ROWS = 224  # of a thread's front: their features stay in a core's caches
_MOST_MIXTURES = 64  # as in engine.c
_BURSTS = 64  # calls of compiled code for a batch, about: between them progress is told, and Ctrl-C heard
_MOST_BYTES = 2**26  # of a thread's memory, as long as one image fits


def why_not_native(model: Autoregressive, precision: Precision | None = None, _conditional: bool = False) -> str | None:
    """Why the native engine cannot sample from a model here; None if it can."""
    if model.device.type != "cpu":
        return f"the model is on {model.device}"
    if precision == "bf16":
        return "it computes in float32 and float64, not in bf16"
    likelihood = model.likelihood
    if type(likelihood) not in (Bernoulli, Categorical, LogisticMixture):
        return f"it does not know the likelihood {type(likelihood).__name__}"
    if isinstance(likelihood, LogisticMixture) and likelihood.mixtures > _MOST_MIXTURES:
        return f"a mixture may have {_MOST_MIXTURES} distributions"
    try:
        record(model)
        native_library(model.dtype)
    except (RecordingError, NativeError) as error:
        return str(error)
    return None


def warn_of_slower(model: Autoregressive, reason: str) -> None:
    """Warns of what `why_not_native` says where nothing slower was asked for; on a CPU, whose fastest engine it is."""
    if model.device.type == "cpu":
        warnings.warn(f"slower than it could be, in PyTorch instead of compiled code: {reason}", stacklevel=1)


class NativeSampler:
    """Draws batches of `n` images on the CPU.

    Args:
        model: A model of which `why_not_native` says None; its weights are copied, changing them later has no effect.
        n: Images of a batch.
        condition: What each image is conditioned on, (n, D); None for nothing.
        guidance: See `AutoregressiveModel.sample`.
        precision: Not "bf16": it computes in the model's own type.
        slope: Of the wavefront, by default the smallest that the network allows; `width` is raster order.
        threads: At most so many; `torch.get_num_threads()` by default.
        lockstep: Whether the threads wait for each other after every step.
    """

    name = "native"

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        precision: Precision | None = None,
        *,
        slope: int | None = None,
        threads: int | None = None,
        lockstep: bool = False,
    ) -> None:
        assert precision != "bf16", precision
        self._shape = model.image_shape
        self._n = n
        self._lockstep = lockstep
        self._library = native_library(model.dtype)
        self._condition = condition
        self._guidance = guidance
        copies = 1 if guidance == 1 else 2  # of each image, the second one unconditional
        network = packed(model, self._library.panel(), slope, conditional=condition is not None)
        self.steps = network.schedule.wavefront.steps
        """Steps of a batch."""
        self._prelude = network.schedule.prelude
        count = min(threads or torch.get_num_threads(), n)
        bounds = itertools.pairwise(k * n // count for k in range(count + 1))
        plans = [(start, plan_of(network, stop - start, copies)) for start, stop in bounds]
        self._shares = [(start, plan, plan.arena()) for start, plan in plans]

    @staticmethod
    def batch(model: Autoregressive, _precision: Precision | None = None) -> int:
        """The best `n` for many images: what a core's caches, and at most 64 MB of memory, hold for each thread."""
        network = packed(model, native_library(model.dtype).panel())
        plan = plan_of(network, 1)
        rows = _MOST_ROWS * (2 if network.by_rows else 1)  # all columns of a row, but of few values
        most = min(rows // plan.rows, _MOST_BYTES // plan.arena().nbytes)
        return torch.get_num_threads() * max(1, most)

    def run(self, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step.

        Images may be ahead of what is yielded, and other threads behind, until the last one, but in lockstep.
        """
        assert images.shape == (self._n, *self._shape), images.shape
        assert images.is_contiguous()
        library, steps, lockstep = self._library, self.steps, self._lockstep
        root = mixed_seed(seed)
        subpixels = images[0].numel()
        jobs = []
        for start, plan, arena in self._shares:
            condition = None if self._condition is None else self._condition[start : start + plan.images]
            plan.begin(arena, condition)
            share = Share(
                arena.ctypes.data,
                images.data_ptr() + start * subpixels,
                plan.images,
                plan.n,
                first + start,
                root,
                temperature,
                self._guidance,
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
            burst = 1 if lockstep else max(1, min(steps // _BURSTS, self._shape[2]))
            for step in range(0, steps, burst):
                stop = min(step + burst, steps)
                if lockstep:
                    allowed.value = stop
                start = -self._prelude if step == 0 else step
                library.run_steps(*job, ctypes.c_int64(start), ctypes.c_int64(stop))
                if lockstep or stop == steps:
                    while any(said.value < stop for said in done):
                        time.sleep(0)
                yield from itertools.repeat(None, stop - step)
        finally:
            allowed.value = -1
            for thread in threads:
                thread.join()
