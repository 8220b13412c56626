"""A training run, whose loop can be stopped anywhere and resumes to the same bits.

A run is a function of its configuration and its data: the order of the images is a function of (seed, epoch), the
samples are drawn with the run's seed, and a checkpoint holds everything that the next step depends on. A killed run
repeats at most what came after its last checkpoint. On a CPU the result is the same bit for bit for the same number of
threads.

Where `torchrun` started several processes they train together: each computes its part of every batch and of the
validation, all hold the same weights and numbers, and only the first touches the folder (`pixelcnn.training.folder`).
The result is that of one process up to rounding, and a run may be resumed with another number of processes.

A loss or gradient that is not finite, or a loss that has diverged for good (`pixelcnn.training.watch`), ends the run
with an error; the last checkpoint from before is kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, cast

import torch
from torch import Tensor
from tqdm import tqdm

from pixelcnn.arguments import ArrayLike
from pixelcnn.arithmetic.precision import default_factories
from pixelcnn.config import TrainConfig, conditions_of, from_dict, map_of, to_dict
from pixelcnn.datasets import Patches
from pixelcnn.devices import device_of
from pixelcnn.evaluation import Evaluation, evaluate
from pixelcnn.likelihoods import Categorical
from pixelcnn.models import AutoregressiveModel, OrderEnsemble, model_of
from pixelcnn.models.base import checksum
from pixelcnn.models.folder import checked_class_names
from pixelcnn.orders import ORDERS
from pixelcnn.processes import Processes
from pixelcnn.progress import progress_bar, say
from pixelcnn.sampling.autoregressive import check_weights
from pixelcnn.training.batches import Batches, checked_data
from pixelcnn.training.checkpoint import RunState, last_sound, load_checkpoint, save_checkpoint
from pixelcnn.training.folder import RunFolder
from pixelcnn.training.history import History
from pixelcnn.training.record import RunRecord
from pixelcnn.training.report import Reports, card, tensorboard_writer, write_samples
from pixelcnn.training.schedule import Plan, learning_rate
from pixelcnn.training.signals import StopSignals
from pixelcnn.training.step import StepResult
from pixelcnn.training.steppers import precision_of, stepper_for, steps_of

__all__ = ["OnEpoch", "OnStep", "Run"]

_UNTIMED, _TIMED = 2, 5  # steps: the first ones pay for set-up
_COUNTED = 2**24  # sub-pixels whose levels are counted, at most
_WARMUP = 500  # steps of warm-up that are worth a try against a diverging loss

OnStep: TypeAlias = "Callable[[int, dict[str, float]], object]"
OnEpoch: TypeAlias = "Callable[[dict[str, Any], AutoregressiveModel], object]"
Labelled: TypeAlias = "tuple[ArrayLike | Patches, ArrayLike | None, ArrayLike | None]"


class Run:
    """What `pixelcnn.train` makes of its arguments, in each process; `run` does the work."""

    def __init__(
        self,
        config: TrainConfig,
        training: Labelled,
        validation: Labelled,
        out: Path,
        data: str,
        progress: bool,
        processes: Processes,
        init: AutoregressiveModel | None,
        class_names: Sequence[str] | None,
    ) -> None:
        self.config = config
        self.on_step: OnStep | None = None
        self.on_epoch: OnEpoch | None = None
        self.processes = processes
        self.progress = progress and processes.first
        self.device = device_of(config.device)
        with default_factories():
            self.model = model_of(config.model, generator=torch.Generator().manual_seed(config.seed))
        weights = "" if init is None else self._take_weights(init)
        self.product = self._product()
        if class_names is not None:
            self.product.class_names = checked_class_names(list(class_names), self.product.num_classes)
        models = self.model, self.product
        training_data = checked_data("training", *training, *models, grey=config.binarise)
        validation_data = checked_data("validation", *validation, *models, grey=False)
        if isinstance(validation_data[0], Patches):
            raise ValueError("validation must be images that stay the same, such as the `tiles` of patches")
        self.validation, self.validation_given = validation_data[0], validation_data[1:]
        if any(map_of(config.model)):
            patches = training_data[0]
            made = isinstance(patches, Patches) and patches.shrink > 1  # the maps, from patches as they are turned out
            for name, value, off in (("shift", config.shift, 0), ("flip", config.flip and not made, False)):
                if value != off:
                    raise ValueError(f"{name} must be {off} for a model with a map, which stays as it is, got {value}")
        if config.frequency_bias and init is None:
            _start_at_frequencies(self.model, training_data[0], config.seed)
        record = RunRecord.of(config, training_data, validation_data, data, processes.count, weights)
        record.check_alike(processes)
        self.record = dataclasses.replace(record, precision=precision_of(config, self.device, processes))
        self.model.to(self.device)
        self.batches = Batches(config, self.model, *training_data, processes=processes)
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.stepper = stepper_for(self.model, config, self.batches, processes)
        self.state = RunState()
        self.plan: Plan | None = None
        self._unplanned_since: float | None = None
        self.signals = StopSignals(self._say, processes)
        self.folder = RunFolder(out, self.record, self.steps_per_epoch)
        self.reports: Reports | None = None  # of the first process
        self._duration_shown = False
        if config.tensorboard:
            tensorboard_writer()  # before the work

    def _take_weights(self, init: AutoregressiveModel) -> str:
        """Copies the weights of a model of the same architecture; returns its checksum."""
        if isinstance(init, OrderEnsemble) and len(init.networks) == 1:
            init = cast(AutoregressiveModel, init.networks[0])
        if init.config != self.config.model:
            raise ValueError(f"init must have the configuration of the run, {self.config.model}, got {init.config}")
        self.model.load_state_dict(init.state_dict())  # in this model's own types
        return checksum(init)

    def _product(self) -> AutoregressiveModel:
        """The model that the run produces: the one in training, or its mixture over scan orders."""
        orders = ORDERS[: self.config.orders]
        if len(orders) == 1:
            return self.model
        classes, _ = conditions_of(self.config.model)
        if classes != len(orders):
            raise ValueError(
                "orders must be 1, or the model's num_classes, whose classes are then the orders, got "
                f"{len(orders)} and {classes}"
            )
        return OrderEnsemble([self.model] * len(orders), orders, order_conditioned=True)

    def run(self, resume: str, summary: str) -> AutoregressiveModel:
        """Goes from the newest checkpoint, or the first step, to the finished model."""
        with contextlib.ExitStack() as stack:
            if self.processes.first:
                self._open(resume, stack)
            self._share_state()
            if self.config.minutes is not None:
                self.plan = Plan(self.state, self.config.minutes)
            self._last_checkpoint = time.monotonic()
            if summary:
                self._say(summary)
            finished = len(self.state.metrics)
            if finished >= self.epochs:
                self._say(f"the run in {self.folder.path} has finished its {finished} epochs")
            with self.signals.deferred():
                while (epoch := len(self.state.metrics)) < self.epochs:
                    seconds, seen = self._train_epoch(epoch)
                    self._save_and_stop()  # validation and samples can be repeated
                    with self.signals.at_once(self._stopped()):
                        self._finish_epoch(epoch, seconds, seen)
                    self._save_and_stop()
            return self._finish()

    def _open(self, resume: str, stack: contextlib.ExitStack) -> None:
        """Takes the folder, and the state of the checkpoint from which the run is resumed."""
        checkpoint = stack.enter_context(self.folder.opened(resume))
        if checkpoint is not None:
            self.state, tensors = checkpoint
            self.stepper.restore(tensors, self.state.step)
            self._say(f"resuming from step {self.state.step}, epoch {len(self.state.metrics) + 1}")
        self.state.record = to_dict(self.record)
        self.folder.begin(self.state, self.stepper.tensors())
        self.reports = Reports(
            self.folder.path, self._say, self.device, self.state.step, tensorboard=self.config.tensorboard
        )
        stack.callback(self.reports.close)

    def _share_state(self) -> None:
        """Gives all processes the first one's numbers and tensors."""
        if self.processes.count > 1:
            values = self.processes.from_first(lambda: dataclasses.asdict(self.state))
            self.state = from_dict(RunState, values, "what the first process sent")
            self._share_tensors(self.state.step)

    def _share_tensors(self, steps: int) -> None:
        """Gives all processes the first one's tensors, those after some number of steps."""
        if self.processes.count > 1:
            tensors = self.stepper.tensors()
            self.processes.broadcast(tensors.values())
            self.stepper.restore(tensors, steps)

    @property
    def total_steps(self) -> int:
        """Number of steps of the run; of a run of some minutes, by the last plan."""
        if self.plan is not None:
            return self.plan.total_steps
        return self.config.steps or self.config.epochs * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Number of epochs of the run, the last of which may not be whole."""
        return -(-self.total_steps // self.steps_per_epoch)

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
                result = result._replace(nats=self.signals.agree(result.nats))
                rate = self._rate(self.state.step)
                images = self._images_in(done + k + 1) - seen
                self._add_step(result, images, rate)
                seen += images
                nats = self.state.epoch_nats / seen
                bar.set_postfix_str(
                    f"loss {nats / self.model.subpixels:.4f}, {nats:.2f} nats/image, rate {rate:.1e}, "
                    f"gradient {result.gradient_norm:.1e}",
                    refresh=False,
                )
                bar.update(images)
                if self.stepper.steps != self.state.step:
                    continue  # the weights are those of a later step, whose result is still to come
                if timed is None and k >= _UNTIMED:
                    timed = k, time.monotonic()
                elif timed is not None and self.plan is None and not self._duration_shown and k >= timed[0] + _TIMED:
                    self._show_duration((time.monotonic() - timed[1]) / (k - timed[0]))
                due = time.monotonic() - self._last_checkpoint >= self.config.checkpoint_seconds
                if due or self.signals.asked is not None:
                    self._save()
                    self.signals.check(self._stopped())
        return time.monotonic() - started, seen - first

    def _end_of(self, epoch: int) -> int:
        """Number of steps in an epoch; in the last one, as many as are left."""
        return min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)

    def _steps(self, epoch: int, done: int) -> Iterator[StepResult]:
        """The steps of an epoch from `done` on, planned as they are taken in a run of some minutes."""
        while done < (stop := self._end_of(epoch)):
            if self.plan is not None:
                stop = min(stop, done + self.plan.next_steps())
            started = self._unplanned_since = time.monotonic()
            yield from steps_of(self.stepper, self.batches, epoch, done, stop, self._rate)
            self._unplanned_since = None
            if self.plan is not None:
                self.plan.took(stop - done, self.processes.from_first(functools.partial(_seconds_since, started)))
            done = stop

    def _rate(self, step: int) -> float:
        return learning_rate(self.config, step, self.total_steps)

    def _images_in(self, steps: int) -> int:
        """Number of images in an epoch's first steps."""
        return min(steps * self.config.batch_size, len(self.batches))

    def _add_step(self, result: StepResult, images: int, rate: float) -> None:
        """Adds a step's result to the state, or ends the run if it is lost."""
        if not (math.isfinite(result.nats) and math.isfinite(result.gradient_norm)):
            what = "loss" if not math.isfinite(result.nats) else "gradient"
            self._give_up(f"the {what} is no longer finite at step {self.state.step}")
        state, loss = self.state, result.nats / images / self.model.subpixels
        state.add_step(*result, loss, self.model.levels)
        if state.watch.diverged:
            self._give_up(
                f"the loss has diverged by step {state.step}: {state.watch.average:.4f} nats per sub-pixel on average, "
                f"after {state.watch.lowest:.4f}"
            )
        if self.reports is not None:
            values = {"training_loss": loss, "learning_rate": rate, "gradient_norm": result.gradient_norm}
            self.reports.step(state.step, values)
            if self.on_step is not None:
                self.on_step(state.step, values)

    def _give_up(self, reason: str) -> NoReturn:
        config, sound = self.config, last_sound(self.folder.checkpoints, self.state)
        advice = f"a learning rate under {config.learning_rate:g}"
        if config.clip_norm is None:
            advice += ", or clip_norm = 1"
        elif config.warmup_steps < _WARMUP:
            advice += f", or {_WARMUP} steps of warm-up"
        kept = f"; the last good checkpoint is {sound}" if sound else ""
        raise ValueError(f"{reason}; start a new run in another folder with {advice}{kept}")

    def _finish_epoch(self, epoch: int, seconds: float, seen: int) -> None:
        """Validates, draws samples and reports."""
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
        samples = self.folder.samples / f"epoch-{epoch + 1:03d}.png"
        with self.stepper.averaged_weights():
            if self.stepper.averaged is not None:
                line["validation_loss_ema"] = self._evaluate().nats_per_subpixel
            if self.config.sample_images and self.processes.first:
                n, seed = self.config.sample_images, self.config.seed
                write_samples(samples, self.product, n, seed, self.validation_given[1])
        self.state.end_epoch(line)
        if self.reports is not None:
            self.reports.epoch(self.state.metrics, self.epochs, seen, seconds, samples)
            if self.on_epoch is not None:
                self.on_epoch(dict(self.state.metrics[-1]), self.model)

    def _evaluate(self) -> Evaluation:
        return evaluate(
            self.product,
            self.validation,
            self.validation_given[0],
            condition=self.validation_given[1],
            progress=self.progress,
            processes=self.processes,
        )

    # Checkpoints and the finished model ------------------------------------------------------------------------

    def _save(self) -> None:
        """Writes a checkpoint, by the first process, or ends the run if its weights are lost."""
        try:
            check_weights(self.model.named_parameters())
        except ValueError as error:
            self._give_up(f"{error} after step {self.state.step}")
        self._last_checkpoint = time.monotonic()
        if not self.processes.first:
            return
        state = self.state
        if self.plan is not None and self._unplanned_since is not None:  # or a run that is often stopped would not end
            state = dataclasses.replace(state, seconds=state.seconds + _seconds_since(self._unplanned_since))
        try:
            save_checkpoint(self.folder.checkpoints, state, self.stepper.tensors(), keep_last=self.config.keep_last)
        except OSError as error:
            message = f"{error.strerror}, so no checkpoint at step {self.state.step}; earlier ones are intact"
            raise OSError(error.errno, message, error.filename) from error
        self._last_checkpoint = time.monotonic()

    def _save_and_stop(self) -> None:
        """Writes a checkpoint, and ends the run on all processes if one of them was asked to stop."""
        self._save()
        self.signals.agree()
        self.signals.check(self._stopped())

    def _stopped(self) -> str:
        return f"stopped at step {self.state.step}; the same command resumes it"

    def _finish(self) -> AutoregressiveModel:
        line = self.state.metrics[-1]
        if self.config.finish == "best" and self.state.best is not None and self.state.best_name is not None:
            line = self.state.best
            if self.processes.first:
                try:
                    _, tensors = load_checkpoint(self.folder.checkpoints / self.state.best_name)
                except ValueError as error:
                    raise ValueError(f"{error}; --finish last makes a model of the last epoch's weights") from None
                self.stepper.restore(tensors, line["step"])
            self._share_tensors(line["step"])
        self.stepper.take_average()
        self.product.eval()
        self.product.history = History(tuple(self.state.metrics))
        if self.processes.first:
            text = card(self.product, self.record, self.state.metrics, line, self.device.type)
            self.product.save_pretrained(self.folder.model, text)
        return self.product

    # Messages --------------------------------------------------------------------------------------------------

    def _bar(self, epoch: int, initial: int, images: int) -> tqdm[Any]:
        planned = self.plan is None or self.state.planned_steps > 0
        description = f"epoch {epoch + 1}/{self.epochs}" if planned else f"epoch {epoch + 1}"
        return progress_bar(description, images, "img", show=self.progress, initial=initial)

    def _show_duration(self, seconds_per_step: float) -> None:
        self._duration_shown = True
        steps = self.total_steps - self.state.step
        seconds = int(steps * seconds_per_step)
        if self.progress and seconds > 60:
            days, rest = divmod(seconds, 86400)
            text = (f"{days} d " if days else "") + f"{rest // 3600} h {rest % 3600 // 60} min"
            say(f"{steps} steps to go at {seconds_per_step:.2f} s each: about {text}")

    def _say(self, message: str) -> None:
        if self.progress:
            say(message)


def _seconds_since(started: float) -> float:
    return time.monotonic() - started


@torch.no_grad()
def _start_at_frequencies(model: AutoregressiveModel, images: Tensor | Patches, seed: int) -> None:
    """Sets the biases of a softmax's logits, if a model has some, to the log-frequencies of the levels.

    No step is then spent on learning these.

    Args:
        model: Any model.
        images: The training images, levels (N, C, H, W), of which the first ones are counted; or patches.
        seed: Of the run, which decides the patches.
    """
    layer = model.logit_layer
    if layer is None or not isinstance(model.likelihood, Categorical):
        return
    count = min(len(images), max(1, _COUNTED // model.subpixels))
    seen = images.drawn(torch.arange(count, device="cpu"), seed, 0) if isinstance(images, Patches) else images[:count]
    for channel, biases in enumerate(layer.bias.view(-1, model.levels)):
        counts = torch.bincount(seen[:, channel].flatten().long(), minlength=model.levels).double() + 1
        biases.copy_(counts.log() - counts.log().mean())
