"""`pixelcnn sample`: draws images from a model into picture files or, for millions of them, shards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from pixelcnn.models import AutoregressiveModel

__all__ = ["Sample"]

_STRIP = 12  # moments shown in a strip
_FRAMES = 100  # at most, in an animation
_GRID = 10_000  # images that are put into one picture without being asked for


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw images from a model.

    Image i of a seed is the same whatever -n and the engine. For any number of images let --out name a folder: they are
    written as they are drawn, in NumPy files of --shard-size images each (uint8 levels, count x C x H x W), in memory
    that does not grow with -n. Ctrl-C or a kill loses the shard that was being drawn, the same command goes on, and a
    larger -n prolongs.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub,
    user/name or user/name@revision."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 16
    """How many images."""
    seed: int = 0
    """Which images: each seed gives an endless row of them."""
    first: int = 0
    """Index of the first image in that row: `--first 64` goes on where `-n 64` ended."""
    label: tuple[int, ...] | Literal["all"] | None = None
    """The class to draw, for a class-conditional model; without it any. Several, or `all`, take turns, image by image,
    and become the columns of a grid."""
    guidance: float = 1.0
    """With --label: above 1 exaggerates what makes the class (classifier-free guidance)."""
    temperature: float = 1.0
    """1 draws from the model's distribution; below 1 sharper, above 1 wilder."""
    engine: Literal["fast", "native", "graph", "eager", "reference"] = "fast"
    """`fast` is `native` (compiled for this processor) where there is a C compiler, on CUDA `graph`, else
    `eager` (PyTorch); `reference` runs one full forward a sub-pixel: slow, and the same images."""
    precision: Literal["float32", "bf16"] | None = None
    """`bf16` rounds the operands of products to bfloat16: faster on a GPU, and other images. By default the model's
    own type."""
    exact: bool = False
    """Draw in exact arithmetic: the same images to the bit on any machine and device, about half as fast."""
    out: Path | None = None
    """A PNG file for a grid, by default samples.png (no default above 10,000 images); a name without an ending,
    or an existing folder, for shards; with --separate a folder, by default samples; with --steps a GIF or PNG file, by
    default samples.gif."""
    shard_size: int | None = None
    """Images of a shard, by default 10,000, or as many as fit into 64 MiB."""
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
        from pixelcnn.files import is_special_file, writable_file, writable_folder
        from pixelcnn.models.base import load
        from pixelcnn.processes import job
        from pixelcnn.sampling import checked_arguments

        checked_arguments(self.n, self.seed, self.temperature, self.first)
        if self.separate and self.steps:
            raise ValueError("--separate and --steps exclude each other: leave one out")
        if self.steps and self.engine != "fast":
            raise ValueError(f"--steps draws with the fast engine only, got --engine {self.engine}")
        out = self.out or Path("samples" if self.separate else "samples.gif" if self.steps else "samples.png")
        special = is_special_file(out)  # which takes one file, whatever it is called
        in_shards = not (self.separate or self.steps or special) and (out.is_dir() or not out.suffix)
        self._check_out(out, in_shards, special)
        if job().count > 1 and not in_shards:
            raise ValueError(
                f"--out must name a folder, for shards, where several processes draw, got {str(out)!r}; one process is "
                "enough for pictures"
            )
        model = load(self.model).to(device_of(self.device))
        classes = self._classes(model)
        if in_shards:
            self._write_shards(model, classes, out)
            return
        if self.separate:
            writable_folder(out)
        else:
            writable_file(out)
        if self.steps:
            self._show_growing(model, classes, out)
        elif self.separate:
            self._write_separate(model, classes, out)
        else:
            self._write_grid(model, classes, out)

    def _classes(self, model: AutoregressiveModel) -> tuple[int, ...] | None:
        """The classes that take turns; None for any."""
        if self.label is None:
            return None
        classes: int | None = getattr(model.config, "num_classes", None)
        if classes is None:
            given = self.label if self.label == "all" else " ".join(map(str, self.label))
            raise ValueError(f"--label must be left out, got {given}: {self.model} has no classes")
        if self.label == "all":
            return tuple(range(classes))
        for label in self.label:
            if not 0 <= label < classes:
                raise ValueError(f"--label must be in 0..{classes - 1}, got {label}")
        return self.label

    def _check_out(self, out: Path, in_shards: bool, special: bool) -> None:
        """Whether --out and what goes with it fit the kind of output that was asked for."""
        if self.shard_size is not None and not in_shards:
            raise ValueError(f"--shard-size is for shards: let --out name a folder, got {str(out)!r}")
        if special:
            return
        if self.steps and out.suffix.lower() not in (".gif", ".png"):
            raise ValueError(f"--out must end in .gif or .png, got {str(out)!r}")
        if self.steps or self.separate or in_shards:
            return
        if out.suffix.lower() != ".png":
            raise ValueError(
                f"--out must end in .png, for a grid, or have no ending, for a folder of shards, got {str(out)!r}"
            )
        if self.out is None and self.n > _GRID:
            raise ValueError(
                f"--out must be given for more than {_GRID} images, got -n {self.n}: a folder for shards, as in "
                "--out samples, or a .png file for one picture"
            )

    def _draw(self, classes: tuple[int, ...] | None, n: int) -> dict[str, Any]:
        """Which images to draw, as the model's methods take it."""
        from pixelcnn.sampling import labels_in_turn

        return {
            "labels": labels_in_turn(classes, self.first, n),
            "guidance": self.guidance,
            "precision": self.precision,
            "seed": self.seed,
            "temperature": self.temperature,
            "first": self.first,
            "exact": self.exact,
        }

    def _write_grid(self, model: AutoregressiveModel, classes: tuple[int, ...] | None, path: Path) -> None:
        from pixelcnn.images import grid, save_png

        started = time.perf_counter()
        images = model.sample(
            self.n,
            **self._draw(classes, self.n),
            engine=self.engine,
            progress=True,
        ).cpu()
        seconds = time.perf_counter() - started
        columns = len(classes) if classes is not None and len(classes) > 1 else None
        save_png(grid(images, model.levels, columns), path)
        print(f"{self.n} images in {seconds:.2f} s: {path}")

    def _write_separate(self, model: AutoregressiveModel, classes: tuple[int, ...] | None, folder: Path) -> None:
        """A file an image, as they are drawn."""
        from pixelcnn.images import save_png, to_pil

        started = time.perf_counter()
        digits = max(5, len(str(self.first + self.n - 1)))
        chunks = model.sample_stream(
            self.n,
            **self._draw(classes, self.n),
            engine=self.engine,
            progress=True,
        )
        for k, image in enumerate((image for chunk in chunks for image in chunk), start=self.first):
            save_png(to_pil(image, model.levels), folder / f"{k:0{digits}d}.png")
        print(f"{self.n} images in {time.perf_counter() - started:.2f} s: {folder}")

    def _write_shards(self, model: AutoregressiveModel, classes: tuple[int, ...] | None, folder: Path) -> None:
        from pixelcnn.processes import job
        from pixelcnn.shards import write_shards

        started = time.perf_counter()
        drawn = write_shards(
            model,
            self.n,
            folder,
            seed=self.seed,
            temperature=self.temperature,
            engine=self.engine,
            first=self.first,
            classes=classes,
            guidance=self.guidance,
            precision=self.precision,
            exact=self.exact,
            shard_size=self.shard_size,
            name=self.model,
            progress=True,
            processes=job(),
        )
        print(f"{drawn} images in {time.perf_counter() - started:.2f} s, {self.n} in all: {folder}")

    def _show_growing(self, model: AutoregressiveModel, classes: tuple[int, ...] | None, path: Path) -> None:
        """Draws the first images, keeping moments spread evenly over the steps."""
        import torch

        from pixelcnn.images import grid, save_gif, save_png
        from pixelcnn.sampling.schedule import schedule_of

        animated = path.suffix.lower() != ".png"
        n = min(self.n, 64 if animated else 8)
        total = schedule_of(model).wavefront.steps
        moments = min(_FRAMES if animated else _STRIP, total)
        wanted = {round((k + 1) * total / moments) for k in range(moments)}
        canvases = model.sample_steps(n, **self._draw(classes, n))
        kept = [canvas.cpu().clone() for step, canvas in enumerate(canvases, start=1) if step in wanted]
        if animated:
            save_gif([grid(canvas, model.levels) for canvas in kept], path)
        else:
            rows = torch.stack(kept, dim=1).flatten(0, 1)  # a row an image, a column a moment
            save_png(grid(rows, model.levels, columns=len(kept)), path)
        print(f"{n} images growing, {len(kept)} moments of {total} steps: {path}")
