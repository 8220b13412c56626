"""How the families use a map that images are conditioned on: its encoder, and what it adds to each layer."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelcnn.config import GatedPixelCNNConfig, PhotoPixelCNNConfig, PixelCNNPlusPlusConfig, map_of
from pixelcnn.layers import MaskedConv2d
from pixelcnn.operations import Conv, MapEncoder, View

__all__ = ["map_encoder", "map_layer", "map_term"]

_MIN_FEATURES = 4


def map_encoder(
    config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig | PhotoPixelCNNConfig, generator: torch.Generator | None
) -> MapEncoder | None:
    """The encoder of the maps that a configuration names, with half as many features as a layer; None for none."""
    numbers, categories = map_of(config)
    if not numbers and not categories:
        return None
    features = max(_MIN_FEATURES, config.filters // 2)
    return MapEncoder(numbers, categories, features, config.condition_features, generator)


def map_layer(features: int, outputs: int, generator: torch.Generator | None) -> MaskedConv2d | None:
    """A layer's product of the map's features, to which nothing is added, so that it is 0 without a map."""
    if not features:
        return None
    return MaskedConv2d(features, outputs, 1, mask_type="B", activation="none", bias=False, generator=generator)


def map_term(view: View, layer: MaskedConv2d | None, known: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What is added to a layer: its product of the map's features, `known`, if there are any, plus another term."""
    return other if layer is None or known is None else view(Conv(layer), known, other)
