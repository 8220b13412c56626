"""The models: one file a family. `MODELS` names every one that a folder on disk can hold."""

from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.gated import GatedPixelCNN
from pixelcnn.models.pixelcnn import PixelCNN
from pixelcnn.models.plusplus import PixelCNNPlusPlus

__all__ = ["MODELS", "AutoregressiveModel", "GatedPixelCNN", "PixelCNN", "PixelCNNPlusPlus"]

MODELS: dict[str, type[AutoregressiveModel]] = {
    "PixelCNN": PixelCNN,
    "GatedPixelCNN": GatedPixelCNN,
    "PixelCNNPlusPlus": PixelCNNPlusPlus,
}
