"""What drawing given a map takes beside drawing without: a network with and without an encoder of maps, in turns.

    python benchmarks/maps.py [--batches 16 256] [--rounds 15]

14 x 14 images given 7 x 7 ones, as in docs/decisions.md: a gated network of 24 filters and 4 layers of 5 x 5 with
places. Weights are fresh: what a draw costs does not depend on them. It is the processor's time that is measured, all
threads together, since other processes matter less for it.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
import tyro

import pixelcnn
from machine import Machine
from table import markdown, short


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    batches: tuple[int, ...] = (16, 256)
    """Images drawn at a time."""
    rounds: int = 15
    """Turns of each."""


def network(channels: int) -> pixelcnn.GatedPixelCNN:
    """The network with maps of so many channels, or none."""
    return pixelcnn.GatedPixelCNN(
        (1, 14, 14), filters=24, layers=4, first_kernel=5, kernel_size=5, places=True, condition_channels=channels
    )


def main(options: Options) -> None:
    """Measures and prints a table."""
    machine = Machine.of(torch.device("cpu"))  # before the load is our own
    models = {"without maps": network(0), "given a map": network(1)}
    rows = []
    for n in options.batches:
        maps = torch.rand(n, 1, 7, 7)
        times: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(options.rounds + 1):
            for name, model in models.items():
                started = time.process_time()
                model.sample(n, seed=turn, condition=maps if model.config.condition_channels else None)
                times[name].append((time.process_time() - started) / n * 1e3)
        medians = {name: statistics.median(each[1:]) for name, each in times.items()}
        pairs = zip(*(each[1:] for each in times.values()), strict=True)
        ratio = statistics.median(given / without for without, given in pairs)
        rows.append([str(n), *(f"{short(each)} ms" for each in medians.values()), f"{ratio:.3f}"])
    print(markdown(["images", *(f"per image {name}" for name in models), "ratio, median of turns"], rows))
    print(f"\nProcessor time. {machine}, commit {machine.commit}, load {machine.load:.1f} before")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
