"""The eager engine: the recorded network step by step in PyTorch, for any model on any device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.likelihoods import draw
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.front import Front
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["EagerSampler"]

_MOST_IMAGES = 64  # larger batches fall out of the processor's caches
_MOST_BYTES = 2**29


class EagerSampler:
    """Draws batches of `n` images; caches and packed weights are made once.

    Args:
        model: Any model; its masked convolutions' weights are copied, so changing them later has no effect.
        n: Images of a batch.
        condition: What each image is conditioned on, (n, D); None for nothing.
        guidance: See `AutoregressiveModel.sample`.
        slope: Of the wavefront, by default the smallest that the network allows; `width` is raster order.
    """

    name = "eager"

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        *,
        slope: int | None = None,
    ) -> None:
        self._model = model
        self._n = n
        self._guidance = guidance
        self._schedule = schedule_of(model, slope, conditional=condition is not None)
        self.steps = self._schedule.wavefront.steps
        """Steps of a batch."""
        self._copies = 1 if guidance == 1 else 2  # of each image, the second one unconditional
        if condition is not None and guidance != 1:
            condition = torch.cat([condition, torch.zeros_like(condition)])
        with torch.inference_mode():
            channels, like = model.image_shape[0], model.masked_layers[0].weight
            self._front = Front(self._schedule, channels, n * self._copies, condition, like)

    @staticmethod
    def batch(model: Autoregressive) -> int:
        """The best `n` for many images: at most 64, or as many as keep the caches below 512 MB."""
        _, h, w = model.image_shape
        caches = sum(
            layer.in_channels * h * (w + layer.window.width) for layer in model.masked_layers if not layer.pointwise
        )
        return max(1, min(_MOST_IMAGES, _MOST_BYTES // (caches * model.dtype.itemsize + 1)))

    @torch.inference_mode()
    def run(self, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step."""
        model, front, n, copies = self._model, self._front, self._n, self._copies
        c, h, w = model.image_shape
        assert images.shape == (n, c, h, w), images.shape
        u = uniforms(seed, first, n, h * w * c, model.device).view(n, h * w, c).permute(2, 1, 0).contiguous()
        canvas = images.view(n, c, h * w).permute(1, 2, 0)  # (C, H * W, N), writes through
        for step in range(-self._schedule.prelude, self.steps):
            front.begin(step)
            if step < 0:
                front.compute(0)  # only what is ahead has anything to do
                continue
            pixels = self._schedule.wavefront.pixels(step)
            for channel in range(c):
                if model.grouped:
                    params = front.compute(channel)
                else:
                    if channel == 0:
                        raw = front.compute(0)
                        pixel = torch.zeros(len(raw), c, dtype=torch.uint8, device=model.device)
                    params = model.subpixel_params(raw, pixel, channel)
                if copies == 2:
                    conditional, unconditional = params.view(-1, 2, n, params.shape[1]).unbind(1)
                    params = unconditional + self._guidance * (conditional - unconditional)
                    params = params.flatten(0, 1)
                levels = draw(model.likelihood, params, u[channel, pixels].reshape(-1), temperature).view(-1, n)
                canvas[channel, pixels] = levels
                seen = levels if copies == 1 else levels.repeat(1, 2)
                if not model.grouped:
                    pixel[:, channel] = seen.flatten()
                front.observe(channel, seen.flatten().to(model.dtype) / (model.levels - 1))
            yield
