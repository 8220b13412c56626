"""`pixelcnn bench`: how fast this machine samples from a model."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelcnn.cli import options
from pixelcnn.config.engines import Engine


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Time sampling on this machine, compared with the usual method of one full forward pass per sub-pixel.

    The speed counts only the arithmetic that no mask removes. Leave the machine idle meanwhile.
    """

    model: options.ModelName = "mnist"
    batches: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Batch sizes: numbers of images drawn at a time."""
    engine: Annotated[Engine, tyro.conf.arg(help=f"{options.ENGINES}.")] = "fast"
    reference: bool = True
    """Time a few full forward passes too, for the ratio (--no-reference omits them)."""
    seconds: float = 1.0
    """Seconds spent on each batch size, at most 3600."""
    out: Path | None = None
    """A JSON file for the measurements."""
    device: options.Device = "auto"
    threads: options.Threads = None

    def run(self) -> None:
        """Measures and prints."""
        import torch

        from pixelcnn.benchmark import bench, matrix_rate, multiply_adds
        from pixelcnn.devices import describe
        from pixelcnn.files import printable, writable_file, write_file
        from pixelcnn.sampling import engine_of
        from pixelcnn.sampling.schedule import schedule_of

        if not self.batches or min(self.batches) < 1:
            raise ValueError(
                f"--batches must be numbers of at least 1, got {' '.join(map(str, self.batches)) or 'none'}"
            )
        if not 0 < self.seconds <= 3600:
            raise ValueError(f"--seconds must be in 0..3600 and not 0, got {self.seconds}")
        if self.out is not None:
            writable_file(self.out)
        model = options.loaded(self.model, self.device)
        engine = engine_of(model, self.engine).name
        rows = bench(
            model, list(self.batches), engine=self.engine, reference=self.reference, seconds=self.seconds, progress=True
        )
        rate = matrix_rate(model.device)
        c, h, w = model.image_shape
        hardware = describe(model.device)
        steps = model.subpixels if engine == "reference" else schedule_of(model).wavefront.steps
        print(f"{self.model}: {h} x {w} x {c}, {model.levels} levels; {steps} steps of the {engine} engine")
        print(f"{hardware}, PyTorch {torch.__version__}; products of large matrices: {rate:,.0f} GFLOP/s")
        print(f"one image needs {2e-9 * multiply_adds(model):.3f} GFLOP that no mask removes")
        print()
        heading = f"{'images':>6}  {'seconds (fastest .. slowest)':<32}{'ms/image':>9}{'images/s':>10}"
        heading += f"{'GFLOP/s':>9}{'of rate':>9}"
        print(heading + (f"{'one pass per sub-pixel':>26}{'ratio':>8}" if self.reference else ""))
        for row in rows:
            spread = f"{row.seconds:.4f} ({row.fastest:.4f} .. {row.slowest:.4f})"
            line = f"{row.n:>6}  {spread:<32}{1e3 * row.seconds / row.n:>9.2f}{row.n / row.seconds:>10.1f}"
            line += f"{row.gflops:>9.1f}{row.gflops / rate:>9.2f}"
            if row.reference_seconds is not None:
                line += f"{row.reference_seconds:>24.1f} s{row.reference_seconds / row.seconds:>8.0f}"
            print(line)
        if self.out is not None:
            report = {
                "model": printable(self.model),
                "engine": engine,
                "hardware": hardware,
                "torch": torch.__version__,
                "matrix_gflops": rate,
                "multiply_adds_per_image": multiply_adds(model),
                "rows": [dataclasses.asdict(row) for row in rows],
            }
            write_file(self.out, json.dumps(report, indent=2) + "\n")


COMMANDS = {"bench": Bench}
