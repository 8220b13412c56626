"""Training images for `mnist`: MNIST's, three times, and six distorted copies of them, in black and white with classes.

    python runs/mnist_data.py [FILE, by default trained/mnist-distorted.npz [FIRST]]

The copies are numbered from FIRST, 1 by default; those of other numbers are distorted in other ways.

A copy is turned by some 5 degrees, sheared, and stretched one way as it is shrunk the other; it is then scaled so that
its longer side has as many pixels as before, moved so that its centre of mass is where it was, as MNIST itself was
made, and thresholded at a value drawn from 60..115 instead of 84.5. To the model of the plain images these copies are
as probable as held-out digits are (51.7 nats per image; its own training images have 49.2), so they teach it no other
distribution. Without the scaling they would be far from MNIST (61.7).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.datasets import mnist

ORIGINALS, COPIES, BATCH = 3, 6, 500
TURN, SHEAR, STRETCH = math.radians(5), 0.08, 0.05  # standard deviations
THRESHOLDS = 60.0, 115.0
FINE = 4  # points per pixel at which the longer side is measured
VISIBLE = 20.0  # grey value from which on a pixel belongs to the digit


def points(per_pixel: int) -> Tensor:
    """(1, points, 2): x and y, from -14 to 14."""
    axis = (torch.arange(28.0 * per_pixel) + 0.5) / per_pixel - 14
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1).view(1, -1, 2)


def read(grey: Tensor, at: Tensor, mode: str = "bilinear") -> Tensor:
    """Grey values (N, 1, 28, 28) at points (N or 1, side * side, 2): (N, 1, side, side)."""
    n, side = len(grey), math.isqrt(at.shape[1])
    where = at.expand(n, -1, 2).view(n, side, side, 2) / 14
    return F.grid_sample(grey, where, mode=mode, align_corners=False).clamp(0, 255)


def longer_side(grey: Tensor) -> Tensor:
    """Of the smallest rectangle that holds the digit: (N,)."""
    seen = grey[:, 0] >= VISIBLE
    sides = [line.shape[1] - line.flip(1).argmax(1) - line.argmax(1) for line in (seen.any(2).int(), seen.any(1).int())]
    return torch.maximum(*sides).float()


def centre(grey: Tensor) -> Tensor:
    """The centre of mass, (N, 1, 2): x and y."""
    mass, axis = grey.sum((1, 2, 3)), torch.arange(28.0)
    moments = torch.stack([(grey.sum((1, 2)) * axis).sum(1), (grey.sum((1, 3)) * axis).sum(1)], -1)
    return (moments / mass[:, None])[:, None]


def distorted(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Distorted grey values, (N, 1, 28, 28)."""
    n = len(grey)
    turn, stretch, shear = (torch.randn(n, generator=generator) * size for size in (TURN, STRETCH, SHEAR))
    across, down = stretch.exp(), (-stretch).exp()
    rows = [turn.cos() * across, -turn.sin() * across + shear, turn.sin() * down, turn.cos() * down]
    matrix = torch.stack(rows, -1).view(n, 2, 2).transpose(1, 2)
    fine, coarse, scale = points(FINE), points(1), torch.ones(n, 1, 1)
    wanted = longer_side(read(grey, fine))
    for _ in range(2):
        scale = scale * (longer_side(read(grey, (fine * scale) @ matrix)) / wanted).view(n, 1, 1)
    shift = torch.zeros(n, 1, 2)
    for _ in range(2):
        shift = shift + centre(read(grey, ((coarse + shift) * scale) @ matrix)) - centre(grey)
    return read(grey, ((coarse + shift) * scale) @ matrix, "bicubic")


def copy(grey: Tensor, seed: int) -> np.ndarray:
    """A distorted copy of all images: levels 0 and 1, uint8."""
    generator, parts = torch.Generator().manual_seed(seed), []
    low, high = THRESHOLDS
    for part in torch.split(grey, BATCH):
        found = distorted(part.float(), generator)
        threshold = torch.rand(len(part), generator=generator).mul(high - low).add(low)
        parts.append((found >= threshold[:, None, None, None]).to(torch.uint8))
    return torch.cat(parts).numpy()


def main(out: Path, first: int) -> None:
    """Writes the file, unless it is there."""
    if out.exists():
        return
    images, labels = mnist("train")
    grey, _ = mnist("train", 256)
    copies = []
    for seed in range(first, first + COPIES):
        copies.append(copy(grey, seed))
        print(f"distorted copy {seed} of {first}..{first + COPIES - 1}", file=sys.stderr)
    out.parent.mkdir(parents=True, exist_ok=True)
    every = np.concatenate([images.numpy()] * ORIGINALS + copies)
    part = out.with_name(f"{out.stem}.part.npz")  # or a file that is half written would count as there
    np.savez(part, images=every, labels=np.tile(labels.numpy(), ORIGINALS + COPIES))
    part.replace(out)


if __name__ == "__main__":
    _, *given = sys.argv
    main(Path(given[0] if given else "trained/mnist-distorted.npz"), int(given[1]) if len(given) > 1 else 1)
