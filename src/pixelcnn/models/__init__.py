"""The models: one file a family. `MODELS` names the families; a folder on disk can hold an ensemble of them as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.ensemble import OrderEnsemble
from pixelcnn.models.gated import GatedPixelCNN
from pixelcnn.models.pixelcnn import PixelCNN
from pixelcnn.models.plusplus import PixelCNNPlusPlus

if TYPE_CHECKING:
    import torch

    from pixelcnn.config import ModelConfig

__all__ = [
    "MODELS",
    "AutoregressiveModel",
    "GatedPixelCNN",
    "OrderEnsemble",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "model_of",
]

MODELS: dict[str, type[AutoregressiveModel]] = {
    "PixelCNN": PixelCNN,
    "GatedPixelCNN": GatedPixelCNN,
    "PixelCNNPlusPlus": PixelCNNPlusPlus,
}


def model_of(config: ModelConfig, *, generator: torch.Generator | None = None) -> AutoregressiveModel:
    """Builds the model that a configuration describes, of whichever family, with fresh weights from `generator`."""
    family = next(model for model in MODELS.values() if isinstance(config, model.Config))
    return family.from_config(config, generator=generator)
