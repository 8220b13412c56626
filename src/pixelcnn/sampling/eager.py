"""The eager engine: the recorded network step by step in PyTorch, for any model on any device."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pixelcnn.likelihoods import draw
from pixelcnn.precision import Precision
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive, check_weights
from pixelcnn.sampling.program import Attention, record
from pixelcnn.sampling.rows import front_of
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.threads import in_parallel

__all__ = ["Batch", "EagerSampler", "cache_bytes", "log_probs"]

_MOST_IMAGES = 64  # larger batches fall out of the processor's caches
_MOST_BYTES = 2**29
_LEAST_SHARE = 16  # images that a thread draws: with fewer the interpreter's lock costs more than a thread gains


class Batch:
    """A batch of images under way: caches, packed weights, and what a step does.

    It keeps the convolutions' weights as they were when it was made, and no reference to the model.

    Args:
        model: Any model.
        n: Images of the batch.
        conditional: Whether they are conditioned on something.
        guided: Whether each has an unconditional copy, for guidance.
        slope: Of the wavefront, by default the smallest that the network allows.
        precision: What operands are rounded to, see `pixelcnn.precision`.

    Raises:
        ValueError: If a weight is not finite.
    """

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        *,
        conditional: bool = False,
        guided: bool = False,
        slope: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        check_weights(model.named_parameters())
        self.schedule = schedule_of(model, slope, conditional=conditional)
        self._n = n
        self._guided = guided
        self._precision = precision
        with torch.inference_mode():
            channels, like = model.image_shape[0], model.masked_layers[0].weight
            self._front = front_of(self.schedule, channels, n * (1 + guided), like, precision)

    @property
    def steps(self) -> range:
        """All of them, in order; before step 0 nothing is drawn."""
        return range(-self.schedule.prelude, self.schedule.wavefront.steps)

    @torch.inference_mode()
    def start(self, condition: Tensor | None) -> None:
        """Tells what each image is conditioned on, (n, D); None for nothing."""
        if condition is not None and self._guided:
            condition = torch.cat([condition, torch.zeros_like(condition)])
        self._front.start(condition)

    @torch.inference_mode()
    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Images `targets` become, for the steps that follow, what images `sources` are; int64, none in both."""
        self._front.copy(sources, targets)

    def uniforms(self, model: Autoregressive, seed: int, first: int) -> Tensor:
        """The numbers that `step` wants for images `first ..` of a seed: float64 (C, H * W, n)."""
        c, h, w = model.image_shape
        return uniforms(seed, first, self._n, h * w * c, model.device).view(-1, h * w, c).permute(2, 1, 0).contiguous()

    def step(
        self,
        model: Autoregressive,
        step: int,
        images: Tensor,
        u: Tensor,
        temperature: float | Tensor,
        guidance: float | Tensor,
        known: Tensor | None = None,
        evidence: Tensor | None = None,
    ) -> None:
        """Draws the pixels of a step into `images`, uint8 (n, C, H, W); the steps come in order.

        Sub-pixels that are `known`, bool (C, H * W), are left as they are in all images, and the logarithm of their
        probability is added to `evidence`, float64 (n,).
        """
        front, n, c = self._front, self._n, len(u)
        front.begin(step)
        if step < 0:
            front.compute(0)  # only what is ahead has anything to do
            return
        canvas = images.view(n, c, -1).permute(1, 2, 0)  # (C, H * W, n), writes through
        pixels = self.schedule.wavefront.pixels(step)
        wide = torch.promote_types(model.dtype, torch.float32)
        for channel in range(c):
            if model.grouped:
                params = front.compute(channel).to(wide)
            else:
                if channel == 0:
                    raw = front.compute(0).to(wide)
                    pixel = torch.zeros(len(raw), c, dtype=torch.uint8, device=model.device)
                params = model.subpixel_params(raw, pixel, channel)
            if self._guided:
                conditional, unconditional = params.view(-1, 2, n, params.shape[1]).unbind(1)
                params = (unconditional + guidance * (conditional - unconditional)).flatten(0, 1)
            levels = draw(model.likelihood, params, u[channel, pixels].reshape(-1), temperature).view(-1, n)
            if known is not None and evidence is not None:
                given = known[channel, pixels].unsqueeze(1)
                levels = torch.where(given, canvas[channel, pixels], levels)
                evidence += (log_probs(model, params, levels.flatten()).view(-1, n) * given).sum(0)
            canvas[channel, pixels] = levels
            seen = levels.repeat(1, 2) if self._guided else levels
            if not model.grouped:
                pixel[:, channel] = seen.flatten()
            front.observe(channel, seen.flatten().to(model.dtype) / (model.levels - 1))


def log_probs(model: Autoregressive, params: Tensor, levels: Tensor) -> Tensor:
    """Natural logarithms of the levels' probabilities, in float64 as draws are: (...) of (..., params) and (...)."""
    return model.likelihood.log_prob(params.double(), levels)


class EagerSampler:
    """Draws batches of `n` images; caches and packed weights are made once.

    Args:
        model: Any model; its masked convolutions' weights are copied, so changing them later has no effect.
        n: Images of a batch.
        condition: What each image is conditioned on, (n, D); None for nothing.
        guidance: See `AutoregressiveModel.sample`.
        precision: What operands are rounded to, see `pixelcnn.precision`.
        slope: Of the wavefront, by default the smallest that the network allows; `width` is raster order.
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
        shares = max(1, min(torch.get_num_threads(), n // _LEAST_SHARE)) if model.device.type == "cpu" else 1
        self._shares = [slice(n * k // shares, n * (k + 1) // shares) for k in range(shares)]
        """Of the images, which each thread draws."""
        self._batches = [
            Batch(
                model,
                share.stop - share.start,
                conditional=condition is not None,
                guided=guidance != 1,
                slope=slope,
                precision=precision,
            )
            for share in self._shares
        ]
        self.steps = self._batches[0].schedule.wavefront.steps
        """Steps of a batch."""
        for share, batch in zip(self._shares, self._batches, strict=True):
            batch.start(None if condition is None else condition[share])

    @staticmethod
    def batch(model: Autoregressive, _precision: Precision | None = None) -> int:
        """The best `n` for many images: at most 64, or as many as keep the caches below 512 MB."""
        return max(1, min(_MOST_IMAGES, _MOST_BYTES // cache_bytes(model)))

    @torch.inference_mode()
    def run(self, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step."""
        model = self._model
        assert images.shape == (self._shares[-1].stop, *model.image_shape), images.shape
        work = [
            (batch, images[share], batch.uniforms(model, seed, first + share.start))
            for share, batch in zip(self._shares, self._batches, strict=True)
        ]

        def take(step: int) -> None:
            def draw(one: tuple[Batch, Tensor, Tensor]) -> None:
                batch, share, u = one
                batch.step(model, step, share, u, temperature, self._guidance)

            if model.device.type == "cpu":
                in_parallel(draw, work, pool)
            else:
                draw(work[0])

        with ThreadPoolExecutor(len(work)) as pool:
            for step in self._batches[0].steps:
                take(step)
                if step >= 0:
                    yield


def cache_bytes(model: Autoregressive) -> int:
    """About what the caches of a `Batch` take for each image, in bytes."""
    _, h, w = model.image_shape
    numbers = sum(
        layer.in_channels * h * (w + layer.window.width)
        for layer in model.masked_layers
        if not layer.pointwise or layer.mask_type == "all"
    )
    program = record(model)
    attentions = (op for op in program.operations if isinstance(op, Attention))
    numbers += sum(h * w * (program.features[op.keys] + program.features[op.values]) for op in attentions)
    return numbers * model.dtype.itemsize + 1
