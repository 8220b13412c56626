"""Small shifts of the training images: each epoch shows every image somewhere else.

A shift is a function of (seed, epoch, the image's own index), so it depends on neither the batch nor the device, and a
resumed run sees the same pictures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.randomness import shifts

__all__ = ["shifted"]


def shifted(images: Tensor, indices: Tensor, reach: int, seed: int, epoch: int | Tensor) -> Tensor:
    """The images moved by up to `reach` pixels down or up and right or left; level 0 fills in.

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
