"""The eager engine: runs the recorded network step by step in PyTorch, for any model on any device."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pixelcnn import likelihoods
from pixelcnn.arithmetic import Precision
from pixelcnn.levels import GREY_LEVELS
from pixelcnn.operations import Attention
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.program import RecordingError, record
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.walk import Choose, Walk, numbers_of
from pixelcnn.threads import in_parallel

__all__ = ["EagerSampler", "cache_bytes", "drawing", "why_not_eager"]

_MAX_IMAGES = 64  # larger batches fall out of the processor's caches
_MAX_BYTES = 2**29
_MIN_SHARE = 16  # images per thread: with fewer, the interpreter's lock costs more than a thread gains


def why_not_eager(model: Autoregressive, _precision: Precision | None = None, _particles: bool = False) -> str | None:
    """Why the eager engine cannot sample from a model; None if it can."""
    try:
        schedule_of(model, conditional=True)
    except RecordingError as error:
        return str(error)
    return None


def drawing(
    model: Autoregressive, u: Tensor, temperature: float | Tensor = 1.0, guidance: float | Tensor | None = None
) -> Choose:
    """Chooses levels by the uniform numbers of `numbers_of`; with guidance if the images have unconditional copies."""

    def choose(channel: int, pixels: slice, params: Tensor) -> Tensor:
        if guidance is not None:
            conditional, unconditional = params.chunk(2, 1)
            params = unconditional + guidance * (conditional - unconditional)
        return likelihoods.draw(model.likelihood, params, u[channel, pixels], temperature)

    return choose


class EagerSampler:
    """Draws batches of images; caches and packed weights are made once and reused.

    Args:
        model: A model for which `why_not_eager` returns None.
        draw: See `pixelcnn.sampling.Sampler`.
        slope: Slope of the wavefront, by default the smallest that the network allows; `width` is raster order.
    """

    name = "eager"

    def __init__(self, model: Autoregressive, draw: Draw, *, slope: int | None = None) -> None:
        self._model = model
        n, on_host = draw.n, model.device.type == "cpu"
        shares = max(1, min(torch.get_num_threads(), n // _MIN_SHARE)) if on_host else 1
        self._shares = [slice(n * k // shares, n * (k + 1) // shares) for k in range(shares)]
        """The images that each thread draws."""
        self._walks = [
            Walk(
                model,
                share.stop - share.start,
                conditional=draw.conditional,
                copied=draw.guided,
                slope=slope,
                precision=draw.precision,
            )
            for share in self._shares
        ]
        self.steps = self._walks[0].schedule.wavefront.steps
        """Number of steps per batch."""

    @staticmethod
    def batch(model: Autoregressive) -> int:
        """The best `n` for drawing many images: at most 64, and few enough to keep the caches below 512 MB."""
        return max(1, min(_MAX_IMAGES, _MAX_BYTES // cache_bytes(model)))

    @torch.inference_mode()
    def run(self, images: Tensor, draw: Draw) -> Iterator[int]:
        """See `pixelcnn.sampling.Sampler.run`."""
        model, guidance = self._model, draw.guidance if draw.guided else None
        condition = draw.given(model)
        assert images.shape == (self._shares[-1].stop, *model.image_shape), images.shape
        work = []
        for share, walk in zip(self._shares, self._walks, strict=True):
            walk.start(None if condition is None else condition[share])
            u = numbers_of(model, draw.seed, draw.first + share.start, share.stop - share.start)
            work.append((walk, images[share], drawing(model, u, draw.temperature, guidance)))

        with ThreadPoolExecutor(len(work)) as pool:
            for step in self._walks[0].steps:

                def fill(one: tuple[Walk, Tensor, Choose], step: int = step) -> None:
                    walk, share, choose = one
                    walk.step(model, step, share, choose)

                if model.device.type == "cpu":
                    in_parallel(fill, work, pool)
                else:
                    fill(work[0])
                if step >= 0:
                    yield 1


def cache_bytes(model: Autoregressive) -> int:
    """Approximate size of a `Walk`'s caches per image, in bytes."""
    _, h, w = model.image_shape
    numbers = sum(
        layer.in_channels * h * (w + layer.window.width)
        for layer in model.masked_layers
        if not layer.pointwise or layer.mask_type == "all"
    )
    program = record(model)
    attentions = (node for node in program.nodes if isinstance(node.op, Attention))
    numbers += sum(h * w * program.features[value] for node in attentions for value in node.inputs[1:])
    if model.likelihood.params > GREY_LEVELS:  # logits of the front's pixels
        numbers += h * program.features[program.output]
    return numbers * model.dtype.itemsize + 1


SAMPLER, why_not = EagerSampler, why_not_eager
