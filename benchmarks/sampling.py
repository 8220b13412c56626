"""Drawing images: ours against the Keras example's loop and the steps in between, side by side on one machine.

    python benchmarks/sampling.py [--batches 1 4 16 64 256] [--only fast eager] [--device cpu] [--out benchmarks-out]

Each competitor (`benchmarks/competitors.py`) at each batch size is a process of its own. The processes of a batch size
are made ready one after the other, and then take turns over several rounds; while one measures, the others wait. A loop
of full forwards takes the same time for each, so where all of them would take long some are measured and the table says
how many; one run of the baseline in full shows that this is right.

Writes sampling.json, sampling.md and sampling.png into the folder `--out`.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import math
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

import pixelcnn
from competitors import COMPETITORS, Absent, Name, Worker
from machine import ROOT, Machine
from pixelcnn.benchmark import matrix_rate, multiply_adds
from pixelcnn.devices import device_of
from pixelcnn.files import write_file
from plots import plot_sampling
from table import Row, sampling_table

OURS = "fast"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    batches: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Images drawn at a time."""
    rounds: int = 3
    """Turns of each competitor."""
    only: tuple[Name, ...] = COMPETITORS
    """Which competitors."""
    full: Literal["none", "baseline", "all"] = "baseline"
    """What to run in full although it takes long: `baseline`: keras-tensorflow at batch 4, once; `all` takes a day."""
    turn: float = 3.0
    """Seconds that a competitor which is not run in full measures in each of its turns."""
    model: str = "mnist-seed"
    """A shipped model's name or a model's folder; the baseline's is always the seed network, with fresh weights."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`, of the PyTorch competitors."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""
    keras_python: Path = ROOT / ".venv-keras/bin/python"
    """The interpreter of the baseline's environment."""


@dataclass
class Results:
    """What was measured so far, and on what."""

    model: pixelcnn.AutoregressiveModel
    machine: Machine
    rates: list[float]
    """Of matrix products, in GFLOP/s: before, and after each batch size."""
    rows: list[Row] = dataclasses.field(default_factory=list)
    images: int = 0
    different: int = 0


@dataclass
class Entry:
    """A competitor that is ready, and what it answered."""

    name: Name
    worker: Worker
    steps: int
    """That it takes at a time."""
    answers: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def turn(self) -> None:
        """Measures once, or up to five times where that takes no longer than a second."""
        seconds = self.steps * self.worker.about["step_seconds"]
        for _ in range(min(5, max(1, round(1 / seconds)))):
            self.answers.append(self.worker.measure(self.steps))

    def row(self, batch: int, answers: Sequence[dict[str, Any]]) -> Row:
        """What some of its answers, all for the same number of steps, say."""
        about = self.worker.about
        return Row(
            competitor=self.name,
            batch=batch,
            about=about["about"],
            steps=about["steps"],
            taken=answers[0]["steps"],
            seconds=tuple(answer["seconds"] for answer in answers),
            prepare_seconds=about["prepare_seconds"],
            peak_bytes=max(answer["peak_bytes"] for answer in answers),
        )


def measure(batch: int, options: Options, parameters: int) -> tuple[list[Row], int]:
    """All competitors at a batch size, and how many of their images differ from one of the others'."""
    rows: list[Row] = []
    entries: list[Entry] = []

    def absent(name: Name, why: Absent) -> None:
        say(f"  {name} is not here: {why}")
        rows.append(Row(competitor=name, batch=batch, absent=str(why)))

    with contextlib.ExitStack() as stack:
        for name in options.only:
            say(f"batch {batch}: {name} gets ready")
            try:
                entries.append(get_ready(name, batch, options, parameters, stack))
            except Absent as why:
                absent(name, why)
        for turn in range(options.rounds):
            for entry in list(entries):
                try:
                    entry.turn()
                except Absent as why:
                    absent(entry.name, why)
                    entries.remove(entry)
                    continue
                took = entry.answers[-1]["seconds"]
                say(f"batch {batch}, round {turn + 1}: {entry.name}, {entry.steps} steps in {took:.4f} s")
        for entry in entries:
            rows.append(entry.row(batch, entry.answers))
            steps = entry.worker.about["steps"]
            if options.full == "baseline" and (entry.name, batch) == ("keras-tensorflow", 4) and entry.steps < steps:
                say(f"batch {batch}: {entry.name} in full")
                try:
                    rows.append(entry.row(batch, [entry.worker.measure(steps)]))
                except Absent as why:
                    absent(entry.name, why)
    drawn = [entry.answers[0]["pixels"] for entry in entries if "pixels" in entry.answers[0]]
    return rows, different([zlib.decompress(base64.b64decode(pixels)) for pixels in drawn], batch)


def get_ready(name: Name, batch: int, options: Options, parameters: int, stack: contextlib.ExitStack) -> Entry:
    """Starts a competitor and decides how many steps it takes at a time: all, unless that takes more than 10 s.

    Raises:
        Absent: If it cannot run here.
    """
    start = Worker.sampling(
        name, batch=batch, model=options.model, device=options.device, keras_python=options.keras_python
    )
    worker = stack.enter_context(start)
    about = worker.about
    if about["parameters"] != parameters:
        raise Absent(f"{options.model!r} is another network than the baseline's")
    steps, seconds = int(about["steps"]), float(about["step_seconds"])
    if options.full == "all" or about.get("whole") or steps * seconds <= 10:
        return Entry(name, worker, steps)
    return Entry(name, worker, min(steps, max(2, round(options.turn / seconds))))


def different(drawn: Sequence[bytes], batch: int) -> int:
    """Images of which two competitors drew different pixels; some drew the first pixels of each image only."""
    images = [torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(batch, -1) for pixels in drawn]
    differs = torch.zeros(batch, dtype=torch.bool)
    for a, b in itertools.combinations(images, 2):
        both = min(a.shape[1], b.shape[1])
        differs |= (a[:, :both] != b[:, :both]).any(1)
    return int(differs.sum())


def say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def report(results: Results, options: Options) -> str:
    """All that was measured so far, as text; the files in `options.out` are brought up to date."""
    model, machine, rates = results.model, results.machine, results.rates
    shape = "x".join(map(str, model.image_shape))
    image = multiply_adds(model)
    pixel = image // math.prod(model.image_shape[1:])
    text = f"""\
Images of {shape} from `{options.model}`, {pixel:,} unmasked multiply-adds per pixel.
{machine.conditions(rates)}
Peak memory is {"the GPU's, as PyTorch allocates it" if machine.gpu else "the process's, libraries included"}.

{sampling_table(results.rows, ours=OURS, gflop=2e-9 * image, rate=max(rates))}

Images that two of the PyTorch competitors drew differently, in the pixels that both drew: {results.different} of \
{results.images}.
"""
    everything = {
        "machine": dataclasses.asdict(machine),
        "matrix_gflops": rates,
        "gflop_an_image": 2e-9 * image,
        "different_images": results.different,
        "rows": [dataclasses.asdict(row) for row in results.rows],
    }
    write_file(options.out / "sampling.json", json.dumps(everything, indent=1) + "\n")
    write_file(options.out / "sampling.md", text)
    if any(row.seconds for row in results.rows):
        plot_sampling(results.rows, f"{machine}, commit {machine.commit}", options.out / "sampling.png")
    return text


def main(options: Options) -> None:
    device = device_of(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    if os.getloadavg()[0] > 0.5:
        say("others use this machine, or did a minute ago: what is measured now may be far off")
    results = Results(pixelcnn.load(options.model), Machine.of(device), [matrix_rate(device)])
    parameters = sum(p.numel() for p in results.model.parameters())
    text = ""
    for batch in options.batches:
        rows, differ = measure(batch, options, parameters)
        results.rows += rows
        results.different += differ
        results.images += batch
        results.rates.append(matrix_rate(device))
        text = report(results, options)
    print(f"\n{text}\nwritten to {options.out}")


if __name__ == "__main__":
    main(tyro.cli(Options))
