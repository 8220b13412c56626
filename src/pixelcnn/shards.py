"""Samples in a folder, in shards that appear as they are drawn, so that a long job can be stopped and continued.

    samples.json            what the images are: the model, the seed, the images per shard, ...
    images-000000000.npy    images 0, 1, ... of the seed: levels (count, C, H, W) for `numpy.load`, uint8, or int32
                            if there are more than 256
    images-000010000.npy    images 10000, 10001, ...

A shard's name is the index of its first image, so shards do not depend on how many there will be. Each appears by one
rename when it is finished. The files are the whole state: to continue is to draw the shards that are missing, and since
image i is a function of the model, the seed and i, it does not matter when or how often the job was stopped. Only the
shard that was being drawn is lost.

A shard is whole if its header and its size say so. A value that changes later on the disk is not noticed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pixelcnn.arguments import integer, plain
from pixelcnn.arithmetic.precision import Precision
from pixelcnn.config import from_dict, to_dict
from pixelcnn.density import checked_model
from pixelcnn.files import leftover_of, map_array, only_user_of, read_json, recover, writable_folder, write_file
from pixelcnn.levels import GREY_LEVELS, array_dtype
from pixelcnn.models import AutoregressiveModel
from pixelcnn.models.base import checksum
from pixelcnn.processes import ALONE, Interrupted, Processes, exit_code
from pixelcnn.progress import progress_bar, say
from pixelcnn.sampling import Autoregressive, Draw, engine_of, labels_in_turn, sample
from pixelcnn.version import __version__

__all__ = ["SamplesRecord", "default_shard_size", "write_shards"]

_RECORD = "samples.json"
_SHARD = re.compile(r"images-(\d+)\.npy")
_MAX_IMAGES, _MAX_BYTES = 10_000, 2**26  # of a shard by default


@dataclass(frozen=True, kw_only=True)
class SamplesRecord:
    """samples.json: what the images of a folder are."""

    model: str
    """The model's name or folder, as it was given."""
    sha256: str
    """The checksum of the model's class, configuration and weights, as in its file."""
    image_shape: tuple[int, int, int]
    """Channels, height and width."""
    levels: int
    """Values a sub-pixel can take."""
    dtype: str
    """Type of the weights, and so of the arithmetic."""
    seed: int
    """The seed of the draws."""
    temperature: float
    """The number that the logits were divided by."""
    classes: tuple[int, ...] | None
    """The classes that took turns, image by image; None for none."""
    guidance: float
    """Classifier-free guidance; 1 for none."""
    precision: Precision | None
    """The type that operands were rounded to, see `pixelcnn.arithmetic.precision`; None for the type of the weights."""
    first: int
    """Index of the first image."""
    n: int
    """Number of images last asked for."""
    shard_size: int
    """Images per shard; the last may have fewer."""
    engine: str
    """The engine that drew; where `fast` was asked for, the one that it stood for."""
    device: str
    """Type of the device that drew."""
    pixelcnn: str
    """Version of this package."""
    torch: str
    """Version of PyTorch."""
    exact: bool = False
    """Whether they were drawn from the model rounded to a fixed grid, reproducible bit for bit on any machine."""

    def count(self, start: int) -> int:
        """Number of images in the shard that begins with image `start`; 0 if none begins there."""
        done = start - self.first
        return min(self.shard_size, self.n - done) if 0 <= done < self.n and done % self.shard_size == 0 else 0

    def draw(self, start: int, count: int) -> Draw:
        """Which images the shard that begins with image `start` holds."""
        labels = labels_in_turn(self.classes, start, count)
        return Draw(count, labels, self.seed, self.temperature, start, self.guidance, self.precision, self.exact)

    def check_continues(self, earlier: SamplesRecord, where: str) -> None:
        """Checks that these are an earlier record's images, perhaps more of them.

        Raises:
            ValueError: If not.
        """
        if earlier.sha256 != self.sha256:
            raise ValueError(
                f"{where} holds samples of another model: {earlier.model} with SHA-256 {earlier.sha256}, not "
                f"{self.model} with {self.sha256}; choose another folder"
            )
        for name in ("seed", "temperature", "classes", "guidance", "precision", "exact", "first", "shard_size"):
            old, new = getattr(earlier, name), getattr(self, name)
            if old != new:
                raise ValueError(f"{where} holds samples with {name} = {old!r}, not {new!r}; choose another folder")

    def warn_of_other_means(self, earlier: SamplesRecord, where: str) -> None:
        """Warns if the means of drawing have changed, so that numbers may be added in another order than before."""
        for name in () if self.exact else ("engine", "device", "pixelcnn", "torch"):
            old, new = getattr(earlier, name), getattr(self, name)
            if old != new:
                warnings.warn(
                    f"{where} was begun with {name} = {old!r}, and continues with {new!r}: where rounding decides, an "
                    "image can differ from an uninterrupted job's",
                    stacklevel=7,
                )


def default_shard_size(image_shape: tuple[int, int, int], levels: int = GREY_LEVELS) -> int:
    """Images per shard: 10,000, or as many as fit into 64 MiB if these are fewer.

    Examples:
        >>> default_shard_size((1, 28, 28)), default_shard_size((3, 256, 256))
        (10000, 341)
    """
    return min(_MAX_IMAGES, max(1, _MAX_BYTES // _image_bytes(image_shape, levels)))


def write_shards(
    model: AutoregressiveModel,
    n: int,
    folder: str | Path,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    engine: str = "fast",
    first: int = 0,
    classes: tuple[int, ...] | None = None,
    guidance: float = 1.0,
    precision: Precision | None = None,
    exact: bool = False,
    shard_size: int | None = None,
    name: str = "",
    progress: bool = False,
    processes: Processes = ALONE,
) -> int:
    """Draws images into the shards of a folder, except those that are already there.

    Memory is bounded by one shard, whatever `n` is.

    Args:
        model: Any model of the package.
        n: Number of images, at least 1. If it is larger than when the folder was begun, images are added.
        folder: Made if missing. It must be empty, or hold shards of the same images.
        seed: As for `AutoregressiveModel.sample`, but 0 by default, so that the same call goes on.
        temperature: As for `AutoregressiveModel.sample`.
        engine: As for `AutoregressiveModel.sample`.
        first: As for `AutoregressiveModel.sample`.
        classes: For a class-conditional model, the classes that take turns: image i of the seed is of class
            `classes[i % len(classes)]`. None leaves the class open.
        guidance: As for `AutoregressiveModel.sample`.
        precision: As for `AutoregressiveModel.sample`.
        exact: As for `AutoregressiveModel.sample`.
        shard_size: Images per shard; by default 10,000, or as many as fit into 64 MiB if these are fewer.
        name: The model's name in the record; by default the name of its class.
        progress: Show a progress bar and messages on standard error.
        processes: The processes that call this with the same arguments and each draw a share of the shards into the
            same folder. The first one checks and locks the folder.

    Returns:
        Number of images drawn by all processes; the others were there already.

    Warns:
        UserWarning: If the disk has too little space, or the folder was begun by another engine, device or version.

    Raises:
        ValueError: If an argument is out of range, the folder holds other things, other samples or more of them, or
            another process is using it. Nothing has been changed.
        OSError: If the folder cannot be written. Finished shards stay.
        KeyboardInterrupt: After Ctrl-C. Finished shards stay; the message says how to continue.
    """
    model, classes = checked_model(model), plain(classes)
    if classes is not None and not (isinstance(classes, tuple) and classes):
        raise ValueError(f"classes must name at least one class, or be None, got {classes!r}")
    each = 1 if classes is None else len(classes)
    n = integer("n", n, 1, 2**63 - 1)
    draw = Draw(n, None, seed, temperature, first, guidance, precision, exact).plain()
    labels = labels_in_turn(classes, draw.first, each)
    source, checked = dataclasses.replace(draw, n=each, labels=labels).checked(model)
    if shard_size is None:
        shard_size = default_shard_size(model.image_shape, model.levels)
    shard_size = integer("shard_size", shard_size, 1)
    record = SamplesRecord(
        model=name or type(model).__name__,
        sha256=checksum(model),
        image_shape=model.image_shape,
        levels=model.levels,
        dtype=str(model.dtype).removeprefix("torch."),
        seed=draw.seed,
        temperature=draw.temperature,
        classes=classes,
        guidance=draw.guidance,
        precision=checked.precision,
        first=draw.first,
        n=draw.n,
        shard_size=shard_size,
        engine=engine_of(source, engine, precision).name,
        device=model.device.type,
        pixelcnn=__version__,
        torch=torch.__version__,
        exact=exact,
    )
    folder = Path(folder)
    with contextlib.ExitStack() as stack:

        def opened() -> list[tuple[int, int]]:
            stack.enter_context(only_user_of(writable_folder(folder)))
            return list(_open(folder, record).items())

        present = dict(processes.from_first(opened))
        drawn = _fill(folder, record, present, model, progress, processes)
        return int(processes.sum([drawn])[0])


def _open(folder: Path, record: SamplesRecord) -> dict[int, int]:
    """Checks all that is in the folder, then writes the record; returns the whole shards' starts and counts."""
    path = folder / _RECORD
    earlier = None
    if path.exists():
        earlier = from_dict(SamplesRecord, read_json(path), str(path))
        record.check_continues(earlier, str(folder))
    elif any(leftover_of(other.name) != (_RECORD, "tmp") for other in folder.iterdir()):
        raise ValueError(f"{folder} exists and holds other things than samples; choose another folder")
    present = _whole_shards(folder, record)
    if earlier is not None and sum(present.values()) == record.n:
        record = dataclasses.replace(earlier, n=record.n)  # nothing is drawn now: it keeps the engine that drew
    elif earlier is not None:
        record.warn_of_other_means(earlier, str(folder))
    recover(folder)
    write_file(path, json.dumps(to_dict(record), indent=2) + "\n")
    return present


def _whole_shards(folder: Path, record: SamplesRecord) -> dict[int, int]:
    present = {}
    for path in folder.iterdir():
        match = _SHARD.fullmatch(path.name)
        if match is None:
            continue
        start = int(match[1])
        wanted = record.count(start) if path.name == _name(start) else 0
        found = _images_in(path, record)
        if wanted == 0 or found > wanted:
            raise ValueError(
                f"{folder} holds images beyond the {record.n} asked for, in {path.name}; ask for more, or choose "
                "another folder"
            )
        if found == wanted:
            present[start] = found
    return present


def _fill(
    folder: Path,
    record: SamplesRecord,
    present: dict[int, int],
    model: Autoregressive,
    progress: bool,
    processes: Processes = ALONE,
) -> int:
    """Draws this process's share of the missing shards; returns the number of images drawn."""
    there = finished = sum(present.values())
    if progress and there and processes.first:
        say(f"{there} of {record.n} images are there")
    needed = (record.n - there) * _image_bytes(record.image_shape, record.levels)
    if processes.first and needed > (free := shutil.disk_usage(folder).free):
        warnings.warn(
            f"{record.n - there} more images take {needed / 1e6:.1f} MB, and {folder} has {free / 1e6:.1f} MB free",
            stacklevel=3,
        )
    missing = [s for s in range(record.first, record.first + record.n, record.shard_size) if s not in present]
    mine = {start: record.count(start) for start in missing[processes.rank :: processes.count]}
    total = there + sum(mine.values())
    try:
        with progress_bar(f"sampling {record.n}", total, "img", show=progress, initial=there) as bar:
            for start, count in mine.items():
                draw = record.draw(start, count)
                images = sample(model, draw, engine=record.engine, progress=False, drawn=bar.update)
                buffer = io.BytesIO()
                np.save(buffer, images.cpu().numpy(), allow_pickle=False)
                write_file(folder / _name(start), buffer.getvalue())
                finished += len(images)
    except KeyboardInterrupt as stop:
        number = finished if processes.count == 1 else "a part"
        message = f"stopped with {number} of {record.n} images in {folder}; the same command goes on"
        raise Interrupted(message, exit_code(stop) - 128) from None
    return finished - there


def _image_bytes(image_shape: tuple[int, int, int], levels: int) -> int:
    return math.prod(image_shape) * array_dtype(levels).itemsize


def _name(start: int) -> str:
    return f"images-{start:09d}.npy"


def _images_in(path: Path, record: SamplesRecord) -> int:
    """Number of images in a shard; -1 if it is not whole or not a shard of such images."""
    try:
        array = map_array(path)
    except ValueError:
        return -1
    fits = array.ndim == 4 and array.shape[1:] == record.image_shape and array.dtype == array_dtype(record.levels)
    return len(array) if fits and array.flags.c_contiguous else -1
