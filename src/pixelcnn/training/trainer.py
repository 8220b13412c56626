"""The training loop, which can be stopped anywhere and goes on to the same bits.

A run is a function of its configuration and its data: the order of the images is a function of (seed, epoch), the
pictures have the run's seed, and a checkpoint holds all that the next step depends on. A killed run repeats at most
what came after its last checkpoint. On a CPU the result is the same to the bit for the same number of threads.

The run's folder:

    config.json           what was asked for
    metrics.jsonl         a line an epoch: the losses           timing.jsonl   a line an epoch: what the clock said
    curves.png            the losses drawn                      samples/       a grid of samples an epoch
    checkpoints/          the newest two                        model/         the finished model, for `pixelcnn.load`
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pixelcnn.config import TrainConfig, from_dict, to_dict
from pixelcnn.devices import device_of
from pixelcnn.evaluation import evaluate
from pixelcnn.files import only_user_of, read_json, writable_folder, write_file
from pixelcnn.models import AutoregressiveModel, PixelCNN
from pixelcnn.models.storage import describe
from pixelcnn.randomness import permutation
from pixelcnn.training import report
from pixelcnn.training.checkpoint import RunState, load_checkpoint, load_newest, save_checkpoint
from pixelcnn.training.schedule import learning_rate
from pixelcnn.training.step import Stepper

__all__ = ["Interrupted", "train"]

_MAY_DIFFER = {"epochs", "device", "checkpoint_seconds", "sample_images"}  # between a run and its continuation
_TIMED_STEPS = range(2, 7)  # the first ones pay for set-up


class Interrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C, after writing a checkpoint; the message says how to go on."""


def train(
    config: TrainConfig,
    training: Tensor,
    validation: Tensor,
    out: str | Path,
    *,
    data: str = "images",
    resume: str | Path = "auto",
    progress: bool = True,
) -> AutoregressiveModel:
    """Trains a model and writes the run's folder.

    Args:
        config: What to do.
        training: uint8 levels (N, C, H, W) as config.model says.
        validation: Images of the same kind that are not trained on.
        out: The run's folder; made if it is missing.
        data: What the images are, for the records.
        resume: "auto" goes on from the folder's newest intact checkpoint, or starts; "off" starts, in a folder that
            holds no run; a path starts from that checkpoint.
        progress: Show bars and messages on standard error.

    Returns:
        The finished model, with the averaged weights if `config.ema` is set; the same is in `out`/model.

    Raises:
        ValueError: If the images do not fit the model, or the folder holds a run of another configuration or is in
            use by another process.
        OSError: If the folder cannot be written.
        Interrupted: After Ctrl-C, when a checkpoint has been written.
    """
    return _Run(config, training, validation, Path(out), data, progress).run(resume)


class _Run:
    def __init__(
        self, config: TrainConfig, training: Tensor, validation: Tensor, out: Path, data: str, progress: bool
    ) -> None:
        self.config = config
        self.out = out
        self.data = data
        self.progress = progress
        self.device = device_of(config.device)
        self.model = PixelCNN.from_config(config.model, generator=torch.Generator().manual_seed(config.seed))
        for name, images in (("training", training), ("validation", validation)):
            if len(images) == 0:
                raise ValueError(f"{name} must hold at least one image, got 0")
            try:
                self.model.check_images(images)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
        self.training = training
        self.validation = validation
        self.model.to(self.device)
        self.stepper = Stepper(self.model, config.ema)
        self.state = RunState()
        self.steps_per_epoch = -(-len(training) // config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self._stopping = False

    def run(self, resume: str | Path) -> AutoregressiveModel:
        writable_folder(self.out)
        with only_user_of(self.out):
            return self._run(resume)

    def _run(self, resume: str | Path) -> AutoregressiveModel:
        self._open(resume)
        self._last_checkpoint = time.monotonic()
        finished = len(self.state.metrics)
        if finished >= self.config.epochs:
            self._say(f"the run in {self.out} has finished its {finished} epochs")
        with self._deferring_interrupts():
            for epoch in range(finished, self.config.epochs):
                seconds, seen = self._train_epoch(epoch)
                self._save()  # validation and pictures can be repeated
                self._finish_epoch(epoch, seconds, seen)
                self._save()
        return self._finish()

    # One epoch -------------------------------------------------------------------------------------------------

    def _train_epoch(self, epoch: int) -> tuple[float, int]:
        """The rest of an epoch; returns the seconds and images of this process's part of it."""
        order = permutation(len(self.training), self.config.seed, epoch)
        batches = torch.split(order, self.config.batch_size)
        done = self.state.step - epoch * self.steps_per_epoch
        seen = first = done * self.config.batch_size
        started = time.monotonic()
        with self._bar(f"epoch {epoch + 1}/{self.config.epochs}", len(order), first) as bar:
            for k, batch in enumerate(batches[done:]):
                images = self.training[batch].to(self.device)
                rate = learning_rate(self.config, self.state.step, self.total_steps)
                self.state.epoch_nats += self.stepper.step(images, rate)
                self.state.step += 1
                seen += len(images)
                nats = self.state.epoch_nats / seen
                loss = nats / self.model.subpixels
                bar.set_postfix_str(f"loss {loss:.4f}, {nats:.2f} nats/image", refresh=False)
                bar.update(len(images))
                if k == _TIMED_STEPS.start:
                    timed = time.monotonic()
                elif k == _TIMED_STEPS.stop:
                    self._tell_duration((time.monotonic() - timed) / len(_TIMED_STEPS), bar)
                if self._stopping or time.monotonic() - self._last_checkpoint >= self.config.checkpoint_seconds:
                    self._save()
        return time.monotonic() - started, seen - first

    def _finish_epoch(self, epoch: int, seconds: float, seen: int) -> None:
        line: dict[str, object] = {
            "epoch": epoch + 1,
            "step": self.state.step,
            "learning_rate": learning_rate(self.config, self.state.step - 1, self.total_steps),
            "train_loss": self.state.epoch_nats / len(self.training) / self.model.subpixels,
        }
        evaluation = evaluate(self.model, self.validation, progress=self.progress)
        line |= {
            "validation_loss": evaluation.nats_per_subpixel,
            "validation_nats_per_image": evaluation.nats_per_image,
            "validation_bits_per_dim": evaluation.bits_per_dim,
        }
        with self._averaged_weights():
            if self.stepper.averaged is not None:
                averaged = evaluate(self.model, self.validation, progress=self.progress)
                line["validation_loss_ema"] = averaged.nats_per_subpixel
            if self.config.sample_images:
                path = self.out / "samples" / f"epoch-{epoch + 1:03d}.png"
                report.write_samples(path, self.model, self.config.sample_images, self.config.seed)
        self.state.metrics.append(line)
        self.state.epoch_nats = 0.0
        report.write_metrics(self.out / "metrics.jsonl", self.state.metrics)
        timing = {"epoch": epoch + 1, "images": seen, "seconds": round(seconds, 3)}
        report.append_timing(self.out / "timing.jsonl", timing)
        report.draw_curves(self.out / "curves.png", self.state.metrics)
        self._say(
            f"epoch {epoch + 1}/{self.config.epochs}: training loss {line['train_loss']:.4f}, validation loss "
            + f"{line['validation_loss']:.4f}"
            + (f", averaged weights {line['validation_loss_ema']:.4f}" if "validation_loss_ema" in line else "")
            + f" ({evaluation.nats_per_image:.2f} nats/image), {seen / max(seconds, 1e-9):.0f} images/s"
        )

    # Beginning and end -----------------------------------------------------------------------------------------

    def _open(self, resume: str | Path) -> None:
        """Fills the run's folder or checks what is there, and restores the checkpoint to go on from."""
        (self.out / "samples").mkdir(exist_ok=True)
        (self.out / "checkpoints").mkdir(exist_ok=True)
        record = self.out / "config.json"
        if record.exists():
            if str(resume) == "off":
                raise ValueError(
                    f"{self.out} already holds a run; --resume auto goes on with it, or choose another folder"
                )
            self._check_same_run(record)
        write_file(record, json.dumps({"data": self.data, "train": to_dict(self.config)}, indent=2) + "\n")
        if str(resume) == "off":
            return
        checkpoint = load_newest(self.out / "checkpoints") if str(resume) == "auto" else load_checkpoint(Path(resume))
        if checkpoint is not None:
            self.state, tensors = checkpoint
            self.stepper.restore(tensors, self.state.step)
            if self.state.metrics:
                report.write_metrics(self.out / "metrics.jsonl", self.state.metrics)
            self._say(f"going on from step {self.state.step}, epoch {len(self.state.metrics) + 1}")

    def _check_same_run(self, record: Path) -> None:
        found = read_json(record)
        if not isinstance(found, dict) or set(found) != {"data", "train"}:
            raise ValueError(f"{record} is not the record of a training run")
        earlier = from_dict(TrainConfig, found["train"], str(record))
        pairs = [("data", found["data"], self.data)]
        may_differ = _MAY_DIFFER - ({"epochs"} if self.config.schedule == "cosine" else set())
        pairs += [
            (f.name, getattr(earlier, f.name), getattr(self.config, f.name))
            for f in dataclasses.fields(TrainConfig)
            if f.name not in may_differ
        ]
        for name, old, new in pairs:
            if old != new:
                raise ValueError(f"{self.out} holds a run with {name} = {old!r}, not {new!r}; choose another folder")

    def _finish(self) -> AutoregressiveModel:
        if self.stepper.averaged is not None:
            self.model.load_state_dict(self.stepper.averaged)
        self.model.eval()
        card = describe(self.model, training=self._describe_training(), results=self._describe_results())
        self.model.save_pretrained(self.out / "model", card)
        return self.model

    def _describe_training(self) -> str:
        c = self.config
        averaged = f", weights averaged with decay {c.ema}" if c.ema is not None else ""
        warmup = f", {c.warmup_steps} steps of warm-up" if c.warmup_steps else ""
        epochs = len(self.state.metrics)
        return (
            f"Data: {self.data}, {len(self.training):,} images ({c.protocol} protocol), {c.model.levels} levels. "
            f"{epochs} epoch{'s' * (epochs != 1)} of {self.steps_per_epoch} steps, batch {c.batch_size}, Adam, "
            f"learning rate {c.learning_rate:g} ({c.schedule}{warmup}){averaged}, seed {c.seed}. "
            f"PyTorch {torch.__version__}, {self.device.type}."
        )

    def _describe_results(self) -> str:
        last = self.state.metrics[-1]
        loss = last.get("validation_loss_ema", last["validation_loss"])
        return (
            f"Validation loss {loss:.4f} nats/sub-pixel ({loss * self.model.subpixels:.2f} nats an image) on the "
            f"{len(self.validation):,} validation images of the {self.config.protocol} protocol."
        )

    # Helpers ---------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        save_checkpoint(self.out / "checkpoints", self.state, self.stepper.tensors())
        self._last_checkpoint = time.monotonic()
        if self._stopping:
            raise Interrupted(f"stopped at step {self.state.step}; the same command with --resume auto goes on")

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The model holds the averaged weights inside the block."""
        if self.stepper.averaged is None:
            yield
            return
        trained = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.model.load_state_dict(self.stepper.averaged)
        try:
            yield
        finally:
            self.model.load_state_dict(trained)

    @contextlib.contextmanager
    def _deferring_interrupts(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after its next checkpoint, the second at once."""

        def handle(_signum: int, _frame: FrameType | None) -> None:
            if self._stopping:
                raise KeyboardInterrupt
            self._stopping = True
            self._say("stopping after this step (Ctrl-C again: at once)")

        try:
            previous = signal.signal(signal.SIGINT, handle)
        except ValueError:  # not the main thread: the caller's own affair
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def _bar(self, description: str, total: int, initial: int) -> tqdm[Any]:
        interval = 0.2 if sys.stderr.isatty() else 20.0
        return tqdm(
            total=total, initial=initial, desc=description, unit="img", mininterval=interval, disable=not self.progress
        )

    def _tell_duration(self, seconds_a_step: float, bar: tqdm[Any]) -> None:
        steps = self.total_steps - self.state.step
        seconds = int(steps * seconds_a_step)
        if self.progress and seconds > 60:
            days, rest = divmod(seconds, 86400)
            text = (f"{days} d " if days else "") + f"{rest // 3600} h {rest % 3600 // 60} min"
            bar.write(f"{steps} steps to go at {seconds_a_step:.2f} s each: about {text}", file=sys.stderr)

    def _say(self, message: str) -> None:
        if self.progress:
            tqdm.write(message, file=sys.stderr)
