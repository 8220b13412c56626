"""The graph engine: all steps of the eager engine, captured once as a CUDA graph and replayed for every batch.

On a GPU the eager engine is limited by Python: one step of the seed network launches some 70 small kernels. A graph
launches all of them, for all steps, in one call. Images, uniforms, conditions, temperature, guidance and caches have
fixed addresses; a batch copies its inputs in, replays the graph and copies its images out. The graph runs exactly what
the eager engine runs, in any dtype and precision.

A capture takes about a second, so up to two per model are kept for later calls (`pixelcnn.sampling.weight_cache`).
Batch sizes are rounded up to one of a few capture sizes, and only the images asked for are taken from the result.

References:
    | CUDA graphs in PyTorch, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arithmetic.precision import Precision, exact_products
from pixelcnn.devices import cuda_graph
from pixelcnn.sampling.autoregressive import Autoregressive, blank
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.eager import cache_bytes, drawing, why_not_eager
from pixelcnn.sampling.walk import Walk, numbers_of
from pixelcnn.sampling.weight_cache import WeightKeyedCache

__all__ = ["GraphSampler", "why_not_graph"]

_MAX_IMAGES = 4096
_MAX_BYTES = 2**28  # for a capture's caches, as long as one image fits; at most two captures are kept
_ROUND = 64  # a capture's batch size is a multiple of this, or a power of two below it


def why_not_graph(model: Autoregressive, _precision: Precision | None = None, particles: bool = False) -> str | None:
    """Why the graph engine cannot sample from a model here; None if it can."""
    if particles:
        return "it has no particles"
    if model.device.type != "cuda":
        return f"the model is on {model.device}"
    if model.exact:
        return "models in exact arithmetic are drawn by the engines native, eager and reference"
    return why_not_eager(model)


class GraphSampler:
    """Draws batches of images on a CUDA device, from a model for which `why_not_graph` returns None; see
    `pixelcnn.sampling.Sampler`.
    """

    name = "graph"

    def __init__(self, model: Autoregressive, draw: Draw) -> None:
        key = _size(draw.n), draw.conditional, draw.guided, draw.precision
        self._capture = _captures.get(model, key, lambda: Capture(model, *key))
        self._model = model
        self.steps = self._capture.steps
        """Number of steps per batch."""

    @staticmethod
    def batch(model: Autoregressive) -> int:
        """The best `n` for drawing many images: as many as keep the caches below 256 MiB, at most 4096."""
        most = max(1, min(_MAX_IMAGES, _MAX_BYTES // cache_bytes(model)))
        return most // _ROUND * _ROUND if most >= _ROUND else 2 ** (most.bit_length() - 1)

    def run(self, images: Tensor, draw: Draw) -> Iterator[int]:
        """See `pixelcnn.sampling.Sampler.run`: yields once, when all are done."""
        self._capture.draw(self._model, images, draw)
        yield self.steps


class Capture:
    """All steps of a batch of `n` images, ready to be replayed.

    Args:
        model: Any model. No reference to it is kept.
        n: Number of images in the batch.
        conditional: Whether they are conditioned on something.
        guided: Whether each has an unconditional copy, for guidance.
        precision: What operands are rounded to.
    """

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        conditional: bool = False,
        guided: bool = False,
        precision: Precision | None = None,
    ) -> None:
        c, h, w = model.image_shape
        device = model.device
        self._n = n
        self._precision = precision
        self._walk = Walk(model, n, conditional=conditional, copied=guided, precision=precision)
        self.steps = self._walk.schedule.wavefront.steps
        self._lock = threading.Lock()
        with torch.inference_mode():
            self._images = blank(model, n)
            self._u = torch.zeros(c, h * w, n, dtype=torch.float64, device=device)
            self._temperature, self._guidance = torch.ones(2, dtype=torch.float64, device=device).unbind()

        @torch.inference_mode()
        def steps() -> None:
            choose = drawing(model, self._u, self._temperature, self._guidance if guided else None)
            for step in self._walk.steps:
                self._walk.step(model, step, self._images, choose)

        with exact_products(precision, device):
            self._replay = cuda_graph(steps, steps, 1, device)

    @torch.inference_mode()
    def draw(self, model: Autoregressive, images: Tensor, draw: Draw) -> None:
        """Fills `images`, at most n of them, with those of the draw."""
        with self._lock, exact_products(self._precision, model.device):
            condition = draw.given(model)
            if condition is not None:
                condition = F.pad(condition, (0, 0, 0, self._n - len(condition)))
            self._walk.start(condition)
            self._u.copy_(numbers_of(model, draw.seed, draw.first, self._n))
            self._temperature.fill_(draw.temperature)
            self._guidance.fill_(draw.guidance)
            self._replay()
            images.copy_(self._images[: len(images)])


_captures: WeightKeyedCache[Capture] = WeightKeyedCache(size=2)


def _size(n: int) -> int:
    return -(-n // _ROUND) * _ROUND if n > _ROUND else 1 << (n - 1).bit_length()


SAMPLER, why_not = GraphSampler, why_not_graph
