"""What drawing takes by one model beside another: milliseconds per digit, in turns in one process.

    python benchmarks/drawing.py [--models mnist-seed mnist] [--batches 1 64] [--rounds 15] [--seconds 0.2]

The first model is what the others are compared with. A model of classes draws each in turn, which is all that a label
costs.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
import tyro

import pixelcnn
from machine import Machine
from pixelcnn.devices import device_of
from table import markdown, short


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    models: tuple[str, ...] = ("mnist-seed", "mnist")
    """Shipped models' names or models' folders."""
    batches: tuple[int, ...] = (1, 64)
    """Images drawn at a time."""
    rounds: int = 15
    """Turns of each."""
    seconds: float = 0.2
    """How long a turn lasts, at least: a single small batch right after the other model's would measure cold caches."""
    threads: int | None = None
    """PyTorch's, by default as many as cores."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""


def main(options: Options) -> None:
    """Measures and prints a table."""
    device = device_of(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    models = {name: pixelcnn.load(name).to(device) for name in options.models}

    def milliseconds(name: str, n: int, seed: int) -> float:
        classes = getattr(models[name].config, "num_classes", None)
        labels = None if classes is None else torch.arange(n, device=device) % classes
        start, drawn, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < options.seconds:
            models[name].sample(n, labels, seed=seed)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            drawn, elapsed = drawn + n, time.perf_counter() - start
        return elapsed / drawn * 1e3

    rows = []
    for n in options.batches:
        times: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(options.rounds + 1):
            for name in models:
                times[name].append(milliseconds(name, n, turn))
        medians = {name: statistics.median(each[1:]) for name, each in times.items()}
        first = medians[options.models[0]]
        rows += [[str(n), name, f"{short(each)} ms", f"{each / first:.3f}"] for name, each in medians.items()]
    print(markdown(["images", "model", "per digit", f"times {options.models[0]}'s"], rows))
    machine = Machine.of(device)
    print(f"\n{machine}, PyTorch {machine.pytorch}, commit {machine.commit}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
