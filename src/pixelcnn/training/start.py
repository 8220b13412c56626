"""Initial biases of the logits: the log-frequencies of the levels, so that no step is spent on learning these."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelcnn.datasets import Patches
from pixelcnn.likelihoods import Categorical
from pixelcnn.models import AutoregressiveModel

__all__ = ["start_at_frequencies"]

_SUBPIXELS = 2**24  # that are counted


@torch.no_grad()
def start_at_frequencies(model: AutoregressiveModel, images: Tensor | Patches, seed: int) -> None:
    """Sets the biases of a softmax's logits; does nothing to a model that has none.

    Args:
        model: Any model.
        images: The training images, levels (N, C, H, W), of which the first ones are counted; or patches.
        seed: Of the run, which decides the patches.
    """
    layer = model.logit_layer
    if layer is None or not isinstance(model.likelihood, Categorical):
        return
    count = min(len(images), max(1, _SUBPIXELS // model.subpixels))
    seen = images.drawn(torch.arange(count), seed, 0) if isinstance(images, Patches) else images[:count]
    for channel, biases in enumerate(layer.bias.view(-1, model.levels)):
        counts = torch.bincount(seen[:, channel].flatten().long(), minlength=model.levels).double() + 1
        biases.copy_(counts.log() - counts.log().mean())
