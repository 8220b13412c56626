"""The baseline of training: the Keras example's recipe on one batch, again and again.

    echo 3 | KERAS_BACKEND=tensorflow .venv-keras/bin/python benchmarks/keras/train.py --batch 128

A worker of `benchmarks/training.py`: once ready it prints a line of JSON about itself, and then answers each line of
standard input, a number of steps, by the time they took and its peak memory. A step is `train_on_batch`, compiled as
Keras sees fit, which is what `fit` does without looking data up.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import keras
import numpy as np
from sample import network, peak_bytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=128)
    batch = parser.parse_args().batch

    model = network()
    model.compile(optimizer=keras.optimizers.Adam(5e-4), loss="binary_crossentropy")
    images = (np.random.default_rng(0).random((batch, 28, 28, 1)) < 0.13).astype(np.float32)

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(images, images)
        return time.perf_counter() - start

    prepared = seconds(2)  # compiles
    about = {
        "about": f"Keras {keras.__version__} on {keras.backend.backend()}",
        "parameters": model.count_params(),
        "step_seconds": seconds(2) / 2,
        "prepare_seconds": prepared,
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": seconds(int(line)), "peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()
