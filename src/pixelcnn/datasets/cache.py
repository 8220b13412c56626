"""The cache of decoded images: memory-mapped files, made once for a source and its options.

A cache is a folder in `$XDG_CACHE_HOME/pixelcnn/data` (`~/.cache/pixelcnn/data`), named by a hash of everything that
its content depends on: the source's path, the names, sizes and times of its files, and the options. It is made once,
whichever processes ask for it (`.once`).

    images.npy    levels (N, C, H, W), uint8, or int32 above 256 of them: first the training, then the validation, then
                  the test images
    labels.npy    int64 (N,), if there are classes
    names.txt     for each image its file, with #k for patch k, or its index in the array; each ends in a zero byte,
                  since names may have line breaks
    skipped.txt   one line per picture that could not be used, and why
    data.json     shape, levels, counts, classes, checksums

Options that were left open (size, channels) are settled by the images. A link under the name that these settled options
give leads to the same cache, so that a model of that shape finds the images it was trained on.

Images are written as they are decoded, and read through the mapping: neither takes memory that grows with their number.
A cache whose files do not have the sizes and checksums in data.json is made anew. The checksums are of samples
(`sample_digest`): in files longer than 4 MiB, a few bits that flip later can go unnoticed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from pixelcnn.config import from_dict, to_dict
from pixelcnn.datasets.once import cache_folder, link, made
from pixelcnn.datasets.split import SIDES, side_of
from pixelcnn.files import map_array, read_json, write_file
from pixelcnn.levels import MAX_LEVELS, array_dtype
from pixelcnn.progress import say

__all__ = [
    "MAX_CLASSES",
    "Cache",
    "Contents",
    "Source",
    "Writer",
    "content_remarks",
    "open_cache",
    "sample_digest",
    "skipped_remark",
    "stamp_of",
]

MAX_CLASSES = 2**16  # as many as a model can have

_VERSION = 4  # of the files' format and of how pictures are decoded
_FILES = ("images.npy", "labels.npy", "names.txt", "skipped.txt")
_HEADER = 128  # bytes of a .npy file's header, for any number of images
_MAX_NAMED = 5  # skipped pictures that are named in a remark
_BLOCKS, _BLOCK = 64, 2**16  # number and bytes of the blocks that `sample_digest` reads
_NEARLY_BLACK = 8  # images are, if all their levels are in the lowest eighth


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a source reports when it has written its images."""

    levels: int
    """Levels of a sub-pixel."""
    classes: tuple[str, ...] | None
    """Names of the classes, in the order of the labels."""
    remarks: tuple[str, ...] = ()
    """Remarks on what was done to the images that a user might not expect, a sentence each."""


class Source(ABC):
    """A source of images that are decoded into a cache."""

    name: str
    """The name in messages."""
    fields: tuple[str, ...] = ()
    """The fields of `DataConfig` that apply to it."""
    has_pictures = False
    """Whether its images are pictures, which can be scaled, cropped and converted to grey."""
    is_split = False
    """Whether it has a fixed split into training, validation and test images."""

    @abstractmethod
    def stamp(self) -> dict[str, Any]:
        """What changes if the data change, as JSON values."""

    def check_unchanged(self, stamp: dict[str, Any]) -> None:
        """Checks that the data have not changed since they had a stamp.

        Raises:
            ValueError: If they have.
        """
        if self.stamp() != stamp:
            raise ValueError(f"{self.name} changed while it was read; try again")

    @abstractmethod
    def options(self, shape: tuple[int, int, int] | None = None) -> dict[str, Any]:
        """The options that the images depend on, as JSON values; those left open are settled by the shape, if given."""

    @abstractmethod
    def fill(self, writer: Writer, *, progress: bool) -> Contents:
        """Writes all images."""

    def notices(self) -> list[str]:
        """After `stamp`: remarks on what of the data is not read, a sentence each."""
        return []


@dataclass(frozen=True, kw_only=True)
class CacheRecord:
    """data.json: the content of a cache."""

    source: str
    """Name of the source."""
    identity: str
    """SHA-256 of everything that the images depend on."""
    shape: tuple[int, int, int]
    """Channels, height and width."""
    levels: int
    """Levels of a sub-pixel."""
    counts: tuple[int, int, int]
    """Training, validation and test images."""
    classes: tuple[str, ...] | None
    """Names of the classes, in the order of the labels."""
    skipped: int
    """Pictures that could not be used."""
    lowest: int
    """The lowest level of all."""
    highest: int
    """The highest level of all."""
    constant: int
    """Number of images of one level throughout."""
    remarks: tuple[str, ...]
    """As in `Contents`."""
    split: str
    """How the images were split."""
    checksums: dict[str, str]
    """The `sample_digest` of each file."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """An open cache; its tensors are memory-mapped, and writing to them does not reach the file."""

    folder: Path
    """The cache's folder."""
    record: CacheRecord
    """Its data.json."""
    images: Tensor
    """Levels (N, C, H, W), uint8, or int32 above 256 of them."""
    labels: Tensor | None
    """int64 (N,)."""

    def side(self, name: str | None) -> slice:
        """The range of a side of `SIDES` among the images; for None, of all images."""
        if name is None:
            return slice(0, sum(self.record.counts))
        k = SIDES.index(name)
        return slice(sum(self.record.counts[:k]), sum(self.record.counts[: k + 1]))

    def remarks(self) -> Iterator[str]:
        """Remarks on pictures that are missing, frames and depths, a sentence each."""
        if skipped := self.record.skipped:
            path = self.folder / "skipped.txt"
            with path.open("rb") as file:
                yield skipped_remark(skipped, (os.fsdecode(line).rstrip("\n") for line in file), f"all in {path}")
        yield from self.record.remarks

    def names(self, name: str | None = None) -> list[str]:
        """The name of each image of a side in its source."""
        found = (self.folder / "names.txt").read_bytes().split(b"\0")[:-1]
        return [os.fsdecode(each) for each in found[self.side(name)]]


def skipped_remark(count: int, skipped: Iterable[str], rest: str = "") -> str:
    """The remark that pictures were skipped, which names the first of them.

    Args:
        count: Number of them.
        skipped: Their names and the reasons.
        rest: What is said of the others, if there are any; by default, how many they are.
    """
    were = "picture was" if count == 1 else "pictures were"
    others = f"; {rest or f'and {count - _MAX_NAMED:,} more'}" if count > _MAX_NAMED else ""
    return f"{count:,} {were} skipped: {'; '.join(itertools.islice(skipped, _MAX_NAMED))}{others}"


def content_remarks(lowest: int, highest: int, levels: int, *, pictures: bool) -> list[str]:
    """A remark if images, of pictures or not, whose levels are in this range can hardly be what was meant."""
    dark = highest < levels / _NEARLY_BLACK
    hint = "; values that are numbers of things and no shades are better given as an array" if dark and pictures else ""
    if lowest == highest:
        return [f"every level is {lowest}, so there is nothing to learn{hint}"]
    if dark:
        return [f"the images are nearly black: all their levels are in {lowest}..{highest}, of 0..{levels - 1}{hint}"]
    return []


def stamp_of(path: str | Path) -> list[int]:
    """A file's size, the time of its last modification, and the time when anything about it last changed.

    The last one, which no program can set, tells apart files that were given the same modification time. The number of
    the inode is left out: a file system in user space may change it at any time.

    Raises:
        OSError: If there is no such file.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def sample_digest(path: Path) -> str:
    """SHA-256 of a file's length and of 64 blocks of 64 KiB spread evenly over it: of the whole file up to 4 MiB.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for start in sorted({k * max(0, size - _BLOCK) // (_BLOCKS - 1) for k in range(_BLOCKS)}):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def open_cache(source: Source, held_out: float, test: float, *, progress: bool) -> Cache:
    """The cache of a source, made if it is missing or damaged.

    Args:
        source: The source of the images.
        held_out: Share of the validation images.
        test: Share of the test images.
        progress: Show a bar, and where the cache is, on standard error.

    Raises:
        ValueError: If the source refuses its data, or they change while they are read.
        OSError: If the cache cannot be written; nothing is left behind.
    """
    split = {"version": _VERSION, "held_out": held_out, "test": test}
    stamp = source.stamp()
    identity = _digest({**split, **stamp, **source.options()})
    path, read = cache_folder() / identity[:32], functools.partial(_read, identity=identity)
    if (cache := read(path)) is not None:
        return cache

    def fill(folder: Path) -> None:
        with contextlib.ExitStack() as files:
            writer = Writer(folder, files, held_out, test)
            contents = source.fill(writer, progress=progress)
            writer.finish()
        source.check_unchanged(stamp)
        assert writer.shape is not None
        record = CacheRecord(
            source=source.name,
            identity=identity,
            shape=writer.shape,
            levels=contents.levels,
            counts=(writer.counts[0], writer.counts[1], writer.counts[2]),
            classes=contents.classes,
            skipped=writer.skipped,
            lowest=writer.lowest,
            highest=writer.highest,
            constant=writer.constant,
            remarks=contents.remarks,
            split=f"BLAKE2b of the levels / 2^64: validation below {held_out:g}, test from {1 - test:g}; or as given",
            checksums=_checksums(folder),
        )
        write_file(folder / "data.json", json.dumps(to_dict(record), indent=2) + "\n")

    cache = made(path, fill, read)
    link(_digest({**split, **stamp, **source.options(cache.record.shape)})[:32], path)
    if progress:
        size = sum(file.stat().st_size for file in path.iterdir())
        say(f"{source.name}: {sum(cache.record.counts):,} images, {_bytes(size)} in {path}")
    return cache


class Writer:
    """Takes images one after another and appends each to its side."""

    def __init__(self, folder: Path, files: contextlib.ExitStack, held_out: float, test: float) -> None:
        self._columns = {name: _Column(folder / name, files) for name in ("images.npy", "labels.npy", "names.txt")}
        self._skipped = files.enter_context((folder / "skipped.txt").open("wb"))
        self._held_out, self._test = held_out, test
        self._labelled = 0
        self.shape: tuple[int, int, int] | None = None
        """Shape of an image, once there is one."""
        self.dtype: np.dtype | None = None
        """Its type."""
        self.counts = [0, 0, 0]
        """Number of images on each side."""
        self.skipped = 0
        """Pictures that could not be used."""
        self.first_skipped = ""
        """The first of them, and the reason."""
        self.lowest, self.highest, self.constant = MAX_LEVELS - 1, 0, 0
        """As in `CacheRecord`."""

    def add(
        self, images: np.ndarray, labels: Sequence[int] | None, names: Sequence[str], side: int | None = None
    ) -> None:
        """Writes images.

        Args:
            images: Levels (N, C, H, W), of the same shape and type in every call.
            labels: A class for each, in every call or in none.
            names: A name for each.
            side: Index of `SIDES`; None lets the content decide.
        """
        self.shape, self.dtype = self.shape or images.shape[1:], self.dtype or images.dtype
        assert images.dtype == self.dtype
        assert images.shape[1:] == self.shape
        for k, image in enumerate(images):
            at = side_of(image, self._held_out, self._test) if side is None else side
            self.counts[at] += 1
            low, high = int(image.min()), int(image.max())
            self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
            self.constant += low == high
            self._columns["images.npy"].write(at, image.tobytes())
            self._columns["names.txt"].write(at, os.fsencode(names[k]) + b"\0")
            if labels is not None:
                self._labelled += 1
                self._columns["labels.npy"].write(at, int(labels[k]).to_bytes(8, "little", signed=True))

    def skip(self, name: str, reason: str) -> None:
        """Notes that a picture cannot be used."""
        line = f"{name}: {reason}".replace("\n", " ")
        self.first_skipped = self.first_skipped or line
        self.skipped += 1
        self._skipped.write(os.fsencode(line) + b"\n")

    def finish(self) -> None:
        """Completes the files."""
        assert self.shape is not None
        assert self.dtype is not None
        assert self._labelled in (0, sum(self.counts))
        self._columns["images.npy"].finish(self.dtype, (sum(self.counts), *self.shape))
        self._columns["labels.npy"].finish(np.dtype("<i8"), (self._labelled,))
        self._columns["names.txt"].finish()
        _sync(self._skipped)


class _Column:
    """A file that grows in three parts, one per side: the parts of the later sides are appended to it in the end."""

    def __init__(self, path: Path, files: contextlib.ExitStack) -> None:
        self._parts: list[IO[bytes]] = []
        for k in range(len(SIDES)):
            part = path if k == 0 else path.with_name(f"{path.name}.{SIDES[k]}")
            self._parts.append(files.enter_context(part.open("w+b")))
        if path.suffix == ".npy":
            self._parts[0].write(bytes(_HEADER))

    def write(self, side: int, content: bytes) -> None:
        self._parts[side].write(content)

    def finish(self, dtype: np.dtype[Any] | None = None, shape: tuple[int, ...] = ()) -> None:
        whole = self._parts[0]
        for part in self._parts[1:]:
            part.seek(0)
            shutil.copyfileobj(part, whole, 2**20)
            os.unlink(part.name)
        if dtype is not None:
            whole.seek(0)
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(whole, header)
            assert whole.tell() == _HEADER
        _sync(whole)


def _read(path: Path, identity: str) -> Cache | None:
    """The cache in a folder or behind a link; None if there is none, or it is damaged."""
    try:
        record = from_dict(CacheRecord, read_json(path / "data.json"), str(path))
        n = sum(record.counts)
        images = _map(path / "images.npy", array_dtype(record.levels), (n, *record.shape))
        labels = None if record.classes is None else _map(path / "labels.npy", np.int64, (n,))
        known_as = path.resolve().name if path.is_symlink() else identity
        if not record.identity.startswith(known_as) or record.checksums != _checksums(path):
            return None
    except (ValueError, TypeError, OSError):
        return None
    return Cache(folder=path, record=record, images=images, labels=labels)


def _checksums(folder: Path) -> dict[str, str]:
    return {name: sample_digest(folder / name) for name in _FILES}


def _map(path: Path, dtype: type[np.generic] | np.dtype[Any], shape: tuple[int, ...]) -> Tensor:
    array = map_array(path)
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{path} is damaged: it does not hold what data.json says")
    return torch.from_numpy(array)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _bytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(size, 2**20 // 10) / 2**20:.1f} MiB"
