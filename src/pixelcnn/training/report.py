"""What a training run shows: metrics.jsonl, timing.jsonl, curves.png, sample grids and the model's card."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from pixelcnn.files import write_file
from pixelcnn.images import grid, save_png
from pixelcnn.models import AutoregressiveModel
from pixelcnn.models.storage import describe
from pixelcnn.training.record import RunRecord

__all__ = ["card", "draw_curves", "write_metrics", "write_samples", "write_timing"]


def write_metrics(path: Path, metrics: list[dict[str, Any]]) -> None:
    """metrics.jsonl: a line for each finished epoch, a function of the configuration and the data alone."""
    write_file(path, "".join(json.dumps(line) + "\n" for line in metrics))


def write_timing(path: Path, line: dict[str, Any]) -> None:
    """timing.jsonl: a line for each finished epoch with what the clock said, kept apart from the metrics.

    The line replaces the one of the same epoch and later ones, from a process that was killed before its checkpoint.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_file(path, "".join(f"{text}\n" for text in [*lines[: line["epoch"] - 1], json.dumps(line)]))


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


def card(model: AutoregressiveModel, record: RunRecord, metrics: list[dict[str, Any]], device: str) -> str:
    """The finished model's card: exactly how it was trained, and its validation loss."""
    config, last = record.train, metrics[-1]
    warmup = f" after {config.warmup_steps} steps of warm-up" if config.warmup_steps else ""
    averaged = f", weights averaged with decay {config.ema}" if config.ema is not None else ""
    protocol = f" ({config.protocol} protocol)" if record.data == "mnist" else ""
    losses = "".join(
        f"| {line['epoch']} | {line['step']} | {line['train_loss']:.4f} | {line['validation_loss']:.4f} |\n"
        for line in metrics
    )
    training = (
        f"Data: {record.data}{protocol}, {config.model.levels} levels.\n\n"
        f"- training: {record.training}\n- validation: {record.validation}\n\n"
        f"{last['epoch']} epochs, {last['step']} steps, batch {config.batch_size}, Adam, learning rate "
        f"{config.learning_rate:g} ({config.schedule}{warmup}){averaged}, seed {config.seed}; PyTorch {record.torch}, "
        f"{device}. Losses in nats a sub-pixel:\n\n"
        f"| epoch | step | training | validation |\n|---|---|---|---|\n{losses}"
    )
    loss = last.get("validation_loss_ema", last["validation_loss"])
    results = f"Validation loss {loss:.4f} nats a sub-pixel, {loss * model.subpixels:.2f} nats an image."
    return describe(model, training=training, results=results)
