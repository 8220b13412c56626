"""The history of a run: its losses by epoch, as numbers and as curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelcnn.files import write_file
from pixelcnn.images import figure_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History", "draw_curves"]

_OF_DATA = (
    "negative log-likelihood (nats / sub-pixel)",
    {
        "train_loss": "training, before each step",
        "validation_loss": "validation",
        "validation_loss_ema": "validation, averaged weights",
    },
)
_OF_ENERGY = (
    "nats (the loss: / sub-pixel)",
    {"loss": "variational free energy x beta", "deviation": "its standard deviation over images"},
)
_DPI = 120


@dataclass(frozen=True)
class History:
    """What a training run measured, one dictionary per finished epoch: the lines of the run's metrics.jsonl.

    `history["validation_loss"]` is the list of one of its values, `len(history)` the number of epochs. Each epoch has
    "epoch" and "step", counted from 1, "train_loss" and "validation_loss" in nats per sub-pixel (and
    "validation_loss_ema", with averaged weights), "validation_nats_per_image", "validation_bits_per_dim",
    "learning_rate", "gradient_norm" and "gradient_norm_max". Those of `pixelcnn.fit_energy` have "beta", "loss",
    "energy", "entropy" and "deviation" instead of these losses.
    """

    epochs: tuple[dict[str, Any], ...]
    """The finished epochs."""

    @classmethod
    def read(cls, run: str | Path) -> History:
        """The history of the run in a folder.

        Raises:
            ValueError: If no epoch of a run in it has finished.
        """
        path = Path(run) / "metrics.jsonl"
        if not path.is_file():
            raise ValueError(f"{run} holds no run of which an epoch has finished: there is no {path}")
        return cls(tuple(map(json.loads, path.read_text(encoding="utf-8").splitlines())))

    def __getitem__(self, name: str) -> list[float]:
        """The values of all epochs by their name, such as "validation_loss".

        Raises:
            KeyError: If an epoch has no value of that name.
        """
        return [line[name] for line in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        return f"History of {len(self)} epoch{'s' * (len(self) != 1)}"

    def plot(self) -> Figure:
        """The losses, the gradients' norms and the learning rate by epoch, as a figure of matplotlib.

        Raises:
            ValueError: If no epoch has finished.
        """
        if not self.epochs:
            raise ValueError("there is nothing to plot: no epoch has finished")
        return figure_of(self.epochs)

    def _repr_png_(self) -> bytes | None:
        return figure_png(self.plot(), _DPI) if self.epochs else None


def figure_of(metrics: Sequence[dict[str, Any]]) -> Figure:
    """The lines of metrics.jsonl as curves by epoch, above the gradients' norms and the learning rate."""
    from matplotlib.figure import Figure  # takes half a second to import, so not before
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    epochs = [line["epoch"] for line in metrics]
    unit, curves = _OF_ENERGY if "loss" in metrics[0] else _OF_DATA
    for key, name in curves.items():
        if key in metrics[0]:
            axes.plot(epochs, [line[key] for line in metrics], marker="o", markersize=3, label=name)
    axes.set(ylabel=unit)
    for key, name in (
        ("gradient_norm", "gradient norm, mean"),
        ("gradient_norm_max", "gradient norm, largest"),
        ("learning_rate", "learning rate"),
    ):
        lower.plot(epochs, [line[key] for line in metrics], marker="o", markersize=3, label=name)
    lower.set(xlabel="epoch", yscale="log", xlim=(0.5, epochs[-1] + 0.5))
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # one epoch is one tick
    for each in (axes, lower):
        each.grid(alpha=0.3)
        each.legend()
    return figure


def draw_curves(path: Path, metrics: Sequence[dict[str, Any]]) -> None:
    """Writes the picture of `figure_of`."""
    write_file(path, figure_png(figure_of(metrics), _DPI))
