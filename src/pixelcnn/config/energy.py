"""The configuration of a run that trains a model from an energy: temperatures, length, recipe and what is saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pixelcnn.config.checks import Range, check_fields, check_rules, decay_rule

__all__ = ["EnergyConfig"]


@dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """Everything but model and energy that decides what a run of `pixelcnn.fit_energy` computes; see there."""

    beta: tuple[float, float]
    """Lowest and highest inverse temperature; equal for a run at one temperature."""
    steps: Annotated[int, Range(1)]
    """Length of the run."""
    batch_size: Annotated[int, Range(2)]
    """Images per step."""
    anneal: Annotated[float, Range(0, 1)] = 0.2
    """Share of the steps over which the inverse temperatures rise linearly from 0 to their values."""
    optimizer: Literal["adam", "muon"] = "adam"
    """As in `TrainConfig`, like the others of the recipe."""
    learning_rate: Annotated[float, Range(0, strict=True)] = 2e-3
    """The peak learning rate."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    """The learning rate over the run."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """Steps over which the learning rate first rises linearly."""
    clip_norm: Annotated[float | None, Range(0, strict=True)] = 1.0
    """Largest Euclidean norm of a step's gradient, per sub-pixel."""
    weight_decay: float = 0.0
    """Share of the weights, times the learning rate, that each step removes."""
    ema: Annotated[float | None, Range(0, 1, strict=True)] = None
    """Decay of the moving average of the weights that the finished model gets."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the gradient's products, not of draws and their likelihoods: `bf16` is PyTorch's autocast."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Decides the images that are drawn."""
    report_steps: Annotated[int, Range(1)] = 100
    """Steps per line of metrics.jsonl."""
    checkpoint_seconds: Annotated[float, Range(0)] = 60.0
    """Time between checkpoints."""
    keep_last: Annotated[int, Range(2)] = 2
    """Number of newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        check_fields(self)
        pair = self.beta
        right = len(pair) == 2 and all(isinstance(b, int | float) for b in pair)
        rules = {
            "beta": (
                right and 0 <= pair[0] <= pair[1] < math.inf,
                "be a number of at least 0, finite, or a pair of them, the lower one first",
            ),
            "weight_decay": decay_rule(self.weight_decay, self.learning_rate),
        }
        check_rules(self, rules)
