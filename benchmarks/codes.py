"""Drawing grids of codes: 16 of 32 x 32 with 8,192 codes, by a network of a million parameters, beside full forwards.

    python benchmarks/codes.py [--codes 8192] [--side 32] [--batch 16] [--out benchmarks-out]

Weights are fresh: what a draw costs does not depend on them. The full forwards, one per position, are all alike, so a
few are measured and scaled; they are the reference sampler's, which makes the logits of the current position only. On a
smaller grid the engine's codes are compared with those of the reference sampler. Writes codes.json and codes.md into
the folder `--out`.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import pixelcnn
from machine import Machine, peak_bytes
from pixelcnn.benchmark import reference_seconds, sampling_seconds
from pixelcnn.files import write_file
from table import duration, markdown


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    codes: int = 8192
    """Entries of the codebook."""
    side: int = 32
    """Rows and columns of a grid."""
    batch: int = 16
    """Grids drawn at a time."""
    seconds: float = 5.0
    """Time for the draws, whose median counts."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


def network(codes: int, side: int) -> pixelcnn.GatedPixelCNN:
    """A network of about a million parameters at 8,192 codes."""
    return pixelcnn.GatedPixelCNN((1, side, side), codes, filters=48, layers=6, first_kernel=5, embedding=48)


def main(options: Options) -> None:
    """Measures and writes the table."""
    model = network(options.codes, options.side)
    machine = Machine.of(model.device)  # before the load is our own
    with torch.inference_mode():
        small = network(options.codes, 4)
        same = torch.equal(small.sample(3, seed=1), small.sample(3, seed=1, engine="reference"))
        seconds = statistics.median(sampling_seconds(model, options.batch, seconds=options.seconds))
        forwards = reference_seconds(model, options.batch)
    parameters = sum(p.numel() for p in model.parameters())
    rows = [
        ("one draw of the batch", duration(seconds)),
        ("per grid", duration(seconds / options.batch)),
        ("per grid, one full forward pass per position", duration(forwards / options.batch)),
        ("ratio", f"{forwards / seconds:,.0f}"),
        ("4 x 4 grids equal to the reference sampler's", "yes" if same else "NO"),
        ("largest memory of the process", f"{peak_bytes(model.device) / 2**20:,.0f} MiB"),
    ]
    title = (
        f"{options.batch} grids of {options.side} x {options.side}, {options.codes:,} codes, {parameters:,} parameters"
    )
    text = (
        f"{title}, {machine}, commit {machine.commit}, load {machine.load:.1f} before\n\n"
        + markdown(("what", "figure"), rows)
        + "\n"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"options": {**dataclasses.asdict(options), "out": None}, "parameters": parameters, "seconds": seconds}
    write_file(options.out / "codes.json", json.dumps({**result, "forwards": forwards, "same": same}, indent=2) + "\n")
    write_file(options.out / "codes.md", text)
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
