"""Super-resolution: draw 28 x 28 digits from 7 x 7 ones, several for each, and measure what the small ones leave open.

    python examples/superresolution.py [FOLDER] [--minutes 3]
    python examples/superresolution.py FOLDER --pictures PICTURES     # patches of 64 x 64 from 16 x 16

The small digits are the means of 4 x 4 pixels of MNIST's, in grey values. A gated network learns the digits given the
small ones; for a tenth of the images the small one is dropped, so that the same network also knows how probable a digit
is without it. Everything is written into FOLDER, by default superresolution/.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

import pixelcnn
from pixelcnn.config import PRESETS, DataConfig, GatedPixelCNNConfig, PixelCNNPlusPlusConfig, TrainConfig, recipe
from pixelcnn.datasets import open_training, shrunk
from pixelcnn.images import grid, save_png

FACTOR = 4
DRAWS = 6  # of each image
ROWS = 10  # images that are shown
IMAGES = 1_000  # that the bits are measured on


def digits(minutes: float) -> tuple[TrainConfig, list[Tensor]]:
    """The recipe for digits; images to train, validate and test with."""
    quick = PRESETS["quick"]
    assert isinstance(quick.model, GatedPixelCNNConfig)
    config = dataclasses.replace(quick, model=dataclasses.replace(quick.model, condition_channels=1), minutes=minutes)
    images = [pixelcnn.datasets.mnist(split)[0] for split in ("train", "validation", "test")]
    return config, [images[0], images[1][:IMAGES], images[2][:IMAGES]]


def photographs(pictures: Path, minutes: float) -> tuple[TrainConfig, list[Tensor]]:
    """The same for a folder of pictures, cut into patches of 64 x 64; those held out are tested with, too."""
    data = open_training(str(pictures), "clean", 256, DataConfig(size=64, crop="patches"))
    assert isinstance(data.training, Tensor)
    config = recipe("quick", "plusplus")
    assert isinstance(config.model, PixelCNNPlusPlusConfig)
    model = dataclasses.replace(
        config.model, image_shape=data.image_shape, condition_channels=data.image_shape[0], linear_kernel=5
    )
    config = dataclasses.replace(config, model=model, minutes=minutes, batch_size=4, sample_images=0)
    return config, [data.training, data.validation[:100], data.validation[:100]]


def main(folder: Path, minutes: float, pictures: Path | None) -> None:
    """Runs the example into a folder; an earlier one's training run there is gone on with."""
    config, (training, validation, test) = digits(minutes) if pictures is None else photographs(pictures, minutes)
    levels = config.model.levels
    model = pixelcnn.train(
        config, training, validation, folder / "run", data="mnist" if pictures is None else str(pictures),
        training_condition=shrunk(training, FACTOR, levels), validation_condition=shrunk(validation, FACTOR, levels),
    )  # fmt: skip

    small = shrunk(test, FACTOR, levels)
    given = pixelcnn.evaluate(model, test, condition=small, progress=True)
    without = pixelcnn.evaluate(model, test, progress=True)
    rows = slice(None, None, max(1, len(test) // ROWS)) if pictures else slice(ROWS)
    shown, truth = small[rows][:ROWS], test[rows][:ROWS]
    drawn = model.sample(len(shown) * DRAWS, condition=shown.repeat_interleave(DRAWS, 0), seed=0, progress=True)
    white = 255 // (levels - 1)
    draws = drawn.view(len(shown), DRAWS, *drawn.shape[1:]) * white
    enlarged = shown.repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)
    mean = draws.float().mean(1).round().to(torch.uint8)
    columns = torch.cat([enlarged[:, None], draws, mean[:, None], truth[:, None] * white], 1)
    save_png(grid(columns.flatten(0, 1), 256, columns=DRAWS + 3), folder / "superresolution.png")
    print(f"""
{len(test):,} images of {test.shape[2]} x {test.shape[3]}   nats per image   bits per value
  without the small image   {without.nats_per_image:10.1f}      {without.bits_per_dim:10.3f}
  given the small image     {given.nats_per_image:10.1f}      {given.bits_per_dim:10.3f}

Look at {folder / "superresolution.png"}: each row has a small image, {DRAWS} drawn from it, their mean, the truth.""")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("superresolution"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=3, help="of training (default: 3)")
    parser.add_argument("--pictures", type=Path, help="a folder of photographs, instead of digits")
    main(**vars(parser.parse_args()))
