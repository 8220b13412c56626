"""One network for all temperatures: the Ising model from its energy, with beta as the network's condition.

    python examples/temperatures.py [--size 8] [--steps 700] [--batch-size 256] [--out temperatures] ...

Writes the run and temperatures.png into the folder `--out`: free energy against temperature beside the exact curve,
effective sample sizes, and draws at three temperatures. Stopped, the same command goes on.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure

import pixelcnn
from pixelcnn.energies import Ising, kaufman_log_z
from pixelcnn.images import grid
from pixelcnn.training import Interrupted

CRITICAL = math.log(1 + math.sqrt(2)) / 2
BETAS = [0.1, 0.2, 0.3, 0.35, 0.4, CRITICAL, 0.48, 0.55, 0.65, 0.8]
SHOWN = [0.2, CRITICAL, 0.65]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to train."""

    size: int = 8
    """Rows and columns of the lattice."""
    steps: int = 700
    """Length of the run."""
    batch_size: int = 256
    """Images per step."""
    learning_rate: float = 0.01
    """The peak learning rate."""
    n: int = 4096
    """Draws at each temperature."""
    out: Path = Path("temperatures")
    """Folder of the run."""


def main(options: Options) -> None:
    """Trains, estimates and draws the figure."""
    size, sites = options.size, options.size**2
    model = pixelcnn.GatedPixelCNN(
        (1, size, size), filters=16, layers=3, first_kernel=9, kernel_size=7, places=True, condition_dim=1,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    pixelcnn.fit_energy(
        model, Ising(), beta=(0.0, max(BETAS)), steps=options.steps, batch_size=options.batch_size,
        learning_rate=options.learning_rate, ema=0.98, n=options.n, out=options.out,
    )  # fmt: skip
    found = [pixelcnn.reweight(model, Ising(), beta, options.n) for beta in BETAS]
    curve = np.linspace(min(BETAS), max(BETAS), 100)

    figure = Figure(figsize=(9.6, 4.9), layout="constrained", facecolor="white")
    panels = figure.subplot_mosaic([list("aaabbb"), list("ccddee")], height_ratios=[2.4, 1])
    left, right = panels["a"], panels["b"]
    exact = [-kaufman_log_z(size, size, beta) / beta / sites for beta in curve]
    left.plot(1 / curve, exact, color="#22262b", label="exact (Kaufman)")
    values = [each.variational_free_energy / sites for each in found]
    left.plot([1 / each.beta for each in found], values, "o", color="#e07b39", label="one network, variational")
    left.set(xlabel="temperature 1 / beta", ylabel="free energy per spin", title=f"{size} x {size}, periodic")
    above = [each.variational_free_energy / sites + kaufman_log_z(size, size, each.beta) / each.beta / sites
             for each in found]  # fmt: skip
    right.plot([1 / each.beta for each in found], [each.ess for each in found], "o-", color="#3b6fb6")
    right.set(xlabel="temperature 1 / beta", ylabel="effective sample size / draws", ylim=(0, 1.03))
    for axes in (left, right):
        axes.axvline(1 / CRITICAL, color="#9aa1aa", linestyle=":")
        axes.grid(alpha=0.3)
    left.legend()
    for axes, beta in zip((panels[name] for name in "cde"), SHOWN, strict=True):
        draws = model.sample(16, [[beta]] * 16, seed=1)
        axes.imshow(np.asarray(grid(draws, model.levels, columns=8)), cmap="gray")
        axes.set(xticks=[], yticks=[], title=f"draws at temperature {1 / beta:.2f}")
    figure.savefig(options.out / "temperatures.png", dpi=110)

    print("\n   beta  variational above exact, relative   reweighted ln Z off, in errors   effective sample size")
    for each, gap in zip(found, above, strict=True):
        off = (each.log_z - kaufman_log_z(size, size, each.beta)) / each.log_z_error
        print(f"{each.beta:7.3f}  {gap / abs(each.free_energy / sites):33.1e}  {off:31.1f}  {each.ess:22.3f}")
    print(f"{options.out / 'temperatures.png'} shows them")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except Interrupted as stop:  # by Ctrl-C or SIGTERM, with a checkpoint
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
