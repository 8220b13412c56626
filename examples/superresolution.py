"""Super-resolution: draw pictures from pictures four times smaller, several for each, and measure what these leave.

    python examples/superresolution.py [FOLDER] [--minutes 3]
    python examples/superresolution.py [FOLDER] [--minutes 60] --photographs PICTURES

By default MNIST, 28 x 28 from 7 x 7: a gated network learns digits given the means of their 4 x 4 pixels, in grey
values. With a folder of photographs, of any sizes, patches of 64 x 64 in colour from 16 x 16, by the family `photo`.
For a tenth of the images the small one is dropped, so that the same network also knows how probable an image is without
it. Everything is written into FOLDER, by default superresolution/.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

import pixelcnn
from pixelcnn.config import DataConfig, GatedPixelCNNConfig, PhotoPixelCNNConfig, recipe
from pixelcnn.datasets import Patches, open_training, shrunk
from pixelcnn.images import grid, save_png

FACTOR = 4
DRAWS = 6  # of each image
SHOWN = 10  # images
DIGITS, PATCHES = 1_000, 128  # that the bits are measured on
SIDE = 64  # of a patch
DROPPED = 0.1


def digits(folder: Path, minutes: float) -> tuple[pixelcnn.AutoregressiveModel, Tensor]:
    """A model of MNIST, and test images."""
    quick = recipe("quick")
    assert isinstance(quick.model, GatedPixelCNNConfig)
    architecture = dataclasses.replace(quick.model, condition_channels=1)
    config = dataclasses.replace(quick, model=architecture, minutes=minutes, label_dropout=DROPPED)
    training, _ = pixelcnn.datasets.mnist("train")
    validation, _ = pixelcnn.datasets.mnist("validation")
    validation = validation[:DIGITS]
    model = pixelcnn.train(
        config, training, validation, folder / "run", data="mnist",
        training_condition=shrunk(training, FACTOR, 2), validation_condition=shrunk(validation, FACTOR, 2),
    )  # fmt: skip
    return model, pixelcnn.datasets.mnist("test")[0][:DIGITS]


def photographs(pictures: Path, folder: Path, minutes: float) -> tuple[pixelcnn.AutoregressiveModel, Tensor]:
    """A model of patches of photographs, and patches of those that are held out."""
    fast = recipe("fast", "photo")
    architecture = PhotoPixelCNNConfig(image_shape=(3, SIDE, SIDE), condition_channels=3)
    config = dataclasses.replace(
        fast, model=architecture, minutes=minutes, label_dropout=DROPPED, flip=True, batch_size=12, ema=0.999
    )
    data = open_training(str(pictures), "clean", None, DataConfig(patch=SIDE, channels=3, held_out=0.2))
    assert isinstance(data.training, Patches)
    held_out = data.validation[:: max(1, len(data.validation) // PATCHES)][:PATCHES]
    model = pixelcnn.train(
        config, data.training.shrunk_by(FACTOR), held_out, folder / "run", data=data.description,
        validation_condition=shrunk(held_out, FACTOR, 256),
    )  # fmt: skip
    return model, held_out


def report(model: pixelcnn.AutoregressiveModel, images: Tensor, folder: Path, temperature: float) -> None:
    """Writes the picture, and prints what the small images leave open."""
    small = shrunk(images, FACTOR, model.levels)
    given = pixelcnn.evaluate(model, images, condition=small, progress=True)
    without = pixelcnn.evaluate(model, images, progress=True)
    chosen = torch.linspace(0, len(images) - 1, SHOWN).long()
    maps = small[chosen].repeat_interleave(DRAWS, 0)
    drawn = model.sample(len(maps), condition=maps, seed=0, temperature=temperature, progress=True)
    grey = 255 // (model.levels - 1)
    draws = drawn.view(SHOWN, DRAWS, *drawn.shape[1:]) * grey
    enlarged = small[chosen].repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)
    mean = draws.float().mean(1).round().to(torch.uint8)
    columns = torch.cat([enlarged[:, None], draws, mean[:, None], images[chosen, None] * grey], 1)
    picture = folder / "superresolution.png"
    save_png(grid(columns.flatten(0, 1), 256, columns=DRAWS + 3), picture)
    height, width = images.shape[2:]
    print(f"""
{len(images):,} held-out images of {height} x {width}  nats per image  bits/dim
  without the small image  {without.nats_per_image:18.1f}  {without.bits_per_dim:8.3f}
  given the small image    {given.nats_per_image:18.1f}  {given.bits_per_dim:8.3f}

Look at {picture}: each row has a small image, {DRAWS} drawn from it, their mean, the truth.""")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("superresolution"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, help="of training (default: 3; of photographs 60)")
    parser.add_argument("--photographs", type=Path, help="a folder of pictures", metavar="PICTURES")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the draws (default: 1)")
    arguments = parser.parse_args()
    if arguments.photographs is None:
        found = digits(arguments.folder, arguments.minutes or 3)
    else:
        found = photographs(arguments.photographs, arguments.folder, arguments.minutes or 60)
    report(*found, arguments.folder, arguments.temperature)
