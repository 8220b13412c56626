"""A watch on the loss of a run: whether it has diverged.

The loss of each step, in nats per sub-pixel, goes into a moving average a over some 50 steps. With the lowest average b
so far and the loss of knowing nothing, u = ln(levels), the loss is *off* while

    a > b + 0.5 * max(b, 0) + 0.05 * u + s,

with s for what else moves a step's loss, such as the temperatures that it draws in a run from an energy. The loss has
*diverged* when it has been off for 500 steps in succession. A spike that the optimiser recovers from is not a
divergence; losing half of what was learnt, or all of it to units that are dead for good, is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["LossWatch"]

_DECAY = 0.98
_SHARE, _SLACK = 0.5, 0.05
_PATIENCE = 500


@dataclass(kw_only=True)
class LossWatch:
    """The moving average of a run's loss; part of every checkpoint, so that a resumed run decides the same."""

    average: float | None = None
    """Moving average of the loss in nats per sub-pixel, None before the first step."""
    lowest: float | None = None
    """Its lowest value so far."""
    steps_off: int = 0
    """Number of latest steps in succession after which the average was too high."""

    def see(self, loss: float, levels: int, spread: float = 0.0) -> None:
        """Adds the loss of one step, in nats per sub-pixel, of a model with some number of levels, and its s."""
        self.average = loss if self.average is None else _DECAY * self.average + (1 - _DECAY) * loss
        self.lowest = self.average if self.lowest is None else min(self.lowest, self.average)
        off = self.average > self.lowest + _SHARE * max(self.lowest, 0.0) + _SLACK * math.log(levels) + spread
        self.steps_off = self.steps_off + 1 if off else 0

    @property
    def diverged(self) -> bool:
        """Whether it has been too high for so long that the run is lost."""
        return self.steps_off >= _PATIENCE
