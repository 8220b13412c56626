"""The learning rate as a function of the step.

    rate(t) = peak * min(1, (t + 1) / warmup) * shape(t),      shape = 1  or  (1 + cos(pi * t / total)) / 2

for step t = 0 .. total-1. A pure function, so a resumed run needs no state for it.

References:
    | SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov & Hutter, 2017), https://arxiv.org/abs/1608.03983
"""

from __future__ import annotations

import math

from pixelcnn.config import TrainConfig

__all__ = ["learning_rate"]


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Adam's learning rate for a step.

    Args:
        config: Gives the peak, the shape and the length of the warm-up.
        step: 0 .. total-1.
        total: Steps of the whole run.
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * step / total)) / 2
    if step + 1 < config.warmup_steps:
        rate *= (step + 1) / config.warmup_steps
    return rate
