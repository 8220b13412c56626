"""Training from an energy: 16 x 16 Ising spins at the critical point beside NetKet, and 4 x 4 ones beside enumeration.

    python benchmarks/energies.py [--minutes 2] [--batch 500] [--netket-python .venv-netket/bin/python]
    python benchmarks/energies.py --proofs [--steps 400]

The first trains both for the same minutes, one after the other, with networks of about as many parameters; the table
has seconds per step, draws per second, as many at a time as in a step, and the free energy at the end. NetKet has an
environment of its own, see benchmarks/netket/requirements.txt. With `--proofs` each of the small lattices is trained,
reweighted and compared. Writes energies.md or energies-proofs.md into the folder `--out`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import pixelcnn
from competitors import Absent, Worker
from machine import ROOT, Machine
from pixelcnn.benchmark import matrix_rate
from pixelcnn.config import EnergyConfig
from pixelcnn.energies import EdwardsAnderson, Ising, enumerated_log_z, every_image, kaufman_log_z, magnetisation
from pixelcnn.files import write_file
from pixelcnn.training.energy import EnergyStepper
from table import markdown

CRITICAL = math.log(1 + math.sqrt(2)) / 2
SIZE = 16


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    minutes: float = 2.0
    """Training of each competitor."""
    batch: int = 500
    """Images per step."""
    rate: float = 2e-3
    """Learning rate of both, constant."""
    netket_python: Path = ROOT / ".venv-netket/bin/python"
    """The interpreter of NetKet's environment."""
    proofs: bool = False
    """Train the small lattices instead."""
    steps: int = 400
    """Steps of each of these."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


def ours(options: Options) -> tuple[str, int, float, float, float]:
    """About, parameters, seconds per step, draws per second, free energy per spin."""
    model = pixelcnn.PixelCNN((1, SIZE, SIZE), filters=32, blocks=3, generator=torch.Generator().manual_seed(0))
    steps = 10**6
    config = EnergyConfig(
        beta=(CRITICAL, CRITICAL), steps=steps, batch_size=options.batch, anneal=0.0, schedule="constant",
        learning_rate=options.rate, clip_norm=None,
    )  # fmt: skip
    stepper = EnergyStepper(model, Ising(), config)
    stepper.step(options.rate)  # sets up
    started, taken = time.perf_counter(), 0
    losses: list[float] = []
    while time.perf_counter() - started < 60 * options.minutes:
        losses.append(stepper.step(options.rate).loss)
        taken += 1
    each = (time.perf_counter() - started) / taken
    started = time.perf_counter()
    for seed in range(4):
        model.sample(options.batch, seed=seed)
    draws = 4 * options.batch / (time.perf_counter() - started)
    last = losses[-20:]
    parameters = sum(p.numel() for p in model.parameters())
    return f"pixelcnn {pixelcnn.__version__}", parameters, each, draws, sum(last) / len(last) / CRITICAL


def netket(options: Options) -> tuple[str, int, float, float, float]:
    """The same of NetKet."""
    command = [str(options.netket_python), str(ROOT / "benchmarks/netket/ising.py")]
    command += ["--size", str(SIZE), "--batch", str(options.batch), "--learning-rate", str(options.rate)]
    with Worker(command, {}) as worker:
        about = worker.about
        steps = max(21, round(60 * options.minutes / about["step_seconds"]))
        values = [worker.measure(count) for count in (steps - 20, *[1] * 20)]
    seconds = sum(value["seconds"] for value in values)
    draws = steps * options.batch / sum(value["drawing_seconds"] for value in values)
    free = sum(value["free_energy"] for value in values[1:]) / 20
    return about["about"], about["parameters"], seconds / steps, draws, free


def beside(options: Options) -> str:
    """The table of both."""
    exact = -kaufman_log_z(SIZE, SIZE, CRITICAL) / CRITICAL / SIZE**2
    rows = [["exact (Kaufman)", "", "", "", f"{exact:.5f}", ""]]
    missing = ""
    for competitor in (ours, netket):
        try:
            about, parameters, seconds, draws, free = competitor(options)
        except Absent as why:
            missing = f"\n\n- **NetKet** is not here: {why}."
            continue
        off = f"{1 - free / exact:.1e}"
        rows.append([about, f"{parameters:,}", f"{seconds:.3f}", f"{draws:,.0f}", f"{free:.5f}", off])
    heads = ["", "parameters", "seconds per step", "draws per second", "free energy per spin", "above"]
    return f"{options.batch} images per step, {options.minutes:g} minutes each.\n\n{markdown(heads, rows)}{missing}"


def lattices() -> Iterator[tuple[str, Ising, float]]:
    """The small lattices with their temperatures."""
    for boundary in ("periodic", "free"):
        for beta in (0.2, CRITICAL, 0.7):
            yield f"Ising, {boundary}", Ising(boundary=boundary), beta
    yield "Ising, periodic, field 0.1", Ising(field=0.1), CRITICAL
    yield "Edwards-Anderson, seed 1", EdwardsAnderson((4, 4), seed=1), 0.8


def proofs(options: Options) -> str:
    """The table of small lattices: free energy, and the distance of the histogram of magnetisations."""
    rows = []
    for name, energy, beta in lattices():
        model = pixelcnn.GatedPixelCNN(
            (1, 4, 4), filters=16, layers=3, first_kernel=7, kernel_size=7, places=True,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        found = pixelcnn.fit_energy(
            model, energy, beta=beta, steps=options.steps, batch_size=128, learning_rate=0.01, ema=0.98
        )
        exact = enumerated_log_z(energy, (1, 4, 4), 2, beta)
        images = next(every_image((1, 4, 4), 2))
        share = torch.softmax(-beta * energy(images), 0)
        bins = torch.linspace(-1, 1, 17, dtype=torch.float64)

        def histogram(x: torch.Tensor, weights: torch.Tensor | None = None, bins: torch.Tensor = bins) -> torch.Tensor:
            index = torch.bucketize(magnetisation(x), bins + 1e-9)
            counts = torch.bincount(index, weights, minlength=18).double()
            return counts / counts.sum()

        distance = (histogram(images, share) - histogram(model.sample(found.n, seed=0))).abs().sum().item() / 2
        rows.append(
            [
                f"{name}, beta {beta:.3f}",
                f"{exact:.5f}",
                f"{(exact + beta * found.variational_free_energy) / exact:.1e}",
                f"{(found.log_z - exact) / found.log_z_error:+.1f}",
                f"{found.ess:.4f}",
                f"{distance:.3f}",
            ]
        )
        print(rows[-1], flush=True)
    heads = ["4 x 4", "ln Z", "variational above", "reweighted, errors", "effective size", "magnetisations off"]
    return f"{options.steps} steps of 128 images each.\n\n{markdown(heads, rows)}"


def main(options: Options) -> None:
    """Measures and writes."""
    if not options.proofs and not options.netket_python.exists():
        raise SystemExit(f"there is no {options.netket_python}; benchmarks/netket/requirements.txt says how to make it")
    device = torch.device("cpu")
    machine, rates = Machine.of(device), [matrix_rate(device)]
    table = proofs(options) if options.proofs else beside(options)
    rates.append(matrix_rate(device))
    text = f"{machine.conditions(rates)}\n\n{table}\n"
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(options.out / ("energies-proofs.md" if options.proofs else "energies.md"), text)
    print(f"\n{text}\nwritten to {options.out}")


if __name__ == "__main__":
    main(tyro.cli(Options))
