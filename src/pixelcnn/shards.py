"""Streams of images in a folder: shards that appear as they are drawn, so that a long job can be stopped and go on.

    samples.json            what the images are: the model, the seed, how many to a shard, ...
    images-000000000.npy    images 0, 1, ... of the seed: uint8 levels (count, C, H, W) for `numpy.load`
    images-000010000.npy    images 10000, 10001, ...

A shard's name tells the index of its first image, so shards do not depend on how many there will be. Each appears by
one rename when it is finished. The files are all the state that there is: going on means to draw the shards that are
not there, and since image i is a function of the model, the seed and i, it does not matter when or how often the job
was stopped. What is lost is the shard that was being drawn.

Whether a shard is whole is told by its header and its size. A value that changes later on the disk is not noticed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import shutil
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelcnn.arguments import integer, plain
from pixelcnn.arithmetic.precision import Precision
from pixelcnn.config import from_dict, to_dict
from pixelcnn.files import leftover_of, only_user_of, read_json, recover, writable_folder, write_file
from pixelcnn.models import AutoregressiveModel
from pixelcnn.models.base import checksum
from pixelcnn.processes import ALONE, Processes
from pixelcnn.progress import progress_bar, say
from pixelcnn.sampling import Autoregressive, Draw, checked_arguments, engine_of, labels_in_turn, sample
from pixelcnn.version import __version__

__all__ = ["SamplesRecord", "default_shard_size", "write_shards"]

_RECORD = "samples.json"
_SHARD = re.compile(r"images-(\d+)\.npy")
_MOST_IMAGES = 10_000
_MOST_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class SamplesRecord:
    """What the images of a folder are."""

    model: str
    """The model's name or folder, as it was called."""
    sha256: str
    """The checksum that the model's file carries: of its class, configuration and weights."""
    image_shape: tuple[int, int, int]
    """Channels, height and width."""
    levels: int
    """Values a sub-pixel can take."""
    dtype: str
    """Type of the weights, and so of the arithmetic."""
    seed: int
    """Which images."""
    temperature: float
    """What the logits were divided by."""
    classes: tuple[int, ...] | None
    """The classes that took turns, image by image; None for none."""
    guidance: float
    """Classifier-free guidance; 1 for none."""
    precision: Precision | None
    """What operands were rounded to, see `pixelcnn.arithmetic.precision`; None is the type of the weights."""
    first: int
    """Index of the first image."""
    n: int
    """How many were asked for last."""
    shard_size: int
    """Images of every shard but the last."""
    engine: str
    """The sampler that drew: what `fast` stood for, say."""
    device: str
    """Type of the device that drew."""
    pixelcnn: str
    """Version of this package."""
    torch: str
    """Version of PyTorch."""
    exact: bool = False
    """Whether they were drawn in exact arithmetic, see `pixelcnn.exact`."""

    def count(self, start: int) -> int:
        """How many images the shard that begins with image `start` has; 0 if none begins there."""
        done = start - self.first
        return min(self.shard_size, self.n - done) if 0 <= done < self.n and done % self.shard_size == 0 else 0

    def check_continues(self, earlier: SamplesRecord, where: str) -> None:
        """Whether these are the same images as an earlier record's, perhaps more of them.

        Raises:
            ValueError: If they are not.
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
        """Warns if what draws now may add numbers in another order than what drew before."""
        for name in () if self.exact else ("engine", "device", "pixelcnn", "torch"):
            old, new = getattr(earlier, name), getattr(self, name)
            if old != new:
                warnings.warn(
                    f"{where} was begun with {name} = {old!r}, and goes on with {new!r}: where rounding decides, an "
                    "image can differ from an uninterrupted job's",
                    stacklevel=7,
                )


def default_shard_size(image_shape: tuple[int, int, int]) -> int:
    """Images of a shard: 10,000, or as many as fit into 64 MiB.

    Examples:
        >>> default_shard_size((1, 28, 28)), default_shard_size((3, 256, 256))
        (10000, 341)
    """
    return min(_MOST_IMAGES, max(1, _MOST_BYTES // math.prod(image_shape)))


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
    """Draws images into the shards of a folder, those of them that are not there yet.

    Memory is bounded by a shard, whatever `n` is.

    Args:
        model: Any model of the package.
        n: Number of images. More than the folder was begun with prolong it.
        folder: Where; made if it is missing. It must be empty, or hold the same images' shards.
        seed: As for `AutoregressiveModel.sample`, and so are `temperature` and `engine`.
        temperature: See `seed`.
        engine: See `seed`.
        first: Index of the first image.
        classes: For a class-conditional model, the classes that take turns, image by image.
        guidance: See `AutoregressiveModel.sample`.
        precision: See `AutoregressiveModel.sample`.
        exact: See `AutoregressiveModel.sample`.
        shard_size: Images of a shard; `default_shard_size` by default.
        name: What the model is called in the record; its class's name by default.
        progress: Show a bar and messages on standard error.
        processes: Those that call this with the same arguments, to draw a share of the shards each, into the same
            folder. The first one looks after the folder.

    Returns:
        How many images were drawn by all processes; the others were there.

    Raises:
        ValueError: If an argument is out of range, the folder holds other things, other samples or more of them, or
            another process is using it. Nothing has been changed.
        OSError: If the folder cannot be written. The shards that were finished stay.
        KeyboardInterrupt: After Ctrl-C, likewise; the message says how to go on.
    """
    classes = plain(classes)
    if classes is not None and not classes:
        raise ValueError("classes must name at least one class, or be None, got ()")
    each = 1 if classes is None else len(classes)
    n, seed, temperature, first = checked_arguments(n, seed, temperature, first)
    source = model.prepared() if exact else model
    draw, _ = _draw(seed, first, temperature, classes, guidance, precision, each).checked(source, each)
    if shard_size is None:
        shard_size = default_shard_size(model.image_shape)
    shard_size = integer("shard_size", shard_size, 1)
    record = SamplesRecord(
        model=name or type(model).__name__,
        sha256=checksum(model),
        image_shape=model.image_shape,
        levels=model.levels,
        dtype=str(model.dtype).removeprefix("torch."),
        seed=seed,
        temperature=temperature,
        classes=classes,
        guidance=draw.guidance,
        precision="bf16" if precision == "bf16" else None,
        first=first,
        n=n,
        shard_size=shard_size,
        engine=engine_of(source, engine, precision, classes is not None).name,
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

        kept = dict(processes.from_first(opened))
        drawn = _fill(folder, record, kept, source, progress, processes)
        return int(processes.sum([drawn])[0])


def _open(folder: Path, record: SamplesRecord) -> dict[int, int]:
    """Looks at all that is in the folder before anything is written; returns the whole shards' starts and counts."""
    path = folder / _RECORD
    earlier = None
    if path.exists():
        earlier = from_dict(SamplesRecord, read_json(path), str(path))
        record.check_continues(earlier, str(folder))
    elif any(leftover_of(other.name) != (_RECORD, "tmp") for other in folder.iterdir()):
        raise ValueError(f"{folder} exists and holds other things than samples; choose another folder")
    kept = _whole_shards(folder, record)
    if earlier is not None and sum(kept.values()) == record.n:
        record = dataclasses.replace(earlier, n=record.n)  # nothing is drawn now, so it tells what drew
    elif earlier is not None:
        record.warn_of_other_means(earlier, str(folder))
    recover(folder)
    write_file(path, json.dumps(to_dict(record), indent=2) + "\n")
    return kept


def _draw(
    seed: int,
    first: int,
    temperature: float,
    classes: tuple[int, ...] | None,
    guidance: float,
    precision: Precision | None,
    count: int,
) -> Draw:
    labels = labels_in_turn(classes, first, count)
    return Draw(
        seed=seed,
        first=first,
        temperature=temperature,
        labels=labels,
        guidance=guidance,
        precision=precision,
    )


def _whole_shards(folder: Path, record: SamplesRecord) -> dict[int, int]:
    kept = {}
    for path in folder.iterdir():
        match = _SHARD.fullmatch(path.name)
        if match is None:
            continue
        start = int(match[1])
        wanted = record.count(start) if path.name == _name(start) else 0
        found = _images_in(path, record.image_shape)
        if wanted == 0 or found > wanted:
            raise ValueError(
                f"{folder} holds images beyond the {record.n} asked for, in {path.name}; ask for more, or choose "
                "another folder"
            )
        if found == wanted:
            kept[start] = found
    return kept


def _fill(
    folder: Path,
    record: SamplesRecord,
    kept: dict[int, int],
    model: Autoregressive,
    progress: bool,
    processes: Processes = ALONE,
) -> int:
    """Draws this process's share of the shards that are not there; returns how many images that were."""
    there = finished = sum(kept.values())
    if progress and there and processes.first:
        say(f"{there} of {record.n} images are there")
    needed = (record.n - there) * math.prod(record.image_shape)
    if processes.first and needed > (free := shutil.disk_usage(folder).free):
        warnings.warn(
            f"{record.n - there} more images take {needed / 1e6:.1f} MB, and {folder} has {free / 1e6:.1f} MB free",
            stacklevel=3,
        )
    missing = [s for s in range(record.first, record.first + record.n, record.shard_size) if s not in kept]
    mine = {start: record.count(start) for start in missing[processes.rank :: processes.count]}
    total = there + sum(mine.values())
    try:
        with progress_bar(f"sampling {record.n}", total, "img", show=progress, initial=there) as bar:
            for start, count in mine.items():
                draw = _draw(
                    record.seed,
                    start,
                    record.temperature,
                    record.classes,
                    record.guidance,
                    record.precision,
                    count,
                )
                images = sample(model, count, draw, engine=record.engine, progress=False, drawn=bar.update)
                _write(folder / _name(start), images)
                finished += len(images)
    except KeyboardInterrupt:
        number = finished if processes.count == 1 else "a part"
        raise KeyboardInterrupt(
            f"stopped with {number} of {record.n} images in {folder}; the same command goes on"
        ) from None
    return finished - there


def _name(start: int) -> str:
    return f"images-{start:09d}.npy"


def _write(path: Path, images: Tensor) -> None:
    buffer = io.BytesIO()
    np.save(buffer, images.cpu().numpy(), allow_pickle=False)
    try:
        write_file(path, buffer.getvalue())
    except OSError as error:  # a full disk is told without a name
        raise OSError(error.errno, error.strerror or os.strerror(error.errno or 0), str(path)) from None


def _images_in(path: Path, image_shape: tuple[int, int, int]) -> int:
    """How many images a shard holds; -1 if it is not whole or not a shard of such images."""
    with path.open("rb") as file:
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                return -1
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        except (ValueError, tokenize.TokenError):
            return -1
        size = file.tell() + math.prod(shape)
        whole = shape[1:] == image_shape and not by_columns and dtype == np.uint8
        return int(shape[0]) if whole and os.fstat(file.fileno()).st_size == size else -1
