"""The baseline: the network of the Keras example "PixelCNN" and its sampling loop, one `predict` a sub-pixel.

    echo 784 | KERAS_BACKEND=tensorflow .venv-keras/bin/python benchmarks/keras/sample.py --batch 4

Written for Keras 3 from the example's description, not copied from it. The mask is multiplied into the kernel where it
is used; the example assigns it to the kernel in every call, which would cost more. The weights are fresh: what a
forward costs does not depend on them.

A worker of `benchmarks/sampling.py`, and it speaks as `benchmarks/worker.py` does: once ready it prints a line of JSON
about itself, and then answers each line of standard input, a number of steps, by the time they took and its peak
memory. A step is a full forward of the batch, so they all cost the same.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import sys
import time
from pathlib import Path

import keras
import numpy as np


class MaskedConv2D(keras.layers.Conv2D):
    """A convolution whose kernel sees the pixels above and to the left, and with mask "B" its own."""

    def __init__(self, filters: int, kernel_size: int, mask_type: str) -> None:
        super().__init__(filters, kernel_size, padding="same", activation="relu")
        self.mask_type = mask_type

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights and the mask."""
        super().build(input_shape)
        centre = self.kernel_size[0] // 2
        mask = np.zeros(self.kernel.shape, np.float32)  # (rows, columns, in, out)
        mask[:centre] = 1
        mask[centre, : centre + (self.mask_type == "B")] = 1
        self.mask = mask

    def convolution_op(self, inputs: keras.KerasTensor, kernel: keras.KerasTensor) -> keras.KerasTensor:
        """What Keras's convolution calls before it adds the bias."""
        return super().convolution_op(inputs, kernel * self.mask)


def network(filters: int = 128, blocks: int = 5) -> keras.Model:
    """From images (N, 28, 28, 1) to the probability of a 1 in each pixel, of the same shape."""
    image = keras.Input((28, 28, 1))
    x = MaskedConv2D(filters, 7, "A")(image)
    for _ in range(blocks):
        y = keras.layers.Conv2D(filters, 1, activation="relu")(x)
        y = MaskedConv2D(filters // 2, 3, "B")(y)
        y = keras.layers.Conv2D(filters, 1, activation="relu")(y)
        x = keras.layers.add([x, y])
    for _ in range(2):
        x = MaskedConv2D(filters, 1, "B")(x)
    return keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x))


def sample(model: keras.Model, batch: int, steps: int, seed: int = 0) -> np.ndarray:
    """The example's loop, broken off after so many of its steps: images (batch, 28, 28, 1) of 0 and 1."""
    random = np.random.default_rng(seed)
    images = np.zeros((batch, *model.input_shape[1:]), np.float32)
    _, rows, columns, channels = images.shape
    order = ((i, j, c) for i in range(rows) for j in range(columns) for c in range(channels))
    for (i, j, c), _ in zip(order, range(steps), strict=False):
        probabilities = model.predict(images, verbose=0)[:, i, j, c]
        images[:, i, j, c] = random.random(batch) < probabilities
    return images


def peak_bytes() -> int:
    """The most memory this process has had. Not `ru_maxrss` on Linux, which the parent's memory counts into."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=4)
    batch = parser.parse_args().batch

    start = time.perf_counter()
    model = network()
    sample(model, batch, 2)  # compiles
    prepared = time.perf_counter() - start
    start = time.perf_counter()
    sample(model, batch, 2)
    about = {
        "about": f"Keras {keras.__version__} on {keras.backend.backend()}",
        "parameters": model.count_params(),
        "steps": int(np.prod(model.input_shape[1:])),
        "step_seconds": (time.perf_counter() - start) / 2,
        "prepare_seconds": prepared,
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        sample(model, batch, int(line))
        seconds = time.perf_counter() - start
        print(json.dumps({"steps": int(line), "seconds": seconds, "peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()
