"""Real Keras writes the example's network in every format that it has, for the tests of `pixelcnn convert-keras`.

    .venv-keras/bin/python benchmarks/keras/save.py OUT --filters 128 --blocks 5 --size 28 28 --steps 3

trains some steps on random images and writes into the folder OUT

    keras3.weights.h5, keras3.keras, keras3.h5     model.save_weights and model.save of Keras 3
    keras3-export, keras3-saved                    SavedModels: model.export, and tf.saved_model.save
    keras2.h5, keras2.weights-only.h5, keras2-saved, keras2.keras, keras2.weights.h5     with --keras2: the same of
                                                   Keras 2, where tf_keras is installed
    images.npy, keras3.npy, keras2.npy             images (N, 1, H, W) uint8; the probability that each pixel is 1

and with --zip FILE all that into an archive: so tests/keras/fixtures/written.zip was made, with --keras2 and 4 filters.
The files are written before the last forward, so their kernels have masked entries that are not zero.
"""

from __future__ import annotations

import argparse
import importlib
import os
import zipfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import tensorflow as tf
from example import network


def save(generation: int, out: Path, options: argparse.Namespace) -> None:
    """Trains with one generation of Keras, 2 or 3, and writes."""
    keras = importlib.import_module("keras" if generation == 3 else "tf_keras")
    keras.utils.set_random_seed(options.seed)
    model = network(keras, options.filters, options.blocks, *options.size)
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=5e-3), loss="binary_crossentropy")
    random = np.random.default_rng(options.seed)
    batch = (random.random((16, *options.size, 1)) < 0.3).astype(np.float32)
    for _ in range(options.steps):
        model.train_on_batch(batch, batch)
    biases = [weight for weight in model.trainable_variables if len(weight.shape) == 1]
    for bias in biases:  # a few steps leave them so small that a lost one would not be noticed
        bias.assign(random.normal(0, 0.1, bias.shape).astype(np.float32))

    name = f"keras{generation}"
    model.save_weights(out / f"{name}.weights.h5")
    model.save(out / f"{name}.keras")
    model.save(out / f"{name}.h5")
    if generation == 3:
        model.export(out / f"{name}-export", verbose=False)
        tf.saved_model.save(model, str(out / f"{name}-saved"))
    else:
        model.save_weights(out / f"{name}.weights-only.h5", save_format="h5")
        model.save(out / f"{name}-saved", save_format="tf")
    images = np.load(out / "images.npy").transpose(0, 2, 3, 1).astype(np.float32)
    np.save(out / f"{name}.npy", model.predict(images, verbose=0).transpose(0, 3, 1, 2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--filters", type=int, default=6)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=[7, 6], help="rows, columns")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keras2", action="store_true")
    parser.add_argument("--zip", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(1).random((options.images, 1, *options.size)) < 0.3
    np.save(options.out / "images.npy", images.astype(np.uint8))
    for generation in (3, 2) if options.keras2 else (3,):
        save(generation, options.out, options)
    if options.zip is not None:
        with zipfile.ZipFile(options.zip, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(options.out.rglob("*")):
                archive.write(path, path.relative_to(options.out))


if __name__ == "__main__":
    main()
