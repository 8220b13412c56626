"""Training: from images and a configuration to a run's folder with a finished model."""

from pixelcnn.training.signals import Interrupted
from pixelcnn.training.trainer import train

__all__ = ["Interrupted", "train"]
