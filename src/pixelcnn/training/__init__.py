"""Training: from images and a configuration to a run's folder with a finished model."""

from pixelcnn.training.trainer import Interrupted, train

__all__ = ["Interrupted", "train"]
