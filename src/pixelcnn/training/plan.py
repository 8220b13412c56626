"""How many steps a run has that is given some minutes: planned by what a step takes, and again as it goes on."""

from __future__ import annotations

import math

from pixelcnn.training.checkpoint import RunState

__all__ = ["Plan"]

_FIRST = 3  # steps before the first plan: they pay for set-up, so the second plan soon follows
_SHARE = 0.02  # of the whole time, between two plans
_UNPLANNED = 10**9


class Plan:
    """The plan of a run, whose numbers stand in its state.

    Args:
        state: The run's.
        minutes: That the run is given.
    """

    def __init__(self, state: RunState, minutes: float) -> None:
        self._state = state
        self._limit = 60 * minutes
        self._seconds_a_step = math.nan

    @property
    def total_steps(self) -> int:
        """Steps of the whole run by the last plan."""
        return self._state.planned_steps or _UNPLANNED

    def next_steps(self) -> int:
        """How many steps to take before planning again."""
        if math.isnan(self._seconds_a_step):
            return _FIRST
        time = min(_SHARE * self._limit, self._limit - self._state.seconds)
        return max(1, int(time / self._seconds_a_step))

    def took(self, steps: int, seconds: float) -> None:
        """Plans by what some steps, which have just been taken, took."""
        state, now = self._state, seconds / steps
        known = not math.isnan(self._seconds_a_step)
        self._seconds_a_step = (self._seconds_a_step + now) / 2 if known and steps >= _FIRST else now
        state.seconds += seconds
        left = round(max(0.0, self._limit - state.seconds) / self._seconds_a_step)
        state.planned_steps = state.step + left
