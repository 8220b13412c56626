"""`pixelcnn score`: how unusual each image is under a model, and where."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.config import Layout

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.datasets import Data
    from pixelcnn.models import AutoregressiveModel
    from pixelcnn.scoring import Scores

__all__ = ["ScoreCommand"]


@dataclass(frozen=True, kw_only=True)
class ScoreCommand:
    """Score images: the log-likelihood of each, in a table, and on request a map of where it is surprising.

    A likelihood alone can be a poor anomaly score: simple images have high ones, usual or not. --score chooses one that
    corrects this; all are higher for what is more unusual, in bits a sub-pixel.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub,
    user/name or user/name@revision."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """As for `pixelcnn evaluate`: mnist:test, a folder of pictures, a .npy or .npz file, ..."""
    out: Path = Path("scores.csv")
    """The table: an image a line, with its name, log-likelihood in nats, bits/dim, and score."""
    score: Literal["likelihood", "ratio", "complexity", "typicality"] = "likelihood"
    """`likelihood`: bits/dim. `ratio`: against --background (Ren et al., 2019). `complexity`: less what a lossless
    compressor needs (Serra et al., 2020). `typicality`: distance from the usual likelihood, that of --reference, by
    batches of --batch images (Nalisnick et al., 2019)."""
    background: str | None = None
    """For --score ratio: a model of the background alone, say one trained with --mutate 0.2."""
    reference: str | None = None
    """For --score typicality: usual images that were not trained on, such as mnist:validation."""
    batch: int = 1
    """For --score typicality: so many consecutive images are judged together."""
    maps: Path | None = None
    """A folder for maps of surprise: a PNG an image, with a colour bar in bits a pixel."""
    classify: bool = False
    """Of a class-conditional model: the most probable class of each image, by Bayes' rule, and its probability. One
    forward a class."""
    labels: bool = False
    """Of a class-conditional model: score each image given its class, if the data have classes."""
    images: int | None = None
    """Score the first so many images instead of all."""
    crop: Literal["centre", "patches"] = "centre"
    """How pictures get the model's size: scaled and cropped, or cut into patches."""
    bit_depth: int | None = None
    """Bits of a value of pictures that are stored with 16, as for `pixelcnn train`."""
    layout: Layout | None = None
    """What the axes of an array are, where the model's shape does not say."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""

    def run(self) -> None:
        """Scores and writes."""
        from pixelcnn.devices import device_of
        from pixelcnn.files import printable, writable_file, writable_folder, write_file
        from pixelcnn.models.storage import load
        from pixelcnn.scoring import score

        if self.images is not None and self.images < 1:
            raise ValueError(f"--images must be at least 1, got {self.images}")
        for option, value, needed in (
            ("--background", self.background, "ratio"),
            ("--reference", self.reference, "typicality"),
        ):
            if (value is not None) != (self.score == needed):
                rule = "given" if self.score == needed else "left out"
                raise ValueError(f"{option} must be {rule} for --score {self.score}")
        device = device_of(self.device)
        model = load(self.model).to(device)
        classes: int | None = getattr(model.config, "num_classes", None)
        if (self.classify or self.labels) and classes is None:
            raise ValueError(f"--{'classify' if self.classify else 'labels'} needs classes, and {self.model} has none")
        data = self._opened(self.data, model)
        images = data.images[: self.images]
        names = [printable(name) for name in data.names()[: len(images)]]  # before the work
        labels = data.labels[: self.images] if self.labels and data.labels is not None else None
        if self.labels and (labels is None or len(data.classes or ()) != classes):
            raise ValueError(
                f"--labels needs the model's {classes} classes, and {self.data} has {len(data.classes or ())}"
            )
        writable_file(self.out)
        if self.maps is not None:
            writable_folder(self.maps)
        found = score(
            model,
            images,
            labels,
            method=self.score,
            background=None if self.background is None else load(self.background).to(device),
            reference=None if self.reference is None else self._opened(self.reference, model).images,
            batch=self.batch,
            progress=True,
        )
        write_file(self.out, self._table(model, images, data, names, found))
        print(
            f"{len(images):,} images of {self.data} under {self.model}: {found.bits_per_dim.mean():.5f} bits/dim, "
            f"score {found.score.min():.5f} .. {found.score.max():.5f} (median {found.score.median():.5f}): {self.out}"
        )
        if self.maps is not None:
            self._write_maps(model, images, labels, names, self.maps)

    def _opened(self, name: str, model: AutoregressiveModel) -> Data:
        from pixelcnn.datasets import open_for_model

        return open_for_model(
            name, model.image_shape, model.levels, crop=self.crop, bit_depth=self.bit_depth, layout=self.layout
        )

    def _table(self, model: AutoregressiveModel, images: Tensor, data: Data, names: list[str], found: Scores) -> str:
        from pixelcnn.files import printable

        columns = {
            "image": names,
            "log_prob": [f"{value:.6f}" for value in found.log_prob.tolist()],
            "bits_per_dim": [f"{value:.8f}" for value in found.bits_per_dim.tolist()],
        }
        if self.score != "likelihood":
            columns[self.score] = [f"{value:.8f}" for value in found.score.tolist()]
        if self.classify:
            posterior, label = self._posterior(model, images)
            known = data.classes if len(data.classes or ()) == posterior.shape[1] else None
            columns["class"] = [printable(known[k]) if known else str(k) for k in label.tolist()]
            columns["probability"] = [f"{value:.6f}" for value in posterior.amax(1).tolist()]
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return buffer.getvalue()

    def _posterior(self, model: AutoregressiveModel, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior probabilities (N, classes), and the most probable class (N,)."""
        import torch

        from pixelcnn.progress import progress_bar

        parts = []
        with torch.inference_mode(), progress_bar("classifying", len(images), "img", show=True) as bar:
            for part in torch.split(images, 256):
                parts.append(model.classify(part.to(model.device)).exp().cpu())
                bar.update(len(part))
        posterior = torch.cat(parts)
        return posterior, posterior.argmax(1)

    def _write_maps(
        self, model: AutoregressiveModel, images: Tensor, labels: Tensor | None, names: list[str], folder: Path
    ) -> None:
        import torch

        from pixelcnn.files import write_file
        from pixelcnn.images import surprise_map
        from pixelcnn.progress import progress_bar

        digits = max(5, len(str(len(images) - 1)))
        with torch.inference_mode(), progress_bar("drawing maps", len(images), "img", show=True) as bar:
            for start in range(0, len(images), 64):
                part = images[start : start + 64].to(model.device)
                maps = model.log_prob_map(part, None if labels is None else labels[start : start + 64])
                for k, (image, log_probs) in enumerate(zip(part, maps, strict=True), start=start):
                    picture = surprise_map(image, log_probs, model.levels, names[k])
                    write_file(folder / f"{k:0{digits}d}.png", picture)
                    bar.update()
        print(f"maps of surprise: {folder}")
