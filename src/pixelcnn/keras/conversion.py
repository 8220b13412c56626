"""Weights of the Keras example as a `pixelcnn.PixelCNN`, and back.

The example masks its kernels by assigning to them in the forward pass, so weights saved after a step of training hold
masked entries that are not zero. They are set to zero, which is what the example's next forward would do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pixelcnn.keras.layout import Convolution, Weights, targets
from pixelcnn.models import PixelCNN
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.sampling.autoregressive import check_weights

__all__ = ["Converted", "from_keras", "to_keras"]


@dataclass(frozen=True)
class Converted:
    """A model, and what was found."""

    model: PixelCNN
    remasked: int
    """Masked entries that were not zero."""
    largest: float
    """The largest absolute value of these."""


def from_keras(weights: Weights, size: tuple[int, int]) -> Converted:
    """The model with these weights, for images of this height and width, in evaluation mode.

    Raises:
        ValueError: If the size or the network's is out of range.
    """
    with torch.device("meta"):
        model = PixelCNN((1, *size), filters=weights.filters, blocks=weights.blocks)
    state, remasked, largest = {}, 0, 0.0
    for name, conv in zip(targets(weights.blocks), weights.convolutions, strict=True):
        state[f"{name}.weight"] = torch.from_numpy(conv.kernel.transpose(3, 2, 0, 1).copy())
        state[f"{name}.bias"] = torch.from_numpy(conv.bias.copy())
    model = PixelCNN((1, *size), filters=weights.filters, blocks=weights.blocks).to(state["input.bias"].dtype)
    for name, layer in zip(targets(weights.blocks), model.masked_layers, strict=True):
        masked = state[f"{name}.weight"][layer.mask == 0]
        remasked += int((masked != 0).sum())
        largest = max([largest, *masked.abs().amax(0, keepdim=True).tolist()]) if masked.numel() else largest
        state[f"{name}.weight"] *= layer.mask
    model.load_state_dict(state)
    return Converted(model.eval(), remasked, largest)


def to_keras(model: AutoregressiveModel) -> Weights:
    """The weights as the example keeps them, masked.

    Raises:
        ValueError: If the example has no such network, or a weight is not finite.
    """
    if not isinstance(model, PixelCNN) or model.image_shape[0] != 1 or model.levels != 2:
        c, h, w = model.image_shape
        raise ValueError(
            "the Keras example's network is a PixelCNN for images of 1 channel and 2 levels, got a "
            f"{type(model).__name__} for images of {c} x {h} x {w} and {model.levels} levels"
        )
    check_weights(model.named_parameters())
    convolutions = []
    for name, layer in zip(targets(model.config.blocks), model.masked_layers, strict=True):
        kernel = (layer.weight * layer.mask).detach().cpu().numpy().transpose(2, 3, 1, 0)
        convolutions.append(Convolution(name, np.ascontiguousarray(kernel), layer.bias.detach().cpu().numpy()))
    return Weights(format="pixelcnn", convolutions=convolutions, size=(model.image_shape[1], model.image_shape[2]))
