"""A large picture, scored, compressed and decompressed on the command line: time, and memory beyond the import's.

    python benchmarks/large.py [--megapixels 1 3 12] [--threads 2] [--out benchmarks-out]

The picture is made: smooth colours with noise, 4 : 3. Weights are fresh, of a `PixelCNN` for 32 x 32, since what a
pixel costs does not depend on them. The memory is the largest resident size of the command's process, less that of a
process that imports PyTorch and loads the model. Writes large.md into the folder `--out`.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image

import pixelcnn
from machine import Machine
from pixelcnn.files import write_file
from table import duration, markdown


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    megapixels: tuple[float, ...] = (1, 3, 12)
    """Sizes of the picture, in 1e6 pixels."""
    threads: int = 2
    """PyTorch's, in each command."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


def picture(megapixels: float) -> Image.Image:
    """An RGB picture of about so many pixels."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 16, generator=generator)
    values = F.interpolate(coarse, (height, height * 4 // 3), mode="bicubic")[0].permute(1, 2, 0).mul_(220).add_(15)
    values += torch.randn(values.shape, generator=generator) * 3
    return Image.fromarray(values.round_().clamp_(0, 255).numpy().astype(np.uint8))


def measured(*arguments: str, folder: Path, threads: int) -> tuple[float, float]:
    """Seconds of a command, and the largest resident size of its process in MiB."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "pixelcnn", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None:  # not from `wait4`, whose figure includes this process at the time it forked
        with contextlib.suppress(OSError, TypeError):
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            peak = max(peak, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]))  # type: ignore[index]
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return time.perf_counter() - started, peak / 1024


def main(options: Options) -> None:
    """Measures and writes the table."""
    torch.set_num_threads(options.threads)
    machine = Machine.of(torch.device("cpu"))  # before the load is our own
    model = pixelcnn.PixelCNN((3, 32, 32), 256, filters=24, blocks=2, generator=torch.Generator().manual_seed(0))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder / "model")
        _, loaded = measured("info", "model", folder=folder, threads=options.threads)
        for megapixels in options.megapixels:
            made = picture(megapixels)
            made.save(folder / "photo.png", compress_level=1)
            commands = {
                "score": ("score", "model", "photo.png", "--crop", "none"),
                "compress": ("compress", "model", "photo.png", "--no-verify", "--out", "photo.pxcn"),
                "decompress": ("decompress", "model", "photo.pxcn", "--out", f"again{megapixels}"),
            }
            for job, arguments in commands.items():
                seconds, peak = measured(*arguments, folder=folder, threads=options.threads)
                size = f"{made.width} x {made.height}"
                rows.append((f"{megapixels:g}", size, job, duration(seconds), f"{peak - loaded:,.0f} MiB"))
                print(*rows[-1], sep="  ", file=sys.stderr)
            with Image.open(folder / f"again{megapixels}" / "photo.png") as again:
                assert np.array_equal(np.asarray(again), np.asarray(made)), "decompressed to another picture"
    parameters = sum(p.numel() for p in model.parameters())
    title = f"PixelCNN of {parameters:,} parameters, {loaded:,.0f} MiB when loaded; {machine}"
    header = ("megapixels", "size", "command", "time", "memory beyond that")
    text = f"{title}, commit {machine.commit}, load {machine.load:.1f} before\n\n{markdown(header, rows)}\n"
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(options.out / "large.md", text)
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
