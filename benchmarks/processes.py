"""What two processes bring to training on one machine, against one process with one thread and with two.

    python benchmarks/processes.py [--batch 128] [--rounds 5] [--steps 3] [--out benchmarks-out]

Steps of the seed network on random images; each way is a job of its own, started by torchrun where it has several
processes, and all take turns over several rounds. Efficiency is the speed over that of one process with one thread,
divided by the threads in use. Writes processes.json and processes.md into the folder `--out`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import pixelcnn
from machine import Machine
from pixelcnn.benchmark import matrix_rate
from pixelcnn.config import TrainConfig
from pixelcnn.files import write_file
from pixelcnn.processes import joined, leave
from pixelcnn.training.step import Stepper
from table import markdown

WAYS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
"""Processes and threads of each."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    batch: int = 128
    """Images per step, of all processes together."""
    rounds: int = 5
    """Turns of each way."""
    steps: int = 3
    """Steps timed in a turn, after one that is not."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""
    worker: bool = False
    """Be one of the processes, and print what a step took."""


def worker(options: Options) -> None:
    """Takes steps and prints the seconds that one took."""
    with joined() as processes:
        images = torch.randint(0, 2, (options.batch, 1, 28, 28), generator=torch.Generator().manual_seed(0))
        share = processes.share(options.batch)
        model = pixelcnn.PixelCNN(generator=torch.Generator().manual_seed(0))
        stepper = Stepper(model, TrainConfig(), processes=processes)
        started = 0.0
        for k in range(options.steps + 1):
            if k == 1:
                started = time.perf_counter()
            stepper.step(images[share].to(torch.uint8), 1e-4, None, share.start, options.batch)
            processes.sum([0.0])
        if processes.first:
            print((time.perf_counter() - started) / options.steps)


def measured(options: Options, processes: int, threads: int) -> float:
    """Seconds per step, in a job of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    program = [__file__, "--worker", f"--batch={options.batch}", f"--steps={options.steps}"]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), *program],
        check=True,
        stdout=subprocess.PIPE,  # and what goes wrong stands on standard error
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return float(done.stdout)


def main(options: Options) -> None:
    """Measures all ways in turns, and writes the table."""
    if options.worker:
        worker(options)
        leave(0)
    device = torch.device("cpu")
    machine, rates = Machine.of(device), [matrix_rate(device)]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):
        for name, way in WAYS.items():
            seconds[name].append(measured(options, *way))
            print(f"{name}: {seconds[name][-1]:.3f} s per step", file=sys.stderr)
    rates.append(matrix_rate(device))
    least = statistics.median(seconds["1 process, 1 thread"])
    rows = []
    for name, (processes, threads) in WAYS.items():
        median, speed = statistics.median(seconds[name]), least / statistics.median(seconds[name])
        spread = f"{min(seconds[name]):.2f} .. {max(seconds[name]):.2f} s"
        efficiency = f"{100 * speed / (processes * threads):.0f} %"
        rows.append([name, f"{median:.2f} s", spread, f"{options.batch / median:.1f}", f"{speed:.2f}", efficiency])
    heads = ["setup", "time per step, median", "min .. max", "images/s", "speed", "efficiency"]
    text = f"{machine.conditions(rates)}\n\n{options.batch} images per step.\n\n{markdown(heads, rows)}\n"
    options.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": dataclasses.asdict(machine), "batch": options.batch, "seconds": seconds}
    write_file(options.out / "processes.json", json.dumps(report, indent=2) + "\n")
    write_file(options.out / "processes.md", text)
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
