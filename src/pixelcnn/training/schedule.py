"""The learning rate as a function of the step.

    rate(t) = peak * min(1, (t + 1) / warmup) * shape(t)

for step t = 0 .. total-1. A pure function, so a resumed run needs no state for it. The shapes:

    constant    1
    cosine      (1 + cos(pi * t / total)) / 2
    one-cycle   half a cosine from 1/25 at step 0 to 1 at step 0.3 * total - 1, and half a cosine from there down to
                1/250,000 at the last step; `torch.optim.lr_scheduler.OneCycleLR`'s defaults, but Adam's betas stay

References:
    | SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov & Hutter, 2017), https://arxiv.org/abs/1608.03983
    | Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (Smith & Topin, 2018),
      https://arxiv.org/abs/1708.07120
"""

from __future__ import annotations

import math

from pixelcnn.config import TrainConfig

__all__ = ["learning_rate"]

_RISING = 0.3  # share of the run
_START, _END = 1 / 25, 1 / 250_000


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The learning rate of a step.

    Args:
        config: Gives the peak, the shape and the length of the warm-up.
        step: 0 .. total-1.
        total: Steps of the whole run.
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
