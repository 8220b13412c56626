"""The models, one file per family. `MODELS` names the families; a folder on disk can also hold a mixture of them."""

from __future__ import annotations

from pixelcnn.models.base import AutoregressiveModel, model_of
from pixelcnn.models.ensemble import OrderEnsemble
from pixelcnn.models.gated import GatedPixelCNN
from pixelcnn.models.loss import NegativeLogLikelihood
from pixelcnn.models.mixture import MixtureModel
from pixelcnn.models.photo import PhotoPixelCNN
from pixelcnn.models.pixelcnn import PixelCNN
from pixelcnn.models.plusplus import PixelCNNPlusPlus
from pixelcnn.models.symmetrised import Symmetrised

__all__ = [
    "MODELS",
    "AutoregressiveModel",
    "GatedPixelCNN",
    "MixtureModel",
    "NegativeLogLikelihood",
    "OrderEnsemble",
    "PhotoPixelCNN",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "Symmetrised",
    "model_of",
]

MODELS: dict[str, type[AutoregressiveModel]] = {
    cls.__name__: cls for cls in (PixelCNN, GatedPixelCNN, PixelCNNPlusPlus, PhotoPixelCNN)
}

AutoregressiveModel.classes.update(MODELS | {"OrderEnsemble": OrderEnsemble, "Symmetrised": Symmetrised})
