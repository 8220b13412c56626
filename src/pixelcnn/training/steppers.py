"""The choice of a run's stepper, and of the precision in which it multiplies.

What the name of a processor says about bfloat16 can mislead, so it is measured: a processor with bfloat16 products
(AVX-512 BF16, AMX) trains about twice as fast under PyTorch's autocast, one without them thirty times as slowly. Half
of a training step's products are timed both ways: a convolution with its gradient, on one slice of images, in one
thread.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F

from pixelcnn.config import TrainConfig
from pixelcnn.models import AutoregressiveModel
from pixelcnn.processes import ALONE, Processes
from pixelcnn.threads import alone
from pixelcnn.training.batches import Batches
from pixelcnn.training.resident import ResidentStepper
from pixelcnn.training.step import Stepper, StepResult

__all__ = ["bf16_pays", "precision_of", "stepper_for", "steps_of"]

_GAIN = 1.25  # a little more than the spread of one measurement
_TURNS = 5


def stepper_for(
    model: AutoregressiveModel, config: TrainConfig, batches: Batches, processes: Processes = ALONE
) -> Stepper | ResidentStepper:
    """The stepper for a model on its device: the resident one for one process with all images on a CUDA device."""
    cuda, bf16 = model.device.type == "cuda", precision_of(config, model.device, processes) == "bf16"
    if cuda and batches.resident and processes.count == 1:
        return ResidentStepper(model, config, batches, bf16=bf16, compiled=config.compile)
    return Stepper(model, config, bf16=bf16, processes=processes)


def steps_of(
    stepper: Stepper | ResidentStepper,
    batches: Batches,
    epoch: int,
    done: int,
    stop: int,
    rates: Callable[[int], float],
) -> Iterator[StepResult]:
    """Takes steps `done .. stop-1` of an epoch, at the learning rate for their number in the run.

    `stepper.steps` can be ahead of the results so far; where it is not, the weights are those after the last result.
    """
    if isinstance(stepper, ResidentStepper):
        return stepper.run(epoch, done, stop, rates)
    return stepper.run(itertools.islice(batches.epoch(epoch, done), stop - done), rates)


def precision_of(config: TrainConfig, device: torch.device, processes: Processes = ALONE) -> Literal["float32", "bf16"]:
    """The precision in which a run on a device multiplies: one for all processes, as they wait for the slowest."""
    if config.precision != "auto":
        return config.precision
    pays = bf16_pays() if device.type == "cpu" else device.type == "cuda"
    return "bf16" if processes.sum([pays]) == [processes.count] else "float32"


@functools.cache
def bf16_pays() -> bool:
    """Whether this machine's processor trains faster in bfloat16; takes a tenth of a second, once per process."""
    images = torch.ones(8, 32, 30, 28, device="cpu").to(memory_format=torch.channels_last)
    weight = torch.ones(64, 32, 3, 5, device="cpu", requires_grad=True)

    def seconds(bf16: bool) -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
            y = F.conv2d(images, weight, padding=(0, 2))
        torch.autograd.grad(y.sum(), weight)
        return time.perf_counter() - started

    with alone(), torch.enable_grad():
        exact, rounded = seconds(False), seconds(True)  # the first ones prepare what the others use
        if rounded > 5 * exact:
            return False
        exact, rounded = (min(seconds(bf16) for _ in range(_TURNS)) for bf16 in (False, True))
    return exact > _GAIN * rounded
