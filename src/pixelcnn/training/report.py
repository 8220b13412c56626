"""The reports of a training run: metrics, timing, curves, samples, TensorBoard, messages, and the model's card."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pixelcnn.config import TrainConfig, conditions_of, map_of
from pixelcnn.devices import peak_memory
from pixelcnn.files import write_file
from pixelcnn.images import grid, save_png
from pixelcnn.models import AutoregressiveModel
from pixelcnn.models.card import HeldOut, describe
from pixelcnn.training.checkpoint import held_out_loss
from pixelcnn.training.history import draw_curves
from pixelcnn.training.record import RunRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = [
    "CURVES_SECONDS", "Reports", "card", "tensorboard_writer", "write_metrics", "write_samples",
]  # fmt: skip

CURVES_SECONDS = 10
"""Between two drawings of the curves, which take one."""
_MAX_LISTED = 20  # epochs in a card
_BOARD_STEPS = 10  # between two points in TensorBoard
_MNIST_LICENSE = "The data, MNIST by Y. LeCun, C. Cortes and C. J. C. Burges, are under CC BY-SA 3.0."


class Reports:
    """The reports of a run's first process, in the run's folder and as messages.

    TensorBoard gets what metrics.jsonl holds for each epoch, the steps in between, and the samples. A resumed run
    writes a new file, and TensorBoard leaves out what an earlier file holds for later steps.

    Args:
        out: The run's folder.
        say: Shows the user a message.
        device: Where the run trains.
        step: Number of steps that the run has taken.
        tensorboard: Whether to write for TensorBoard.
    """

    def __init__(
        self, out: Path, say: Callable[[str], None], device: torch.device, step: int, tensorboard: bool
    ) -> None:
        self._out, self._say, self._device = out, say, device
        self._writer = tensorboard_writer()(str(out / "tensorboard"), purge_step=step + 1) if tensorboard else None
        self._last_curves = -math.inf

    def step(self, step: int, values: dict[str, float]) -> None:
        """Reports numbers by name after a step: every tenth step goes to TensorBoard."""
        if self._writer is not None and step % _BOARD_STEPS == 0:
            for name, value in values.items():
                self._writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, metrics: list[dict[str, Any]], epochs: int, images: int, seconds: float, samples: Path) -> None:
        """Reports on the last of the finished epochs.

        Args:
            metrics: The lines of metrics.jsonl.
            epochs: Number of epochs of the run.
            images: Number of images that this process trained on since it began the epoch or resumed in it.
            seconds: Time that this took.
            samples: The picture of the samples, if there is one.
        """
        line, now = metrics[-1], time.monotonic()
        write_metrics(self._out / "metrics.jsonl", metrics)
        speed = images / max(seconds, 1e-9)
        timing = {"epoch": line["epoch"], "images": images, "seconds": round(seconds, 3)}
        timing |= {"images_per_second": round(speed, 1), "peak_memory_bytes": peak_memory(self._device)}
        _write_timing(self._out / "timing.jsonl", timing)
        if line["epoch"] == epochs or now - self._last_curves >= CURVES_SECONDS:
            draw_curves(self._out / "curves.png", metrics)
            self._last_curves = time.monotonic()
        if self._writer is not None:
            self._write_events(self._writer, line, samples)
        loss, nats = line["validation_loss"], line["validation_nats_per_image"]
        losses = f"training loss {line['train_loss']:.4f}, validation loss {loss:.4f} ({nats:.2f} nats/image)"
        if (averaged := line.get("validation_loss_ema")) is not None:
            scale = nats / loss if loss else 1.0  # sub-pixels of an image
            losses += f", with averaged weights {averaged:.4f} ({averaged * scale:.2f} nats/image)"
        memory = timing["peak_memory_bytes"] / 2**30
        self._say(f"epoch {line['epoch']}/{epochs}: {losses}, {speed:.0f} images/s, {memory:.1f} GiB")

    def close(self) -> None:
        """Writes what is waiting."""
        if self._writer is not None:
            self._writer.close()

    @staticmethod
    def _write_events(writer: SummaryWriter, line: dict[str, Any], samples: Path) -> None:
        step = line["step"]
        for name, value in line.items():
            if name not in ("epoch", "step"):
                writer.add_scalar(f"epoch/{name}", value, step)
        if samples.exists():
            from PIL import Image

            with Image.open(samples) as image:
                writer.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        writer.flush()


def tensorboard_writer() -> type[SummaryWriter]:
    """The class that writes for TensorBoard.

    Raises:
        ValueError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import
    except ImportError:
        raise ValueError("tensorboard is not installed: pip install 'pixelcnn[tensorboard]'") from None
    return SummaryWriter


def write_metrics(path: Path, metrics: list[dict[str, Any]]) -> None:
    """Writes metrics.jsonl: one line per finished epoch, a function of the configuration and the data alone."""
    write_file(path, "".join(json.dumps(line) + "\n" for line in metrics))


def _write_timing(path: Path, line: dict[str, Any]) -> None:
    """Writes timing.jsonl: one line per finished epoch with what the clock measured, kept apart from the metrics.

    The line replaces those of the same epoch and later ones, from a process that was killed before its checkpoint.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    earlier = [text for text in lines if json.loads(text)["epoch"] < line["epoch"]]
    write_file(path, "".join(f"{text}\n" for text in [*earlier, json.dumps(line)]))


def write_samples(path: Path, model: AutoregressiveModel, n: int, seed: int, condition: Tensor | None = None) -> None:
    """Draws a grid of n images from the model, the same seed in every epoch; classes and conditions in turn if it has
    some.
    """
    classes = model.num_classes
    labels = None if classes is None else torch.arange(n, device="cpu") % classes
    columns = classes if classes is not None and classes <= n else None
    if condition is not None:
        condition = condition[torch.arange(n, device=condition.device) % len(condition)]
    save_png(grid(model.sample(n, labels, seed=seed, condition=condition), model.levels, columns), path)


def card(
    model: AutoregressiveModel, record: RunRecord, metrics: list[dict[str, Any]], chosen: dict[str, Any], device: str
) -> str:
    """The finished model's card: exactly how it was trained, and its validation loss.

    Args:
        model: The finished model.
        record: The run's record.
        metrics: The lines of metrics.jsonl.
        chosen: The line of the epoch whose weights the model has.
        device: Where it was trained.
    """
    config, last = record.train, metrics[-1]
    protocol = f" ({config.protocol} protocol)" if record.data in ("mnist", "mnist-dynamic") else ""
    shown = {round(k * (len(metrics) - 1) / (_MAX_LISTED - 1)) for k in range(_MAX_LISTED)}
    losses = "".join(
        f"| {line['epoch']} | {line['step']} | {line['train_loss']:.4f} | {line['validation_loss']:.4f} |\n"
        for k, line in enumerate(metrics)
        if k in shown
    )
    first = f"- first weights: those of the model of SHA-256 {record.init}\n" if record.init else ""
    best = f" The weights are those after epoch {chosen['epoch']}, the best." if config.finish == "best" else ""
    training = (
        f"Data: {record.data}{protocol}, {config.model.levels} levels.\n\n"
        f"- training: {record.training}\n- validation: {record.validation}\n{first}\n"
        f"{last['epoch']} epoch{'s' * (last['epoch'] > 1)}, {last['step']} steps, batch {config.batch_size}, "
        f"{_recipe(config)}, seed {config.seed}; PyTorch {record.torch}, {device}, {record.precision}.{best} "
        "Losses in nats per sub-pixel:\n\n"
        f"| epoch | step | training | validation |\n|---|---|---|---|\n{losses}"
    )
    loss = held_out_loss(chosen)
    results = f"Validation loss {loss:.4f} nats per sub-pixel, {loss * model.subpixels:.2f} nats per image."
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
    labels, maps = any(conditions_of(config.model)), any(map_of(config.model))
    what = " and ".join(name for name, has in (("labels", labels), ("maps", maps)) if has)
    dropped = config.label_dropout if what and config.orders == 1 else 0.0
    parts = [
        f"{config.minutes:g} minutes of training" if config.minutes is not None else "",
        f"{config.optimizer.capitalize()}, learning rate {config.learning_rate:g} ({config.schedule}{warmup})",
        f"gradient norm at most {config.clip_norm:g}" if config.clip_norm is not None else "",
        f"weight decay {config.weight_decay:g}" if config.weight_decay else "",
        f"dropout {config.dropout:g}" if config.dropout else "",
        "each pixel drawn anew every epoch" if config.binarise else "",
        f"images in one of {config.orders} scan orders, drawn anew every epoch" if config.orders > 1 else "",
        f"images shifted by up to {config.shift} pixels" if config.shift else "",
        "images mirrored with probability 1/2" if config.flip else "",
        f"{config.mutate:.0%} of the sub-pixels replaced at random" if config.mutate else "",
        f"{dropped:.0%} of the {what} dropped" if dropped else "",
        f"weights averaged with decay {config.ema}" if config.ema is not None else "",
    ]
    return ", ".join(filter(None, parts))
