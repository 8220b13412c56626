"""What takes a run's steps, and how many of them fit into a given time."""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from pixelcnn.config import TrainConfig
from pixelcnn.devices import device_of
from pixelcnn.models import AutoregressiveModel, model_of
from pixelcnn.processes import ALONE, Processes
from pixelcnn.training.batches import Batches
from pixelcnn.training.resident import ResidentStepper
from pixelcnn.training.step import Stepper, StepResult

__all__ = ["precision_of", "stepper_for", "steps_of", "steps_within"]

_REHEARSED = 3  # steps that are not timed: the first ones pay for set-up
_TIMED_SECONDS = 5.0
_TIMED_STEPS = 200


def precision_of(config: TrainConfig, device: torch.device) -> Literal["float32", "bf16"]:
    """What a run on a device multiplies in."""
    if config.precision != "auto":
        return config.precision
    return "bf16" if device.type == "cuda" else "float32"


def stepper_for(
    model: AutoregressiveModel, config: TrainConfig, batches: Batches, processes: Processes = ALONE
) -> Stepper | ResidentStepper:
    """The stepper for a model on its device: for one process with all images on a CUDA device the resident one."""
    cuda, bf16 = model.device.type == "cuda", precision_of(config, model.device) == "bf16"
    if cuda and batches.resident and processes.count == 1:
        return ResidentStepper(model, config, batches, bf16=bf16, compiled=config.compile)
    return Stepper(
        model,
        config.ema,
        clip_norm=config.clip_norm,
        weight_decay=config.weight_decay,
        dropout=config.dropout,
        accumulate=config.accumulate,
        seed=config.seed,
        bf16=bf16,
        processes=processes,
    )


def steps_of(
    stepper: Stepper | ResidentStepper,
    batches: Batches,
    epoch: int,
    done: int,
    stop: int,
    rates: Callable[[int], float],
) -> Iterator[StepResult]:
    """Takes steps `done .. stop-1` of an epoch, at the rate for their number in the run.

    `stepper.steps` can be ahead of what has been told; where it is not, the weights are those after the last step told.
    """
    if isinstance(stepper, ResidentStepper):
        return stepper.run(epoch, done, stop, rates)
    return stepper.run(itertools.islice(batches.epoch(epoch, done), stop - done), rates)


def steps_within(
    minutes: float,
    config: TrainConfig,
    images: Tensor,
    labels: Tensor | None = None,
    processes: Processes = ALONE,
) -> int:
    """How many training steps this machine takes in so many minutes, measured for some seconds on a model of its own.

    Args:
        minutes: Of training; validation and pictures come on top.
        config: The run's configuration; its length does not matter.
        images: The training images, uint8 levels (N, C, H, W).
        labels: Theirs, for a conditional model.
        processes: Those that will train together, and take these steps together; the first one's clock counts.

    Returns:
        At least 1, for `TrainConfig.steps`.

    Raises:
        ValueError: If `minutes` is not positive.
    """
    if not 0 < minutes < math.inf:
        raise ValueError(f"minutes must be positive, got {minutes!r}")
    model = model_of(config.model, generator=torch.Generator().manual_seed(config.seed)).to(device_of(config.device))
    batches = Batches(config, model, images, labels, rank=processes.rank, processes=processes.count)
    stepper = stepper_for(model, config, batches, processes)
    rate: Callable[[int], float] = lambda _: 0.0  # noqa: E731 - the weights stay what they are
    rehearsed = sum(1 for _ in steps_of(stepper, batches, 0, 0, min(_REHEARSED, batches.steps_per_epoch), rate))
    started, seconds = time.perf_counter(), 0.0
    for epoch in itertools.count(1):
        for _ in steps_of(stepper, batches, epoch, 0, min(_TIMED_STEPS, batches.steps_per_epoch), rate):
            seconds = processes.from_first(lambda: time.perf_counter() - started)
            if seconds >= _TIMED_SECONDS:
                break
        if seconds >= _TIMED_SECONDS:
            break
    steps = max(1, int(minutes * 60 / seconds * (stepper.steps - rehearsed)))
    del stepper, batches, model
    gc.collect()  # a compiled step is held by itself, and holds the images on the device
    return steps
