"""Patches of pictures of any size, drawn anew in each epoch.

Each picture is decoded once, by threads, into one memory-mapped file in the folder of all caches (`.once`), so memory
does not grow with the pictures. Whole pictures are held out, by a hash of their content (`.split`). An epoch has as
many patches of a picture as tiles would fit into it, at positions that are a function of (seed, epoch, patch), all
equally probable. Validation takes tiles side by side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixelcnn.datasets.cache import content_remarks, sample_digest, skipped_remark
from pixelcnn.datasets.folder import FolderSource
from pixelcnn.datasets.once import cache_folder, made
from pixelcnn.datasets.picture_source import Frames
from pixelcnn.datasets.pictures import Depth
from pixelcnn.datasets.split import side_of
from pixelcnn.files import read_json, write_file
from pixelcnn.levels import MAX_LEVELS, array_dtype
from pixelcnn.progress import say
from pixelcnn.randomness import patch_uniforms

__all__ = ["Patches", "PictureStore", "open_pictures"]

_VERSION = 3  # of the files' format and of how pictures are decoded
_VALIDATION_BYTES = 2**26  # of tiles


@dataclass(frozen=True)
class PictureStore:
    """Decoded pictures in a memory-mapped file."""

    values: Tensor
    """Levels of all pictures, one after another, each (C, H, W)."""
    channels: int
    """Channels of each."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each."""
    names: tuple[str, ...]
    """File of each."""
    labels: tuple[int, ...] | None
    """Class of each, if sub-folders are classes."""
    sides: tuple[int, ...]
    """The index in `SIDES` of each."""
    classes: tuple[str, ...] | None
    """Names of the classes."""
    remarks: tuple[str, ...]
    """What was skipped or converted, a sentence each."""
    digest: str
    """SHA-256 of samples of all that."""

    def patches(self, side: int, size: int) -> Patches:
        """Patches of the pictures of a side."""
        return Patches(self, [k for k in range(len(self.sizes)) if self.sides[k] == side], size)


class Patches:
    """Patches of some of a store's pictures, as `pixelcnn.train` takes them in place of images.

    Args:
        store: The pictures.
        pictures: The indices of those that patches are drawn from.
        size: Height and width of a patch.
        shrink: For a model that is conditional on patches that are so many times smaller, super-resolution; 1 for
            another.
    """

    def __init__(self, store: PictureStore, pictures: Sequence[int], size: int, shrink: int = 1) -> None:
        if size % shrink:
            raise ValueError(f"patches are shrunk by {shrink}, so their side must be a multiple, got {size}")
        self.store = store
        self.size = size
        self.shrink = shrink
        heights, widths = np.array(store.sizes).T if store.sizes else np.zeros((2, 0), dtype=np.int64)
        ends = np.cumsum(store.channels * heights * widths)
        counts = [int(heights[k] // size * (widths[k] // size)) for k in pictures]
        picture = torch.tensor(np.repeat(np.array(pictures, dtype=np.int64), counts), device="cpu")
        self.picture = picture
        """The picture of each patch."""
        self._ends, self._counts, self._pictures = ends, counts, pictures

    def __len__(self) -> int:
        return len(self.picture)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(number in an epoch, channels, height, width)."""
        return len(self), self.store.channels, self.size, self.size

    @property
    def labels(self) -> Tensor | None:
        """Class of each patch, int64 (N,)."""
        labels = self.store.labels
        return None if labels is None else torch.tensor(labels, dtype=torch.int64, device="cpu")[self.picture]

    @property
    def digest(self) -> str:
        """What patches depend on, besides the seed and the epoch."""
        shrunk = f" shrink:{self.shrink}" if self.shrink > 1 else ""
        return hashlib.sha256(f"{self.store.digest} {list(self._pictures)} {self.size}{shrunk}".encode()).hexdigest()

    def shrunk_by(self, factor: int) -> Patches:
        """The same patches for a model that is conditional on them shrunk, see `pixelcnn.datasets.shrunk`."""
        return Patches(self.store, self._pictures, self.size, factor)

    def drawn(self, indices: Tensor, seed: int, epoch: int) -> Tensor:
        """Some of an epoch's patches: levels (n, C, H, W)."""
        found = torch.empty((len(indices), *self.shape[1:]), dtype=self.store.values.dtype, device="cpu")
        fractions = patch_uniforms(indices, seed, epoch).tolist()
        for k, (picture, (down, right)) in enumerate(zip(self.picture[indices].tolist(), fractions, strict=True)):
            height, width = self.store.sizes[picture]
            top, left = int(down * (height - self.size + 1)), int(right * (width - self.size + 1))
            found[k] = self._picture(picture)[:, top : top + self.size, left : left + self.size]
        return found

    @property
    def tiled(self) -> Tensor:
        """The indices of the patches that `tiles` returns: all, or so many, spread evenly, that they take 64 MiB."""
        size = self.store.channels * self.size**2 * self.store.values.element_size()
        return torch.arange(0, len(self), max(1, -(-len(self) * size // _VALIDATION_BYTES)), device="cpu")

    def tiles(self) -> Tensor:
        """Patches that lie side by side: levels (n, C, H, W)."""
        wanted = self.tiled
        firsts = dict(zip(self._pictures, np.cumsum([0, *self._counts[:-1]]).tolist(), strict=True))
        found = torch.empty((len(wanted), *self.shape[1:]), dtype=self.store.values.dtype, device="cpu")
        for k, (index, picture) in enumerate(zip(wanted.tolist(), self.picture[wanted].tolist(), strict=True)):
            row, column = divmod(index - firsts[picture], self.store.sizes[picture][1] // self.size)
            top, left = row * self.size, column * self.size
            found[k] = self._picture(picture)[:, top : top + self.size, left : left + self.size]
        return found

    def names(self) -> list[str]:
        """The picture of each patch."""
        return [self.store.names[picture] for picture in self.picture.tolist()]

    def _picture(self, index: int) -> Tensor:
        height, width = self.store.sizes[index]
        end = int(self._ends[index])
        return self.store.values[end - self.store.channels * height * width : end].view(-1, height, width)


def open_pictures(source: FolderSource, *, progress: bool) -> PictureStore:
    """The pictures of a folder, decoded once.

    Args:
        source: The folder; pictures smaller than the `patch` of its configuration are skipped.
        progress: Show a bar on standard error.

    Raises:
        ValueError: If no picture can be used, one cannot and `strict` is set, the folder is refused, or it
            changes while it is read.
        OSError: If the pictures cannot be written; nothing is left behind.
    """
    config = source.config
    options = {**source.options(), "held_out": config.held_out, "test": config.test, "patch": config.patch}
    stamp = source.stamp()
    identity = hashlib.sha256(json.dumps(["pictures", _VERSION, stamp, options], sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"pictures-{identity[:32]}"
    if (store := _read(path)) is not None:
        return store

    def fill(folder: Path) -> None:
        _fill(folder, source, progress=progress)
        source.check_unchanged(stamp)

    store = made(path, fill, _read)
    if progress:
        say(f"{source.name}: {len(store.sizes):,} pictures in {path}")
    return store


def _fill(folder: Path, source: FolderSource, *, progress: bool) -> None:
    """Decodes all pictures into a folder."""
    config = source.config
    assert config.patch is not None
    depth, frames = Depth(config, source.levels, source.opened), Frames()
    sizes: list[tuple[int, int]] = []
    names: list[str] = []
    labels: list[int | None] = []
    sides: list[int] = []
    skipped: list[str] = []
    channels, dtype = 0, array_dtype(source.levels)
    lowest, highest = MAX_LEVELS - 1, 0
    with (
        (folder / "values.bin").open("wb") as file,
        warnings.catch_warnings(action="ignore"),  # Pillow warns of oddities in files
        contextlib.closing(source.decoded(depth, progress=progress)) as pictures,
    ):
        for name, label, _, result in pictures:
            if not isinstance(result, Exception):
                image = result[0][0]
                channels, height, width = image.shape
                if min(height, width) >= config.patch:
                    file.write(image.astype(dtype.newbyteorder("<"), copy=False).tobytes())
                    sizes.append((height, width))
                    names.append(name)
                    labels.append(label)
                    sides.append(side_of(image, config.held_out, config.test))
                    lowest, highest = min(lowest, int(image.min())), max(highest, int(image.max()))
                    frames.add(name, result[1])
                    continue
                result = ValueError(f"it is {height} x {width}, smaller than a patch")
            skipped.append(f"{name}: {source.why_skipped(name, result)}")
    if not sizes:
        raise ValueError(f"none of the {len(skipped)} pictures of {source.name} can be used; the first is {skipped[0]}")
    remarks = [skipped_remark(len(skipped), skipped)] if skipped else []
    remarks += [*frames.remarks, *depth.remarks, *content_remarks(lowest, highest, source.levels, pictures=True)]
    record = {
        "channels": channels, "dtype": dtype.name, "sizes": sizes, "names": names, "sides": sides,
        "labels": None if source.classes is None else labels, "classes": source.classes, "remarks": remarks,
        "digest": sample_digest(folder / "values.bin"),
    }  # fmt: skip
    write_file(folder / "pictures.json", json.dumps(record) + "\n")


def _read(path: Path) -> PictureStore | None:
    """The store in a folder; None if there is none, or it is damaged."""
    try:
        record: Any = read_json(path / "pictures.json")
        file = path / "values.bin"
        if sample_digest(file) != record["digest"]:
            return None
        values = np.memmap(file, dtype=record["dtype"], mode="c")
        sizes = tuple((int(h), int(w)) for h, w in record["sizes"])
        if len(values) != record["channels"] * sum(h * w for h, w in sizes):
            return None
        return PictureStore(
            torch.from_numpy(values), record["channels"], sizes, tuple(record["names"]),
            None if record["labels"] is None else tuple(record["labels"]), tuple(record["sides"]),
            None if record["classes"] is None else tuple(record["classes"]), tuple(record["remarks"]),
            record["digest"],
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, OSError):
        return None
