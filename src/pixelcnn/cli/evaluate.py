"""`pixelcnn evaluate`: how probable images are under a model."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from pixelcnn.cli import options

if TYPE_CHECKING:
    from pixelcnn.evaluation import Evaluation

__all__ = ["Evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a model on images: nats per image and per sub-pixel, bits/dim, standard error, bootstrap interval and
    throughput; for a class-conditional model by class too.
    """

    model: options.ModelName
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """mnist:SPLIT with SPLIT one of train, validation, test, seed-train, seed-validation; mnist means mnist:test.
    mnist-dynamic:SPLIT: the same, with each pixel drawn once and for all, white with probability grey / 255. Or what
    `pixelcnn train` takes: a folder of pictures, a .npy or .npz file, CIFAR-10's binary version, hf:NAME; a suffix
    :train, :validation or :test selects one of its splits. Pictures are brought to the model's size, channels and
    levels."""
    images: options.ImageLimit = None
    labels: bool = True
    """For a class-conditional model: evaluate each image given its class, if the data have classes."""
    crop: options.Crop = "centre"
    bit_depth: options.BitDepth = None
    layout: options.Layout = None
    held_out: float = 0.1
    """Share of the images in DATA:validation; as in training."""
    test: float = 0.0
    """Share of the images in DATA:test; as in training."""
    json: bool = False
    """Print a JSON object instead of text."""
    device: options.Device = "auto"

    def run(self) -> None:
        """Evaluates and prints."""
        from pixelcnn.datasets import open_for_model
        from pixelcnn.evaluation import evaluate
        from pixelcnn.files import printable
        from pixelcnn.processes import job

        options.check_limit(self.images)
        model = options.loaded(self.model, self.device)
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
