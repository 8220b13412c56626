"""`pixelcnn evaluate`: how probable images are under a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

__all__ = ["Evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a model on images: nats an image and a sub-pixel, bits/dim, standard error."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, or a training run's folder."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """mnist:SPLIT with SPLIT one of train, validation, test, seed-train, seed-validation; mnist means mnist:test."""
    images: int | None = None
    """Evaluate the first so many images instead of all."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""

    def run(self) -> None:
        """Evaluates and prints."""
        from pixelcnn.datasets import open_split
        from pixelcnn.devices import device_of
        from pixelcnn.evaluation import evaluate
        from pixelcnn.models.storage import load
        from pixelcnn.processes import job

        if self.images is not None and self.images < 1:
            raise ValueError(f"--images must be at least 1, got {self.images}")
        model = load(self.model).to(device_of(self.device))
        images, _ = open_split(self.data, model.levels)
        result = evaluate(model, images[: self.images], progress=True, processes=job())
        print(f"{self.model} on {result.images:,} images of {self.data}")
        print(f"  nats/image      {result.nats_per_image:.3f} +- {result.standard_error:.3f} (standard error)")
        print(f"  nats/sub-pixel  {result.nats_per_subpixel:.5f}")
        print(f"  bits/dim        {result.bits_per_dim:.5f}")
