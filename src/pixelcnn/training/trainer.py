"""The training loop, which can be stopped anywhere and goes on to the same bits.

A run is a function of its configuration and its data: the order of the images is a function of (seed, epoch), the
pictures have the run's seed, and a checkpoint holds all that the next step depends on. A killed run repeats at most
what came after its last checkpoint. On a CPU the result is the same to the bit for the same number of threads.

Where `torchrun` started several processes they train together: each computes its part of every batch and of the
validation, all hold the same weights and numbers, and the first one alone touches the folder. A signal to one of them
is told to all with the next step's loss, so that all stop after the same step. The result is that of one process up to
rounding, and a run may go on with another number of them.

A loss or gradient that is not finite, or a loss that has gone astray for good (`pixelcnn.training.watch`), ends the run
with an error; the last checkpoint from before is kept.

The run's folder:

    config.json           what was asked for, of which data
    metrics.jsonl         a line an epoch: losses, gradients    timing.jsonl   a line an epoch: speed and memory
    curves.png            the same drawn                        samples/       a grid of samples an epoch
    checkpoints/          the newest two and the best           model/         the finished model, for `pixelcnn.load`
    tensorboard/          for TensorBoard, if asked for
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from pixelcnn.arguments import ArrayLike, levels_of, tensor
from pixelcnn.arithmetic.precision import default_factories
from pixelcnn.config import TrainConfig, from_dict, to_dict
from pixelcnn.devices import device_of, peak_memory
from pixelcnn.evaluation import Evaluation, evaluate
from pixelcnn.files import only_user_of, read_json, recover, writable_folder, write_file
from pixelcnn.models import AutoregressiveModel, OrderEnsemble, model_of
from pixelcnn.orders import ORDERS
from pixelcnn.processes import Processes, joined
from pixelcnn.progress import progress_bar, say
from pixelcnn.sampling.autoregressive import check_weights
from pixelcnn.training import report
from pixelcnn.training.batches import Batches
from pixelcnn.training.board import Board
from pixelcnn.training.checkpoint import (
    Checkpoint,
    RunState,
    checkpoints,
    last_sound,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)
from pixelcnn.training.plan import Plan
from pixelcnn.training.record import RunRecord
from pixelcnn.training.schedule import learning_rate
from pixelcnn.training.signals import StopSignals
from pixelcnn.training.step import StepResult
from pixelcnn.training.steppers import precision_of, stepper_for, steps_of

__all__ = ["train"]

_UNTIMED, _TIMED = 2, 5  # steps: the first ones pay for set-up
_CURVES_SECONDS = 10  # between two drawings of the curves, which take one
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_WARM = 500  # steps of warm-up that are worth a try against a diverging loss


def train(
    config: TrainConfig,
    training: ArrayLike,
    validation: ArrayLike,
    out: str | Path,
    *,
    training_labels: ArrayLike | None = None,
    validation_labels: ArrayLike | None = None,
    data: str = "images",
    summary: str = "",
    resume: str | Path = "auto",
    progress: bool = True,
) -> AutoregressiveModel:
    """Trains a model and writes the run's folder.

    Called by every process that `torchrun` started, with the same arguments, it trains one model by all of them.

    Args:
        config: What to do.
        training: uint8 levels (N, C, H, W) as config.model says; grey values, 0..255, if config.binarise.
        validation: Images of the same kind that are not trained on.
        out: The run's folder; made if it is missing.
        training_labels: For a conditional model, as for `AutoregressiveModel.log_prob`; None for another, and where
            the condition is the order, with config.orders.
        validation_labels: Those of the validation images; their loss is the one given their labels.
        data: What the images are, for the records.
        summary: What was found in them, a line to be shown before the first step.
        resume: "auto" goes on from the folder's newest intact checkpoint, or starts; "off" starts, in a folder that
            holds no run; a path starts from that checkpoint, perhaps with another learning rate, clip_norm, weight
            decay or dropout.
        progress: Show bars and messages on standard error.

    Returns:
        The finished model, an `OrderEnsemble` if config.orders is more than 1, with the averaged weights if
        `config.ema` is set, after the last or the best epoch as `config.finish` says; the same is in `out`/model.

    Raises:
        ValueError: If the images or labels do not fit the model or differ between processes, the folder holds a run of
            another configuration or of other data, another process is using it, the loss is no longer finite or has
            diverged, or TensorBoard is asked for and not installed.
        OSError: If the folder cannot be written; the checkpoints before are intact.
        pixelcnn.training.Interrupted: After Ctrl-C or SIGTERM, when a checkpoint has been written.
        pixelcnn.processes.ProcessLostError: If another process of the job is gone.
        SystemExit: On all processes of a job but the one that raises what ended it.
    """
    labelled = (training, training_labels), (validation, validation_labels)
    with joined() as processes, torch.inference_mode(False), torch.enable_grad():
        return _Run(config, *labelled, Path(out), data, summary, progress, processes).run(resume)


_Labelled: TypeAlias = "tuple[ArrayLike, ArrayLike | None]"


class _Run:
    def __init__(
        self,
        config: TrainConfig,
        training: _Labelled,
        validation: _Labelled,
        out: Path,
        data: str,
        summary: str,
        progress: bool,
        processes: Processes,
    ) -> None:
        self.config = config
        self.out = out
        self.summary = summary
        self.processes = processes
        self.progress = progress and processes.first
        self.device = device_of(config.device)
        with default_factories():
            self.model = model_of(config.model, generator=torch.Generator().manual_seed(config.seed))
        self.product = self._product()
        training, validation = self._checked("training", *training), self._checked("validation", *validation)
        self.record = RunRecord.of(
            config, training, validation, data, precision_of(config, self.device), processes.count
        )
        self._check_alike()
        self.validation, self.validation_labels = validation
        self.model.to(self.device)
        self.batches = Batches(config, self.model, *training, rank=processes.rank, processes=processes.count)
        self.stepper = stepper_for(self.model, config, self.batches, processes)
        self.state = RunState(record=to_dict(self.record))
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.plan: Plan | None = None
        self.signals = StopSignals(self._say)
        self._agreed: int | None = None  # the signal to stop by that all processes have heard of
        self.board: Board | None = None
        self._told = False  # how long it will take
        self._source = out / "checkpoints"  # of the checkpoint that the run began with
        if config.tensorboard:
            Board.check()

    def _checked(self, name: str, images: ArrayLike, labels: ArrayLike | None) -> tuple[Tensor, Tensor | None]:
        """Images and their labels as they are used, if they fit the model."""
        conditional = any(getattr(self.product.config, size, None) for size in ("num_classes", "condition_dim"))
        images = tensor(f"{name} images", images)
        if len(images) == 0:
            raise ValueError(f"{name} must hold at least one image, got 0")
        if conditional and labels is None:
            raise ValueError(f"{name}_labels must be given: the model is conditional")
        try:
            if self.config.binarise and name == "training":
                images = levels_of("images", images, 256)
                self.model.checked_images(images.clamp(max=1))
            else:
                images = self.model.checked_images(images)
            return images, None if labels is None else self.product.checked_labels(labels, len(images))
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None

    def _product(self) -> AutoregressiveModel:
        """What the run makes, with the weights that are trained: the model, or its mixture over scan orders."""
        orders = ORDERS[: self.config.orders]
        if len(orders) == 1:
            return self.model
        if getattr(self.config.model, "num_classes", None) != len(orders):
            raise ValueError(
                f"orders must be 1, or the model's num_classes, by which it is told the order, got {len(orders)} and "
                f"{getattr(self.config.model, 'num_classes', None)}"
            )
        return OrderEnsemble([self.model] * len(orders), orders, told=True)

    def run(self, resume: str | Path) -> AutoregressiveModel:
        with contextlib.ExitStack() as stack:
            if self.processes.first:
                given = None if str(resume) in ("auto", "off") else self._load_given(Path(resume))
                writable_folder(self.out)
                stack.enter_context(only_user_of(self.out))
                self._open(str(resume), given)
                if self.config.tensorboard:
                    self.board = Board(self.out / "tensorboard", self.state.step)
                    stack.callback(self.board.close)
            self._share_state()
            return self._run()

    @property
    def total_steps(self) -> int:
        """Steps of the run, of one that is given some minutes by the last plan."""
        if self.plan is not None:
            return self.plan.total_steps
        return self.config.steps or self.config.epochs * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Epochs of the run, the last of which may not be whole."""
        return -(-self.total_steps // self.steps_per_epoch)

    def _run(self) -> AutoregressiveModel:
        if self.config.minutes is not None:
            self.plan = Plan(self.state, self.config.minutes)
        self._last_checkpoint = time.monotonic()
        self._last_curves = -math.inf
        if self.summary:
            self._say(self.summary)
        finished = len(self.state.metrics)
        if finished >= self.epochs:
            self._say(f"the run in {self.out} has finished its {finished} epochs")
        with self.signals:
            while (epoch := len(self.state.metrics)) < self.epochs:
                seconds, seen = self._train_epoch(epoch)
                self._save()  # validation and pictures can be repeated
                self._agree()
                self._stop_if_asked()
                with self.signals.at_once(self._stopped()):
                    self._finish_epoch(epoch, seconds, seen)
                self._save()
                self._agree()
                self._stop_if_asked()
        return self._finish()

    # One epoch -------------------------------------------------------------------------------------------------

    def _train_epoch(self, epoch: int) -> tuple[float, int]:
        """The rest of an epoch; returns the seconds and images of this process's part of it."""
        done = self.state.step - epoch * self.steps_per_epoch
        stop = self._end_of(epoch)
        seen = first = done * self.config.batch_size
        timed: tuple[int, float] | None = None  # since which step, and when
        started = time.monotonic()
        with self._bar(epoch, first, self._images_in(stop)) as bar:
            for k, result in enumerate(self._steps(epoch, done)):
                result = result._replace(nats=self._agree(result.nats))
                rate = self._rate(self.state.step)
                images = self._images_in(done + k + 1) - seen
                self._note(result, images, rate)
                seen += images
                nats = self.state.epoch_nats / seen
                bar.set_postfix_str(
                    f"loss {nats / self.model.subpixels:.4f}, {nats:.2f} nats/image, rate {rate:.1e}, "
                    f"gradient {result.gradient_norm:.1e}",
                    refresh=False,
                )
                bar.update(images)
                if self.stepper.steps != self.state.step:
                    continue  # the weights are those of a later step, of which is still to be told
                if timed is None and k >= _UNTIMED:
                    timed = k, time.monotonic()
                elif timed is not None and self.plan is None and not self._told and k >= timed[0] + _TIMED:
                    self._tell_duration((time.monotonic() - timed[1]) / (k - timed[0]))
                due = time.monotonic() - self._last_checkpoint >= self.config.checkpoint_seconds
                if due or self._asked is not None:
                    self._save()
                    self._stop_if_asked()
        return time.monotonic() - started, seen - first

    def _end_of(self, epoch: int) -> int:
        """Steps of an epoch, of the last one as many as are left."""
        return min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)

    def _steps(self, epoch: int, done: int) -> Iterator[StepResult]:
        """The steps of an epoch from `done` on, planned as they are taken if the run is given some minutes."""
        while done < (stop := self._end_of(epoch)):
            if self.plan is not None:
                stop = min(stop, done + self.plan.next_steps())
            started = time.monotonic()
            yield from steps_of(self.stepper, self.batches, epoch, done, stop, self._rate)
            if self.plan is not None:
                self.plan.took(stop - done, self._seconds_since(started))
            done = stop

    def _seconds_since(self, started: float) -> float:
        """By the first process's clock."""
        return float(self.processes.from_first(lambda: time.monotonic() - started))

    def _rate(self, step: int) -> float:
        return learning_rate(self.config, step, self.total_steps)

    def _images_in(self, steps: int) -> int:
        """Images of an epoch's first steps."""
        return min(steps * self.config.batch_size, len(self.batches))

    def _note(self, result: StepResult, images: int, rate: float) -> None:
        """Takes a step's result into the state, or ends the run if it is lost."""
        if not (math.isfinite(result.nats) and math.isfinite(result.gradient_norm)):
            what = "loss" if not math.isfinite(result.nats) else "gradient"
            self._give_up(f"the {what} is no longer finite at step {self.state.step}")
        state, loss = self.state, result.nats / images / self.model.subpixels
        state.step += 1
        state.epoch_nats += result.nats
        state.epoch_gradient_norm += result.gradient_norm
        state.epoch_gradient_norm_max = max(state.epoch_gradient_norm_max, result.gradient_norm)
        state.watch.see(loss, self.model.levels)
        if state.watch.diverged:
            self._give_up(
                f"the loss has diverged by step {state.step}: {state.watch.average:.4f} nats a sub-pixel on average, "
                f"after {state.watch.lowest:.4f}"
            )
        if self.board is not None:
            values = {"training_loss": loss, "learning_rate": rate, "gradient_norm": result.gradient_norm}
            self.board.step(state.step, values)

    def _give_up(self, reason: str) -> NoReturn:
        config, sound = self.config, last_sound(self.out / "checkpoints", self.state)
        advice = f"a learning rate under {config.learning_rate:g}"
        if config.clip_norm is None:
            advice += ", or clip_norm = 1"
        elif config.warmup_steps < _WARM:
            advice += f", or {_WARM} steps of warm-up"
        where = f", in another folder; --resume {sound} goes on there from the last good checkpoint" if sound else ""
        raise ValueError(f"{reason}; try {advice}{where}")

    def _finish_epoch(self, epoch: int, seconds: float, seen: int) -> None:
        steps = self.state.step - epoch * self.steps_per_epoch
        line: dict[str, object] = {
            "epoch": epoch + 1,
            "step": self.state.step,
            "learning_rate": self._rate(self.state.step - 1),
            "train_loss": self.state.epoch_nats / self._images_in(steps) / self.model.subpixels,
            "gradient_norm": self.state.epoch_gradient_norm / steps,
            "gradient_norm_max": self.state.epoch_gradient_norm_max,
        }
        evaluation = self._evaluate()
        line |= {
            "validation_loss": evaluation.nats_per_subpixel,
            "validation_nats_per_image": evaluation.nats_per_image,
            "validation_bits_per_dim": evaluation.bits_per_dim,
        }
        with self._averaged_weights():
            if self.stepper.averaged is not None:
                line["validation_loss_ema"] = self._evaluate().nats_per_subpixel
            picture = self.out / "samples" / f"epoch-{epoch + 1:03d}.png"
            if self.config.sample_images and self.processes.first:
                report.write_samples(picture, self.product, self.config.sample_images, self.config.seed)
        self.state.metrics.append(line)
        self.state.epoch_nats = self.state.epoch_gradient_norm = self.state.epoch_gradient_norm_max = 0.0
        if self.processes.first:
            self._report(epoch, seconds, seen, picture)

    def _report(self, epoch: int, seconds: float, seen: int, picture: Path) -> None:
        """Writes and says what an epoch came to."""
        line = self.state.metrics[-1]
        report.write_metrics(self.out / "metrics.jsonl", self.state.metrics)
        speed = seen / max(seconds, 1e-9)
        timing = {"epoch": epoch + 1, "images": seen, "seconds": round(seconds, 3)}
        timing |= {"images_per_second": round(speed, 1), "peak_memory_bytes": peak_memory(self.device)}
        report.write_timing(self.out / "timing.jsonl", timing)
        if epoch + 1 == self.epochs or time.monotonic() - self._last_curves >= _CURVES_SECONDS:
            report.draw_curves(self.out / "curves.png", self.state.metrics)
            self._last_curves = time.monotonic()
        if self.board is not None:
            self.board.epoch(line, picture)
        self._say(
            f"epoch {epoch + 1}/{self.epochs}: training loss {line['train_loss']:.4f}, validation loss "
            + f"{line['validation_loss']:.4f}"
            + (f", averaged weights {line['validation_loss_ema']:.4f}" if "validation_loss_ema" in line else "")
            + f" ({line['validation_nats_per_image']:.2f} nats/image), {speed:.0f} images/s, "
            + f"{timing['peak_memory_bytes'] / 2**30:.1f} GiB"
        )

    def _evaluate(self) -> Evaluation:
        return evaluate(
            self.product, self.validation, self.validation_labels, progress=self.progress, processes=self.processes
        )

    # Several processes -----------------------------------------------------------------------------------------

    def _check_alike(self) -> None:
        """Whether all processes were given the same run: one may read another copy of the images."""
        mine = [self.record.data, self.record.training, self.record.validation, to_dict(self.config)]
        if any(self.processes.sum([mine != self.processes.from_first(lambda: mine)])):
            raise ValueError("the processes were given different images or options; give all the same")

    def _share_state(self) -> None:
        """Gives all processes the first one's numbers and tensors."""
        if self.processes.count > 1:
            values = self.processes.from_first(lambda: dataclasses.asdict(self.state))
            self.state = from_dict(RunState, values, "what the first process sent")
            self._share_tensors(self.state.step)

    def _share_tensors(self, steps: int) -> None:
        """Gives all processes the first one's tensors, those after so many steps."""
        if self.processes.count > 1:
            tensors = self.stepper.tensors()
            self.processes.broadcast(tensors.values())
            self.stepper.restore(tensors, steps)

    def _agree(self, nats: float = 0.0) -> float:
        """The sum of a number over all processes; on the way each hears whether another was asked to stop."""
        if self.processes.count == 1:
            return nats
        asked = [float(self.signals.received == signum) for signum in _STOPPING]
        total, *counts = self.processes.sum([nats, *asked])
        self._agreed = next((signum for signum, count in zip(_STOPPING, counts, strict=True) if count), None)
        return total

    @property
    def _asked(self) -> int | None:
        """The signal by which the run was asked to stop, if all processes have heard of it."""
        return self.signals.received if self.processes.count == 1 else self._agreed

    def _stop_if_asked(self) -> None:
        """Ends the run on all processes, when the first one has saved."""
        if self._asked is not None:
            self.processes.sum([0.0])
            self.signals.received = self._asked
            self.signals.check(self._stopped())

    # Beginning and end -----------------------------------------------------------------------------------------

    def _load_given(self, path: Path) -> Checkpoint:
        """The checkpoint that was asked for by its path."""
        checkpoint = load_checkpoint(path)
        self.record = self.record.branch_of(RunRecord.from_json(checkpoint[0].record, str(path)), str(path))
        self._check_epochs(checkpoint[0], str(path))
        self._source = path.parent
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
        folder = self.out / "checkpoints"
        checkpoint = load_newest(folder) if resume == "auto" else given
        if checkpoint is not None:
            self.state, tensors = checkpoint
            if given is None:
                earlier = RunRecord.from_json(self.state.record, str(folder))
                self.record.check_continues(earlier, str(folder))
                self.record = dataclasses.replace(self.record, origin=earlier.origin)
            self._check_epochs(self.state, str(folder))
            self.state.record = to_dict(self.record)
            self.stepper.restore(tensors, self.state.step)
            self._say(f"going on from step {self.state.step}, epoch {len(self.state.metrics) + 1}")
        (self.out / "samples").mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        if given is not None and self._source.resolve() != folder.resolve():
            self._bring(given[1])
        write_file(path, self.record.to_json())
        if self.state.metrics:
            report.write_metrics(self.out / "metrics.jsonl", self.state.metrics)

    def _bring(self, tensors: dict[str, Tensor]) -> None:
        """Makes the given checkpoint of another run, and that run's best one, checkpoints of this run."""
        folder, best = self.out / "checkpoints", self.state.best_name
        if best is not None and best != self.state.name and (self._source / best).is_dir():
            try:
                state, best_tensors = load_checkpoint(self._source / best)
                state.record = self.state.record
                save_checkpoint(folder, state, best_tensors)
            except ValueError as error:
                warnings.warn(f"the best checkpoint so far is left behind: {error}", stacklevel=2)
        save_checkpoint(folder, self.state, tensors)

    def _check_epochs(self, state: RunState, where: str) -> None:
        finished = len(state.metrics)
        if self.config.minutes is None and finished >= self.epochs and state.step > finished * self.steps_per_epoch:
            raise ValueError(
                f"epochs must be at least {finished + 1}, got {self.config.epochs}: {where} is in the middle of "
                f"epoch {finished + 1}"
            )

    def _finish(self) -> AutoregressiveModel:
        line = self.state.metrics[-1]
        if self.config.finish == "best" and self.state.best is not None and self.state.best_name is not None:
            line = self.state.best
            if self.processes.first:
                try:
                    _, tensors = load_checkpoint(self.out / "checkpoints" / self.state.best_name)
                except ValueError as error:
                    raise ValueError(f"{error}; --finish last makes a model of the last epoch's weights") from None
                self.stepper.restore(tensors, line["step"])
            self._share_tensors(line["step"])
        if self.stepper.averaged is not None:
            self.model.load_state_dict(self.stepper.averaged)
        self.product.eval()
        if self.processes.first:
            card = report.card(self.product, self.record, self.state.metrics, line, self.device.type)
            self.product.save_pretrained(self.out / "model", card)
        return self.product

    # Helpers ---------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Writes a checkpoint, by the first process, or ends the run if its weights are lost."""
        try:
            check_weights(self.model.named_parameters())
        except ValueError as error:
            self._give_up(f"{error} after step {self.state.step}")
        self._last_checkpoint = time.monotonic()
        if not self.processes.first:
            return
        try:
            save_checkpoint(
                self.out / "checkpoints", self.state, self.stepper.tensors(), keep_last=self.config.keep_last
            )
        except OSError as error:
            told = f"{error.strerror}, so no checkpoint at step {self.state.step}; earlier ones are intact"
            raise OSError(error.errno, told, error.filename) from error
        self._last_checkpoint = time.monotonic()

    def _stopped(self) -> str:
        return f"stopped at step {self.state.step}; the same command with --resume auto goes on"

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

    def _bar(self, epoch: int, initial: int, images: int) -> tqdm[Any]:
        planned = self.plan is None or self.state.planned_steps > 0
        description = f"epoch {epoch + 1}/{self.epochs}" if planned else f"epoch {epoch + 1}"
        return progress_bar(description, images, "img", show=self.progress, initial=initial)

    def _tell_duration(self, seconds_a_step: float) -> None:
        self._told = True
        steps = self.total_steps - self.state.step
        seconds = int(steps * seconds_a_step)
        if self.progress and seconds > 60:
            days, rest = divmod(seconds, 86400)
            text = (f"{days} d " if days else "") + f"{rest // 3600} h {rest % 3600 // 60} min"
            say(f"{steps} steps to go at {seconds_a_step:.2f} s each: about {text}")

    def _say(self, message: str) -> None:
        if self.progress:
            say(message)
