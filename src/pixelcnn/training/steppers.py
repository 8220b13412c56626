"""What takes a run's steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Literal

import torch

from pixelcnn.config import TrainConfig
from pixelcnn.models import AutoregressiveModel
from pixelcnn.processes import ALONE, Processes
from pixelcnn.training.batches import Batches
from pixelcnn.training.products import bf16_pays
from pixelcnn.training.resident import ResidentStepper
from pixelcnn.training.step import Stepper, StepResult

__all__ = ["precision_of", "stepper_for", "steps_of"]


def precision_of(config: TrainConfig, device: torch.device) -> Literal["float32", "bf16"]:
    """What a run on a device multiplies in."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cpu":
        return "bf16" if bf16_pays() else "float32"
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
        optimizer=config.optimizer,
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
