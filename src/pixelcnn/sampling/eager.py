"""The eager engine: the front view step by step in PyTorch, for any network on any device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.likelihoods import draw
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.front import FrontView
from pixelcnn.sampling.wavefront import Wavefront, wavefront_of

__all__ = ["EagerSampler"]

_MOST_IMAGES = 64  # larger batches fall out of the processor's caches
_MOST_BYTES = 2**29


class EagerSampler:
    """Draws batches of `n` images; caches and packed weights are made once.

    Args:
        model: Any model; its masked convolutions' weights are copied, so changing them later has no effect.
        n: Images of a batch.
        wavefront: The schedule, by default the fastest that the taps allow; of slope `width` it is raster order.
    """

    name = "eager"

    def __init__(self, model: Autoregressive, n: int, wavefront: Wavefront | None = None) -> None:
        self._model = model
        self._n = n
        self._wavefront = wavefront or wavefront_of(model)
        self.steps = self._wavefront.steps
        """Steps of a batch."""
        with torch.inference_mode():
            self._view = FrontView(model.masked_layers, self._wavefront, model.image_shape[0], n)

    @staticmethod
    def batch(model: Autoregressive) -> int:
        """The best `n` for many images: at most 64, or as many as keep the caches below 512 MB."""
        _, h, w = model.image_shape
        caches = sum(
            layer.in_channels * h * (w + layer.kernel_size // 2)
            for layer in model.masked_layers
            if layer.kernel_size > 1
        )
        return max(1, min(_MOST_IMAGES, _MOST_BYTES // (caches * model.dtype.itemsize + 1)))

    @torch.inference_mode()
    def run(self, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step."""
        model, view, n = self._model, self._view, self._n
        c, h, w = model.image_shape
        assert images.shape == (n, c, h, w), images.shape
        u = uniforms(seed, first, n, h * w * c, model.device).view(n, h * w, c).permute(2, 1, 0).contiguous()
        canvas = images.view(n, c, h * w).permute(1, 2, 0)  # (C, H * W, N), writes through
        for step in range(self.steps):
            view.begin(step)
            pixels = self._wavefront.pixels(step)
            for channel in range(c):
                view.channel = channel
                params = model.network(view)
                levels = draw(model.likelihood, params, u[channel, pixels].reshape(-1), temperature)
                view.observe(levels.to(model.dtype) / (model.levels - 1))
                canvas[channel, pixels] = levels.view(-1, n)
            yield
