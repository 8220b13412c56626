"""`pixelcnn export-keras`: a model's weights as a file that the Keras example's script loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelcnn.cli import options

__all__ = ["ExportKeras"]


@dataclass(frozen=True, kw_only=True)
class ExportKeras:
    """Write a PixelCNN's weights for the Keras example, where `model.load_weights(OUT)` reads them.

    For models like the example's: PixelCNN, one channel, two levels; any width, depth and image size. Keras is not
    needed, but h5py is: pip install 'pixelcnn[h5]'.
    """

    model: options.ModelName
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """NAME.weights.h5, for Keras 3 and 2.15. No other format is written."""

    def run(self) -> None:
        """Writes the file and prints its size."""
        from pixelcnn.files import writable_file
        from pixelcnn.keras.hdf5 import check_name, write_weights
        from pixelcnn.keras.network import to_keras
        from pixelcnn.models.base import load

        check_name(self.out)
        writable_file(self.out)
        weights = to_keras(load(self.model))
        write_weights(weights, self.out)
        tensors = 2 * len(weights.convolutions)
        print(f"wrote {self.out}: {tensors} tensors; filters: {weights.filters}, residual blocks: {weights.blocks}")


COMMANDS = {"export-keras": ExportKeras}
