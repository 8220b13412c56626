"""Anomaly detection: how well each score tells MNIST's test images from others, as areas under the ROC curve.

    python benchmarks/anomaly.py --background FOLDER [--model mnist] [--images 1000] [--out benchmarks-out]

The others are MNIST itself, inverted, turned by 90 degrees, with noise, with its pixels shuffled (always by one
permutation), and scikit-learn's digits scaled to 28 x 28. The background model of the likelihood ratio is one that
`pixelcnn train mnist --mutate 0.2` has made. Batches of the typicality test have `--batch` images. 0.5 is chance, and
less than that is worse than chance: the score finds the others more usual. Writes anomaly.json and anomaly.md into
the folder `--out`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

import pixelcnn
from machine import Machine
from pixelcnn.devices import device_of
from pixelcnn.files import write_file
from pixelcnn.scoring import score
from table import markdown


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compare."""

    background: Path
    """The background model of the likelihood ratio, a model's or a run's folder."""
    model: str = "mnist"
    """A model of MNIST."""
    images: int = 1000
    """Of MNIST and of each of the others."""
    batch: int = 10
    """Images that the typicality test judges together."""
    noise: float = 0.1
    """Probability that a pixel is replaced by a level drawn uniformly, perhaps its own."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


def others(images: Tensor, levels: int, noise: float) -> dict[str, Tensor]:
    """Images that a model of MNIST should find unusual, by name."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(28 * 28, generator=generator)
    replaced = torch.rand(images.shape, generator=generator) < noise
    random = torch.randint(levels, images.shape, generator=generator).to(torch.uint8)
    return {
        "inverted": levels - 1 - images,
        "turned by 90 degrees": images.rot90(1, (2, 3)).contiguous(),
        f"noise in {noise:.0%} of the pixels": torch.where(replaced, random, images),
        "pixels shuffled": images.flatten(1)[:, order].view_as(images),
        "scikit-learn's digits": digits(levels)[: len(images)],
    }


def digits(levels: int) -> Tensor:
    """scikit-learn's 8 x 8 digits in 17 greys, as MNIST's: 20 x 20 in the middle of 28 x 28, the same levels."""
    from sklearn.datasets import load_digits

    found = []
    for small in load_digits().images:
        picture = Image.fromarray((small * 255 / 16).round().astype(np.uint8)).resize(
            (20, 20), Image.Resampling.BICUBIC
        )
        found.append(np.pad(np.asarray(picture), 4))
    grey = torch.from_numpy(np.stack(found)).unsqueeze(1)
    if levels == 2:
        return (grey >= round(0.33 * 256)).to(torch.uint8)
    return (grey.long() * levels // 256).to(torch.uint8)


def auroc(usual: Tensor, unusual: Tensor) -> float:
    """Probability that an unusual image has the higher score, ties half."""
    less = (usual[:, None] < unusual).double().mean()
    equal = (usual[:, None] == unusual).double().mean()
    return float(less + equal / 2)


def main(options: Options) -> None:
    """Scores, compares and writes."""
    device = device_of(options.device)
    machine = Machine.of(device)
    model, background = (pixelcnn.load(name).to(device) for name in (options.model, options.background))
    images, _ = pixelcnn.datasets.mnist("test", model.levels)
    reference, _ = pixelcnn.datasets.mnist("validation", model.levels)
    images, reference = images[: options.images], reference[: options.images]
    scores: dict[str, Callable[[Tensor], Tensor]] = {
        "likelihood": lambda x: score(model, x).score,
        "ratio": lambda x: score(model, x, method="ratio", background=background).score,
        "complexity": lambda x: score(model, x, method="complexity").score,
        "typicality": lambda x: score(model, x, method="typicality", reference=reference).score,
        f"typicality, batches of {options.batch}": lambda x: score(
            model, x, method="typicality", reference=reference, batch=options.batch
        ).score[:: options.batch],
    }
    usual = {name: function(images) for name, function in scores.items()}
    areas: dict[str, dict[str, float]] = {}
    for other, unusual in others(images, model.levels, options.noise).items():
        areas[other] = {name: auroc(usual[name], function(unusual)) for name, function in scores.items()}
        print(other, areas[other], flush=True)
    rows = [[other, *(f"{found[name]:.3f}" for name in scores)] for other, found in areas.items()]
    table = (
        f"{machine}; commit {machine.commit}. Model {options.model}, {len(images)} images each.\n\n"
        f"{markdown(['unusual images', *scores], rows)}\n"
    )
    print(f"\n{table}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(options.out / "anomaly.md", table)
    report = {"machine": dataclasses.asdict(machine), "model": options.model, "areas": areas}
    write_file(options.out / "anomaly.json", json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
