"""`pixelcnn complete`: draws what is missing of images from its exact conditional distribution."""

from __future__ import annotations

import dataclasses
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.config import Layout

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.datasets.pictures import Depth
    from pixelcnn.models import AutoregressiveModel

__all__ = ["Complete"]


@dataclass(frozen=True, kw_only=True)
class Complete:
    """Complete images: draw the unknown pixels given the known ones.

    What is known is told by one of --keep-rows, --box and --mask. Where it all comes first in raster order, as with
    --keep-rows, the draws are exact; elsewhere they come from --particles that are weighed by what is known, and the
    effective sample size says how far to trust them. Writes a panel: what is known, the mask, draws, their mean and
    their standard deviation.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub,
    user/name or user/name@revision."""
    image: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    """Picture files of the model's size, or one data source as for `pixelcnn evaluate` (mnist:test), of which the first
    --images are completed."""
    keep_rows: int | None = None
    """So many rows at the top are known."""
    box: str | None = None
    """`x,y,w,h`: a rectangle is unknown, w pixels wide and h high, its upper left corner at column x and row y."""
    mask: Path | None = None
    """A picture file of the model's size: white is known, black unknown."""
    images: int = 4
    """How many images of a data source."""
    bit_depth: int | None = None
    """Bits of a value of pictures that are stored with 16, as for `pixelcnn train`."""
    layout: Layout | None = None
    """What the axes of an array are, where the model's shape does not say."""
    fit: bool = False
    """Scale picture files of another size until they cover the model's, and crop the centre."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 6
    """Completions of each image."""
    particles: int = 256
    """Particles for each image, at least -n: more are slower and nearer to the exact distribution."""
    moves: int = 0
    """Metropolis-Hastings moves of each completion at the end: they refine what too few particles left."""
    method: Literal["auto", "particles", "raster"] = "auto"
    """`raster` ignores known pixels that come after unknown ones, and pastes them: for comparison, not exact."""
    label: int | None = None
    """The images' class, for a class-conditional model; without it any, or a data source's own."""
    seed: int = 0
    """Which draws."""
    engine: Literal["fast", "native", "eager", "reference"] = "fast"
    """As for `pixelcnn sample`."""
    out: Path = Path("completions.png")
    """A PNG file for the panel."""
    arrays: Path | None = None
    """An .npz file for the completions (N, n, C, H, W), the mask, the effective sample sizes and log-evidences."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""

    def run(self) -> None:
        """Completes and writes."""
        import numpy as np

        from pixelcnn.devices import device_of
        from pixelcnn.files import is_special_file, writable_file, write_file
        from pixelcnn.images import completion_panel, save_png
        from pixelcnn.models.storage import load

        if self.out.suffix.lower() != ".png" and not is_special_file(self.out):
            raise ValueError(f"--out must end in .png, got {str(self.out)!r}")
        if self.arrays is not None and self.arrays.suffix.lower() != ".npz" and not is_special_file(self.arrays):
            raise ValueError(f"--arrays must end in .npz, got {str(self.arrays)!r}")
        model = load(self.model).to(device_of(self.device))
        known = self._known(model)
        images, labels, names = self._opened(model)
        for path in (self.out, self.arrays):
            if path is not None:
                writable_file(path)
        found = model.complete(
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
        )
        known = known.expand(images.shape)
        draws = found.images.cpu()
        save_png(completion_panel(images, known, draws, model.levels), self.out)
        if self.arrays is not None:
            buffer = io.BytesIO()
            np.savez_compressed(
                buffer,
                completions=draws.numpy(),
                known=known.numpy(),
                ess=found.ess.numpy(),
                log_evidence=found.log_evidence.numpy(),
            )
            write_file(self.arrays, buffer.getvalue())
        for name, ess, evidence in zip(names, found.ess.tolist(), found.log_evidence.tolist(), strict=True):
            print(f"{name}: effective sample size {ess:.1f}, log p(known) {evidence:.2f} nats")
        if self.moves:
            print(f"{found.accepted:.1%} of the moves accepted")
        print(f"{len(images)} x {self.n} completions: {self.out}")

    def _known(self, model: AutoregressiveModel) -> Tensor:
        """The mask, bool (1, H, W)."""
        import torch

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
            x, y, w, h = self._box(width, height)
            known[:, y : y + h, x : x + w] = False
        else:
            assert self.mask is not None
            known[:] = self._read(self.mask, (1, height, width), 256)[0] >= 128
            if known.all():
                raise ValueError(f"{self.mask} is white everywhere: nothing is unknown")
        return known

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        assert self.box is not None
        try:
            x, y, w, h = (int(part) for part in self.box.split(","))
        except ValueError:
            raise ValueError(f"--box must be four integers x,y,w,h, got {self.box!r}") from None
        if not (0 <= x < x + w <= width and 0 <= y < y + h <= height):
            raise ValueError(f"--box must lie in the images of {width} x {height} pixels, got {self.box!r}")
        return x, y, w, h

    def _opened(self, model: AutoregressiveModel) -> tuple[Tensor, Tensor | None, list[str]]:
        """Images, labels and names."""
        import torch

        from pixelcnn.config import DataConfig
        from pixelcnn.datasets.pictures import Depth, opened
        from pixelcnn.files import printable

        classes = getattr(model.config, "num_classes", None)
        if not self.image:
            raise ValueError("IMAGE must be picture files or a data source, got none")
        labels = None
        first = Path(self.image[0])
        if len(self.image) == 1 and (not first.is_file() or first.suffix in (".npy", ".npz")):
            images, labels, names = self._of_source(model, classes)
        else:
            if self.layout is not None:
                raise ValueError(f"--layout must be left out for picture files, got {self.layout}")
            paths = [Path(path) for path in self.image]
            depth = Depth(DataConfig(bit_depth=self.bit_depth), lambda: opened(paths))
            images = torch.stack([self._read(path, model.image_shape, model.levels, depth) for path in paths])
            names = [printable(path) for path in self.image]
            for remark in depth.remarks:
                warnings.warn(remark, stacklevel=1)
        if self.label is not None:
            if classes is None:
                raise ValueError(f"--label must be left out, got {self.label}: {self.model} has no classes")
            if not 0 <= self.label < classes:
                raise ValueError(f"--label must be in 0..{classes - 1}, got {self.label}")
            labels = torch.full((len(images),), self.label, device="cpu")
        return images, labels, names

    def _of_source(self, model: AutoregressiveModel, classes: int | None) -> tuple[Tensor, Tensor | None, list[str]]:
        from pixelcnn.datasets import open_for_model
        from pixelcnn.files import printable

        if self.images < 1:
            raise ValueError(f"--images must be at least 1, got {self.images}")
        data = open_for_model(
            self.image[0], model.image_shape, model.levels, bit_depth=self.bit_depth, layout=self.layout
        )
        images = data.images[: self.images].clone()
        alike = data.labels is not None and classes is not None and len(data.classes or ()) == classes
        labels = data.labels[: self.images] if alike and data.labels is not None else None
        return images, labels, [f"image {printable(name)}" for name in data.names()[: self.images]]

    def _read(self, path: Path, shape: tuple[int, int, int], levels: int, depth: Depth | None = None) -> Tensor:
        """A picture file as levels of a shape."""
        import torch

        from pixelcnn.config import DataConfig
        from pixelcnn.datasets.pictures import frames_left_out, open_picture, to_levels

        channels, height, width = shape
        try:
            with open_picture(path) as picture:
                config = DataConfig() if depth is None else depth.config_for(picture)
                fitted = dataclasses.replace(config, size=(height, width) if self.fit else None)
                levels_chw = to_levels(picture, 1 if channels == 1 else 3, levels, fitted)[0]
                left_out = frames_left_out(picture)
        except FileNotFoundError:
            raise ValueError(f"there is no file {str(path)!r}") from None
        except Exception as error:
            raise ValueError(f"{path} cannot be read as a picture: {error}") from None
        if left_out:
            warnings.warn(f"{path} has several frames or pages, of which the first is taken", stacklevel=1)
        if levels_chw.shape != shape:
            _, h, w = levels_chw.shape
            raise ValueError(f"{path} is {w} x {h} pixels, and not {width} x {height}; --fit scales and crops")
        return torch.from_numpy(levels_chw.copy())  # Pillow's memory cannot be written
