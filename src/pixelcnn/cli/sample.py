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
    engine: Literal["fast", "reference"] = "fast"
    """`reference` runs one full forward a sub-pixel: slow, and the same images."""
    out: Path | None = None
    """A PNG file for the grid, by default samples.png; with --separate a folder, by default samples."""
    separate: bool = False
    """Write one PNG an image, in its own size, instead of a grid."""
    steps: Path | None = None
    """Also show the images growing: a file ending in .gif is an animation, one in .png a strip of moments."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""

    def run(self) -> None:
        """Draws and writes."""
        from pixelcnn.devices import device_of
        from pixelcnn.files import writable_folder
        from pixelcnn.images import grid, save_png, to_pil
        from pixelcnn.models.storage import load

        out = self.out or Path("samples" if self.separate else "samples.png")
        if not self.separate and out.suffix.lower() != ".png":
            raise ValueError(f"--out must end in .png, or be a folder with --separate, got {str(out)!r}")
        if self.steps is not None and self.steps.suffix.lower() not in (".gif", ".png"):
            raise ValueError(f"--steps must end in .gif or .png, got {str(self.steps)!r}")
        model = load(self.model).to(device_of(self.device))
        if self.label is not None:
            raise ValueError(f"--label must be left out, got {self.label}: {self.model} has no classes")
        writable_folder(out if self.separate else out.parent)
        if self.steps is not None:
            writable_folder(self.steps.parent)

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
        if self.steps is not None:
            self._show_growing(model, self.steps)
            print(f"the images growing: {self.steps}")

    def _show_growing(self, model: AutoregressiveModel, path: Path) -> None:
        """Draws the first images again, keeping moments spread evenly over the steps."""
        import torch

        from pixelcnn.images import grid, save_gif, save_png
        from pixelcnn.sampling.fast import wavefront_of

        animated = path.suffix.lower() == ".gif"
        n = min(self.n, 64 if animated else 8)
        total = wavefront_of(model).steps
        moments = min(_FRAMES if animated else _STRIP, total)
        wanted = {round((k + 1) * total / moments) for k in range(moments)}
        canvases = model.sample_steps(n, seed=self.seed, temperature=self.temperature)
        kept = [canvas.cpu().clone() for step, canvas in enumerate(canvases, start=1) if step in wanted]
        if animated:
            save_gif([grid(canvas, model.levels) for canvas in kept], path)
        else:
            rows = torch.stack(kept, dim=1).flatten(0, 1)  # a row an image, a column a moment
            save_png(grid(rows, model.levels, columns=len(kept)), path)
