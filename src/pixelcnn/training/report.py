"""What a training run shows: metrics.jsonl, timing.jsonl, curves.png and the sample grids."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from pixelcnn.files import write_file
from pixelcnn.images import grid, save_png
from pixelcnn.models import AutoregressiveModel

__all__ = ["append_timing", "draw_curves", "write_metrics", "write_samples"]


def write_metrics(path: Path, metrics: list[dict[str, Any]]) -> None:
    """metrics.jsonl: a line for each finished epoch, a function of the configuration and the data alone."""
    write_file(path, "".join(json.dumps(line) + "\n" for line in metrics))


def append_timing(path: Path, line: dict[str, Any]) -> None:
    """timing.jsonl: a line for each finished epoch with what the clock said, kept apart from the metrics."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def write_samples(path: Path, model: AutoregressiveModel, n: int, seed: int) -> None:
    """A grid of images drawn from the model, the same seed at every epoch."""
    save_png(grid(model.sample(n, seed=seed), model.levels), path)


def draw_curves(path: Path, metrics: list[dict[str, Any]]) -> None:
    """The losses by epoch, in nats a sub-pixel."""
    from matplotlib.figure import Figure  # takes half a second to import
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    epochs = [line["epoch"] for line in metrics]
    for key, name in (
        ("train_loss", "training, before each step"),
        ("validation_loss", "validation"),
        ("validation_loss_ema", "validation, averaged weights"),
    ):
        if key in metrics[0]:
            axes.plot(epochs, [line[key] for line in metrics], marker="o", markersize=3, label=name)
    axes.set(xlabel="epoch", ylabel="negative log-likelihood (nats / sub-pixel)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_file(path, buffer.getvalue())
