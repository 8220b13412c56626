"""The schedule of a run: the learning rate of each step, and how many steps fit into a number of minutes.

    rate(t) = peak * min(1, (t + 1) / warmup) * shape(t)

for step t = 0 .. total-1. A pure function, so a resumed run needs no state for it. The shapes:

    constant    1
    cosine      (1 + cos(pi * t / total)) / 2
    one-cycle   half a cosine from 1/25 at step 0 to 1 at step 0.3 * total - 1, and half a cosine from there down to
                1/250,000 at the last step; `torch.optim.lr_scheduler.OneCycleLR`'s defaults, except Adam's constant
                betas

References:
    | SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov & Hutter, 2017), https://arxiv.org/abs/1608.03983
    | Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (Smith & Topin, 2018),
      https://arxiv.org/abs/1708.07120
"""

from __future__ import annotations

import math

from pixelcnn.config import EnergyConfig, TrainConfig
from pixelcnn.training.checkpoint import RunState

__all__ = ["Plan", "learning_rate"]

_RISING = 0.3  # share of the run
_START, _END = 1 / 25, 1 / 250_000
_FIRST_STEPS = 3  # before the first plan: they pay for set-up, so the second plan soon follows
_PLAN_SHARE = 0.02  # of the whole time, between two plans
_UNPLANNED = 10**9


def learning_rate(config: TrainConfig | EnergyConfig, step: int, total: int) -> float:
    """The learning rate of a step.

    Args:
        config: Gives the peak, the shape and the length of the warm-up.
        step: 0 .. total-1.
        total: Number of steps of the whole run.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * step / total)) / 2
    elif config.schedule == "one-cycle":
        top = max(0.0, _RISING * total - 1)  # the step of the peak
        if step < top:
            rate *= _half_cosine(_START, 1, step / top)
        else:
            rate *= _half_cosine(1, _END, (step - top) / max(1, total - 1 - top))
    if step + 1 < config.warmup_steps:
        rate *= (step + 1) / config.warmup_steps
    return rate


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class Plan:
    """The number of steps of a run of some minutes: planned from the time per step, again and again during the run.

    Args:
        state: The run's state, which holds the plan.
        minutes: Length of the run.
    """

    def __init__(self, state: RunState, minutes: float) -> None:
        self._state = state
        self._limit = 60 * minutes
        self._seconds_per_step = math.nan
        self._plans = 0

    @property
    def total_steps(self) -> int:
        """Number of steps of the whole run by the last plan."""
        return self._state.planned_steps or _UNPLANNED

    def next_steps(self) -> int:
        """Number of steps to take before planning again."""
        if math.isnan(self._seconds_per_step):
            return _FIRST_STEPS
        time = min(_PLAN_SHARE * self._limit, self._limit - self._state.seconds)
        return max(1, int(time / self._seconds_per_step))

    def took(self, steps: int, seconds: float) -> None:
        """Plans again, by the time that the latest steps took."""
        state, now = self._state, seconds / steps
        known = self._plans > 1  # the first steps' time is forgotten
        self._seconds_per_step = (self._seconds_per_step + now) / 2 if known and steps >= _FIRST_STEPS else now
        self._plans += 1
        state.seconds += seconds
        left = round(max(0.0, self._limit - state.seconds) / self._seconds_per_step)
        state.planned_steps = state.step + left
