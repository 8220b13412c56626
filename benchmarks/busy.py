"""What is left of our rates beside other busy processes, one for each core.

    python benchmarks/busy.py [--model mnist] [--rounds 3]

Training steps, `log_prob`, `evaluate`, eager sampling and `complete` take turns idle and beside as many processes as
there are cores that do nothing but count. A fair share of the cores is half; teams of threads that spin would leave a
fiftieth.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import tyro

import pixelcnn
from machine import Machine
from pixelcnn.config import TrainConfig
from pixelcnn.evaluation import evaluate
from pixelcnn.training.step import Stepper
from table import markdown, short


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    model: str = "mnist"
    """A model of MNIST in black and white."""
    rounds: int = 3
    """Turns of each, idle and busy."""
    seconds: float = 4.0
    """How long each is repeated in a turn, at least."""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Within it so many processes count."""
    count = [sys.executable, "-c", "k = 0\nwhile True: k += 1"]
    running = [subprocess.Popen(count) for _ in range(processes)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main(options: Options) -> None:
    """Measures and prints a table."""
    warnings.filterwarnings("ignore", "the effective sample size")
    model = pixelcnn.load(options.model)
    training, labels = pixelcnn.datasets.mnist("train")
    images, _ = pixelcnn.datasets.mnist("test")
    known = torch.ones(28, 28, dtype=torch.bool)
    known[7:21] = False
    stepper = Stepper(pixelcnn.load(options.model), TrainConfig(ema=0.99, clip_norm=1.0))
    condition = stepper.model.condition_of(labels[:16], 16) if stepper.model.num_classes else None

    def draw() -> None:
        with torch.inference_mode():
            model.sample(64, engine="eager", seed=0)

    def log_prob() -> None:
        with torch.no_grad():
            model.log_prob(images[:64])

    work: dict[str, tuple[Callable[[], object], int]] = {
        "training, steps of 16": (lambda: stepper.step(training[:16], 1e-4, condition), 16),
        "`log_prob` of 64": (log_prob, 64),
        "`evaluate` of 256": (lambda: evaluate(model, images[:256]), 256),
        "eager sampling of 64": (draw, 64),
        "`complete`, 2 images of 64 particles": (lambda: model.complete(images[:2], known, particles=64, seed=0), 2),
    }

    def rate(name: str) -> float:
        function, count = work[name]
        function()
        started, done = time.perf_counter(), 0
        while (seconds := time.perf_counter() - started) < options.seconds or not done:
            function()
            done += count
        return done / seconds

    rates: dict[tuple[str, bool], list[float]] = {}
    machine = Machine.of(torch.device("cpu"))
    cores = machine.cores
    for _ in range(options.rounds):
        for name in work:
            rates.setdefault((name, False), []).append(rate(name))
            with busy(cores):
                rates.setdefault((name, True), []).append(rate(name))
    rows = []
    for name in work:
        idle, beside = (statistics.median(rates[name, state]) for state in (False, True))
        rows.append([name, f"{short(idle)}/s", f"{short(beside)}/s", f"{beside / idle:.2f}"])
    print(markdown(["images", "idle", f"beside {cores} busy processes", "ratio"], rows))
    print(f"\n{machine}, PyTorch {machine.pytorch}, commit {machine.commit}, model {options.model}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
