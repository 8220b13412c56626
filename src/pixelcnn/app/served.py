"""What the page serves: loaded models with their cards and training losses, and the limits of a visitor's request."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor

from pixelcnn.datasets import mnist
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.levels import GREY_LEVELS
from pixelcnn.likelihoods import Bernoulli, Categorical
from pixelcnn.models import AutoregressiveModel, MixtureModel
from pixelcnn.models.base import load
from pixelcnn.models.card import without_front_matter
from pixelcnn.models.folder import local_folder
from pixelcnn.sampling.eager import cache_bytes

__all__ = ["TEST_IMAGES", "Limits", "Losses", "Served", "load_models"]

TEST_IMAGES = 10_000
"""Images of MNIST's test set."""

Losses = dict[str, list[tuple[int, float]]]
"""By name of the curve, (epoch, nats per sub-pixel) of each epoch."""

_CURVES = {
    "train_loss": "training",
    "validation_loss": "validation",
    "validation_loss_ema": "validation, averaged weights",
}
_TABLE = re.compile(r"^\| epoch \| step \| training \| validation \|\n\|[-|: ]+\|\n((?:\|.*\|\n?)+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a visitor may ask of one server, so that no request exhausts it; each limit is at least 1."""

    images: int = 64
    """Images per request."""
    particles: int = 256
    """Particles per completion."""
    queue: int = 32
    """Requests that may wait; one more is refused with a message."""
    concurrency: int = 2
    """Requests that are processed at the same time."""
    seconds: float = 120.0
    """Time after which a drawing or a completion is given up."""
    frames: float = 10.0
    """Pictures per second that are sent while a drawing grows."""
    memory: int = 2**28
    """Approximate bytes for the features of one drawing or completion; a single image may always be drawn."""
    body: int = 2**20
    """Bytes of one message to the server."""
    pixels: int = 2**24
    """Pixels of a visitor's picture."""
    coded: int = 2**18
    """Pixels of a picture that is compressed in its own size; a larger one is made smaller."""

    def __post_init__(self) -> None:
        for name in ("images", "particles", "queue", "concurrency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
                raise ValueError(f"{name} must be an integer in 1..1024, got {value!r}")

    def images_of(self, served: Served) -> int:
        """How many images of a model one request may ask for."""
        return self._fitting(served, self.images)

    def particles_of(self, served: Served) -> int:
        """How many particles of a model one completion may ask for."""
        return self._fitting(served, self.particles)

    def _fitting(self, served: Served, most: int) -> int:
        return max(1, min(most, self.memory // max(map(cache_bytes, served.networks))))


@dataclass(frozen=True, kw_only=True, eq=False)
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
        """The model itself, or a mixture's networks."""
        if isinstance(self.model, MixtureModel):
            return [network for network in self.model.networks if isinstance(network, AutoregressiveModel)]
        return [self.model]

    @property
    def classes(self) -> int:
        """The number of classes of a class-conditional model; 0 for any other."""
        return self.model.num_classes or 0

    def class_name(self, k: int) -> str:
        """What class k is called: its name, or its number if it has none."""
        names = self.model.class_names
        return str(k) if names is None else names[k]

    @cached_property
    def prepared(self) -> PreparedModel:
        """The model prepared for exact arithmetic.

        Raises:
            ValueError: If it cannot be.
        """
        return prepare(self.model)

    @property
    def keeps_sizes(self) -> bool:
        """Whether pictures keep their own size: for models of colour that have none. Digits are of one size."""
        return self.model.image_shape[0] == 3 and self.model.any_size

    def of_size(self, height: int, width: int) -> Served:
        """The same for images of another size, if it `keeps_sizes`."""
        if (height, width) == self.model.image_shape[1:]:
            return self
        return replace(self, model=self.model.resized((height, width)))

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance applies."""
        return self.classes > 0 and isinstance(self.model.likelihood, Bernoulli | Categorical)

    @property
    def map_scales(self) -> list[int]:
        """How many times the sides of a map may go into the image's, for a model that is conditional on a map that
        pictures can be: 4 first, if it fits, as for super-resolution; empty for any other.
        """
        known = self.model.conditions
        if isinstance(self.model, MixtureModel) or known.categories or known.numbers not in (1, 3):
            return []
        side = math.gcd(*self.model.image_shape[1:])
        return sorted((scale for scale in range(1, side + 1) if side % scale == 0), key=lambda scale: abs(scale - 4))

    @property
    def has_digits(self) -> bool:
        """Whether the model's images have the shape of MNIST's and no more levels, so that its test set fits."""
        return self.model.image_shape == (1, 28, 28) and self.model.levels <= GREY_LEVELS

    def digits(self, first: int, count: int = 1) -> Tensor:
        """Images of MNIST's test set from index `first` on, starting again after the last: uint8 (count, 1, 28, 28)."""
        return _digits(self.model.levels)[torch.arange(first, first + count) % TEST_IMAGES]


@cache
def _digits(levels: int) -> Tensor:
    return mnist("test", levels)[0]


def load_models(names: Sequence[str], device: torch.device) -> list[Served]:
    """Loads models for the page.

    Args:
        names: As for `pixelcnn.load`.
        device: Where they compute.

    Raises:
        ValueError: If a name is given twice, there is no such model, or its folder is damaged.
    """
    if repeated := [name for k, name in enumerate(names) if name in names[:k]]:
        raise ValueError(f"each MODEL may be given once, got {repeated[0]} twice")
    return [_load(name, device) for name in names]


def _load(name: str, device: torch.device) -> Served:
    model = load(name)
    card = "" if model.loaded_card is None else model.loaded_card[0]
    folder = local_folder(name)
    metrics = None if folder is None or folder.name != "model" else folder.parent / "metrics.jsonl"
    losses = _losses_of_run(metrics) if metrics is not None and metrics.is_file() else {}
    model = model.to(device)
    return Served(name=name, model=model, card=without_front_matter(card), losses=losses or _losses_of_card(card))


def _losses_of_run(path: Path) -> Losses:
    """The losses in a training run's metrics.jsonl; none if the file is damaged."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return _finite(
            {
                curve: [(int(line["epoch"]), float(line[key])) for line in lines]
                for key, curve in _CURVES.items()
                if lines and key in lines[0]
            }
        )
    except (ValueError, KeyError, TypeError):
        return {}


def _losses_of_card(card: str) -> Losses:
    """The losses in the table that `pixelcnn.training` writes into a model's card; none if there is no such table."""
    table = _TABLE.search(card)
    if table is None:
        return {}
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table[1].splitlines()]
    try:
        epochs = [(int(epoch), float(training), float(validation)) for epoch, _, training, validation in rows]
    except ValueError:
        return {}
    return _finite(
        {
            "training": [(epoch, loss) for epoch, loss, _ in epochs],
            "validation": [(epoch, loss) for epoch, _, loss in epochs],
        }
    )


def _finite(losses: Losses) -> Losses:
    """The losses that are finite, and the curves that have any."""
    finite = {name: [point for point in line if math.isfinite(point[1])] for name, line in losses.items()}
    return {name: line for name, line in finite.items() if line}
