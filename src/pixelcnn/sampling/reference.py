"""The reference sampler: one full forward of the network for every sub-pixel.

This is the definition that the fast sampler is held against, and what the Keras example does.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.likelihoods import draw
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive

__all__ = ["run", "steps"]


def steps(model: Autoregressive) -> int:
    """Full forwards for one batch: a sub-pixel each."""
    c, h, w = model.image_shape
    return c * h * w


@torch.inference_mode()
def run(model: Autoregressive, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
    """Fills `images`, uint8 zeros (N, C, H, W), with images `first ..` of the seed; yields after every sub-pixel."""
    c, h, w = model.image_shape
    u = uniforms(seed, first, len(images), c * h * w, model.device)
    for k in range(c * h * w):
        i, j, channel = k // (w * c), k // c % w, k % c
        params = model(images)[:, channel, i, j]
        images[:, channel, i, j] = draw(model.likelihood, params, u[:, k], temperature)
        yield
