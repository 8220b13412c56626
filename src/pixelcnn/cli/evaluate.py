"""`pixelcnn evaluate` and `pixelcnn score`: how probable images are under a model, on average and one by one."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pixelcnn.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.datasets import Data
    from pixelcnn.evaluation import Evaluation
    from pixelcnn.models import AutoregressiveModel
    from pixelcnn.scoring import Scores


@dataclass(frozen=True, kw_only=True)
class _OnData:
    """A command that looks at data with a model."""

    model: options.ModelName
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """mnist:SPLIT with SPLIT one of train, validation, test, seed-train, seed-validation; mnist means mnist:test.
    mnist-dynamic:SPLIT: the same, with each pixel drawn once and for all, white with probability grey / 255. Or what
    `pixelcnn train` takes: a folder of pictures, a .npy or .npz file, CIFAR-10's binary version, hf:NAME; a suffix
    :train, :validation or :test selects one of its splits. Pictures are brought to the model's size, channels and
    levels; see --crop."""
    images: int | None = None
    """Use only this many images, the first ones, instead of all."""
    crop: Literal["centre", "patches", "none"] = "centre"
    """How pictures are brought to the model's size: scaled and cropped, or cut into patches, as in training. `none`
    leaves a folder's pictures, one picture, or an array as they are, for networks without a size of their own."""
    held_out: options.HeldOut = 0.1
    test: options.TestShare = 0.0
    bit_depth: options.BitDepth = None
    layout: options.Layout = None
    condition: options.Condition = None
    device: options.Device = "auto"
    threads: options.Threads = None

    @property
    def _reading(self) -> dict[str, Any]:
        """How images are read, as fields of `DataConfig`, but for `crop`."""
        return {"bit_depth": self.bit_depth, "layout": self.layout, "held_out": self.held_out, "test": self.test}

    def _parts(self, model: AutoregressiveModel) -> Iterator[Data]:
        """The first --images images of DATA, those of one size at a time."""
        left = math.inf if self.images is None else self.images
        one_size = self.crop != "none"
        for data in [self._opened(self.data, model)] if one_size else self._own_sizes(model):
            kept = int(min(left, len(data.images)))
            labels, names = None if data.labels is None else data.labels[:kept], data.names()[:kept]
            yield replace(data, images=data.images[:kept], labels=labels, names=names.copy)
            left -= kept
            if not left:
                return

    def _own_sizes(self, model: AutoregressiveModel) -> Iterator[Data]:
        """DATA's images as they are."""
        from pixelcnn.datasets import open_own_sizes
        from pixelcnn.processes import job

        channels, height, width = model.image_shape
        if not model.any_size:
            raise ValueError(
                f"--crop none needs a model without a size of its own, and {self.model} is for {height} x {width}"
            )
        if job().count > 1:
            raise ValueError("--crop none is for one process")
        yield from open_own_sizes(self.data, channels, model.levels, **self._reading)

    def _opened(self, data: str, model: AutoregressiveModel) -> Data:
        """A data source, as the model takes it."""
        from pixelcnn.datasets import open_for_model

        return open_for_model(data, model.image_shape, model.levels, crop=self.crop, **self._reading)


@dataclass(frozen=True, kw_only=True)
class Evaluate(_OnData):
    """Evaluate a model on images: nats per image and per sub-pixel, bits/dim, standard error, bootstrap interval and
    throughput; for a class-conditional model by class too.
    """

    classes: Literal["given", "marginal", "none"] = "given"
    """For a class-conditional model: `given` evaluates each image given its class, if the data have classes; `marginal`
    the mixture of the classes, all equally probable, which takes a pass per class and also says how many images it
    classifies right; `none` what the model has learnt from images without their classes."""
    json: bool = False
    """Print a JSON object instead of text."""

    def run(self) -> None:
        """Evaluates and prints."""
        from pixelcnn.evaluation import evaluate_parts
        from pixelcnn.files import printable
        from pixelcnn.processes import job

        options.check_limit(self.images)
        model = options.loaded(self.model, self.device)
        count, given = model.num_classes, [self.condition] if self.condition else []
        names: tuple[str, ...] = ()

        def parts() -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
            nonlocal names
            for data in self._parts(model):
                labels, classes = options.labels_of(model, data)
                names = tuple(map(printable, classes))
                labels = None if self.classes == "none" or count is None else labels
                if labels is not None and len(names) != count:
                    raise ValueError(
                        f"{self.data} has {len(names)} classes, but the model {count}; --classes none evaluates "
                        "without them"
                    )
                own, images = model.fitting(data.images), data.images
                condition = options.condition_of(self.condition, own, self.model, images, data.names(), data.total)
                yield images, labels, condition

        marginal = self.classes == "marginal"
        result = evaluate_parts(model, parts(), marginal=marginal, progress=True, processes=job())
        if self.json:
            about = {"model": printable(self.model), "data": printable(self.data)}
            print(json.dumps({**about, **_values(result, names)}, indent=2))
            return
        given = [*([] if not result.by_class or marginal else ["their classes"]), *given]
        how = f", given {' and '.join(given)}" if given else ""
        how += f", as the mixture of {count} classes" if marginal else ""
        print(f"{self.model} on {result.images:,} images of {self.data}{how}")
        low, high = result.interval
        print(f"  nats/image      {result.nats_per_image:.3f} +- {result.standard_error:.3f} (standard error)")
        print(f"                  {low:.3f} .. {high:.3f} (95 % bootstrap interval)")
        print(f"  nats/sub-pixel  {result.nats_per_subpixel:.5f}")
        print(f"  bits/dim        {result.bits_per_dim:.5f}")
        if result.accuracy is not None:
            print(f"  right class     {100 * result.accuracy:.2f} % of the images, by Bayes' rule")
        width = max([10, *(len(names[label]) + 2 for label in result.by_class)])
        for label, part in result.by_class.items():
            figure = f"{part.nats_per_image:.3f} +- {part.standard_error:.3f}, {part.images:,} images"
            print(f"  class {names[label]:<{width}}{figure}")
        print(f"  {result.images_per_second:,.0f} images/s", file=sys.stderr)


def _values(result: Evaluation, classes: tuple[str, ...] | None) -> dict[str, Any]:
    """The evaluation as JSON values: classes by name; NaN and infinity, which JSON does not have, as null."""
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in dataclasses.asdict(result).items()
        if name not in ("by_class", "interval")
    }
    values["interval"] = list(result.interval) if all(map(math.isfinite, result.interval)) else None
    if result.by_class:
        values["by_class"] = {(classes or ())[k]: _values(part, None) for k, part in result.by_class.items()}
    return values


@dataclass(frozen=True, kw_only=True)
class ScoreCommand(_OnData):
    """Score images: a table of each image's log-likelihood, and on request maps of where it is surprising.

    The likelihood alone can be a poor anomaly score, since simple images have high likelihoods whether they are usual
    or not. --score chooses one that corrects for this. All scores are in bits per sub-pixel, and higher for more
    unusual images.
    """

    out: Path = Path("scores.csv")
    """The table: one line per image, with its name, log-likelihood in nats, bits/dim and, unless that is bits/dim, the
    score."""
    score: Literal["likelihood", "ratio", "complexity", "typicality"] = "likelihood"
    """`likelihood`: bits/dim. `ratio`: the same, minus the bits/dim under --background (Ren et al., 2019).
    `complexity`: the same, minus what a lossless compressor needs (Serra et al., 2020). `typicality`: distance from the
    typical likelihood, that of --reference, in batches of --batch images (Nalisnick et al., 2019)."""
    background: str | None = None
    """For --score ratio: a model of the background alone, such as one trained with --mutate 0.2. It scores without
    classes and --condition."""
    reference: str | None = None
    """For --score typicality: typical images that were not trained on, such as mnist:validation. They are scored
    without classes and --condition."""
    batch: int = 1
    """For --score typicality: number of consecutive images that are judged together; the last batch may have fewer."""
    maps: Path | None = None
    """A folder for maps of surprise: one PNG per image, with a colour bar in bits per pixel."""
    classify: bool = False
    """For a class-conditional model: add the most probable class of each image, by Bayes' rule, and its probability.
    Takes one forward pass per class."""
    labels: bool = False
    """For a class-conditional model: score each image given its class, which the data must have."""

    def run(self) -> None:
        """Scores and writes."""
        from pixelcnn.files import printable, writable_file, writable_folder, write_file
        from pixelcnn.models import MixtureModel
        from pixelcnn.scoring import score

        options.check_limit(self.images)
        for option, value, needed in (
            ("--background", self.background, "ratio"),
            ("--reference", self.reference, "typicality"),
        ):
            if (value is not None) != (self.score == needed):
                rule = "given" if self.score == needed else "left out"
                raise ValueError(f"{option} must be {rule} for --score {self.score}")
        model = options.loaded(self.model, self.device)
        classes = model.num_classes
        if (self.classify or self.labels) and classes is None:
            raise ValueError(f"--{'classify' if self.classify else 'labels'} needs classes, and {self.model} has none")
        if self.crop == "none" and self.score == "typicality":
            raise ValueError("--score typicality is for images of one size: leave out --crop none")
        options.check_other_file("--out", self.out, self.data, self.reference)
        writable_file(self.out)
        if self.maps is not None:
            if isinstance(model, MixtureModel):
                raise ValueError(f"--maps must be left out, got {self.maps}: {self.model} is a mixture, without maps")
            options.check_outside("--maps", self.maps, self.data)
            writable_folder(self.maps)
        background = None if self.background is None else options.loaded(self.background, self.device)
        reference = None if self.reference is None else self._opened(self.reference, model).images
        rows: list[dict[str, str]] = []
        bits, scores = [], []
        for data in self._parts(model):
            images, own = data.images, model.fitting(data.images)
            names = [printable(name) for name in data.names()]  # before the work
            labels = options.labels_of(own, data)[0] if self.labels else None
            if self.labels and (labels is None or len(data.classes or ()) != classes):
                raise ValueError(
                    f"--labels needs the model's {classes} classes, and {self.data} has {len(data.classes or ())}"
                )
            condition = options.condition_of(self.condition, own, self.model, images, data.names(), data.total)
            found = score(
                own,
                images,
                labels,
                condition=condition,
                method=self.score,
                background=background,
                reference=reference,
                batch=self.batch,
                progress=True,
            )
            if self.maps is not None:
                self._write_maps(own, images, (labels, condition), names, self.maps, first=len(rows))
            rows += self._rows(own, data, condition, names, found)
            bits += found.bits_per_dim.tolist()
            scores += found.score.tolist()
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(self.out, buffer.getvalue())
        print(
            f"{len(rows):,} images of {self.data} under {self.model}: {statistics.fmean(bits):.5f} bits/dim, "
            f"score {min(scores):.5f} .. {max(scores):.5f} (median {statistics.median_low(scores):.5f}): {self.out}"
        )
        if self.maps is not None:
            print(f"maps of surprise: {self.maps}")

    def _rows(
        self, model: AutoregressiveModel, data: Data, condition: Tensor | None, names: list[str], found: Scores
    ) -> list[dict[str, str]]:
        """The table's lines, by the names of their columns."""
        from pixelcnn.files import printable

        columns = {
            "image": names,
            "log_prob": [f"{value:.6f}" for value in found.log_prob.tolist()],
            "bits_per_dim": [f"{value:.8f}" for value in found.bits_per_dim.tolist()],
        }
        if self.score != "likelihood":
            columns[self.score] = [f"{value:.8f}" for value in found.score.tolist()]
        if self.classify:
            posterior = options.class_posteriors(model, data.images, condition, "classifying")
            known = model.class_names or (data.classes if len(data.classes or ()) == posterior.shape[1] else None)
            columns["class"] = [printable(known[k]) if known else str(k) for k in posterior.argmax(1).tolist()]
            columns["probability"] = [f"{value:.6f}" for value in posterior.amax(1).tolist()]
        return [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]

    def _write_maps(
        self,
        model: AutoregressiveModel,
        images: Tensor,
        given: tuple[Tensor | None, Tensor | None],
        names: list[str],
        folder: Path,
        first: int,
    ) -> None:
        import torch

        from pixelcnn.files import write_file
        from pixelcnn.images import surprise_map
        from pixelcnn.progress import progress_bar

        with torch.inference_mode(), progress_bar("drawing maps", len(images), "img", show=True) as bar:
            for start in range(0, len(images), 64):
                part = images[start : start + 64].to(model.device)
                labels, condition = (None if each is None else each[start : start + 64] for each in given)
                maps = model.log_prob_map(part, labels, condition=condition)
                for k, (image, log_probs) in enumerate(zip(part, maps, strict=True), start=start):
                    picture = surprise_map(image, log_probs, model.levels, names[k])
                    write_file(folder / options.picture_name(first + k, first + len(images) - 1), picture)
                    bar.update()


COMMANDS = {"evaluate": Evaluate, "score": ScoreCommand}
