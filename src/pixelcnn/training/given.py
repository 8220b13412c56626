"""Images as users have them in Python, in arrays, data sets or loaders of PyTorch, and what is held out of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pixelcnn.arguments import ArrayLike, tensor
from pixelcnn.datasets import Patches
from pixelcnn.datasets.split import side_of

__all__ = ["Images", "held_out", "tensors_of"]

Images: TypeAlias = "ArrayLike | Patches | Dataset[Any] | DataLoader[Any]"
"""What `pixelcnn.train` takes as images."""


def tensors_of(name: str, images: Images, labels: ArrayLike | None) -> tuple[ArrayLike | Patches, ArrayLike | None]:
    """The images and labels of an array, a data set or a loader.

    Every item of a data set, or every batch of a loader, is an image, or begins with an image and its label; a loader,
    or an iterable data set, is gone through once, in its order. What the items hold is kept in memory, in the type that
    it has.

    Args:
        name: Of the images, for errors.
        images: Arrays and patches are returned as they are. A data set's images are integers (C, H, W) or (H, W), or
            pictures of Pillow; a loader's have one dimension more.
        labels: Given labels, for arrays and for data sets without any.

    Raises:
        ValueError: If there is no item, one is of another kind or size, or labels are given twice.
    """
    if not isinstance(images, Dataset | DataLoader):
        return images, labels
    loader = isinstance(images, DataLoader)
    source: Any = images
    in_turn = loader or isinstance(images, IterableDataset)
    items: Iterable[Any] = source if in_turn else (source[k] for k in range(len(source)))
    found: list[Tensor] = []
    given: list[Tensor] = []
    for item in items:
        image, label = (item[0], item[1]) if isinstance(item, list | tuple) and len(item) > 1 else (item, None)
        image = image[0] if isinstance(image, list | tuple) else image
        found.append(_image_of(name, image, 4 if loader else 3))
        if label is not None:
            given.append(tensor(f"{name}_labels: an item", label))
    if not found:
        raise ValueError(f"{name} must hold at least one image, got 0")
    if labels is not None and given:
        raise ValueError(f"{name}_labels must be left out: the items of {name} have labels")
    sizes = sorted({tuple(image.shape[loader:]) for image in found})
    if len(sizes) > 1:
        raise ValueError(f"{name} must be of one size, got items of {sizes[0]} and {sizes[1]}")
    join = torch.cat if loader else torch.stack
    return join(found), join(given) if given else labels


def _image_of(name: str, image: Any, dimensions: int) -> Tensor:
    """An image, or a batch of them, with channels."""
    is_picture = hasattr(image, "getbands")
    values = tensor(f"{name}: an item", np.array(image) if is_picture else image)
    if is_picture and values.dim() == 3:
        values = values.permute(2, 0, 1)
    if values.is_floating_point():
        raise ValueError(
            f"{name} must hold whole levels, got items of {values.dtype}: leave the scaling to 0..1 out of the data set"
        )
    return values.unsqueeze(-3) if values.dim() == dimensions - 1 else values


def held_out(
    images: Tensor, labels: Tensor | None, condition: Tensor | None, share: float
) -> tuple[tuple[Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor | None, Tensor | None]]:
    """Images, labels and condition of training and of validation, by the content of each image; see
    `pixelcnn.datasets.split`.

    Raises:
        ValueError: If no image is left on either side, or there is not one label or condition for each image.
    """
    for name, given in (("labels", labels), ("condition", condition)):
        if given is not None and given.shape[:1] != images.shape[:1]:
            shape = tuple(given.shape)
            raise ValueError(f"training_{name} must be given for each of {len(images)} images, got {shape}")
    sides = torch.tensor([side_of(image.numpy(), share) for image in images.cpu()], device="cpu")
    if not 0 < int(sides.sum()) < len(images):
        raise ValueError(f"validation must be given: of {len(images)} images, {share:.0%} by their content are none")

    def on(side: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        part = (sides == side).nonzero()[:, 0]
        return images[part], None if labels is None else labels[part], None if condition is None else condition[part]

    return on(0), on(1)
