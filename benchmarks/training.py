"""A training step of the seed network: ours beside Keras and plain PyTorch, in turns on one machine.

    python benchmarks/training.py [--batches 32 128] [--only keras-tensorflow ours] [--out benchmarks-out]

Each competitor at each batch size is a process of its own; they are made ready one after the other and then take turns
over several rounds, the others waiting. Writes training.json and training.md into the folder `--out`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import pixelcnn
from competitors import TRAINERS, Absent, Trainer, Worker
from machine import ROOT, Machine
from pixelcnn.benchmark import matrix_rate, multiply_adds
from pixelcnn.config import PRESETS
from pixelcnn.devices import device_of
from pixelcnn.files import write_file
from pixelcnn.training.steppers import precision_of
from table import Row, training_table

OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    batches: tuple[int, ...] = (32, 128)
    """Images of a step."""
    rounds: int = 5
    """Turns of each competitor."""
    only: tuple[Trainer, ...] = TRAINERS
    """Which competitors."""
    turn: float = 5.0
    """Seconds that a competitor measures in each of its turns, and at least one step."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`, of the PyTorch competitors."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""
    keras_python: Path = ROOT / ".venv-keras/bin/python"
    """The interpreter of the baseline's environment."""


def measure(batch: int, options: Options, parameters: int) -> list[Row]:
    """All competitors at a batch size."""
    rows: list[Row] = []
    ready: dict[Trainer, tuple[Worker, int]] = {}
    answers: dict[Trainer, list[dict[str, float]]] = {name: [] for name in options.only}

    def absent(name: Trainer, why: Absent) -> None:
        say(f"  {name} is not here: {why}")
        rows.append(Row(competitor=name, batch=batch, absent=str(why)))

    with contextlib.ExitStack() as stack:
        for name in options.only:
            say(f"batch {batch}: {name} gets ready")
            try:
                start = Worker.training(name, batch=batch, device=options.device, keras_python=options.keras_python)
                worker = stack.enter_context(start)
                assert worker.about["parameters"] == parameters, name
                ready[name] = worker, max(1, round(options.turn / worker.about["step_seconds"]))
            except Absent as why:
                absent(name, why)
        for turn in range(options.rounds):
            for name, (worker, steps) in list(ready.items()):
                try:
                    answers[name].append(worker.measure(steps))
                except Absent as why:
                    absent(name, why)
                    del ready[name]
                    continue
                each = answers[name][-1]["seconds"] / steps
                say(f"batch {batch}, round {turn + 1}: {name}, {steps} steps of {each:.4f} s")
        for name, (worker, steps) in ready.items():
            row = Row(
                competitor=name,
                batch=batch,
                about=worker.about["about"],
                steps=1,
                taken=steps,
                seconds=tuple(answer["seconds"] for answer in answers[name]),
                prepare_seconds=worker.about["prepare_seconds"],
                peak_bytes=int(max(answer["peak_bytes"] for answer in answers[name])),
            )
            rows.append(row)
    return rows


def say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def report(rows: Sequence[Row], machine: Machine, rates: Sequence[float], precision: str, options: Options) -> str:
    """All that was measured so far, as text; the files in `options.out` are brought up to date."""
    step = 3 * multiply_adds(pixelcnn.PixelCNN())  # forward, and the gradients of features and of weights
    text = f"""\
Training steps of the seed network, {2e-9 * step:.3f} GFLOP per image that no mask removes.
{machine.conditions(rates, precision.capitalize())}

{training_table(rows, ours=OURS, gflop=2e-9 * step, rate=max(rates))}
"""
    everything = {
        "machine": dataclasses.asdict(machine),
        "matrix_gflops": list(rates),
        "gflop_an_image": 2e-9 * step,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    write_file(options.out / "training.json", json.dumps(everything, indent=1) + "\n")
    write_file(options.out / "training.md", text)
    return text


def main(options: Options) -> None:
    device = device_of(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    if os.getloadavg()[0] > 0.5:
        say("others use this machine, or did a minute ago: what is measured now may be far off")
    precision = precision_of(PRESETS["seed"], device)  # what ours multiplies in
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    machine, rates, rows = Machine.of(device), [matrix_rate(device, dtype)], list[Row]()
    parameters = sum(p.numel() for p in pixelcnn.PixelCNN().parameters())
    text = ""
    for batch in options.batches:
        rows += measure(batch, options, parameters)
        rates.append(matrix_rate(device, dtype))
        text = report(rows, machine, rates, precision, options)
    print(f"\n{text}\nwritten to {options.out}")


if __name__ == "__main__":
    main(tyro.cli(Options))
