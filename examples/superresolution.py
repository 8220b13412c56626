"""Super-resolution: draw pictures from pictures four times smaller, several for each, and measure what these leave.

    python examples/superresolution.py [FOLDER] [--minutes 3]
    python examples/superresolution.py [FOLDER] [--minutes 20] --photographs PICTURES [--temperature 0.6]

By default MNIST, 28 x 28 from 7 x 7: a gated network learns digits given the means of their 4 x 4 pixels, in grey
values. For a tenth of the images the small one is dropped, so that the same network also knows how probable a digit is
without it.

With a folder of photographs, of any sizes, patches of 64 x 64 in colour from 16 x 16. In a photograph the pixels beside
one say so much of it that a network learns to ignore the small picture, and its draws drift away from it. So what is
modelled is the difference from the enlarged small picture, modulo 256: as many bits, and a network that ignores the
small picture still draws what it shows. A draw beyond black or white is held there.

The run, `digits` or `photographs`, and its picture are written into FOLDER, by default superresolution/. Stopped, the
same command goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import pixelcnn
from pixelcnn.config import DataConfig, GatedPixelCNNConfig, PixelCNNPlusPlusConfig, recipe
from pixelcnn.datasets import Patches, open_training, shrunk
from pixelcnn.images import grid, save_png
from pixelcnn.training import Interrupted

FACTOR = 4
DRAWS = 6  # of each image
SHOWN = 10  # images
DIGITS, PATCHES = 1_000, 128  # that the bits are measured on
SIDE = 64  # of a patch
EPOCHS = 4  # of patches
DROPPED = 0.1  # of the small images


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
        config, training, validation, folder / "digits", data="mnist",
        training_condition=shrunk(training, FACTOR, 2), validation_condition=shrunk(validation, FACTOR, 2),
    )  # fmt: skip
    return model, pixelcnn.datasets.mnist("test")[0][:DIGITS]


def enlarged(small: Tensor) -> Tensor:
    """Small pictures (N, C, h, w) at the size of the large ones, smoothly, as integers."""
    size = [FACTOR * side for side in small.shape[2:]]
    return F.interpolate(small.double(), size=size, mode="bilinear", align_corners=False).round().long()


def differences(images: Tensor) -> tuple[Tensor, Tensor]:
    """How photographs differ from their enlarged small pictures, 128 for not at all, and the small pictures."""
    small = shrunk(images, FACTOR, 256)
    return ((images.long() - enlarged(small) + 128) % 256).to(torch.uint8), small


def photographs(pictures: Path, folder: Path, minutes: float) -> tuple[pixelcnn.AutoregressiveModel, Tensor]:
    """A model of patches of photographs, as differences, and patches of those that are held out."""
    fast = recipe("fast", "plusplus")
    assert isinstance(fast.model, PixelCNNPlusPlusConfig)
    architecture = dataclasses.replace(fast.model, image_shape=(3, SIDE, SIDE), context=(), condition_channels=3)
    config = dataclasses.replace(fast, model=architecture, minutes=minutes, label_dropout=0.0, batch_size=8)
    data = open_training(str(pictures), "clean", None, DataConfig(patch=SIDE, channels=3, held_out=0.2))
    assert isinstance(data.training, Patches)
    every = torch.arange(len(data.training))
    drawn = torch.cat([data.training.drawn(every, seed=0, epoch=epoch) for epoch in range(EPOCHS)])
    drawn[::2] = drawn[::2].flip(3)
    held_out = data.validation[:: max(1, len(data.validation) // PATCHES)][:PATCHES]
    (training, maps), (validation, held_out_maps) = differences(drawn), differences(held_out)
    model = pixelcnn.train(
        config, training, validation, folder / "photographs", data=data.description,
        training_condition=maps, validation_condition=held_out_maps,
    )  # fmt: skip
    return model, held_out


def report(
    model: pixelcnn.AutoregressiveModel, images: Tensor, folder: Path, temperature: float, *, photos: bool
) -> None:
    """Writes the picture, and prints what the small images leave open."""
    small = shrunk(images, FACTOR, model.levels)
    modelled = differences(images)[0] if photos else images
    given = pixelcnn.evaluate(model, modelled, condition=small, progress=True)
    chosen = torch.linspace(0, len(images) - 1, SHOWN).long()
    maps = small[chosen].repeat_interleave(DRAWS, 0)
    drawn = model.sample(len(maps), condition=maps, seed=0, temperature=temperature, progress=True).long()
    grey = 255 // (model.levels - 1)
    draws = (drawn + enlarged(maps) - 128).clamp(0, 255) if photos else drawn * grey
    draws = draws.view(SHOWN, DRAWS, *images.shape[1:])
    blocks = small[chosen].repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)
    mean = draws.double().mean(1).round()
    columns = torch.cat([blocks[:, None], draws, mean[:, None], images[chosen, None] * grey], 1).to(torch.uint8)
    picture = folder / ("photographs.png" if photos else "digits.png")
    save_png(grid(columns.flatten(0, 1), 256, columns=DRAWS + 3), picture)
    height, width = images.shape[2:]
    print(f"\n{len(images):,} held-out images of {height} x {width}  nats per image  bits/dim")
    print(f"  given the small image    {given.nats_per_image:18.1f}  {given.bits_per_dim:8.3f}")
    if not photos:
        without = pixelcnn.evaluate(model, images, progress=True)
        print(f"  without the small image  {without.nats_per_image:18.1f}  {without.bits_per_dim:8.3f}")
    print(f"\nLook at {picture}: each row has a small image, {DRAWS} drawn from it, their mean, the truth.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("superresolution"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, help="of training (default: 3; of photographs 20)")
    parser.add_argument("--photographs", type=Path, help="a folder of pictures", metavar="PICTURES")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the draws (default: 1)")
    arguments = parser.parse_args()
    photos, minutes = arguments.photographs is not None, arguments.minutes
    try:
        if photos:
            found = photographs(arguments.photographs, arguments.folder, 20 if minutes is None else minutes)
        else:
            found = digits(arguments.folder, 3 if minutes is None else minutes)
    except Interrupted as stop:  # by Ctrl-C or SIGTERM, with a checkpoint
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    report(*found, arguments.folder, arguments.temperature, photos=photos)
