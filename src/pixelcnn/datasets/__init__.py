"""Data sources by name, as the command line and the trainer know them: `mnist` or `mnist:SPLIT`."""

from __future__ import annotations

from torch import Tensor

from pixelcnn.datasets.mnist import SPLITS, mnist

__all__ = ["SPLITS", "mnist", "open_split", "open_training"]


def open_split(data: str, levels: int, default: str = "test") -> tuple[Tensor, Tensor]:
    """Images and labels of a data source.

    Args:
        data: `mnist` or `mnist:SPLIT`.
        levels: Levels to quantise to.
        default: The split when none is named.

    Raises:
        ValueError: If the source or its split is unknown.
    """
    name, _, split = data.partition(":")
    if name != "mnist":
        raise ValueError(f"unknown data {data!r}; known: mnist, or mnist:SPLIT with SPLIT one of {', '.join(SPLITS)}")
    return mnist(split or default, levels)


def open_training(data: str, protocol: str, levels: int) -> tuple[Tensor, Tensor]:
    """The training and the validation images of a data source, each uint8 (N, C, H, W).

    Args:
        data: `mnist`.
        protocol: `clean` or `seed`; see `pixelcnn.datasets.mnist`.
        levels: Levels to quantise to.

    Raises:
        ValueError: If the source is unknown or names a split, which the protocol decides.
    """
    if ":" in data:
        raise ValueError(f"training takes its splits from --protocol, so DATA has none, got {data!r}")
    if data != "mnist":
        raise ValueError(f"unknown data {data!r}; known: mnist")
    prefix = "seed-" if protocol == "seed" else ""
    return open_split(f"{data}:{prefix}train", levels)[0], open_split(f"{data}:{prefix}validation", levels)[0]
