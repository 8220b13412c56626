"""Training: from images, or from an energy, and a configuration to a run's folder with a finished model."""

from pixelcnn.processes import Interrupted
from pixelcnn.training.energy import fit_energy
from pixelcnn.training.history import History
from pixelcnn.training.trainer import train

__all__ = ["History", "Interrupted", "fit_energy", "train"]
