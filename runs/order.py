"""A model by class of dynamically binarised MNIST that reads the pixels in some order, for a mixture over orders.

    python runs/order.py FOLDER ORDER INIT RATE LABEL_DROPOUT MINUTES

Trains the network of INIT, a model by class, on one core, on images rearranged so that it reads them in ORDER, one of
`pixelcnn.orders.ORDERS`. `runs/dynamic.sh` makes the mixture. Stopped, the same command goes on.
"""

from __future__ import annotations

import dataclasses
import sys

import torch

import pixelcnn
from pixelcnn.config import PRESETS
from pixelcnn.datasets import drawn_mnist, mnist
from pixelcnn.orders import rearranged
from pixelcnn.processes import exit_code


def main(folder: str, order: str, init: str, rate: float, label_dropout: float, minutes: float) -> None:
    """Trains it into the folder."""
    torch.set_num_threads(1)
    config = dataclasses.replace(
        PRESETS["best"],
        model=pixelcnn.load(init).config,
        minutes=minutes,
        learning_rate=rate,
        label_dropout=label_dropout,
        binarise=True,
        sample_images=0,
    )
    (grey, labels), (drawn, classes) = mnist("train", 256), drawn_mnist("validation")
    pixelcnn.train(
        config,
        rearranged(grey, order),
        rearranged(drawn, order),
        folder,
        training_labels=labels,
        validation_labels=classes,
        init=init,
        data=f"mnist-dynamic, read in the order {order}",
    )


if __name__ == "__main__":
    if len(sys.argv) != 7:
        raise SystemExit(__doc__)
    run, reading, first, *numbers = sys.argv[1:]
    try:
        main(run, reading, first, *map(float, numbers))
    except KeyboardInterrupt as stop:  # Ctrl-C, or SIGTERM in training, with a checkpoint
        print(str(stop) or "stopped", file=sys.stderr)
        sys.exit(exit_code(stop))
