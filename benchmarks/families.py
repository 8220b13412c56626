"""Drawing images by every family: the fast engine against one full forward pass per sub-pixel, at MNIST's size.

    python benchmarks/families.py [--batch 16] [--device cpu] [--out benchmarks-out]

Weights are fresh: what a draw costs does not depend on them. The full forwards are all alike, so a few are measured and
scaled; engine and forwards take turns, and the table has the median of their ratio. Writes families.json and
families.md into the folder `--out`.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import pixelcnn
from machine import Machine
from pixelcnn.benchmark import matrix_rate, multiply_adds, reference_seconds, sampling_seconds
from pixelcnn.devices import device_of
from pixelcnn.files import write_file
from pixelcnn.sampling import engine_of
from pixelcnn.sampling.schedule import schedule_of
from table import duration, markdown, short

DIGITS = (1, 28, 28)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    batch: int = 16
    """Images drawn at a time."""
    rounds: int = 5
    """Turns."""
    only: str = ""
    """Networks whose name has this in it; by default all."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


def networks() -> dict[str, pixelcnn.AutoregressiveModel]:
    """One of each kind, at the sizes that the package trains by default, with fresh weights."""
    gated, plusplus = pixelcnn.GatedPixelCNN, pixelcnn.PixelCNNPlusPlus
    return {
        "PixelCNN": pixelcnn.PixelCNN(),
        "PixelCNN, 256 levels": pixelcnn.PixelCNN(levels=256),
        "Gated": gated(DIGITS),
        "Gated, 10 classes": gated(DIGITS, num_classes=10),
        "Gated, 256 levels": gated(DIGITS, levels=256),
        "Gated, 2 attention blocks": gated(DIGITS, attention=2),
        "PixelCNN++, 256 levels": plusplus(DIGITS),
        "PixelCNN++, 10 classes": plusplus(DIGITS, num_classes=10),
        "PixelCNN++, 2 attention blocks": plusplus(DIGITS, attention=2),
        "PixelCNN++, 32 x 32 x 3": plusplus((3, 32, 32)),
    }


def measure(name: str, model: pixelcnn.AutoregressiveModel, options: Options) -> dict[str, object]:
    """One network's times."""
    classes = getattr(model.config, "num_classes", None)
    labels = None if classes is None else torch.arange(options.batch, device=model.device) % classes
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(options.rounds):
        ours.append(statistics.median(sampling_seconds(model, options.batch, labels, seconds=1.0)))
        theirs.append(reference_seconds(model, options.batch))
    c, h, w = model.image_shape
    return {
        "network": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "engine": engine_of(model, "fast").name,
        "sub-pixels": c * h * w,
        "steps": schedule_of(model).wavefront.steps,
        "seconds": ours,
        "reference_seconds": theirs,
        "ratio": statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
        "gflops": 2e-9 * options.batch * multiply_adds(model) / statistics.median(ours),
    }


def main(options: Options) -> None:
    """Measures and writes."""
    device = device_of(options.device)
    machine = Machine.of(device)
    rates = [matrix_rate(device)]
    results = []
    for name, model in networks().items():
        if options.only in name:
            results.append(measure(name, model.eval().to(device), options))
            print(f"{name}: {results[-1]['ratio']:.0f}", flush=True)
    rates.append(matrix_rate(device))
    header = ["network", "parameters", "engine", "steps", "seconds", "min .. max", "ms per image", "useful GFLOP/s",
              "full forward per sub-pixel", "times fast"]  # fmt: skip
    rows = []
    for result in results:
        ours, theirs = result["seconds"], result["reference_seconds"]
        assert isinstance(ours, list)
        assert isinstance(theirs, list)
        median = statistics.median(ours)
        rows.append([
            str(result["network"]), f"{result['parameters']:,}", str(result["engine"]),
            f"{result['steps']} of {result['sub-pixels']}", duration(median),
            f"{duration(min(ours))} .. {duration(max(ours))}", short(1e3 * median / options.batch),
            short(float(str(result["gflops"]))), duration(statistics.median(theirs)),
            short(float(str(result["ratio"]))),
        ])  # fmt: skip
    table = f"{machine.conditions(rates)}\n\nBatches of {options.batch}.\n\n{markdown(header, rows)}\n"
    print(f"\n{table}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(options.out / "families.md", table)
    report = {"machine": dataclasses.asdict(machine), "rates": rates, "batch": options.batch, "rows": results}
    write_file(options.out / "families.json", json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
