"""The native engine: a recorded network run by compiled code on the CPU, each thread drawing a share of the images.

`engine.c` does the arithmetic, `compiler` builds a library from it, `packing` prepares the weights, `layout` the
memory, and `walk` runs a batch.
"""

from __future__ import annotations

import ctypes
import threading
import time
import warnings
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.arithmetic import Precision
from pixelcnn.arithmetic.mixture import MAX_MIXTURES
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.native.compiler import NativeError
from pixelcnn.sampling.native.layout import plan_of
from pixelcnn.sampling.native.packing import check_program, packed
from pixelcnn.sampling.native.walk import NativeWalk, library_of
from pixelcnn.sampling.program import RecordingError
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["NativeSampler", "warn_of_slower", "why_not_native"]

_MAX_ROWS = 224  # in a thread's front, so that their features stay in a core's caches
_MAX_EXACT_IMAGES = 16  # per thread in exact arithmetic, for the same reason
_BURST = 0.02  # seconds in compiled code between showing progress and handling Ctrl-C, approximately
_MAX_BYTES = 2**26  # of memory per thread, as long as one image fits
_PACKABLE: weakref.WeakSet[Autoregressive] = weakref.WeakSet()  # whose networks need not be recorded again to know it


def why_not_native(model: Autoregressive, precision: Precision | None = None, particles: bool = False) -> str | None:
    """Why the native engine cannot sample from a model here; None if it can."""
    likelihood = model.likelihood
    obstacles = {
        f"the model is on {model.device}": model.device.type != "cpu",
        "it computes in float32 and float64, not in bf16": precision == "bf16",
        "it has no particles in exact arithmetic": particles and model.exact,
        f"it does not know the likelihood {type(likelihood).__name__}": likelihood.tag is None,
        f"a mixture may have at most {MAX_MIXTURES} distributions": getattr(likelihood, "mixtures", 1) > MAX_MIXTURES,
    }
    for reason, holds in obstacles.items():
        if holds:
            return reason
    try:
        if model not in _PACKABLE:
            check_program(schedule_of(model, conditional=True).program, *model.image_shape[1:])
            _PACKABLE.add(model)
        library_of(model)
    except (RecordingError, NativeError) as error:
        return str(error)
    return None


def warn_of_slower(model: Autoregressive, reason: str) -> None:
    """Warns that a slower engine replaces the native one, the fastest on a CPU; `reason` is from `why_not_native`."""
    if model.device.type == "cpu":
        warnings.warn(f"slower than it could be, in PyTorch instead of compiled code: {reason}", stacklevel=1)


class NativeSampler:
    """Draws batches of images on the CPU.

    Args:
        model: A model for which `why_not_native` returns None.
        draw: See `pixelcnn.sampling.Sampler`.
        slope: Slope of the wavefront, by default the smallest that the network allows; `width` is raster order.
        threads: Maximum number of threads; `torch.get_num_threads()` by default.
        lockstep: Whether the threads wait for each other after every step.
    """

    name = "native"

    def __init__(
        self,
        model: Autoregressive,
        draw: Draw,
        *,
        slope: int | None = None,
        threads: int | None = None,
        lockstep: bool = False,
    ) -> None:
        assert draw.precision is None, draw.precision
        self._model = model
        self._lockstep = lockstep
        self._walk = NativeWalk(
            model,
            draw.n,
            conditional=draw.conditional,
            copies=1 + draw.guided,
            slope=slope,
            threads=threads or torch.get_num_threads(),
        )
        self.steps = self._walk.wavefront.steps
        """Number of steps per batch."""

    @staticmethod
    def batch(model: Autoregressive) -> int:
        """The best `n` for drawing many images: as many per thread as fit a core's caches, and 64 MB of memory."""
        if model.exact:
            return torch.get_num_threads() * _MAX_EXACT_IMAGES
        network = packed(model, library_of(model).panel())
        plan = plan_of(network, 1)
        rows = _MAX_ROWS * (4 if network.by_rows else 1)  # all columns of a row, but only for a few values
        images = min(rows // plan.rows, _MAX_BYTES // plan.arena().nbytes)
        return torch.get_num_threads() * max(1, images)

    def run(self, images: Tensor, draw: Draw, log_prob: Tensor | None = None) -> Iterator[int]:
        """See `pixelcnn.sampling.Sampler.run`. The images' log-probabilities are added to `log_prob`, float64
        (n,), if that is given; not in exact arithmetic.

        Except in lockstep, images may be ahead of the steps yielded, and other threads behind, until the last step.
        """
        walk, steps, lockstep = self._walk, self.steps, self._lockstep
        walk.begin(images, draw.given(self._model), draw, evidence=log_prob)
        jobs = walk.jobs
        allowed = ctypes.c_int64(0 if lockstep else steps)
        done = [ctypes.c_int64(0) for _ in jobs[1:]]
        threads = [
            threading.Thread(
                target=walk.library.follow,
                args=(*job, ctypes.c_int64(steps), ctypes.byref(allowed), ctypes.byref(each)),
                daemon=True,
            )
            for job, each in zip(jobs[1:], done, strict=True)
        ]
        try:
            for thread in threads:
                thread.start()
            burst, stop = 1, 0
            while stop < steps:
                step, stop, begun = stop, min(stop + burst, steps), time.perf_counter()
                if lockstep:
                    allowed.value = stop
                walk.run(step, stop)
                if not lockstep:
                    burst = max(1, round(burst * min(8, _BURST / (time.perf_counter() - begun))))
                if lockstep or stop == steps:
                    while any(each.value < stop for each in done):
                        time.sleep(0)
                yield stop - step
        finally:
            allowed.value = -1
            for thread in threads:
                if thread.is_alive():  # not all are started where there are too many
                    thread.join()


SAMPLER, why_not = NativeSampler, why_not_native
