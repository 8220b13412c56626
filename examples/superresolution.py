"""Super-resolution: draw 28 x 28 digits from 7 x 7 ones, several for each, and measure what the small ones leave open.

    python examples/superresolution.py [FOLDER] [--minutes 3]

The small digits are the means of 4 x 4 pixels of MNIST's, in grey values. A gated network learns the digits given the
small ones; for a tenth of the images the small one is dropped, so that the same network also knows how probable a digit
is without it. Everything is written into FOLDER, by default superresolution/.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

import pixelcnn
from pixelcnn.config import PRESETS, GatedPixelCNNConfig
from pixelcnn.datasets import shrunk
from pixelcnn.images import grid, save_png

FACTOR = 4
DRAWS = 6  # of each digit
IMAGES = 1_000  # that the bits are measured on


def main(folder: Path, minutes: float) -> None:
    """Runs the example into a folder; an earlier one's training run there is gone on with."""
    quick = PRESETS["quick"]
    assert isinstance(quick.model, GatedPixelCNNConfig)
    config = dataclasses.replace(quick, model=dataclasses.replace(quick.model, condition_channels=1), minutes=minutes)
    training, _ = pixelcnn.datasets.mnist("train")
    validation, _ = pixelcnn.datasets.mnist("validation")
    test, _ = pixelcnn.datasets.mnist("test")
    validation, test = validation[:IMAGES], test[:IMAGES]
    model = pixelcnn.train(
        config, training, validation, folder / "run", data="mnist",
        training_condition=shrunk(training, FACTOR, 2), validation_condition=shrunk(validation, FACTOR, 2),
    )  # fmt: skip

    small = shrunk(test, FACTOR, 2)
    given = pixelcnn.evaluate(model, test, condition=small, progress=True).nats_per_image
    without = pixelcnn.evaluate(model, test, progress=True).nats_per_image
    shown = small[:10]
    drawn = model.sample(10 * DRAWS, condition=shown.repeat_interleave(DRAWS, 0), seed=0, progress=True)
    draws = drawn.view(10, DRAWS, *drawn.shape[1:]) * 255
    enlarged = shown.repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)
    mean = draws.float().mean(1).round().to(torch.uint8)
    columns = torch.cat([enlarged[:, None], draws, mean[:, None], test[:10, None] * 255], 1)
    save_png(grid(columns.flatten(0, 1), 256, columns=DRAWS + 3), folder / "superresolution.png")
    print(f"""
{len(test):,} test images of 28 x 28, nats per image
  without the small image   {without:5.1f}
  given the small image     {given:5.1f}

Look at {folder / "superresolution.png"}: each row has a small digit, {DRAWS} drawn from it, their mean, the truth.""")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("superresolution"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=3, help="of training (default: 3)")
    main(**vars(parser.parse_args()))
