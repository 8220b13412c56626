"""`pixelcnn evaluate`: how probable images are under a model."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pixelcnn.config import Layout

if TYPE_CHECKING:
    from pixelcnn.evaluation import Evaluation

__all__ = ["Evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a model on images: nats an image and a sub-pixel, bits/dim, standard error, bootstrap interval,
    throughput; of a class-conditional model by class too.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub,
    user/name or user/name@revision."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """mnist:SPLIT with SPLIT one of train, validation, test, seed-train, seed-validation; mnist means mnist:test.
    mnist-dynamic:SPLIT: the same, each pixel drawn once and for all, white with probability grey / 255. Or
    what `pixelcnn train` takes: a folder of pictures, a .npy or .npz file, CIFAR-10's binary version, hf:NAME; with
    :train, :validation or :test at its end one of its splits. Pictures are brought to the model's size, channels and
    levels."""
    images: int | None = None
    """Evaluate the first so many images instead of all."""
    labels: bool = True
    """Of a class-conditional model: evaluate each image given its class, if the data have classes."""
    crop: Literal["centre", "patches"] = "centre"
    """How pictures get the model's size: scaled and cropped, or cut into patches; as in training."""
    bit_depth: int | None = None
    """Bits of a value of pictures that are stored with 16, as for `pixelcnn train`."""
    layout: Layout | None = None
    """What the axes of an array are, where the model's shape does not say."""
    held_out: float = 0.1
    """Share of the images in DATA:validation; as in training."""
    test: float = 0.0
    """Share of the images in DATA:test; as in training."""
    json: bool = False
    """Print a JSON object instead of text."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""

    def run(self) -> None:
        """Evaluates and prints."""
        from pixelcnn.datasets import open_for_model
        from pixelcnn.devices import device_of
        from pixelcnn.evaluation import evaluate
        from pixelcnn.files import printable
        from pixelcnn.models.base import load
        from pixelcnn.processes import job

        if self.images is not None and self.images < 1:
            raise ValueError(f"--images must be at least 1, got {self.images}")
        model = load(self.model).to(device_of(self.device))
        data = open_for_model(
            self.data,
            model.image_shape,
            model.levels,
            crop=self.crop,
            bit_depth=self.bit_depth,
            layout=self.layout,
            held_out=self.held_out,
            test=self.test,
        )
        classes = getattr(model.config, "num_classes", None)
        labels = data.labels if self.labels and classes is not None else None
        if labels is not None and len(data.classes or ()) != classes:
            raise ValueError(
                f"{self.data} has {len(data.classes or ())} classes, but the model {classes}; --no-labels evaluates "
                "without them"
            )
        images, labels = data.images[: self.images], None if labels is None else labels[: self.images]
        result = evaluate(model, images, labels, progress=True, processes=job())
        if self.json:
            names = {"model": printable(self.model), "data": printable(self.data)}
            print(json.dumps({**names, **_values(result, tuple(map(printable, data.classes or ())))}, indent=2))
            return
        given = "" if labels is None else ", given their classes"
        low, high = result.interval
        print(f"{self.model} on {result.images:,} images of {self.data}{given}")
        print(f"  nats/image      {result.nats_per_image:.3f} +- {result.standard_error:.3f} (standard error)")
        print(f"                  {low:.3f} .. {high:.3f} (95 % bootstrap interval)")
        print(f"  nats/sub-pixel  {result.nats_per_subpixel:.5f}")
        print(f"  bits/dim        {result.bits_per_dim:.5f}")
        for label, part in result.by_class.items():
            name = (data.classes or ())[label]
            print(f"  class {name:<10}{part.nats_per_image:.3f} +- {part.standard_error:.3f}, {part.images:,} images")
        print(f"  {result.images_per_second:,.0f} images/s", file=sys.stderr)


def _values(result: Evaluation, classes: tuple[str, ...] | None) -> dict[str, Any]:
    """The evaluation as JSON values: classes by name, NaN as null."""
    values = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in dataclasses.asdict(result).items()
        if name not in ("by_class", "interval")
    }
    values["interval"] = None if math.isnan(result.interval[0]) else list(result.interval)
    if result.by_class:
        values["by_class"] = {(classes or ())[k]: _values(part, None) for k, part in result.by_class.items()}
    return values
