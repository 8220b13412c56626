"""Completion: the middle rows of MNIST's test images hidden, by particles and by plain ancestral sampling.

    python benchmarks/completion.py [--model mnist-seed] [--images 64] [--particles 256] [--out benchmarks-out]

The likelihoods are those of whole images: of the true one, of the particles' draws, and of ancestral sampling, which
ignores what is known below and pastes it. Writes completion.json, completion.md and completion.png (a panel of 6
images) into the folder `--out`.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

import pixelcnn
from machine import Machine
from pixelcnn.benchmark import matrix_rate
from pixelcnn.completion import Method
from pixelcnn.devices import device_of
from pixelcnn.files import write_file
from pixelcnn.images import completion_panel, save_png
from table import markdown, short


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to complete."""

    model: str = "mnist-seed"
    """A model of MNIST in black and white."""
    images: int = 64
    """The first so many test images."""
    rows: int = 14
    """Rows in the middle that are hidden."""
    particles: int = 256
    """Particles for each image."""
    n: int = 8
    """Draws for each image."""
    moves: int = 0
    """Moves of each draw at the end."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


def main(options: Options) -> None:
    """Completes, measures and writes."""
    warnings.filterwarnings("ignore", "the effective sample size")  # the table tells it
    device = device_of(options.device)
    machine, rates = Machine.of(device), [matrix_rate(device)]
    model = pixelcnn.load(options.model).to(device)
    images, _ = pixelcnn.datasets.mnist("test", model.levels)
    images = images[: options.images]
    above = (28 - options.rows) // 2
    known = torch.ones(28, 28, dtype=torch.bool)
    known[above : above + options.rows] = False

    def nats(completed: Tensor) -> Tensor:
        return -model.log_prob(completed.to(device)).double().cpu()

    rows, report = [], {}
    with torch.inference_mode():
        rows.append(["the true images", "", "", short(nats(images).mean().item()), ""])
        methods: tuple[Method, ...] = ("raster", "auto")
        for method in methods:
            model.complete(images[:1], known, 1, 2, method=method, moves=options.moves, seed=0)  # compiles
            started = time.perf_counter()
            found = model.complete(
                images, known, options.n, options.particles, method=method, moves=options.moves, progress=True, seed=0
            )
            seconds = time.perf_counter() - started
            of_draws = nats(found.images.flatten(0, 1)).view(len(images), -1).mean(1)
            error = of_draws.std().item() / len(images) ** 0.5
            sizes = [found.ess.quantile(q).item() for q in (0.0, 0.5)]
            exact = method == "raster"
            rows.append([
                "ancestral, pasted" if exact else f"{options.particles} particles",
                f"{seconds:.1f} s",
                "" if exact else f"{sizes[0]:.1f}, {sizes[1]:.1f}",
                f"{of_draws.mean().item():.2f} +- {error:.2f}",
                "" if exact else f"{-found.log_evidence.mean().item():.2f}",
            ])  # fmt: skip
            report[method] = {
                "seconds": seconds,
                "nats": of_draws.tolist(),
                "ess": found.ess.tolist(),
                "log_evidence": found.log_evidence.tolist(),
            }
    rates.append(matrix_rate(device))
    header = ["", "time", "effective sample size, minimum and median", "nats per whole image", "-log p(known), nats"]
    table = (
        f"{machine.conditions(rates)}\n\n{len(images)} test images, {options.rows} rows in the middle hidden, model "
        f"{options.model}, {options.n} draws, {options.moves} moves.\n\n{markdown(header, rows)}\n"
    )
    print(f"\n{table}")
    options.out.mkdir(parents=True, exist_ok=True)
    shown = images[:6]
    panel = completion_panel(shown, known.expand(shown.shape), found.images[: len(shown)].cpu(), model.levels)
    save_png(panel, options.out / "completion.png")
    write_file(options.out / "completion.md", table)
    about = {"machine": dataclasses.asdict(machine), "rates": rates, "options": {**vars(options), "out": ""}}
    write_file(options.out / "completion.json", json.dumps({**about, **report}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
