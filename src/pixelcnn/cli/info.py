"""`pixelcnn info`: what a model consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

__all__ = ["Info"]


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show a model's layers, parameters, receptive field and sampling schedule."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub,
    user/name or user/name@revision."""

    def run(self) -> None:
        """Prints."""
        from pixelcnn.models.storage import load
        from pixelcnn.models.summary import summary

        print(summary(load(self.model)))
