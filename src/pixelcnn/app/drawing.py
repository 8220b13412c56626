"""Drawing within the page's limits: which images are asked for, and snapshots of them as they grow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pixelcnn.app.parts import whole
from pixelcnn.app.served import Limits, Served
from pixelcnn.models import AutoregressiveModel, MixtureModel, OrderEnsemble
from pixelcnn.sampling import labels_in_turn
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["Request", "Snapshot", "draw", "steps_of"]

_REPLAYED = 40  # canvases that are kept of a drawing
_PART = 4  # images that an ensemble draws between looks at the clock


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which images to draw; see `AutoregressiveModel.sample`."""

    images: int = 16
    classes: tuple[int, ...] = ()
    """Of the images, in turn; none for any."""
    temperature: float = 1.0
    guidance: float = 1.0
    seed: int = 0
    map: Tensor | None = None
    """What all images are conditioned on besides, uint8 (D, h, w); None for nothing."""

    def labels(self) -> Tensor | None:
        """The class of each image, int64 (images,); None for any."""
        return labels_in_turn(self.classes, 0, self.images) if self.classes else None

    @property
    def columns(self) -> int:
        """Images in one row of the picture: one column per class if there are several."""
        return min(len(self.classes), self.images) if len(self.classes) > 1 else math.ceil(math.sqrt(self.images))


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A drawing after some steps."""

    canvas: Tensor
    """Levels (N, C, H, W) on the CPU; pixels not drawn yet are 0."""
    step: int
    steps: int
    seconds: float
    """Spent on drawing so far, without the time between snapshots."""
    history: tuple[Tensor, ...] = ()
    """Of the last snapshot: canvases spread evenly over the steps, the last one included."""

    @property
    def finished(self) -> bool:
        """Whether this is the last snapshot."""
        return self.step == self.steps


def steps_of(served: Served, *, conditional: bool) -> int:
    """Steps of a drawing; the networks of an ensemble draw one after the other, a few images at a time."""
    return sum(_steps(network, conditional=conditional) for network in served.networks)


def _steps(network: AutoregressiveModel, *, conditional: bool) -> int:
    return schedule_of(network, conditional=conditional).wavefront.steps


def draw(
    served: Served, request: Request, limits: Limits, clock: Callable[[], float] = time.monotonic
) -> Iterator[Snapshot]:
    """Draws images and yields snapshots, at most `limits.frames` per second, and the last one.

    Raises:
        ValueError: If the request is invalid or exceeds the limits, or drawing took longer than `limits.seconds`.
    """
    whole("number of images", request.images, 1, limits.images_of(served))
    labels = request.labels()
    asked: dict[str, Any] = {
        "labels": labels,
        "seed": request.seed,
        "temperature": request.temperature,
        "guidance": request.guidance,
    }
    if request.map is not None:
        asked["condition"] = request.map.expand(request.images, -1, -1, -1)
    conditional = (request.map is not None or labels is not None) or (
        isinstance(served.model, OrderEnsemble) and served.model.config.order_conditioned
    )
    steps = steps_of(served, conditional=conditional)
    begun = resumed = shown = clock()
    spent = 0.0
    if isinstance(served.model, MixtureModel):  # its networks have no steps in common to take snapshots at
        parts: list[Tensor] = []
        steps, steps_each = 0, [_steps(network, conditional=conditional) for network in served.networks]
        for first in range(0, request.images, _PART):
            if clock() - begun > limits.seconds:
                raise ValueError(
                    f"given up after {limits.seconds:g} s at image {first} of {request.images}: ask for fewer images"
                )
            n = min(_PART, request.images - first)
            asked["labels"] = None if labels is None else labels[first : first + n]
            parts.append(served.model.sample(n, **asked, first=first).cpu())
            drawn_by = {served.model.parts[k].network for k in served.model.part_of(request.seed, first, n).tolist()}
            steps += sum(steps_each[k] for k in drawn_by)
        canvas = torch.cat(parts)
        yield Snapshot(canvas=canvas, step=steps, steps=steps, seconds=clock() - begun, history=(canvas,))
        return
    kept = min(_REPLAYED, steps)
    kept_steps = {round((k + 1) * steps / kept) for k in range(kept)}
    history: list[Tensor] = []
    for step, canvas in enumerate(served.model.sample_steps(request.images, **asked), start=1):
        if step in kept_steps:
            history.append(canvas.cpu().clone())
        now = clock()
        if step == steps:
            seconds = spent + now - resumed
            yield Snapshot(canvas=history[-1], step=step, steps=steps, seconds=seconds, history=tuple(history))
        elif now - begun > limits.seconds:
            raise ValueError(f"given up after {limits.seconds:g} s at step {step} of {steps}: ask for fewer images")
        elif now - shown >= 1 / limits.frames:
            spent, shown = spent + now - resumed, now
            yield Snapshot(canvas=canvas.cpu().clone(), step=step, steps=steps, seconds=spent)
            resumed = clock()
