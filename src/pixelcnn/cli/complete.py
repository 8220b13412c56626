"""`pixelcnn complete`: draws the missing pixels of images from their exact conditional distribution."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image
    from torch import Tensor

    from pixelcnn.config import DataConfig
    from pixelcnn.models import AutoregressiveModel

_IMAGES = 4  # of a data source, if --images does not say how many


@dataclass(frozen=True, kw_only=True)
class Complete:
    """Complete images: draw the unknown pixels given the known ones.

    One of --keep-rows, --box and --mask says which pixels are known. If these all come first in raster order, as with
    --keep-rows, the draws are exact; otherwise they come from --particles, which are weighted by the known pixels, and
    the effective sample size says how far to trust them. Writes a panel: the known pixels, the mask, the draws, their
    mean and their standard deviation.
    """

    model: options.ModelName
    image: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    """Picture files of the model's size (of any one size if its network has none), or one data source as for
    `pixelcnn evaluate` (mnist:test), of which the first --images are completed."""
    keep_rows: int | None = None
    """This many rows at the top are known."""
    box: str | None = None
    """`x,y,w,h`: the unknown pixels are a rectangle, w pixels wide and h high, its upper left corner at column x and
    row y."""
    mask: Path | None = None
    """A picture file of the model's size: white is known, black unknown."""
    images: int | None = None
    """Number of images to complete from a data source, by default 4."""
    held_out: options.HeldOut = 0.1
    test: options.TestShare = 0.0
    bit_depth: options.BitDepth = None
    layout: options.Layout = None
    fit: bool = False
    """Scale picture files of another size until they cover the model's, and crop the centre."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 6
    """Completions per image."""
    particles: int = 256
    """Particles per image, at least -n: more are slower and closer to the exact distribution."""
    moves: int = 0
    """Metropolis-Hastings moves of each completion at the end: they correct the error of too few particles."""
    method: Literal["auto", "particles", "raster"] = "auto"
    """`auto` is exact where the known pixels come first, and uses particles elsewhere; `particles` always uses them;
    `raster` ignores known pixels that come after unknown ones, and pastes them in: for comparison, not exact."""
    condition: options.Condition = None
    label: str | None = None
    """The images' class, by its number or name, for a class-conditional model; by default a data source's own,
    otherwise left open."""
    seed: int = 0
    """Which completions, 0..2^63-1."""
    engine: Literal["fast", "native", "eager", "reference"] = "fast"
    """As for `pixelcnn sample`; on CUDA, where `graph` has no particles, `fast` is `eager`."""
    out: Path = Path("completions.png")
    """A PNG file for the panel."""
    arrays: Path | None = None
    """An .npz file for the completions (N, n, C, H, W), the mask, the effective sample sizes and log-evidences."""
    device: options.Device = "auto"
    threads: options.Threads = None

    def run(self) -> None:
        """Completes and writes."""
        import numpy as np

        from pixelcnn.files import writable_file, write_file
        from pixelcnn.images import completion_panel, save_png

        options.check_suffix("--out", self.out, ".png")
        if self.arrays is not None:
            options.check_suffix("--arrays", self.arrays, ".npz")
        for option, path in (("--out", self.out), ("--arrays", self.arrays)):
            options.check_other_file(option, path, *self.image, self.mask)
        if len(self.image) == 1:
            options.check_outside("--out", self.out, self.image[0])
        model = self._in_size(options.loaded(self.model, self.device))
        known = self._known(model)
        images, labels, condition, titles = self._read_images(model)
        for path in (self.out, self.arrays):
            if path is not None:
                writable_file(path)
        result = model.complete(
            images,
            known,
            self.n,
            self.particles,
            labels,
            self.seed,
            method=self.method,
            moves=self.moves,
            engine=self.engine,
            progress=True,
            condition=condition,
        )
        known = known.expand(images.shape)
        draws = result.images.cpu()
        save_png(completion_panel(images, known, draws, model.levels), self.out)
        if self.arrays is not None:
            buffer = io.BytesIO()
            np.savez_compressed(
                buffer,
                completions=draws.numpy(),
                known=known.numpy(),
                ess=result.ess.numpy(),
                log_evidence=result.log_evidence.numpy(),
            )
            write_file(self.arrays, buffer.getvalue())
        for title, ess, evidence in zip(titles, result.ess.tolist(), result.log_evidence.tolist(), strict=True):
            if not math.isnan(evidence):  # as it is where raster order ignores known pixels
                print(f"{title}: effective sample size {ess:.1f}, log p(known) {evidence:.2f} nats")
        if self.moves:
            print(f"{result.accepted:.1%} of the moves accepted")
        print(f"{len(images)} x {self.n} completions of seed {self.seed}: {self.out}")

    def _in_size(self, model: AutoregressiveModel) -> AutoregressiveModel:
        """The model for images of the first picture file's size, if it is good for any and pictures are not fitted."""
        from PIL import ImageOps

        from pixelcnn.datasets.pictures import SUFFIXES, open_picture

        path = Path(self.image[0]) if self.image else Path()
        if self.fit or path.suffix.lower() not in SUFFIXES or not path.is_file() or not model.any_size:
            return model
        try:
            with open_picture(path) as picture:
                upright = ImageOps.exif_transpose(picture)
        except Exception:  # reported when it is read
            return model
        return model.resized((upright.height, upright.width))

    def _known(self, model: AutoregressiveModel) -> Tensor:
        """The mask, bool (1, H, W): True for known pixels."""
        import torch

        from pixelcnn.config import DataConfig

        if (self.keep_rows is not None) + (self.box is not None) + (self.mask is not None) != 1:
            raise ValueError("give one of --keep-rows, --box and --mask, to say what is known")
        _, height, width = model.image_shape
        known = torch.zeros(1, height, width, dtype=torch.bool, device="cpu")
        if self.keep_rows is not None:
            if not 0 <= self.keep_rows < height:
                raise ValueError(f"--keep-rows must be in 0..{height - 1}, got {self.keep_rows}")
            known[:, : self.keep_rows] = True
        elif self.box is not None:
            known[:] = True
            x, y, w, h = _parsed_box(self.box, width, height)
            known[:, y : y + h, x : x + w] = False
        else:
            assert self.mask is not None
            known[:] = self._read_picture(self.mask, (1, height, width), 256, lambda _: DataConfig())[0] >= 128
            if known.all():
                raise ValueError(f"{self.mask} is white everywhere: nothing is unknown")
        return known

    def _read_images(self, model: AutoregressiveModel) -> tuple[Tensor, Tensor | None, Tensor | None, list[str]]:
        """Images, labels, what --condition says of the images, and what they are called in messages."""
        import torch

        from pixelcnn.config import DataConfig
        from pixelcnn.datasets.cifar import is_cifar10
        from pixelcnn.datasets.pictures import Depth, check_channels, opened
        from pixelcnn.files import printable

        if not self.image:
            raise ValueError("IMAGE must be picture files or a data source, got none")
        labels: Tensor | None = None
        total: int | None = None
        paths = [Path(path) for path in self.image]
        file = paths[0].is_file() and paths[0].suffix.lower() not in (".npy", ".npz") and not is_cifar10(paths[0])
        if len(paths) == 1 and not file:
            images, labels, names, total = self._read_source(model)
            titles = [f"image {printable(name)}" for name in names]
        else:
            for option, value in (("--layout", self.layout), ("--images", self.images)):
                if value is not None:
                    raise ValueError(f"{option} must be left out for picture files, got {value}")
            check_channels(self.image[0], model.image_shape[0])
            depth = Depth(DataConfig(bit_depth=self.bit_depth), model.levels, lambda: opened(paths))
            read = functools.partial(self._read_picture, shape=model.image_shape, levels=model.levels)
            images = torch.stack([read(path, config_for=depth.config_for) for path in paths])
            names, titles = [path.name for path in paths], [printable(path) for path in self.image]
            for remark in depth.remarks:
                warnings.warn(remark, stacklevel=1)
        if self.label is not None:
            label, *others = options.checked_classes(model, self.model, (self.label,))
            if others:
                raise ValueError(f"--label must be one class, got {self.label}")
            labels = torch.full((len(images),), label, device="cpu")
        condition = options.condition_of(self.condition, model, self.model, images, names, total)
        return images, labels, condition, titles

    def _read_source(self, model: AutoregressiveModel) -> tuple[Tensor, Tensor | None, list[str], int | None]:
        """The first images of a data source, their labels if they are the model's classes, names, and `Data.total`."""
        from pixelcnn.datasets import open_for_model

        options.check_limit(self.images)
        limit = _IMAGES if self.images is None else self.images
        data = open_for_model(
            self.image[0], model.image_shape, model.levels, bit_depth=self.bit_depth, layout=self.layout,
            held_out=self.held_out, test=self.test,
        )  # fmt: skip
        classes = model.num_classes
        labels = None
        if data.labels is not None and classes is not None and len(data.classes or ()) == classes:
            labels = options.labels_of(model, data)[0]
        labels = None if labels is None else labels[:limit]
        return data.images[:limit].clone(), labels, data.names()[:limit], data.total

    def _read_picture(
        self, path: Path, shape: tuple[int, int, int], levels: int, config_for: Callable[[Image.Image], DataConfig]
    ) -> Tensor:
        """A picture file as levels of a shape; --fit brings it to its size."""
        from pixelcnn.datasets.pictures import read_picture

        channels, height, width = shape
        size = (height, width) if self.fit else None
        image = read_picture(
            path, channels, levels, lambda picture: dataclasses.replace(config_for(picture), size=size)
        )
        if image.shape != shape:
            _, h, w = image.shape
            raise ValueError(f"{path} is {w} x {h} pixels, and not {width} x {height}; --fit scales and crops")
        return image


def _parsed_box(box: str, width: int, height: int) -> tuple[int, int, int, int]:
    """The column, row, width and height of --box."""
    try:
        x, y, w, h = (int(part) for part in box.split(","))
    except ValueError:
        raise ValueError(f"--box must be four integers x,y,w,h, got {box!r}") from None
    if not (0 <= x < x + w <= width and 0 <= y < y + h <= height):
        raise ValueError(f"--box must lie in the images of {width} x {height} pixels, got {box!r}")
    return x, y, w, h


COMMANDS = {"complete": Complete}
