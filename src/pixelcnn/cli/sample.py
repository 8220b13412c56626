"""`pixelcnn sample`: draws images from a model into picture files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from pixelcnn.models import AutoregressiveModel

__all__ = ["Sample"]

_STRIP = 12  # moments shown in a strip
_FRAMES = 100  # at most, in an animation


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw images from a model.

    Image i of a seed is the same whatever -n and the engine.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, or a training run's folder."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 16
    """How many images."""
    seed: int = 0
    """Which images: each seed gives an endless row of them."""
    label: int | None = None
    """The class to draw, for a class-conditional model."""
    temperature: float = 1.0
    """1 draws from the model's distribution; below 1 sharper, above 1 wilder."""
    engine: Literal["fast", "native", "eager", "reference"] = "fast"
    """`fast` is `native` (compiled for this processor) where there is a C compiler, else `eager` (PyTorch);
    `reference` runs one full forward a sub-pixel: slow, and the same images."""
    out: Path | None = None
    """A PNG file for the grid, by default samples.png; with --separate a folder, by default samples; with --steps a
    GIF or PNG file, by default samples.gif."""
    separate: bool = False
    """Write one PNG an image, in its own size, instead of a grid."""
    steps: bool = False
    """Show the images growing instead of the finished grid: --out ending in .gif is an animation of up to 64 images,
    in .png a strip of moments for each of up to 8."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""

    def run(self) -> None:
        """Draws and writes."""
        from pixelcnn.devices import device_of
        from pixelcnn.files import writable_folder
        from pixelcnn.images import grid, save_png, to_pil
        from pixelcnn.models.storage import load
        from pixelcnn.sampling import check_arguments

        check_arguments(self.n, self.seed, self.temperature)
        if self.separate and self.steps:
            raise ValueError("--separate and --steps exclude each other: leave one out")
        if self.steps and self.engine != "fast":
            raise ValueError(f"--steps draws with the fast engine only, got --engine {self.engine}")
        out = self.out or Path("samples" if self.separate else "samples.gif" if self.steps else "samples.png")
        allowed = (".gif", ".png") if self.steps else (".png",)
        if not self.separate and out.suffix.lower() not in allowed:
            raise ValueError(f"--out must end in {' or '.join(allowed)}, got {str(out)!r}")
        model = load(self.model).to(device_of(self.device))
        if self.label is not None:
            raise ValueError(f"--label must be left out, got {self.label}: {self.model} has no classes")
        writable_folder(out if self.separate else out.parent)
        if self.steps:
            self._show_growing(model, out)
            return

        started = time.perf_counter()
        images = model.sample(
            self.n, seed=self.seed, temperature=self.temperature, engine=self.engine, progress=True
        ).cpu()
        seconds = time.perf_counter() - started
        if self.separate:
            digits = max(5, len(str(self.n - 1)))
            for k, image in enumerate(images):
                save_png(to_pil(image, model.levels), out / f"{k:0{digits}d}.png")
        else:
            save_png(grid(images, model.levels), out)
        print(f"{self.n} images in {seconds:.2f} s: {out}")

    def _show_growing(self, model: AutoregressiveModel, path: Path) -> None:
        """Draws the first images, keeping moments spread evenly over the steps."""
        import torch

        from pixelcnn.images import grid, save_gif, save_png
        from pixelcnn.sampling.schedule import schedule_of

        animated = path.suffix.lower() == ".gif"
        n = min(self.n, 64 if animated else 8)
        total = schedule_of(model).wavefront.steps
        moments = min(_FRAMES if animated else _STRIP, total)
        wanted = {round((k + 1) * total / moments) for k in range(moments)}
        canvases = model.sample_steps(n, seed=self.seed, temperature=self.temperature)
        kept = [canvas.cpu().clone() for step, canvas in enumerate(canvases, start=1) if step in wanted]
        if animated:
            save_gif([grid(canvas, model.levels) for canvas in kept], path)
        else:
            rows = torch.stack(kept, dim=1).flatten(0, 1)  # a row an image, a column a moment
            save_png(grid(rows, model.levels, columns=len(kept)), path)
        print(f"{n} images growing, {len(kept)} moments of {total} steps: {path}")
