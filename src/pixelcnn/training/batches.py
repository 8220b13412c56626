"""Which images a step sees: drawn, shifted, mutated, rearranged and with some labels hidden as the recipe says.

The order of an epoch, the draws, the shifts, the mutations, the scan orders and the hidden labels are functions of
(seed, epoch, image), so a resumed run sees the same, on any device and number of processes. Where several processes
train together, each takes its own slice of every batch, and touches no other image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pixelcnn.config import TrainConfig
from pixelcnn.models import AutoregressiveModel
from pixelcnn.orders import rearranged_each
from pixelcnn.randomness import binarised, label_uniforms, mutations, permutation, scan_orders
from pixelcnn.training.augmentation import shifted

__all__ = ["Batch", "Batches"]

_SHARE = 0.5  # of a device's free memory that the images may take


class Batch(NamedTuple):
    """What one process computes of one step."""

    images: Tensor
    """uint8 levels (n, C, H, W) on the model's device."""
    condition: Tensor | None
    """What they are conditioned on, (n, D); None for nothing."""
    first: int
    """Place in the step's whole batch of the first of them."""
    total: int
    """Images in the whole batch, those of other processes included."""


class Batches:
    """The batches of every epoch.

    On a CUDA device the images live there if half of its free memory holds them; otherwise a step's are sent to it.

    Args:
        config: Gives batch size, seed, what is done to the images, and the share of hidden labels.
        model: Whose device and conditions they are for.
        images: uint8 levels (N, C, H, W), or grey values if the recipe says `binarise`, perhaps memory-mapped.
        labels: As for `AutoregressiveModel.log_prob`, for a conditional model; None for another.
        rank: This process, 0 .. processes-1.
        processes: How many share each batch.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: AutoregressiveModel,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.config = config
        self.steps_per_epoch = -(-len(images) // config.batch_size)
        self._model = model
        self._rank, self._processes = rank, processes
        resident = model.device.type == "cuda" and images.nbytes <= _SHARE * _free_memory(model.device)
        self.images = images.to(model.device) if resident else images
        """All images, on the model's device if they are `resident`."""
        self.labels = labels if labels is None else labels.to(self.images.device)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resident(self) -> bool:
        """Whether all images are on the model's device."""
        return self.images.device == self._model.device

    def order(self, epoch: int) -> Tensor:
        """The order of the images in an epoch, int64 (N,), where the images are."""
        return permutation(len(self.images), self.config.seed, epoch).to(self.images.device)

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """This process's part of an epoch's batches, without the first `done`."""
        for indices in torch.split(self.order(epoch), self.config.batch_size)[done:]:
            start, stop = (len(indices) * r // self._processes for r in (self._rank, self._rank + 1))
            yield self.take(indices[start:stop], epoch)._replace(first=start, total=len(indices))

    def take(self, indices: Tensor, epoch: int | Tensor) -> Batch:
        """A whole batch of the images of some indices, int64 (n,) where the images are.

        With the epoch as an int64 scalar there as well, nothing returns to the host.
        """
        config, device = self.config, self._model.device
        images = self.images[indices]
        if config.binarise:
            images = binarised(images, indices, config.seed, epoch)
        images = shifted(images, indices, config.shift, config.seed, epoch)
        if config.mutate:
            images = mutations(images, indices, config.mutate, self._model.levels, config.seed, epoch)
        condition = None
        if config.orders > 1:  # each image in an order that the model is told
            which = scan_orders(indices, config.orders, config.seed, epoch)
            images = rearranged_each(images, which)
            condition = self._model.unchecked_condition_of(which.to(device))
        elif self.labels is not None:
            condition = self._model.unchecked_condition_of(self.labels[indices].to(device))
            shown = (label_uniforms(indices, config.seed, epoch) >= config.label_dropout).to(device)
            condition = condition * shown.unsqueeze(1)
        return Batch(images.to(device, non_blocking=True), condition, 0, len(indices))


def _free_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that no tensor takes: what PyTorch keeps for the next ones counts as free."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
