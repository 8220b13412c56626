"""Dropout: a full view that sets random features to zero, in training only.

    y = x * keep / P(keep),      keep = 1 where 16 random bits, as a number below 2^16, are at least rate * 2^16

The bits are a function of (seed, step, image's index in the batch, layer, feature), so that a resumed run drops the
same features, on every device and however the batch is cut into slices.

References:
    | Dropout: A Simple Way to Prevent Neural Networks from Overfitting (Srivastava et al., 2014), JMLR 15.
"""

from __future__ import annotations

from torch import Tensor

from pixelcnn.operations import FullView
from pixelcnn.randomness import dropout_bits

__all__ = ["DropoutView"]


class DropoutView(FullView):
    """Whole images in one training step.

    Args:
        image: Scaled pixel values, (N, H, W, C), of the network's dtype.
        condition: What the images are conditioned on, (N, D); None for nothing.
        rate: Probability that a feature is dropped, 0..0.99; rounded to a multiple of 2^-16.
        seed: The run's seed.
        step: The step, from 0; a tensor is an int64 scalar on the image's device.
        first: Index of the first image in the step's batch; a tensor is an int64 scalar as well.
    """

    def __init__(
        self,
        image: Tensor,
        condition: Tensor | None = None,
        *,
        rate: float,
        seed: int,
        step: int | Tensor,
        first: int | Tensor,
    ) -> None:
        super().__init__(image, condition)
        self._threshold = round(rate * 2**16)
        self._seed, self._step, self._first = seed, step, first
        self._layer = 0

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: (N, H, W, channels), layer after layer in the order of the calls."""
        n, features = len(x), x.shape[1:].numel()
        bits = dropout_bits(self._seed, self._step, self._layer, self._first, n, features, x.device)
        self._layer += 1
        keep = bits >= self._threshold - 2**15
        return x * (keep.to(x.dtype) * (2**16 / (2**16 - self._threshold))).view(x.shape)
