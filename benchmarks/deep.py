"""A map of heights in 16 bits: trained on one part, compressed without loss on the rest, beside PNG and JPEG XL.

    python benchmarks/deep.py [--steps 1500] [--out benchmarks-out]

The heights are those that matplotlib carries, 344 x 403 of 16 bits, in metres; above the lowest they have 10 bits. The
upper 280 rows are cut into overlapping tiles to train on, the lower 64 into 20 tiles of 32 x 40 to compress. PNG and
JPEG XL get these tiles one by one, and all in one picture. Every stream is decoded again and compared. Writes deep.json
and deep.md into the folder `--out`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import torch
import tyro
from PIL import Image

import pixelcnn
from machine import Machine
from pixelcnn.config import PixelCNNPlusPlusConfig, TrainConfig
from pixelcnn.files import write_file
from pixelcnn.training.step import Stepper
from table import markdown

LEVELS, HEIGHT, WIDTH, UPPER = 1024, 32, 40, 280


@dataclass(frozen=True, kw_only=True)
class Options:
    """How long to train."""

    steps: int = 1500
    """Steps of 8 tiles."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


def heights() -> np.ndarray:
    """Metres above the lowest: uint16 (344, 400), 0..840."""
    file: Any = matplotlib.cbook.get_sample_data("jacksboro_fault_dem.npz")
    with file:
        elevation: np.ndarray = file["elevation"][:, :400]
    found: np.ndarray = (elevation - elevation.min()).astype(np.uint16)
    return found


def trained(upper: torch.Tensor, steps: int) -> pixelcnn.PixelCNNPlusPlus:
    """A mixture of logistics for tiles of the upper part, int32 (rows, columns); flipped at random."""
    config = PixelCNNPlusPlusConfig(
        image_shape=(1, HEIGHT, WIDTH), levels=LEVELS, filters=24, blocks=1, mixtures=5, first_kernel=5, kernel_size=3
    )
    torch.manual_seed(0)
    model = pixelcnn.PixelCNNPlusPlus.from_config(config)
    rate = 4e-3
    stepper = Stepper(model, TrainConfig(model=config, learning_rate=rate, optimizer="muon", clip_norm=1.0, ema=0.99))
    tiles = upper.unfold(0, HEIGHT, 1).unfold(1, WIDTH, 1).flatten(0, 1)
    for k in range(steps):
        batch = tiles[torch.randint(len(tiles), (8,))].unsqueeze(1)
        batch = batch.flip([axis for axis in (2, 3) if torch.rand(()) < 0.5]).contiguous()
        warm, cool = min(1.0, (k + 1) / 50), (1 + math.cos(math.pi * k / steps)) / 2
        result = stepper.step(batch, rate * warm * cool)
        if (k + 1) % 100 == 0:
            print(f"step {k + 1}: {result.nats / batch.numel() / math.log(2):.3f} bits/dim", flush=True)
    assert stepper.averaged is not None
    model.load_state_dict(stepper.averaged)
    return model.eval()


def picture_bytes(tiles: np.ndarray, kind: str, **options: Any) -> int:
    """Bytes of the pictures (N, rows, columns) in a format, verified."""
    total = 0
    for tile in tiles:
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, kind, **options)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(buffer.getvalue()))), tile)
        total += len(buffer.getvalue())
    return total


def main(options: Options) -> None:
    """Trains, compresses and writes the table."""
    import pillow_jxl  # noqa: F401  # registers the format

    values = heights()
    model = trained(torch.from_numpy(values[:UPPER].astype(np.int32)), options.steps)
    lower = np.ascontiguousarray(values[UPPER:])
    tiles = lower.reshape(-1, HEIGHT, 400 // WIDTH, WIDTH).swapaxes(1, 2).reshape(-1, HEIGHT, WIDTH)
    images = torch.from_numpy(tiles.astype(np.int32)).unsqueeze(1)
    stream = pixelcnn.compress(model, images)
    assert torch.equal(pixelcnn.decompress(model, stream), images)
    nats = -model.log_prob(images).detach().sum().item()

    formats: dict[str, Callable[[np.ndarray], int]] = {
        "PNG, 16 bits": lambda each: picture_bytes(each, "PNG", optimize=True),
        "JPEG XL, lossless, effort 9": lambda each: picture_bytes(each, "JXL", lossless=True, effort=9),
    }
    found = {"ours, one stream": len(stream)}
    for name, size_of in formats.items():
        found[f"{name}, tile by tile"] = size_of(tiles)
        found[f"{name}, one picture"] = size_of(lower[None])
    rows = [(name, f"{size:,}", f"{8 * size / lower.size:.3f}") for name, size in found.items()]
    rows.append(("our likelihood", f"{nats / math.log(2) / 8:,.0f}", f"{nats / math.log(2) / lower.size:.3f}"))
    machine = Machine.of(model.device)
    text = (
        f"{len(tiles)} tiles of {HEIGHT} x {WIDTH} heights, {options.steps} steps, {machine}, commit {machine.commit}"
    )
    text += "\n\n" + markdown(("what", "bytes", "bits per height"), rows) + "\n"
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(options.out / "deep.json", json.dumps({"steps": options.steps, "bytes": found}, indent=2) + "\n")
    write_file(options.out / "deep.md", text)
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
