"""`pixelcnn sample`: draws images from a model into picture files or, for millions of them, shards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.arguments import integer
from pixelcnn.cli import options
from pixelcnn.config.engines import Engine

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.models import AutoregressiveModel
    from pixelcnn.sampling import Draw

_MAX_STRIP = 12  # moments shown in a strip
_MAX_FRAMES = 100  # of an animation
_MAX_GRID = 10_000  # images in one picture, unless --out asks for it


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw images from a model.

    Image i of a seed is the same whatever -n and the engine. For any number of images let --out name a folder: they are
    written as they are drawn, in NumPy files of --shard-size images each (levels, count x C x H x W, uint8, or int32 if
    there are more than 256), in memory that does not grow with -n. If the command is stopped or killed, only the shard
    that was being drawn is lost; the same command continues, and with a larger -n extends the set.
    """

    model: options.ModelName
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 16
    """Number of images."""
    seed: int = 0
    """Which images, 0..2^63-1: each seed gives an endless sequence of them."""
    first: int = 0
    """Index of the first image in that sequence: `--first 64` continues where `-n 64` ended."""
    size: str | None = None
    """Height and width of the images, as in 48x64, for a network that is good for any size; by default the model's."""
    label: tuple[str, ...] | None = None
    """Class to draw, by its number or name, for a class-conditional model; by default the class is left open. Several
    classes, or `all`, take turns image by image and become the columns of a grid."""
    condition: str | None = None
    """For a model that is conditional on a map or a vector: small pictures, as a file or a folder, a .npy file, or
    `labels:PATH` for categories. Several take turns image by image; by default it is left open."""
    guidance: float = 1.0
    """With --label or --condition: values above 1 exaggerate the features of the class (classifier-free guidance); 1 is
    the model's own distribution."""
    temperature: float = 1.0
    """1 draws from the model's distribution; lower values give more typical images, higher values wilder ones."""
    engine: Annotated[
        Engine,
        tyro.conf.arg(
            help=f"{options.ENGINES}; `reference` runs one full forward pass per sub-pixel: slow, and the same images."
        ),
    ] = "fast"
    precision: Literal["float32", "bf16"] | None = None
    """`bf16` rounds the operands of products to bfloat16, which is faster on a GPU and gives other images. By default
    the model's own type."""
    exact: bool = False
    """Draw from the model rounded to a fixed grid: the images are reproducible bit for bit on any machine and device,
    at about half the speed."""
    out: Path | None = None
    """A PNG file for a grid, by default samples.png (above 10,000 images it must be given); a name without a suffix, or
    an existing folder, for shards; with --separate a folder, by default samples; with --steps a GIF or PNG file, by
    default samples.gif."""
    shard_size: int | None = None
    """Images per shard, by default 10,000, or as many as fit into 64 MiB if these are fewer."""
    separate: bool = False
    """Write one PNG file per image, in its own size, instead of a grid; with more than 256 levels, of 16 bits."""
    steps: bool = False
    """Show the images growing instead of the finished grid: --out ending in .gif is an animation of up to 64 images,
    ending in .png a strip of moments for each of up to 8."""
    device: options.Device = "auto"
    threads: options.Threads = None

    def run(self) -> None:
        """Draws and writes."""
        from pixelcnn.files import is_special_file, writable_file, writable_folder
        from pixelcnn.processes import job

        integer("n", self.n, 1, 2**63 - 1)
        self._draw().plain()  # checks the numbers, before anything takes time
        if self.separate and self.steps:
            raise ValueError("--separate and --steps exclude each other: leave one out")
        if self.steps and self.engine != "fast":
            raise ValueError(f"--steps draws with the fast engine only, got --engine {self.engine}")
        out = self.out or Path("samples" if self.separate else "samples.gif" if self.steps else "samples.png")
        special = is_special_file(out)  # a device or pipe takes one file, whatever it is called
        in_shards = not (self.separate or self.steps or special) and (out.is_dir() or not out.suffix)
        self._check_out(out, in_shards, special)
        if job().count > 1 and not in_shards:
            raise ValueError(
                f"--out must name a folder, for shards, if several processes draw, got {str(out)!r}; one process is "
                "enough for pictures"
            )
        model = options.resized(options.loaded(self.model, self.device), self.size)
        classes = None if self.label is None else options.checked_classes(model, self.model, self.label)
        maps = self._maps(model)
        if self.separate:
            self._check_pictures(model)
        if in_shards:
            self._write_shards(model, classes, out)
        elif self.separate:
            self._write_separate(model, classes, maps, writable_folder(out))
        elif self.steps:
            self._show_growing(model, classes, maps, writable_file(out))
        else:
            self._write_grid(model, classes, maps, writable_file(out))

    def _check_out(self, out: Path, in_shards: bool, special: bool) -> None:
        """Checks that --out and what goes with it fit the kind of output that was requested."""
        if self.condition is not None and in_shards:
            raise ValueError(f"--condition is for pictures, not for shards: let --out name a file, got {str(out)!r}")
        if self.condition is not None:
            read = self.condition.removeprefix("labels:")
            options.check_other_file("--out", out, read)
            options.check_outside("--out", out, read)
        if self.shard_size is not None and not in_shards:
            raise ValueError(f"--shard-size is for shards: let --out name a folder, got {str(out)!r}")
        if self.steps:
            options.check_suffix("--out", out, ".gif", ".png")
        if self.steps or self.separate or in_shards or special:
            return
        if out.suffix.lower() != ".png":
            raise ValueError(
                f"--out must end in .png, for a grid, or have no ending, for a folder of shards, got {str(out)!r}"
            )
        if self.out is None and self.n > _MAX_GRID:
            raise ValueError(
                f"--out must be given for more than {_MAX_GRID} images, got -n {self.n}: a folder for shards, as in "
                "--out samples, or a .png file for one picture"
            )

    def _check_pictures(self, model: AutoregressiveModel) -> None:
        """Checks that picture files can hold the model's images."""
        from pixelcnn.images import exact_channels

        allowed, channels = exact_channels(model.levels), model.image_shape[0]
        if channels not in allowed:
            raise ValueError(
                f"--separate writes pictures of {' or '.join(map(str, allowed))} channels for {model.levels} levels, "
                f"and {self.model} has {channels}: leave it out, and let --out name a folder for arrays"
            )

    def _maps(self, model: AutoregressiveModel) -> Tensor | None:
        """All that --condition names."""
        if self.condition is None:
            return None
        from pixelcnn.datasets import read_maps

        options.check_conditional(model, self.model, self.condition)
        maps = read_maps(self.condition, colour=model.conditions.numbers == 3)
        return model.conditions.checked_condition(maps, len(maps), "--condition")

    def _draw(self, classes: tuple[int, ...] | None = None, maps: Tensor | None = None) -> Draw:
        """Which images to draw; classes and maps take turns."""
        import torch

        from pixelcnn.sampling import Draw, labels_in_turn

        labels = labels_in_turn(classes, self.first, self.n)
        if maps is not None:
            maps = maps[torch.arange(self.first, self.first + self.n, device="cpu") % len(maps)]
        return Draw(
            self.n, labels, self.seed, self.temperature, self.first, self.guidance, self.precision, exact=self.exact,
            condition=maps,
        )  # fmt: skip

    def _write_grid(
        self, model: AutoregressiveModel, classes: tuple[int, ...] | None, maps: Tensor | None, path: Path
    ) -> None:
        from pixelcnn.images import grid, save_png
        from pixelcnn.sampling import sample

        started = time.perf_counter()
        images = sample(model, self._draw(classes, maps), engine=self.engine, progress=True).cpu()
        seconds = time.perf_counter() - started
        columns = len(classes) if classes is not None and len(classes) > 1 else None
        save_png(grid(images, model.levels, columns), path)
        print(f"{self.n} images of seed {self.seed} in {seconds:.2f} s: {path}")

    def _write_separate(
        self, model: AutoregressiveModel, classes: tuple[int, ...] | None, maps: Tensor | None, folder: Path
    ) -> None:
        """Writes one file per image, as they are drawn."""
        from pixelcnn.images import exact_picture, save_png
        from pixelcnn.sampling import sample_stream

        started = time.perf_counter()
        chunks = sample_stream(model, self._draw(classes, maps), engine=self.engine, progress=True)
        for k, image in enumerate((image for chunk in chunks for image in chunk), start=self.first):
            save_png(exact_picture(image, model.levels), folder / options.picture_name(k, self.first + self.n - 1))
        print(f"{self.n} images of seed {self.seed} in {time.perf_counter() - started:.2f} s: {folder}")

    def _write_shards(self, model: AutoregressiveModel, classes: tuple[int, ...] | None, folder: Path) -> None:
        from pixelcnn.processes import job
        from pixelcnn.shards import write_shards

        started = time.perf_counter()
        drawn = write_shards(
            model,
            self.n,
            folder,
            seed=self.seed,
            first=self.first,
            temperature=self.temperature,
            guidance=self.guidance,
            precision=self.precision,
            exact=self.exact,
            engine=self.engine,
            classes=classes,
            shard_size=self.shard_size,
            name=self.model,
            progress=True,
            processes=job(),
        )
        seconds = time.perf_counter() - started
        print(f"{drawn} images of seed {self.seed} in {seconds:.2f} s, {self.n} in all: {folder}")

    def _show_growing(
        self, model: AutoregressiveModel, classes: tuple[int, ...] | None, maps: Tensor | None, path: Path
    ) -> None:
        """Draws the first images, and shows moments spread evenly over the steps."""
        import torch

        from pixelcnn.images import grid, save_gif, save_png
        from pixelcnn.progress import progress_bar
        from pixelcnn.sampling import sample_steps
        from pixelcnn.sampling.schedule import schedule_of

        animated = path.suffix.lower() != ".png"
        n = min(self.n, 64 if animated else 8)
        total = schedule_of(model).wavefront.steps
        moments = min(_MAX_FRAMES if animated else _MAX_STRIP, total)
        wanted = {round((k + 1) * total / moments) for k in range(moments)}
        canvases = sample_steps(model, self._draw(classes, maps).part(0, n))
        shown = []
        with progress_bar(f"sampling {n}", total, "step", show=True) as bar:
            for step, canvas in enumerate(canvases, start=1):
                if step in wanted:
                    shown.append(canvas.cpu().clone())
                bar.update()
        if animated:
            save_gif([grid(canvas, model.levels) for canvas in shown], path)
        else:
            rows = torch.stack(shown, dim=1).flatten(0, 1)  # one row per image, one column per moment
            save_png(grid(rows, model.levels, columns=len(shown)), path)
        print(f"{n} images of seed {self.seed} growing, {len(shown)} moments of {total} steps: {path}")


COMMANDS = {"sample": Sample}
