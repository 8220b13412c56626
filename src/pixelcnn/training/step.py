"""A training step on any device: the gradient of a batch, computed in parts, and the update by it.

The loss is the mean negative log-likelihood of a sub-pixel in nats, which for two levels is the binary cross-entropy
that Keras averages over pixels. On a CPU the batch is cut into slices that stay in its caches, and their gradients
are summed: the same gradient, twice as fast at the seed network's size. `pixelcnn.training.resident` takes the same
step on a CUDA device without returning to the host.

Where several processes train together, each computes the gradient of its own part of the batch
(`pixelcnn.training.gradient`), and from there on all do the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from torch import Tensor

from pixelcnn.config import TrainConfig
from pixelcnn.models import AutoregressiveModel
from pixelcnn.operations import FullView
from pixelcnn.processes import ALONE, Processes
from pixelcnn.threads import alone
from pixelcnn.training.batches import Batch
from pixelcnn.training.dropout import DropoutView
from pixelcnn.training.gradient import Gradient, parts_of
from pixelcnn.training.optimizer import Optimizer

__all__ = ["StepResult", "Stepper"]


class StepResult(NamedTuple):
    """Result of a training step."""

    nats: float
    """Sum of the negative log-likelihoods of this process's images before the step."""
    gradient_norm: float
    """Euclidean norm, before clipping, of the gradient of the mean loss in nats per sub-pixel."""


class Stepper(Optimizer):
    """A model in training, step by step.

    Args:
        model: Trained in place.
        config: The recipe.
        bf16: Multiply in bfloat16, by PyTorch's autocast.
        processes: Those that train together; all begin with the first one's weights.
    """

    def __init__(
        self, model: AutoregressiveModel, config: TrainConfig, *, bf16: bool = False, processes: Processes = ALONE
    ) -> None:
        super().__init__(model, config)
        self.config = config
        self._processes = processes
        self._gradient = Gradient(model, processes, bf16=bf16)

    def run(self, batches: Iterable[Batch], rates: Callable[[int], float]) -> Iterator[StepResult]:
        """One step for each batch, at the learning rate for the step's number."""
        for batch in batches:
            yield self.step(batch.images, rates(self.steps), batch.condition, batch.first, batch.total)

    def step(
        self,
        images: Tensor,
        learning_rate: float,
        condition: Tensor | None = None,
        first: int = 0,
        total: int | None = None,
    ) -> StepResult:
        """One step.

        Args:
            images: This process's uint8 images (n, C, H, W), possibly none.
            learning_rate: The learning rate in this step.
            condition: What the images are conditioned on, (n, D), or None.
            first: Index of the first of these images in the whole batch.
            total: Number of images in the whole batch, by default n.
        """
        whole = len(images) if total is None else total
        if self.model.device.type != "cpu" or self._processes.count > 1:
            return self._step(images, learning_rate, condition, first, whole, 1)
        with alone() as threads:
            return self._step(images, learning_rate, condition, first, whole, threads)

    def _step(
        self, images: Tensor, learning_rate: float, condition: Tensor | None, first: int, total: int, threads: int
    ) -> StepResult:
        for parameter in self._parameters.values():
            parameter.grad = None
        divisor = total * self.model.subpixels / self._processes.count
        parts = parts_of(self.model, len(images), threads, self.config.accumulate)
        nats = self._gradient.add(images, condition, lambda start: self._view(first + start), parts, divisor, threads)
        norm = self.update(self.rates(learning_rate, self.steps))
        self.steps += 1
        return StepResult(nats, norm.item())

    def _view(self, first: int) -> Callable[[Tensor, Tensor | None], FullView]:
        """Makes the view of a part that begins with image `first` of the batch."""
        rate, seed = self.config.dropout, self.config.seed
        return functools.partial(DropoutView, rate=rate, seed=seed, step=self.steps, first=first) if rate else FullView
