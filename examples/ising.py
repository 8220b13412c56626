"""Physics without data: train on the energy of the Ising model at its critical point, compare with the exact solution.

    python examples/ising.py [--size 16] [--steps 420] [--batch-size 128] [--out ising] ...

The lattice is periodic, so that Kaufman's formula gives its free energy. The network is symmetrised over the sign of
the spins. Stopped, the same command goes on. Writes the run, a picture of draws and how far the variational free
energy was above the exact one into the folder `--out`; `--help` shows the other options, and runs/ising.sh has those of
a long run.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import pixelcnn
from pixelcnn.energies import Ising, kaufman_log_z, magnetisation
from pixelcnn.images import grid, save_png
from pixelcnn.training import Interrupted

CRITICAL = math.log(1 + math.sqrt(2)) / 2


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train on what."""

    size: int = 16
    """Rows and columns of the lattice."""
    beta: float = CRITICAL
    """Inverse temperature."""
    steps: int = 420
    """Length of the run."""
    batch_size: int = 128
    """Images per step."""
    optimizer: Literal["adam", "muon"] = "adam"
    """As for `pixelcnn.fit_energy`."""
    learning_rate: float = 5e-3
    """The peak learning rate."""
    ema: float | None = 0.99
    """Decay of the average of the weights."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the gradient's products: `bf16` is 1.3 times as fast where a processor has it."""
    filters: int = 16
    """Features of the network."""
    first_kernel: int = 31
    """Size of its first kernel, which has to see the whole lattice: the last row is coupled with the first."""
    kernels: tuple[int, ...] = (3, 3)
    """Sizes of the kernels of its other layers."""
    group: tuple[str, ...] = ("flip",)
    """Symmetries, of `pixelcnn.symmetries.GROUPS`."""
    n: int = 10_000
    """Draws for the estimate."""
    seed: int = 0
    """Of the weights and of the images."""
    out: Path = Path("ising")
    """Folder of the run."""


def draw_curve(run: Path, log_z: float) -> None:
    """Draws the relative distance of the variational bound from ln Z per spin, means of 100 steps at the final beta."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    final = (1 - 1e-9) * records[-1]["beta"]
    found = [  # a record has the beta of its last step: in the first with the final one it may still rise
        (each["step"], each["loss"] / log_z + 1)
        for before, each in itertools.pairwise(records)
        if before["beta"] > final
    ]
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(*zip(*found, strict=True))
    axes.set(xlabel="step", ylabel="relative distance\nfrom the exact free energy")
    axes.grid(alpha=0.3)
    figure.savefig(run / "curve.png", dpi=120)


def main(options: Options) -> None:
    """Trains, estimates and compares."""
    started = time.monotonic()
    size, beta, sites = options.size, options.beta, options.size**2
    member = pixelcnn.GatedPixelCNN(
        (1, size, size), filters=options.filters, layers=1 + len(options.kernels),
        first_kernel=options.first_kernel, kernel_size=options.kernels, places=True,
        generator=torch.Generator().manual_seed(options.seed),
    )  # fmt: skip
    model = pixelcnn.Symmetrised(member, options.group)

    def size_of_magnetisation(images: Tensor) -> Tensor:
        return magnetisation(images).abs()

    found = pixelcnn.fit_energy(
        model, Ising(), beta=beta, steps=options.steps, batch_size=options.batch_size, seed=options.seed,
        optimizer=options.optimizer, learning_rate=options.learning_rate, ema=options.ema,
        precision=options.precision, n=options.n, out=options.out,
        observables={"size of magnetisation": size_of_magnetisation},
    )  # fmt: skip
    save_png(grid(model.sample(64, seed=options.seed), model.levels, columns=16), options.out / "draws.png")

    exact = -kaufman_log_z(size, size, beta) / beta / sites
    draw_curve(options.out, -beta * exact)
    rows = [
        ("exact", exact, None),
        ("variational", found.variational_free_energy / sites, found.variational_free_energy_error / sites),
        ("reweighted", found.free_energy / sites, found.free_energy_error / sites),
    ]
    print(f"\n{size} x {size} spins at beta = {beta:.6f}, free energy per spin:")
    for name, value, error in rows:
        compared = "" if error is None else f" +- {error:.7f}, off by {abs(value / exact - 1):.1e}"
        print(f"  {name:<12}{value:.7f}{compared}")
    mean, error = found.observables["size of magnetisation"]
    print(
        f"effective sample size {found.ess:.3f} of the draws; energy {found.energy / sites:.5f} and heat capacity "
        f"{found.heat_capacity / sites:.3f} per spin; size of magnetisation {mean:.4f} +- {error:.4f}\n"
        f"{time.monotonic() - started:.0f} s; {options.out / 'draws.png'} shows 64 draws"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except Interrupted as stop:  # by Ctrl-C or SIGTERM, with a checkpoint
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
