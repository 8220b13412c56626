"""The reference sampler: one full forward pass of the network per sub-pixel.

This is the definition that the fast engines are tested against, and what the Keras example does.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.arithmetic import Precision
from pixelcnn.likelihoods import draw
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive, check_weights

__all__ = ["ReferenceSampler"]

_MAX_PIXELS = 64 * 28 * 28


class ReferenceSampler:
    """Draws batches of images.

    Args:
        model: Any model.
        n: Number of images per batch.
        condition: What each image is conditioned on, (n, D); None for nothing.
        guidance: See `AutoregressiveModel.sample`.
        precision: What operands are rounded to, see `pixelcnn.arithmetic.precision`.
    """

    name = "reference"

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        precision: Precision | None = None,
    ) -> None:
        check_weights(model.named_parameters())
        self._condition = condition
        self._guidance = guidance
        self._precision = precision
        c, h, w = model.image_shape
        self._model = model
        self._n = n
        self.steps = c * h * w
        """Number of steps per batch, each a full forward pass."""

    @staticmethod
    def batch(model: Autoregressive, _precision: Precision | None = None) -> int:
        """The best `n` for drawing many images: 64 of MNIST's size, more if they are smaller."""
        _, h, w = model.image_shape
        return max(1, _MAX_PIXELS // (h * w))

    @torch.inference_mode()
    def run(self, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 zeros (n, C, H, W), with images `first ..` of the seed; yields after every step."""
        model = self._model
        c, _, w = model.image_shape
        u = uniforms(seed, first, self._n, self.steps, model.device)
        view = model.view_of(self._precision)
        for k in range(self.steps):
            i, j, channel = k // (w * c), k // c % w, k % c
            params = model.raw_params(images, self._condition, view)[:, channel, i, j]
            if self._guidance != 1:
                unconditional = model.raw_params(images, None, view)[:, channel, i, j]
                params = unconditional + self._guidance * (params - unconditional)
            images[:, channel, i, j] = draw(model.likelihood, params, u[:, k], temperature)
            yield


def why_not(_model: Autoregressive, _precision: Precision | None = None, _conditional: bool = False) -> str | None:
    """Always None: this engine draws from any model."""
    return None


SAMPLER = ReferenceSampler
