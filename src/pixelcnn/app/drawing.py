"""Drawing for the page: what may be asked for, and the moments at which it is looked at. Nothing here knows Gradio."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.models import OrderEnsemble
from pixelcnn.sampling import labels_in_turn
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["Moment", "Request", "draw", "steps_of"]

_REPLAYED = 40  # moments that are kept of a drawing
_PART = 4  # images that an ensemble draws between looks at the clock


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which images to draw; see `AutoregressiveModel.sample`."""

    images: int = 16
    label: int | Literal["any", "all"] = "any"
    """A class; "any"; or "all", taking turns."""
    temperature: float = 1.0
    guidance: float = 1.0
    seed: int = 0

    def check(self, served: Served, limits: Limits) -> None:
        """Looks at what the samplers do not look at themselves.

        Raises:
            ValueError: If more is asked for than the model or the server can give.
        """
        most = limits.images_of(served.model)
        if not 1 <= self.images <= most:
            raise ValueError(f"the number of images must be in 1..{most}, got {self.images}")
        if self.label == "any":
            return
        if not served.classes:
            raise ValueError(f"{served.name} has no classes, got class {self.label}")
        if self.label != "all" and not 0 <= self.label < served.classes:
            raise ValueError(f"the class must be in 0..{served.classes - 1}, got {self.label}")

    def labels(self, served: Served) -> Tensor | None:
        """Each image's class, int64 (images,); None for any."""
        if self.label == "any":
            return None
        return labels_in_turn(tuple(range(served.classes)) if self.label == "all" else (self.label,), 0, self.images)

    def columns(self, served: Served) -> int:
        """Images in a row of the picture."""
        if self.label == "all":
            return min(served.classes, self.images)
        return math.ceil(math.sqrt(self.images))


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A drawing after some steps."""

    canvas: Tensor
    """uint8 levels (N, C, H, W) on the CPU; pixels not drawn yet are 0."""
    step: int
    steps: int
    seconds: float
    """Spent on drawing so far, not on looking."""
    grown: tuple[Tensor, ...] = ()
    """With the last moment: canvases spread evenly over the steps, the last one included."""

    @property
    def finished(self) -> bool:
        """Whether this is the last moment."""
        return self.step == self.steps


def steps_of(served: Served, *, conditional: bool) -> int:
    """Steps of drawing; the networks of an ensemble draw one after the other."""
    return sum(schedule_of(network, conditional=conditional).wavefront.steps for network in served.networks)


def draw(
    served: Served, request: Request, limits: Limits, clock: Callable[[], float] = time.monotonic
) -> Iterator[Moment]:
    """Draws images and yields moments, at most `limits.frames` a second, and the last one.

    Raises:
        ValueError: If the request is not to be had, or took longer than `limits.seconds`.
    """
    request.check(served, limits)
    labels = request.labels(served)
    asked: dict[str, Any] = {
        "labels": labels,
        "seed": request.seed,
        "temperature": request.temperature,
        "guidance": request.guidance,
    }
    conditional = labels is not None or (isinstance(served.model, OrderEnsemble) and served.model.config.told)
    steps = steps_of(served, conditional=conditional)
    begun = resumed = looked = clock()
    spent = 0.0
    if isinstance(served.model, OrderEnsemble):  # its parts have no step in common to look at
        parts: list[Tensor] = []
        for first in range(0, request.images, _PART):
            if clock() - begun > limits.seconds:
                raise ValueError(
                    f"given up after {limits.seconds:g} s at image {first} of {request.images}: ask for fewer images"
                )
            n = min(_PART, request.images - first)
            asked["labels"] = None if labels is None else labels[first : first + n]
            parts.append(served.model.sample(n, **asked, first=first).cpu())
        canvas = torch.cat(parts)
        yield Moment(canvas=canvas, step=steps, steps=steps, seconds=clock() - begun, grown=(canvas,))
        return
    kept = min(_REPLAYED, steps)
    wanted = {round((k + 1) * steps / kept) for k in range(kept)}
    grown: list[Tensor] = []
    for step, canvas in enumerate(served.model.sample_steps(request.images, **asked), start=1):
        if step in wanted:
            grown.append(canvas.cpu().clone())
        now = clock()
        if step == steps:
            yield Moment(canvas=grown[-1], step=step, steps=steps, seconds=spent + now - resumed, grown=tuple(grown))
        elif now - begun > limits.seconds:
            raise ValueError(f"given up after {limits.seconds:g} s at step {step} of {steps}: ask for fewer images")
        elif now - looked >= 1 / limits.frames:
            spent, looked = spent + now - resumed, now
            yield Moment(canvas=canvas.cpu().clone(), step=step, steps=steps, seconds=spent)
            resumed = clock()
