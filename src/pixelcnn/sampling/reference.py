"""The reference sampler: one full forward pass of the network per sub-pixel.

This is the definition that the fast engines are tested against, and what the Keras example does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn import likelihoods
from pixelcnn.arithmetic import Precision
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive, check_weights
from pixelcnn.sampling.draws import Draw

__all__ = ["ReferenceSampler"]

_MAX_PIXELS = 64 * 28 * 28


class ReferenceSampler:
    """Draws batches of images from any model; see `pixelcnn.sampling.Sampler`."""

    name = "reference"

    def __init__(self, model: Autoregressive, _draw: Draw) -> None:
        check_weights(model.named_parameters())
        self._model = model
        self.steps = math.prod(model.image_shape)
        """Number of steps per batch, each a full forward pass."""

    @staticmethod
    def batch(model: Autoregressive) -> int:
        """The best `n` for drawing many images: 64 of MNIST's size, more if they are smaller."""
        _, h, w = model.image_shape
        return max(1, _MAX_PIXELS // (h * w))

    @torch.inference_mode()
    def run(self, images: Tensor, draw: Draw) -> Iterator[int]:
        """See `pixelcnn.sampling.Sampler.run`."""
        model = self._model
        c, _, w = model.image_shape
        u = uniforms(draw.seed, draw.first, draw.n, self.steps, model.device)
        condition, view = draw.given(model), model.view_of(draw.precision)
        for k in range(self.steps):
            i, j, channel = k // (w * c), k // c % w, k % c
            pixel = slice(k // c, k // c + 1)
            params = model.pixel_params(images, pixel, condition, view)[:, channel, 0]
            if draw.guided:
                unconditional = model.pixel_params(images, pixel, None, view)[:, channel, 0]
                params = unconditional + draw.guidance * (params - unconditional)
            images[:, channel, i, j] = likelihoods.draw(model.likelihood, params, u[:, k], draw.temperature)
            yield 1


def why_not(_model: Autoregressive, _precision: Precision | None = None, _particles: bool = False) -> str | None:
    """Always None: this engine draws from any model."""
    return None


SAMPLER = ReferenceSampler
