"""What it costs to watch the images grow: `sample_steps`, one canvas per step, beside `sample`.

    python benchmarks/live_view.py [--model NAME] [--batches 1 4 16 64] [--rounds 15]

The two take turns in one process. A canvas is only received, not shown: what is done with it is the watcher's own time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import tyro

import pixelcnn
from machine import Machine
from pixelcnn.devices import device_of


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    model: str = "mnist-seed"
    """A shipped model's name or a model's folder."""
    batches: tuple[int, ...] = (1, 4, 16, 64)
    """Images drawn at a time."""
    rounds: int = 15
    """Turns of each."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""


def main(options: Options) -> None:
    device = device_of(options.device)
    model = pixelcnn.load(options.model).to(device)

    def seconds(draw: Callable[[], object]) -> float:
        start = time.perf_counter()
        draw()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    def watch(n: int) -> int:
        return sum(1 for _ in model.sample_steps(n, seed=0))

    print(f"| images | sample | sample_steps ({watch(1)} canvases) | ratio |\n|---|---|---|---|")
    for n in options.batches:
        plain, watched = [], []
        for _ in range(options.rounds + 1):
            plain.append(seconds(partial(model.sample, n, seed=0)))
            watched.append(seconds(partial(watch, n)))
        medians = [statistics.median(times[1:]) for times in (plain, watched)]
        print(f"| {n} | {medians[0] * 1e3:.1f} ms | {medians[1] * 1e3:.1f} ms | {medians[1] / medians[0]:.3f} |")
    machine = Machine.of(device)
    print(f"{machine}, PyTorch {machine.pytorch}, commit {machine.commit}")


if __name__ == "__main__":
    main(tyro.cli(Options))
