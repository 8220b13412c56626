"""The full view: computes a network for whole images, all pixels at once. Training and scoring use it.

The only other kind of view is the recorder of `pixelcnn.sampling.program`, which computes nothing: it records the
operations that are asked for, and the samplers run that program for the pixels being generated now, reading neighbours
from caches.
"""

from __future__ import annotations

from torch import Tensor

from pixelcnn.arithmetic import GRID, Arithmetic, Precision
from pixelcnn.operations.base import Operation

__all__ = ["ExactView", "FullView"]


class FullView:
    """Whole images: features are (N, H, W, channels).

    Args:
        image: Scaled pixel values, (N, H, W, C), in the network's dtype.
        condition: What the images are conditioned on, (N, D) in the same dtype; None for nothing.
        precision: What operands are rounded to, see `pixelcnn.arithmetic.precision`.
    """

    def __init__(self, image: Tensor, condition: Tensor | None = None, precision: Precision | None = None) -> None:
        self.image = image
        self.condition = condition
        self.arithmetic = Arithmetic(precision)

    @property
    def conditional(self) -> bool:
        """See `View.conditional`."""
        return self.condition is not None

    def __call__(self, op: Operation, /, *inputs: Tensor | None) -> Tensor:
        """See `View.__call__`."""
        return op.whole(self, *(x for x in inputs if x is not None))

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: nothing is dropped here, only in `pixelcnn.training.dropout.DropoutView`."""
        return x


class ExactView(FullView):
    """Whole images on the activations' grid, for a network in float64 whose parameters are on the weights' grid.

    Args:
        image: Scaled pixel values, float64 (N, H, W, C).
        condition: What the images are conditioned on, float64 (N, D); None for nothing.
    """

    def __init__(self, image: Tensor, condition: Tensor | None = None) -> None:
        super().__init__(GRID.rounded(image), condition)
        self.arithmetic = GRID
