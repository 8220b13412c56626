"""Sampling on a GPU by engine, precision and batch: latency, images per second, memory.

    python benchmarks/gpu.py [--model mnist-seed] [--out gpu.json] [--total 1000000]

Times are of whole calls of `model.sample`, until the images are there, after two calls that compile, capture and warm
up. What fails is one line of the table; the others go on. `--total` draws that many images in chunks that are thrown
away, for the memory that it takes.
"""

from __future__ import annotations

import functools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

import pixelcnn
from pixelcnn.arithmetic.precision import Precision
from pixelcnn.devices import device_of
from pixelcnn.files import write_file
from pixelcnn.sampling import Engine

ENGINES: tuple[tuple[Engine, Precision | None], ...] = (
    ("fast", None), ("graph", None), ("eager", None), ("fast", "bf16"), ("graph", "bf16"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    model: str = "mnist-seed"
    """A shipped model's name or a model's folder."""
    device: str = "cuda"
    """`cuda` or `cuda:N`; `cpu` tries the script."""
    few: int = 4
    """Images of the call whose latency is measured."""
    runs: int = 50
    """Calls of it."""
    batches: tuple[int, ...] = (1, 16, 64, 132, 256, 512, 1024, 2048, 4096, 16384, 65536)
    """Images of the calls whose rate is measured."""
    total: int = 0
    """Images drawn one after the other for the memory that it takes; 0: none."""
    out: Path | None = None
    """A JSON file for all results."""


def timed(
    work: Callable[[], Tensor], runs: int, warm: int, device: torch.device, seconds: float = 20.0
) -> dict[str, float]:
    """Median and extremes in seconds of at most so many runs, or as many as fit, and the most memory in MiB."""
    for _ in range(warm):
        work().cpu()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    while len(times) < runs and (len(times) < 3 or sum(times) < seconds):
        start = time.perf_counter()
        work().cpu()
        times.append(time.perf_counter() - start)
    mib = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    return {"median": statistics.median(times), "least": min(times), "most": max(times), "runs": len(times), "mib": mib}


def main(options: Options) -> None:
    device = device_of(options.device)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    model = pixelcnn.load(options.model).to(device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    print(f"{options.model!r} on {card}, PyTorch {torch.__version__}")
    results: list[dict[str, Any]] = []

    def measure(part: str, n: int, runs: int, work: Callable[[], Tensor], **what: object) -> None:
        entry: dict[str, Any] = {"part": part, "n": n, **what}
        try:
            entry |= timed(work, runs, min(2, runs - 1), device)
            said = f"{entry['median'] * 1e3:9.2f} ms ({entry['least'] * 1e3:.2f} .. {entry['most'] * 1e3:.2f})"
            print(f"{part:8} n {n:6} {what}: {said} {n / entry['median']:9.0f} per second, {entry['mib']:.0f} MiB")
        except (RuntimeError, ValueError, AssertionError, TypeError, ImportError) as error:
            entry["error"] = f"{type(error).__name__}: {error}"
            print(f"{part:8} n {n:6} {what}: {entry['error'][:300]}")
        results.append(entry)
        if options.out is not None:
            told = {"card": card, "torch": torch.__version__, "model": options.model, "results": results}
            write_file(options.out, json.dumps(told, indent=1) + "\n")

    for engine, precision in ENGINES:
        for part, n, runs in (("latency", options.few, options.runs), *(("rate", n, 20) for n in options.batches)):
            if engine in ("eager", "graph") and n > 4096:
                continue  # in batches of at most some hundred: the rate is known by then
            work = functools.partial(model.sample, n, engine=engine, precision=precision)
            measure(part, n, runs, work, engine=engine, precision=precision)
    if options.total:
        measure("total", options.total, 1, lambda: in_chunks(model, options.total), precision=None)
        measure("total", options.total, 1, lambda: in_chunks(model, options.total, "bf16"), precision="bf16")


def in_chunks(model: pixelcnn.AutoregressiveModel, n: int, precision: Precision | None = None) -> Tensor:
    """The last of n images, drawn in chunks that are thrown away."""
    for images in model.sample_stream(n, precision=precision, chunk=16384, seed=0):
        last = images[-1:]
    return last


if __name__ == "__main__":
    main(tyro.cli(Options))
