"""pixelcnn: exact-likelihood autoregressive models of images.

    >>> import torch
    >>> import pixelcnn
    >>> model = pixelcnn.load("mnist")
    >>> images = model.sample(4, seed=0)
    >>> with torch.inference_mode():
    ...     nats = model.log_prob(images)

The public names are loaded on first use, so that the command line's help does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pixelcnn.version import __version__

if TYPE_CHECKING:
    from pixelcnn import datasets, energies
    from pixelcnn.codec import compress, decompress
    from pixelcnn.completion import Completion
    from pixelcnn.config import (
        GatedPixelCNNConfig,
        PhotoPixelCNNConfig,
        PixelCNNConfig,
        PixelCNNPlusPlusConfig,
        TrainConfig,
    )
    from pixelcnn.evaluation import evaluate
    from pixelcnn.images import show
    from pixelcnn.models import (
        AutoregressiveModel,
        GatedPixelCNN,
        NegativeLogLikelihood,
        PhotoPixelCNN,
        PixelCNN,
        PixelCNNPlusPlus,
        Symmetrised,
    )
    from pixelcnn.models.base import load, register
    from pixelcnn.reweighting import EnergyEstimate, reweight
    from pixelcnn.training import fit_energy, train
    from pixelcnn.verification import verify

__all__ = [
    "AutoregressiveModel",
    "Completion",
    "EnergyEstimate",
    "GatedPixelCNN",
    "GatedPixelCNNConfig",
    "NegativeLogLikelihood",
    "PhotoPixelCNN",
    "PhotoPixelCNNConfig",
    "PixelCNN",
    "PixelCNNConfig",
    "PixelCNNPlusPlus",
    "PixelCNNPlusPlusConfig",
    "Symmetrised",
    "TrainConfig",
    "__version__",
    "compress",
    "datasets",
    "decompress",
    "energies",
    "evaluate",
    "fit_energy",
    "load",
    "register",
    "reweight",
    "show",
    "train",
    "verify",
]

_HOMES = {
    "AutoregressiveModel": "pixelcnn.models",
    "Completion": "pixelcnn.completion",
    "EnergyEstimate": "pixelcnn.reweighting",
    "GatedPixelCNN": "pixelcnn.models",
    "GatedPixelCNNConfig": "pixelcnn.config",
    "NegativeLogLikelihood": "pixelcnn.models",
    "PhotoPixelCNN": "pixelcnn.models",
    "PhotoPixelCNNConfig": "pixelcnn.config",
    "PixelCNN": "pixelcnn.models",
    "PixelCNNConfig": "pixelcnn.config",
    "PixelCNNPlusPlus": "pixelcnn.models",
    "PixelCNNPlusPlusConfig": "pixelcnn.config",
    "Symmetrised": "pixelcnn.models",
    "TrainConfig": "pixelcnn.config",
    "compress": "pixelcnn.codec",
    "decompress": "pixelcnn.codec",
    "evaluate": "pixelcnn.evaluation",
    "fit_energy": "pixelcnn.training",
    "load": "pixelcnn.models.base",
    "register": "pixelcnn.models.base",
    "reweight": "pixelcnn.reweighting",
    "show": "pixelcnn.images",
    "train": "pixelcnn.training",
    "verify": "pixelcnn.verification",
}


def __getattr__(name: str) -> Any:
    if name in ("datasets", "energies"):
        return importlib.import_module(f"pixelcnn.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pixelcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
