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
    """Write a PixelCNN's weights for the Keras example: there, `model.load_weights(OUT)` reads them.

    For models of the example's kind: PixelCNN, one channel, two levels; any width, depth and image size. Keras is not
    needed.
    """

    model: options.ModelName
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """NAME.weights.h5 (Keras 3, and 2.15); NAME.keras (Keras 3, with the network's configuration); NAME.h5 (Keras 2 and
    3, weights alone). A SavedModel is a program, which only TensorFlow writes: load one of these, call export."""

    def run(self) -> None:
        """Writes."""
        from pixelcnn.files import writable_file
        from pixelcnn.keras.conversion import to_keras
        from pixelcnn.keras.writing import check_name, write_weights
        from pixelcnn.models.storage import load

        check_name(self.out)
        writable_file(self.out)
        weights = to_keras(load(self.model))
        write_weights(weights, self.out)
        tensors = 2 * len(weights.convolutions)
        print(f"wrote {self.out}: {tensors} tensors; filters: {weights.filters}, residual blocks: {weights.blocks}")
