"""The images that a step sees: drawn, shifted, mutated, rearranged and with some labels dropped, as the recipe says.

The order of an epoch, the draws, the shifts, the mutations, the scan orders and the dropped labels are functions of
(seed, epoch, image), so a resumed run sees the same images, on any device and with any number of processes. Where
several processes train together, each takes its own slice of every batch, and touches no other image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arguments import ArrayLike, tensor
from pixelcnn.config import TrainConfig, conditions_of, map_of
from pixelcnn.datasets import Patches, shrunk
from pixelcnn.levels import GREY_LEVELS, levels_of
from pixelcnn.models import AutoregressiveModel
from pixelcnn.orders import rearranged_each
from pixelcnn.processes import ALONE, Processes
from pixelcnn.randomness import binarised, flips, label_uniforms, mutations, permutation, scan_orders, shifts

__all__ = ["Batch", "Batches", "checked_data", "shifted"]

_SHARE = 0.5  # of a device's free memory that the images may take


class Batch(NamedTuple):
    """One process's part of a step's batch."""

    images: Tensor
    """uint8 levels (n, C, H, W) on the model's device."""
    condition: Tensor | None
    """What the images are conditioned on, (n, D); None for nothing."""
    first: int
    """Index of the first of these images in the whole batch."""
    total: int
    """Number of images in the whole batch, those of other processes included."""


class Batches:
    """The batches of every epoch.

    On a CUDA device the images live there if they fit into half of its free memory; otherwise each step's images are
    sent to it.

    Args:
        config: Gives batch size, seed, the augmentations, and the share of dropped labels.
        model: The model in training; decides the device and the conditions.
        images: uint8 levels (N, C, H, W), or grey values with config.binarise; may be memory-mapped. Or patches.
        labels: As for `AutoregressiveModel.log_prob`, for a conditional model; None for another.
        condition: As for `AutoregressiveModel.log_prob`, likewise.
        processes: The processes that share each batch.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: AutoregressiveModel,
        images: Tensor | Patches,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        *,
        processes: Processes = ALONE,
    ) -> None:
        self.config = config
        self.steps_per_epoch = -(-len(images) // config.batch_size)
        self._model = model
        self._processes = processes
        self._patches = images if isinstance(images, Patches) else None
        self._count = len(images)
        if isinstance(images, Patches):
            images = torch.empty(0, device="cpu")
        elif model.device.type == "cuda" and images.nbytes <= _SHARE * _free_memory(model.device):
            images = images.to(model.device)
        self.images = images
        """All images, on the model's device if they are `resident`; none of patches."""
        self._given = tuple(None if each is None else each.to(self.images.device) for each in (labels, condition))

    def __len__(self) -> int:
        return self._count

    @property
    def resident(self) -> bool:
        """Whether all images are on the model's device."""
        return self._patches is None and self.images.device == self._model.device

    def order(self, epoch: int) -> Tensor:
        """The order of the images in an epoch: indices, int64 (N,), on the images' device."""
        return permutation(len(self), self.config.seed, epoch).to(self.images.device)

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """This process's part of each batch of an epoch, without the first `done` batches."""
        for indices in torch.split(self.order(epoch), self.config.batch_size)[done:]:
            own = self._processes.share(len(indices))
            yield self.take(indices[own], epoch)._replace(first=own.start, total=len(indices))

    def take(self, indices: Tensor, epoch: int | Tensor) -> Batch:
        """A whole batch of the images with some indices, int64 (n,) on the images' device.

        With the epoch as an int64 scalar there as well, nothing returns to the host.
        """
        config, device = self.config, self._model.device
        if self._patches is None:
            images = self.images[indices]
        else:
            images = self._patches.drawn(indices, config.seed, int(epoch))
        if config.flip:
            images = torch.where(flips(indices, config.seed, epoch)[:, None, None, None], images.flip(3), images)
        if config.binarise:
            images = binarised(images, indices, config.seed, epoch)
        labels, condition = (None if each is None else each[indices].to(device) for each in self._given)
        if self._patches is not None and self._patches.shrink > 1:
            condition = shrunk(images, self._patches.shrink, self._model.levels).to(device)
        images = shifted(images, indices, config.shift, config.seed, epoch)
        if config.mutate:
            images = mutations(images, indices, config.mutate, self._model.levels, config.seed, epoch)
        if config.orders > 1:  # each image in an order on which the model is conditioned
            which = scan_orders(indices, config.orders, config.seed, epoch)
            images, labels = rearranged_each(images, which), which.to(device)
        if labels is None and condition is None:
            return Batch(images.to(device, non_blocking=True), None, 0, len(indices))
        rows, classes = self._model.unchecked_condition_of(labels, condition), self._model.num_classes or 0
        uniforms = label_uniforms(indices, config.seed, epoch).to(device).unsqueeze(1)
        both = config.orders == 1 and labels is not None and condition is not None
        of_class, of_condition = _kept(uniforms, config.label_dropout, both=both)
        if config.orders > 1:  # the order is never dropped
            of_class = torch.ones_like(of_class)
        rows = torch.cat([rows[:, :classes] * of_class, rows[:, classes:] * of_condition], 1)
        return Batch(images.to(device, non_blocking=True), rows, 0, len(indices))


def _kept(uniforms: Tensor, dropout: float, *, both: bool) -> tuple[Tensor, Tensor]:
    """Which images keep their class, and which their vector or map: bool, as `uniforms`. Of the others, if images have
    `both`, a third lacks both, a third the class, and a third the vector or map.
    """
    if not both:
        kept = uniforms >= dropout
        return kept, kept
    thirds = [uniforms < dropout * share / 3 for share in (1, 2, 3)]
    return ~thirds[1], ~(thirds[0] | (thirds[2] & ~thirds[1]))


def checked_data(
    name: str,
    images: ArrayLike | Patches,
    labels: ArrayLike | None,
    condition: ArrayLike | None,
    model: AutoregressiveModel,
    product: AutoregressiveModel,
    *,
    grey: bool,
) -> tuple[Tensor | Patches, Tensor | None, Tensor | None]:
    """Images, labels and condition as tensors, if they fit the model in training and the product of the run.

    Raises:
        ValueError: If they do not fit, or are missing; the message begins with the name.
    """
    if not isinstance(images, Patches):
        images = tensor(f"{name} images", images)
    if len(images) == 0:
        raise ValueError(f"{name} must hold at least one image, got 0")
    if isinstance(images, Patches):
        if grey:
            raise ValueError("binarise must be False for patches, which hold levels, got True")
        return _checked_patches(name, images, labels, condition, model, product)
    classes, size = conditions_of(product.config)
    conditioned = size is not None or any(map_of(product.config))
    if labels is None and (classes is not None or (conditioned and condition is None)):
        missing = "labels" if classes is not None or size is not None else "condition"
        raise ValueError(f"{name}_{missing} must be given: the model is conditional")
    if conditioned and condition is None and classes is not None:
        raise ValueError(f"{name}_condition must be given: the model is conditional")
    try:
        if grey:
            images = levels_of("images", images, GREY_LEVELS)
            model.checked_images(images.clamp(max=1))
        else:
            images = model.checked_images(images)
        return images, *product.checked_given(labels, condition, len(images))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _checked_patches(
    name: str,
    patches: Patches,
    labels: ArrayLike | None,
    condition: ArrayLike | None,
    model: AutoregressiveModel,
    product: AutoregressiveModel,
) -> tuple[Patches, Tensor | None, Tensor | None]:
    """`checked_data` of patches: what is given with all of them, and the first one in place of all."""
    if patches.shrink > 1 and condition is not None:
        raise ValueError(f"{name}_condition must be left out: the patches are conditioned on themselves")
    try:
        given = product.checked_given(labels, condition, len(patches))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
    first = patches.drawn(torch.zeros(1, dtype=torch.int64, device="cpu"), 0, 0)
    labels, condition = (None if each is None else each[:1] for each in given)
    if patches.shrink > 1:
        condition = shrunk(first, patches.shrink, model.levels)
    checked_data(name, first, labels, condition, model, product, grey=False)
    return patches, *given


def shifted(images: Tensor, indices: Tensor, reach: int, seed: int, epoch: int | Tensor) -> Tensor:
    """The images shifted by up to `reach` pixels down or up and right or left; level 0 fills in.

    A shift is a function of (seed, epoch, image index), so it depends on neither the batch nor the device.

    Args:
        images: uint8 levels (N, C, H, W).
        indices: The images' indices among all training images, int64 (N,), on the same device.
        reach: Largest shift; 0 returns the images themselves.
        seed: The run's seed.
        epoch: The epoch, from 0; a tensor is an int64 scalar on the images' device.

    Returns:
        uint8 (N, C, H, W).
    """
    if reach == 0:
        return images
    n, _, height, width = images.shape
    down, right = shifts(indices, reach, seed, epoch).unbind(1)
    rows = torch.arange(height, device=images.device) + reach - down[:, None]
    columns = torch.arange(width, device=images.device) + reach - right[:, None]
    padded_nhwc = F.pad(images, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
    image = torch.arange(n, device=images.device)[:, None, None]
    return padded_nhwc[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _free_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that no tensor takes; memory that PyTorch holds for later tensors counts as free."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept
