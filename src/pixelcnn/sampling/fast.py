"""The fast sampler: each feature computed once, a wavefront of pixels at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.likelihoods import draw
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.front import FrontView
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["run", "steps", "wavefront_of"]


def wavefront_of(model: Autoregressive) -> Wavefront:
    """The schedule that the model's taps allow."""
    _, h, w = model.image_shape
    return Wavefront.of((tap for layer in model.masked_layers for tap in layer.taps), h, w)


def steps(model: Autoregressive) -> int:
    """Steps for one batch."""
    return wavefront_of(model).steps


@torch.inference_mode()
def run(model: Autoregressive, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
    """Fills `images`, uint8 zeros (N, C, H, W), with images `first ..` of the seed; yields after every step."""
    c, h, w = model.image_shape
    n = len(images)
    u = uniforms(seed, first, n, h * w * c, model.device).view(n, h * w, c).permute(2, 1, 0).contiguous()
    canvas = images.view(n, c, h * w).permute(1, 2, 0)  # (C, H * W, N), writes through
    wavefront = wavefront_of(model)
    view = FrontView(model.masked_layers, wavefront, c, n)
    for step in range(wavefront.steps):
        view.begin(step)
        pixels = wavefront.pixels(step)
        for channel in range(c):
            view.channel = channel
            params = model.network(view)
            levels = draw(model.likelihood, params, u[channel, pixels].reshape(-1), temperature)
            view.observe(levels.to(model.dtype) / (model.levels - 1))
            canvas[channel, pixels] = levels.view(-1, n)
        yield
