"""Evaluation: how probable held-out images are under a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelcnn.models import AutoregressiveModel
from pixelcnn.processes import ALONE, Processes
from pixelcnn.progress import progress_bar

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The mean negative log-likelihood of a set of images, in the field's units."""

    images: int
    """Number of images."""
    nats_per_image: float
    """Mean negative log-likelihood of an image, natural logarithm."""
    standard_error: float
    """Standard error of `nats_per_image`: standard deviation over the images / sqrt(images); NaN for one image."""
    nats_per_subpixel: float
    """`nats_per_image` / (C * H * W): what Keras calls the loss."""
    bits_per_dim: float
    """`nats_per_subpixel` / ln 2: comparable between image sizes."""


def evaluate(
    model: AutoregressiveModel,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    progress: bool = False,
    processes: Processes = ALONE,
) -> Evaluation:
    """Evaluates a model on images, a slice at a time.

    Args:
        model: Any model of the package.
        images: uint8 levels (N, C, H, W), N at least 1, on any device.
        labels: As for `AutoregressiveModel.log_prob`.
        progress: Show a progress bar on standard error.
        processes: Those that call this with the same arguments, to evaluate a share each. Slices are cut as for one
            process, and all get the result for all images.

    Raises:
        ValueError: If there is no image, or an argument does not fit the model.
    """
    if len(images) == 0:
        raise ValueError("images must hold at least one image, got 0")
    model.check_images(images)
    on_host = model.device.type == "cpu"
    size = max(64, model.slice_size) if on_host else 4096  # fewer waits for a device
    share = processes.share(len(images), size)
    parts = torch.split(images[share], size)
    label_parts = [None] * len(parts) if labels is None else torch.split(labels[share], size)
    nats = []
    with torch.inference_mode(), progress_bar("evaluating", share.stop - share.start, "img", show=progress) as bar:
        for part, part_labels in zip(parts, label_parts, strict=True):
            nats.append(-model.log_prob(part.to(model.device), part_labels).double())
            bar.update(len(part))
            if on_host:
                bar.set_postfix(nats=f"{torch.cat(nats[-100:]).mean():.2f}", refresh=False)
    each = processes.gather(torch.cat(nats).cpu())
    mean = each.mean().item()
    return Evaluation(
        images=len(each),
        nats_per_image=mean,
        standard_error=each.std().item() / math.sqrt(len(each)) if len(each) > 1 else math.nan,
        nats_per_subpixel=mean / model.subpixels,
        bits_per_dim=mean / model.subpixels / math.log(2),
    )
