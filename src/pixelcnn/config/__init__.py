"""Configurations: frozen dataclasses that describe a model, a training run or how data are read.

The same object is the constructor's argument, the content of `config.json` and the command line's options. This
package does not import torch, so that `pixelcnn --help` does not wait for it.
"""

from __future__ import annotations

from pixelcnn.config.data import DataConfig, Layout
from pixelcnn.config.mixtures import GROUPS, ORDERS, OrderEnsembleConfig, SymmetrisedConfig, is_transposed
from pixelcnn.config.models import (
    FAMILIES,
    GatedPixelCNNConfig,
    ModelConfig,
    PhotoPixelCNNConfig,
    PixelCNNConfig,
    PixelCNNPlusPlusConfig,
    architecture_of,
    conditions_of,
    depth_of,
    kernel_sizes,
    map_of,
)
from pixelcnn.config.own import add_architecture
from pixelcnn.config.training import PRESETS, EnergyConfig, TrainConfig, recipe
from pixelcnn.config.values import from_dict, to_dict

__all__ = [
    "FAMILIES",
    "GROUPS",
    "ORDERS",
    "PRESETS",
    "DataConfig",
    "EnergyConfig",
    "GatedPixelCNNConfig",
    "Layout",
    "ModelConfig",
    "OrderEnsembleConfig",
    "PhotoPixelCNNConfig",
    "PixelCNNConfig",
    "PixelCNNPlusPlusConfig",
    "SymmetrisedConfig",
    "TrainConfig",
    "add_architecture",
    "architecture_of",
    "conditions_of",
    "depth_of",
    "from_dict",
    "is_transposed",
    "kernel_sizes",
    "map_of",
    "recipe",
    "to_dict",
]
