"""Real Keras loads weights that `pixelcnn export-keras` wrote, as the example's script would, and applies them.

    .venv-keras/bin/python benchmarks/keras/load.py FILE images.npy OUT.npy --filters 128 --blocks 5

writes the probability that each pixel is 1, (N, 1, H, W). The network is built and `model.load_weights` called.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from example import network


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--filters", type=int, default=6)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--keras2", action="store_true")
    options = parser.parse_args()
    keras = importlib.import_module("tf_keras" if options.keras2 else "keras")
    images = np.load(options.images).transpose(0, 2, 3, 1).astype(np.float32)
    model = network(keras, options.filters, options.blocks, *images.shape[1:3])
    model.load_weights(options.file)
    np.save(options.out, model.predict(images, verbose=0).transpose(0, 3, 1, 2))


if __name__ == "__main__":
    main()
