"""A model as the page has it: loaded, with its name, its card and the losses of its training."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pixelcnn.likelihoods import Bernoulli, Categorical
from pixelcnn.models import AutoregressiveModel, OrderEnsemble
from pixelcnn.models.base import load, local_folder

__all__ = ["Losses", "Served", "load_models"]

Losses = dict[str, list[tuple[int, float]]]
"""By name of the curve, (epoch, nats a sub-pixel) of each epoch."""

_KEYS = {
    "train_loss": "training",
    "validation_loss": "validation",
    "validation_loss_ema": "validation, averaged weights",
}
_TABLE = re.compile(r"^\| epoch \| step \| training \| validation \|\n\|[-|: ]+\|\n((?:\|.*\|\n?)+)", re.MULTILINE)
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A loaded model and what its folder says about it."""

    name: str
    model: AutoregressiveModel
    card: str
    """Markdown, without front matter; may be empty."""
    losses: Losses
    """May be empty."""

    @property
    def networks(self) -> list[AutoregressiveModel]:
        """The model itself, or an ensemble's networks."""
        if isinstance(self.model, OrderEnsemble):
            return [network for network in self.model.networks if isinstance(network, AutoregressiveModel)]
        return [self.model]

    @property
    def classes(self) -> int:
        """How many classes it can be asked for; 0 if it has none."""
        return getattr(self.model.config, "num_classes", None) or 0

    @property
    def guided(self) -> bool:
        """Whether what makes a class can be exaggerated."""
        return self.classes > 0 and isinstance(self.model.likelihood, Bernoulli | Categorical)


def load_models(names: Sequence[str], device: torch.device) -> list[Served]:
    """Loads models for the page.

    Args:
        names: As for `pixelcnn.load`.
        device: Where they draw.

    Raises:
        ValueError: If a name is given twice, there is no such model, or its folder is damaged.
    """
    if twice := [name for k, name in enumerate(names) if name in names[:k]]:
        raise ValueError(f"each MODEL may be given once, got {twice[0]} twice")
    return [_load(name, device) for name in names]


def _load(name: str, device: torch.device) -> Served:
    model = load(name)
    card = "" if model.loaded_card is None else model.loaded_card[0]
    folder = local_folder(name)
    metrics = None if folder is None or folder.name != "model" else folder.parent / "metrics.jsonl"
    losses = _of_run(metrics) if metrics is not None and metrics.is_file() else {}
    model = model.to(device)
    return Served(name=name, model=model, card=_FRONT_MATTER.sub("", card), losses=losses or _of_card(card))


def _of_run(path: Path) -> Losses:
    """The losses in a run's metrics.jsonl; none if a line of it is not one of a run's."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {
            name: [(int(line["epoch"]), float(line[key])) for line in lines if math.isfinite(line[key])]
            for key, name in _KEYS.items()
            if lines and key in lines[0]
        }
    except (ValueError, KeyError, TypeError):
        return {}


def _of_card(card: str) -> Losses:
    """The losses in the table that `pixelcnn.training` writes into a model's card; none if there is no such table."""
    found = _TABLE.search(card)
    if found is None:
        return {}
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found[1].splitlines()]
    try:
        table = [(int(epoch), float(training), float(validation)) for epoch, _, training, validation in rows]
    except ValueError:
        return {}
    return {
        "training": [(epoch, loss) for epoch, loss, _ in table],
        "validation": [(epoch, loss) for epoch, _, loss in table],
    }
