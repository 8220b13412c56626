"""Channels below ground: draws given wells (hard data) and a blurred survey (soft data), from a made training image.

    python examples/geostatistics.py [FOLDER] [--minutes 2]

The training image, 400 x 400, has winding channels of sand, white, in clay. A gated network learns pieces of 32 x 32
given the mean of each 8 x 8 pixels, as a survey from above might show it. Of a piece that it has not seen, it is then
given the survey and 30 wells, pixels whose rock is known: `complete` draws from the posterior. Everything is written
into FOLDER, by default geostatistics/. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

import pixelcnn
from pixelcnn.config import GatedPixelCNNConfig, TrainConfig
from pixelcnn.datasets import shrunk
from pixelcnn.images import grid, save_png
from pixelcnn.training import Interrupted

SIDE, SURVEY, WELLS, DRAWS = 32, 8, 30, 6


def training_image(seed: int, side: int = 400) -> Tensor:
    """Channels that wind from the left to the right: uint8 (side, side), 1 for sand."""
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    rows, columns = torch.arange(side)[:, None], torch.arange(side)[None]
    sand = torch.zeros(side, side, dtype=torch.bool)
    top = between(0, 10)
    while top < side:
        length, phase, height = between(30, 60), between(0, 2 * math.pi), between(2, 6)
        middle = top + height * torch.sin(2 * math.pi * columns / length + phase) + between(-0.03, 0.03) * columns
        sand |= (rows - middle).abs() < between(1.5, 2.5)
        top += between(8, 16)
    return sand.to(torch.uint8)


def pieces(image: Tensor, n: int, seed: int) -> Tensor:
    """Pieces of an image at random positions: uint8 (n, 1, SIDE, SIDE)."""
    places = torch.randint(len(image) - SIDE, (n, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    return torch.stack([image[None, i : i + SIDE, j : j + SIDE] for i, j in places])


def main(folder: Path, minutes: float) -> None:
    """Runs the example into a folder; an earlier one's training run there is gone on with."""
    training, held_out = pieces(training_image(0), 20_000, 0), pieces(training_image(1), 500, 1)
    config = TrainConfig(
        model=GatedPixelCNNConfig(
            image_shape=(1, SIDE, SIDE), filters=24, layers=6, first_kernel=9, kernel_size=5, condition_channels=1
        ),
        minutes=minutes, batch_size=16, learning_rate=4e-3, optimizer="muon", schedule="cosine", warmup_steps=100,
        clip_norm=1.0, ema=0.99, sample_images=0,
    )  # fmt: skip
    model = pixelcnn.train(
        config, training, held_out, folder / "run", data="channels",
        training_condition=shrunk(training, SURVEY, 2), validation_condition=shrunk(held_out, SURVEY, 2),
    )  # fmt: skip

    survey, truth = shrunk(held_out, SURVEY, 2), held_out[:3]
    given, without = (
        pixelcnn.evaluate(model, held_out, condition=each, progress=True).nats_per_image for each in (survey, None)
    )
    wells = torch.rand(3, 1, SIDE * SIDE, generator=torch.Generator().manual_seed(2))
    known = (wells <= wells.kthvalue(WELLS, 2, keepdim=True).values).view(truth.shape)
    found = model.complete(truth, known, 32, 512, condition=survey[:3], seed=0, progress=True)
    draws = found.images.float()
    right = (found.images == truth[:, None]).float().mean().item()
    shown = [
        survey[:3].repeat_interleave(SURVEY, 2).repeat_interleave(SURVEY, 3)[:, None],
        torch.where(known, truth * 255, 110)[:, None],
        found.images[:, :DRAWS] * 255,
        (draws.mean(1, keepdim=True) * 255).round().to(torch.uint8),
        truth[:, None] * 255,
    ]
    save_png(grid(torch.cat(shown, 1).flatten(0, 1), 256, columns=DRAWS + 4), folder / "geostatistics.png")
    ess = ", ".join(f"{size:.0f}" for size in found.ess.tolist())
    print(f"""
500 held-out pieces of {SIDE} x {SIDE}, nats per piece
  without the survey   {without:5.1f}
  given the survey     {given:5.1f}
{100 * right:.1f} % of all pixels right in draws given {WELLS} wells and the survey; effective sample sizes {ess} of 512

Look at {folder / "geostatistics.png"}: each row has a survey, wells, {DRAWS} draws, the mean of 32, the truth.""")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("geostatistics"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=2, help="of training (default: 2)")
    try:
        main(**vars(parser.parse_args()))
    except Interrupted as stop:  # by Ctrl-C or SIGTERM, with a checkpoint
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
