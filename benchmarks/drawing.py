"""What drawing and decoding take by one model beside another: milliseconds per digit, in turns in one process.

    python benchmarks/drawing.py [--models mnist-seed mnist] [--batches 1 64] [--rounds 15] [--seconds 0.2]

The first model is what the others are compared with. A model of classes draws each in turn, which is all that a label
costs. What is decoded is a stream of the digits drawn, with their classes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import tyro
from torch import Tensor

import pixelcnn
from machine import Machine, synchronize
from pixelcnn.codec import compress
from pixelcnn.devices import device_of
from pixelcnn.exact import prepare
from table import markdown, short


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    models: tuple[str, ...] = ("mnist-seed", "mnist")
    """Shipped models' names or models' folders."""
    batches: tuple[int, ...] = (1, 64)
    """Images drawn or decoded at a time."""
    rounds: int = 15
    """Turns of each."""
    seconds: float = 0.2
    """How long a turn lasts, at least: a single small batch right after the other model's would measure cold caches."""
    threads: int | None = None
    """PyTorch's, by default as many as cores."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""


def main(options: Options) -> None:
    """Measures and prints a table, per digit."""
    device = device_of(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    models = {name: pixelcnn.load(name).to(device) for name in options.models}
    prepared = {name: prepare(model) for name, model in models.items()}

    def milliseconds(work: Callable[[], object], n: int) -> float:
        start, done, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < options.seconds:
            work()
            synchronize(device)
            done, elapsed = done + n, time.perf_counter() - start
        return elapsed / done * 1e3

    def medians(works: Mapping[str, Callable[[], object]], n: int) -> dict[str, float]:
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(options.rounds + 1):  # the first turn warms up
            for name, work in works.items():
                times[name].append(milliseconds(work, n))
        return {name: statistics.median(each[1:]) for name, each in times.items()}

    rows = []
    for n in options.batches:
        draws: dict[str, Callable[[], Tensor]] = {}
        decodes: dict[str, Callable[[], Tensor]] = {}
        for name, model in models.items():
            labels = torch.arange(n, device=device) % model.num_classes if model.num_classes else None
            draws[name] = partial(model.sample, n, labels, seed=0)
            stream = compress(prepared[name], draws[name](), labels)
            decodes[name] = partial(pixelcnn.decompress, prepared[name], stream)
        drawing, decoding = (medians(works, n) for works in (draws, decodes))
        for name, drawn in drawing.items():
            cells = [f"{short(drawn)} ms", f"{drawn / drawing[options.models[0]]:.3f}"]
            rows.append([str(n), name, *cells, f"{short(decoding[name])} ms", f"{drawn / decoding[name]:.2f}"])
    header = ["images", "model", "drawing", f"times {options.models[0]}'s", "decoding", "its speed relative to drawing"]
    print(markdown(header, rows))
    machine = Machine.of(device)
    print(f"\n{machine}, PyTorch {machine.pytorch}, commit {machine.commit}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
