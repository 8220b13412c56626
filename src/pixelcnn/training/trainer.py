"""The training loop, which can be stopped anywhere and goes on to the same bits.

A run is a function of its configuration and its data: the order of the images is a function of (seed, epoch), the
pictures have the run's seed, and a checkpoint holds all that the next step depends on. A killed run repeats at most
what came after its last checkpoint. On a CPU the result is the same to the bit for the same number of threads.

The run's folder:

    config.json           what was asked for, of which data
    metrics.jsonl         a line an epoch: the losses           timing.jsonl   a line an epoch: what the clock said
    curves.png            the losses drawn                      samples/       a grid of samples an epoch
    checkpoints/          the newest two                        model/         the finished model, for `pixelcnn.load`
"""

from __future__ import annotations

import contextlib
import math
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

from pixelcnn.config import TrainConfig, to_dict
from pixelcnn.devices import device_of
from pixelcnn.evaluation import evaluate
from pixelcnn.files import only_user_of, read_json, recover, writable_folder, write_file
from pixelcnn.models import AutoregressiveModel, PixelCNN
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import permutation
from pixelcnn.training import report
from pixelcnn.training.checkpoint import (
    Checkpoint,
    RunState,
    checkpoints,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)
from pixelcnn.training.record import RunRecord
from pixelcnn.training.schedule import learning_rate
from pixelcnn.training.step import Stepper

__all__ = ["Interrupted", "train"]

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
        ValueError: If the images do not fit the model, the folder holds a run of another configuration or of other
            data, another process is using it, or the loss is no longer finite.
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
        self.record = RunRecord.of(config, training, validation, data)
        self.training = training
        self.validation = validation
        self.model.to(self.device)
        self.stepper = Stepper(self.model, config.ema)
        self.state = RunState(record=to_dict(self.record))
        self.steps_per_epoch = -(-len(training) // config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self._stopping = False

    def run(self, resume: str | Path) -> AutoregressiveModel:
        given = None if str(resume) in ("auto", "off") else self._load_given(Path(resume))
        writable_folder(self.out)
        with only_user_of(self.out):
            self._open(str(resume), given)
            return self._run()

    def _run(self) -> AutoregressiveModel:
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
        with self._bar(epoch, first) as bar:
            for k, batch in enumerate(batches[done:]):
                images = self.training[batch].to(self.device)
                rate = learning_rate(self.config, self.state.step, self.total_steps)
                self.state.epoch_nats += self.stepper.step(images, rate)
                if not math.isfinite(self.state.epoch_nats):
                    raise ValueError(
                        f"the loss is no longer finite at step {self.state.step}; try a learning rate under "
                        f"{self.config.learning_rate:g}. The last checkpoint is from before"
                    )
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
        report.write_timing(self.out / "timing.jsonl", timing)
        report.draw_curves(self.out / "curves.png", self.state.metrics)
        self._say(
            f"epoch {epoch + 1}/{self.config.epochs}: training loss {line['train_loss']:.4f}, validation loss "
            + f"{line['validation_loss']:.4f}"
            + (f", averaged weights {line['validation_loss_ema']:.4f}" if "validation_loss_ema" in line else "")
            + f" ({evaluation.nats_per_image:.2f} nats/image), {seen / max(seconds, 1e-9):.0f} images/s"
        )

    # Beginning and end -----------------------------------------------------------------------------------------

    def _load_given(self, path: Path) -> Checkpoint:
        """The checkpoint that was asked for by its path."""
        checkpoint = load_checkpoint(path)
        self._check_checkpoint(checkpoint, str(path))
        if any(later.name > checkpoint[0].name for later in checkpoints(self.out / "checkpoints")):
            raise ValueError(f"{self.out} holds later checkpoints than {path}; choose another folder to go on from it")
        return checkpoint

    def _open(self, resume: str, given: Checkpoint | None) -> None:
        """Checks the run in the folder, if there is one, before anything is written; then goes on from a checkpoint."""
        path = self.out / "config.json"
        if path.exists():
            if resume == "off":
                raise ValueError(
                    f"{self.out} already holds a run; --resume auto goes on with it, or choose another folder"
                )
            self.record.check_continues(RunRecord.from_json(read_json(path), str(path)), str(self.out))
            for folder in (self.out, self.out / "samples", self.out / "checkpoints"):
                if folder.is_dir():
                    recover(folder)
        checkpoint = load_newest(self.out / "checkpoints") if resume == "auto" else given
        if checkpoint is not None:
            self._check_checkpoint(checkpoint, f"{self.out}/checkpoints")
            self.state, tensors = checkpoint
            self.state.record = to_dict(self.record)
            self.stepper.restore(tensors, self.state.step)
            self._say(f"going on from step {self.state.step}, epoch {len(self.state.metrics) + 1}")
        (self.out / "samples").mkdir(exist_ok=True)
        (self.out / "checkpoints").mkdir(exist_ok=True)
        write_file(path, self.record.to_json())
        if self.state.metrics:
            report.write_metrics(self.out / "metrics.jsonl", self.state.metrics)

    def _check_checkpoint(self, checkpoint: Checkpoint, where: str) -> None:
        state, _ = checkpoint
        self.record.check_continues(RunRecord.from_json(state.record, where), where)
        finished = len(state.metrics)
        if finished >= self.config.epochs and state.step > finished * self.steps_per_epoch:
            raise ValueError(
                f"epochs must be at least {finished + 1}, got {self.config.epochs}: {where} is in the middle of "
                f"epoch {finished + 1}"
            )

    def _finish(self) -> AutoregressiveModel:
        if self.stepper.averaged is not None:
            self.model.load_state_dict(self.stepper.averaged)
        self.model.eval()
        card = report.card(self.model, self.record, self.state.metrics, self.device.type)
        self.model.save_pretrained(self.out / "model", card)
        return self.model

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

    def _bar(self, epoch: int, initial: int) -> tqdm[Any]:
        description = f"epoch {epoch + 1}/{self.config.epochs}"
        return progress_bar(description, len(self.training), "img", show=self.progress, initial=initial)

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
