"""The eager engine: runs the recorded network step by step in PyTorch, for any model on any device."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pixelcnn.arithmetic import Precision
from pixelcnn.likelihoods import draw
from pixelcnn.operations import Attention
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.program import RecordingError, record
from pixelcnn.sampling.walk import Choose, Walk, guided, numbers_of
from pixelcnn.threads import in_parallel

__all__ = ["EagerSampler", "cache_bytes", "drawing", "why_not_eager"]

_MAX_IMAGES = 64  # larger batches fall out of the processor's caches
_MAX_BYTES = 2**29
_MIN_SHARE = 16  # images per thread: with fewer, the interpreter's lock costs more than a thread gains


def why_not_eager(model: Autoregressive, _precision: Precision | None = None, _conditional: bool = False) -> str | None:
    """Why the eager engine cannot sample from a model; None if it can."""
    try:
        record(model)
    except RecordingError as error:
        return str(error)
    return None


def drawing(
    model: Autoregressive, u: Tensor, temperature: float | Tensor = 1.0, guidance: float | Tensor | None = None
) -> Choose:
    """Chooses levels by the uniform numbers of `numbers_of`; with guidance if the images have unconditional copies."""

    def choose(channel: int, pixels: slice, params: Tensor) -> Tensor:
        params = params if guidance is None else guided(params, guidance)
        return draw(model.likelihood, params, u[channel, pixels], temperature)

    return choose


class EagerSampler:
    """Draws batches of `n` images; caches and packed weights are made once and reused.

    Args:
        model: Any model; its masked convolutions' weights are copied, so changing them later has no effect.
        n: Number of images per batch.
        condition: What each image is conditioned on, (n, D); None for nothing.
        guidance: See `AutoregressiveModel.sample`.
        precision: What operands are rounded to, see `pixelcnn.arithmetic.precision`.
        slope: Slope of the wavefront, by default the smallest that the network allows; `width` is raster order.
    """

    name = "eager"

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        precision: Precision | None = None,
        *,
        slope: int | None = None,
    ) -> None:
        self._model = model
        self._guidance = guidance
        shares = max(1, min(torch.get_num_threads(), n // _MIN_SHARE)) if model.device.type == "cpu" else 1
        self._shares = [slice(n * k // shares, n * (k + 1) // shares) for k in range(shares)]
        """The images that each thread draws."""
        self._walks = [
            Walk(
                model,
                share.stop - share.start,
                conditional=condition is not None,
                copied=guidance != 1,
                slope=slope,
                precision=precision,
            )
            for share in self._shares
        ]
        self.steps = self._walks[0].schedule.wavefront.steps
        """Number of steps per batch."""
        for share, walk in zip(self._shares, self._walks, strict=True):
            walk.start(None if condition is None else condition[share])

    @staticmethod
    def batch(model: Autoregressive, _precision: Precision | None = None) -> int:
        """The best `n` for drawing many images: at most 64, and few enough to keep the caches below 512 MB."""
        return max(1, min(_MAX_IMAGES, _MAX_BYTES // cache_bytes(model)))

    @torch.inference_mode()
    def run(self, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step."""
        model, guidance = self._model, None if self._guidance == 1 else self._guidance
        assert images.shape == (self._shares[-1].stop, *model.image_shape), images.shape
        work = []
        for share, walk in zip(self._shares, self._walks, strict=True):
            u = numbers_of(model, seed, first + share.start, share.stop - share.start)
            work.append((walk, images[share], drawing(model, u, temperature, guidance)))

        def take(step: int) -> None:
            def fill(one: tuple[Walk, Tensor, Choose]) -> None:
                walk, share, choose = one
                walk.step(model, step, share, choose)

            if model.device.type == "cpu":
                in_parallel(fill, work, pool)
            else:
                fill(work[0])

        with ThreadPoolExecutor(len(work)) as pool:
            for step in self._walks[0].steps:
                take(step)
                if step >= 0:
                    yield


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
    return numbers * model.dtype.itemsize + 1


SAMPLER, why_not = EagerSampler, why_not_eager
