"""What a training run shows: metrics.jsonl, timing.jsonl, curves.png, sample grids and the model's card."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from pixelcnn.config import TrainConfig
from pixelcnn.files import write_file
from pixelcnn.images import grid, save_png
from pixelcnn.models import AutoregressiveModel
from pixelcnn.models.card import HeldOut, describe
from pixelcnn.training.checkpoint import held_out_loss
from pixelcnn.training.record import RunRecord

__all__ = ["card", "draw_curves", "write_metrics", "write_samples", "write_timing"]

_MNIST_LICENSE = "The data, MNIST by Y. LeCun, C. Cortes and C. J. C. Burges, are under CC BY-SA 3.0."


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
    """A grid of images drawn from the model, the same seed at every epoch; of classes in turn if it has some."""
    classes: int | None = getattr(model.config, "num_classes", None)
    labels = None if classes is None else torch.arange(n, device="cpu") % classes
    columns = classes if classes is not None and classes <= n else None
    save_png(grid(model.sample(n, labels, seed=seed), model.levels, columns), path)


def draw_curves(path: Path, metrics: list[dict[str, Any]]) -> None:
    """The losses by epoch, in nats a sub-pixel, above the gradients' norms and the learning rate."""
    from matplotlib.figure import Figure  # takes half a second to import
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    epochs = [line["epoch"] for line in metrics]
    for key, name in (
        ("train_loss", "training, before each step"),
        ("validation_loss", "validation"),
        ("validation_loss_ema", "validation, averaged weights"),
    ):
        if key in metrics[0]:
            axes.plot(epochs, [line[key] for line in metrics], marker="o", markersize=3, label=name)
    axes.set(ylabel="negative log-likelihood (nats / sub-pixel)")
    for key, name in (
        ("gradient_norm", "gradient norm, mean"),
        ("gradient_norm_max", "gradient norm, largest"),
        ("learning_rate", "learning rate"),
    ):
        lower.plot(epochs, [line[key] for line in metrics], marker="o", markersize=3, label=name)
    lower.set(xlabel="epoch", yscale="log", xlim=(0.5, epochs[-1] + 0.5))
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # one epoch is one tick
    for each in (axes, lower):
        each.grid(alpha=0.3)
        each.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_file(path, buffer.getvalue())


def card(
    model: AutoregressiveModel, record: RunRecord, metrics: list[dict[str, Any]], chosen: dict[str, Any], device: str
) -> str:
    """The finished model's card: exactly how it was trained, and its validation loss.

    Args:
        model: The finished model.
        record: What the run was.
        metrics: The lines of metrics.jsonl.
        chosen: The one of them whose weights the model has.
        device: Where it was trained.
    """
    config, last = record.train, metrics[-1]
    protocol = f" ({config.protocol} protocol)" if record.data in ("mnist", "mnist-dynamic") else ""
    losses = "".join(
        f"| {line['epoch']} | {line['step']} | {line['train_loss']:.4f} | {line['validation_loss']:.4f} |\n"
        for line in metrics
    )
    best = f" The weights are those after epoch {chosen['epoch']}, the best." if config.finish == "best" else ""
    origin = f" Begun as {record.origin}." if record.origin else ""
    training = (
        f"Data: {record.data}{protocol}, {config.model.levels} levels.\n\n"
        f"- training: {record.training}\n- validation: {record.validation}\n\n"
        f"{last['epoch']} epoch{'s' * (last['epoch'] > 1)}, {last['step']} steps, batch {config.batch_size}, "
        f"{_recipe(config)}, seed {config.seed}; PyTorch {record.torch}, {device}, {record.precision}.{best}{origin} "
        "Losses in nats a sub-pixel:\n\n"
        f"| epoch | step | training | validation |\n|---|---|---|---|\n{losses}"
    )
    loss = held_out_loss(chosen)
    results = f"Validation loss {loss:.4f} nats a sub-pixel, {loss * model.subpixels:.2f} nats an image."
    mnist = record.data in ("mnist", "mnist-dynamic")
    return describe(
        model,
        training=training,
        results=results,
        data_license=_MNIST_LICENSE if mnist else "The training data have a licence of their own.",
        datasets=["ylecun/mnist"] if mnist else [],
        held_out=HeldOut(data=f"{record.data}{protocol}", split="validation", nats_per_subpixel=loss),
    )


def _recipe(config: TrainConfig) -> str:
    """Everything that is not off, in words."""
    warmup = f" after {config.warmup_steps} steps of warm-up" if config.warmup_steps else ""
    conditional = any(getattr(config.model, size, None) for size in ("num_classes", "condition_dim"))
    hidden = config.label_dropout if conditional and config.orders == 1 else 0.0
    parts = [
        f"{config.minutes:g} minutes of training" if config.minutes is not None else "",
        f"{config.optimizer.capitalize()}, learning rate {config.learning_rate:g} ({config.schedule}{warmup})",
        f"gradient norm at most {config.clip_norm:g}" if config.clip_norm is not None else "",
        f"weight decay {config.weight_decay:g}" if config.weight_decay else "",
        f"dropout {config.dropout:g}" if config.dropout else "",
        "each pixel drawn anew every epoch" if config.binarise else "",
        f"images in one of {config.orders} scan orders, drawn anew every epoch" if config.orders > 1 else "",
        f"images shifted by up to {config.shift} pixels" if config.shift else "",
        f"{config.mutate:.0%} of the sub-pixels replaced at random" if config.mutate else "",
        f"{hidden:.0%} of the labels hidden" if hidden else "",
        f"weights averaged with decay {config.ema}" if config.ema is not None else "",
    ]
    return ", ".join(filter(None, parts))
