"""What a pixel costs against the image's side and against the network's depth: ours, and a full forward pass per pixel.

    python benchmarks/scaling.py [--batch 64] [--device cpu] [--out benchmarks-out]

Computed once, each pixel costs the same however large the image is, apart from what a wavefront that is too short
leaves idle; with a full forward pass per pixel, it costs as many pixels as the image has. The networks have fresh
weights. All sizes take turns over several rounds. A forward pass costs the same at each pixel, so a few are measured.

Writes scaling.json, scaling.md and scaling.png into the folder `--out`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

import pixelcnn
from machine import Machine, synchronize
from pixelcnn.benchmark import matrix_rate, multiply_adds, reference_seconds
from pixelcnn.devices import device_of
from pixelcnn.files import write_file
from pixelcnn.sampling import Draw
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.schedule import schedule_of
from plots import plot_scaling
from table import duration, markdown, short


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    sides: tuple[int, ...] = (8, 14, 28, 56, 112)
    """Sides of the square images, at 5 residual blocks."""
    blocks: tuple[int, ...] = (1, 2, 5, 10, 20)
    """Residual blocks, at side 28."""
    batch: int = 64
    """Images drawn at a time."""
    rounds: int = 3
    """Turns of each size."""
    forwards: int = 2
    """Full forward passes in each of the reference's turns, of which there is one for each size."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


@dataclass(kw_only=True)
class Size:
    """A network for images of a side, and what drawing a batch took."""

    side: int
    blocks: int
    steps: int = 0
    seconds: list[float] = field(default_factory=list)
    """A whole batch by `fast`, each time."""
    reference_seconds: float = 0.0
    """A whole batch by one full forward pass per pixel, scaled from a few."""
    multiply_adds: int = 0
    """Of an image."""

    def model(self, device: torch.device) -> pixelcnn.PixelCNN:
        """Always the same weights."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, self.side, self.side)
        return pixelcnn.PixelCNN(image_shape=shape, blocks=self.blocks, generator=generator).to(device)

    def pixel_us(self, batch: int) -> float:
        """Microseconds per pixel by `fast`."""
        return statistics.median(self.seconds) / (batch * self.side**2) * 1e6

    def reference_pixel_us(self, batch: int) -> float:
        """Microseconds per pixel by a full forward pass for each."""
        return self.reference_seconds / (batch * self.side**2) * 1e6


def fast_seconds(model: pixelcnn.PixelCNN, batch: int) -> float:
    synchronize(model.device)
    start = time.perf_counter()
    model.sample(batch, seed=0, engine="fast")
    synchronize(model.device)
    return time.perf_counter() - start


def table(sizes: Sequence[Size], name: str, base: int, batch: int, rate: float) -> str:
    """The sizes by one of their fields, compared with the one where that is `base`."""
    base_us = next((size.pixel_us(batch) for size in sizes if getattr(size, name) == base), None)
    lines = []
    for size in sizes:
        own, full, median = size.pixel_us(batch), size.reference_pixel_us(batch), statistics.median(size.seconds)
        useful = 2e-9 * size.multiply_adds * batch / median
        lines.append(
            (
                str(getattr(size, name)),
                str(size.steps),
                duration(median),
                f"{duration(min(size.seconds))} .. {duration(max(size.seconds))} ({len(size.seconds)})",
                duration(own * 1e-6),
                "-" if base_us is None else short(own / base_us),
                short(useful),
                f"{short(100 * useful / rate)} %",
                duration(full * 1e-6),
                short(full / own),
            )
        )
    header = [name, "steps", "median", "min .. max (runs)", "per pixel", f"times that at {base}", "useful GFLOP/s"]
    header += ["of the machine's", "full forward pass per pixel", "times fast"]
    return markdown(header, lines)


def main(options: Options) -> None:
    device = device_of(options.device)
    machine = Machine.of(device)
    options.out.mkdir(parents=True, exist_ok=True)
    by_side = [Size(side=side, blocks=5) for side in options.sides]
    by_depth = [Size(side=28, blocks=blocks) for blocks in options.blocks]
    rates = [matrix_rate(device)]
    for turn, size in itertools.product(range(options.rounds), by_side + by_depth):
        model = size.model(device)
        if turn == 0:
            wavefront = schedule_of(model).wavefront
            size.steps = EagerSampler(model, Draw(1)).steps
            assert size.steps == wavefront.slope * (size.side - 1) + size.side
            size.multiply_adds = multiply_adds(model)
            size.reference_seconds = reference_seconds(model, options.batch, options.forwards)
        model.sample(1, seed=0)  # in each turn: it is a new model, whose weights have to be laid out
        size.seconds.append(fast_seconds(model, options.batch))
        print(f"round {turn + 1}: side {size.side}, {size.blocks} blocks, {size.seconds[-1]:.3f} s", flush=True)
    rates.append(matrix_rate(device))

    text = f"""\
{options.batch} images at a time by `fast`, fresh weights; full forward passes are scaled from {options.forwards}.
{machine.conditions(rates)}

Image side, at 5 residual blocks:

{table(by_side, "side", 28, options.batch, max(rates))}

Depth, at side 28:

{table(by_depth, "blocks", 5, options.batch, max(rates))}
"""
    results = {
        "machine": dataclasses.asdict(machine),
        "matrix_gflops": rates,
        "batch": options.batch,
        "sides": [dataclasses.asdict(size) for size in by_side],
        "blocks": [dataclasses.asdict(size) for size in by_depth],
    }
    write_file(options.out / "scaling.json", json.dumps(results, indent=1) + "\n")
    write_file(options.out / "scaling.md", text)
    n = options.batch
    plot_scaling(
        [(size.side, size.pixel_us(n), size.reference_pixel_us(n)) for size in by_side],
        [(size.blocks, size.pixel_us(n), size.reference_pixel_us(n)) for size in by_depth],
        f"{n} images at a time; {machine}, commit {machine.commit}",
        options.out / "scaling.png",
    )
    print(f"\n{text}\nwritten to {options.out}")


if __name__ == "__main__":
    main(tyro.cli(Options))
