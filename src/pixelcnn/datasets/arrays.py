"""Integer arrays as images: VQ codes, spins, tiles, any grid of levels.

    x.npy    (N, H, W) for one channel, or (N, C, H, W), or (N, H, W, C)
    x.npz    the same under the name `images`, or as the only array besides `labels`; `labels` are integers (N,)

Values are levels, 0 .. levels-1: nothing is scaled. Nothing is unpickled.

A layout, or the shape of the model that the images are for, decides what the axes are. Without either, channels come
second; but where the last axis may be channels, at most 4 of them, nothing is guessed and a layout is needed:

    (N, A, B, C)   if C <= 4 and A > 1
    (N, A, B)      if B is 3 or 4 and A > 4, which may be a single colour image

Arrays are read as a stream, even compressed ones, so that memory does not grow with their size.
"""

from __future__ import annotations

import contextlib
import functools
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from pixelcnn.config import Layout
from pixelcnn.datasets.cache import MAX_CLASSES, Contents, Source, Writer, sample_digest, stamp_of
from pixelcnn.files import check_no_pointer
from pixelcnn.levels import GREY_LEVELS, MAX_LEVELS, array_dtype
from pixelcnn.progress import progress_bar

__all__ = ["ArraySource", "named_damage"]

_CHUNK = 2**20  # bytes


class ArraySource(Source):
    """The images of a .npy or .npz file.

    Args:
        path: The file.
        levels: 2..65,536; None for the largest value plus one, at least 2.
        layout: What its axes are, see `DataConfig`.
        image_shape: Channels, height and width that its images must have.

    Raises:
        ValueError: If the file is damaged, does not hold integers in a shape that images have, or it is not certain
            what its axes are.
        OSError: If it cannot be read.
    """

    fields = ("held_out", "test", "layout")

    def __init__(
        self,
        path: Path,
        levels: int | None,
        layout: Layout | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.path = path
        self.name = path.stem
        self.levels = levels
        self._key, self._labels_key = _keys(path)
        with _opened(path, self._key) as array:
            array.check_integers(
                "whole numbers are saved as x.astype('int32'), values from 0 to 1 as (x * 255).round().astype('uint8')"
            )
            self.layout: Layout = _layout_of(array.shape, array.where, layout, image_shape)
            """What the axes are."""
            self.shape = _image_shape(array.shape, self.layout)
            """Channels, height and width of an image."""
            self.dtype = array.dtype
            if 0 in self.shape:
                raise ValueError(f"{array.where} must have images of at least one value, got the shape {array.shape}")
        if len(array) == 0:
            raise ValueError(f"{array.where} holds no images: its shape is {array.shape}")

    def stamp(self) -> dict[str, Any]:
        """Path, size and times of the file, and a hash of samples of it."""
        return {"array": str(self.path.resolve()), "file": stamp_of(self.path), "samples": sample_digest(self.path)}

    def options(self, shape: tuple[int, int, int] | None = None) -> dict[str, Any]:  # noqa: ARG002  # arrays leave nothing open
        """The levels and what the axes are."""
        return {"levels": self.levels, "layout": self.layout}

    def in_place(self) -> Tensor | None:
        """The file's own array, memory-mapped, as images: levels (N, C, H, W); None if it has to be converted.

        Raises:
            ValueError: If a value is not in 0 .. levels-1.
        """
        if self._key is not None or self.dtype != self._image_dtype or self.layout == "nhwc":
            return None
        with _opened(self.path, None) as array:
            for start, chunk in array.chunks():
                self._check(chunk, start, array.where)
        mapped = np.load(self.path, mmap_mode="c", allow_pickle=False)
        return torch.from_numpy(mapped.reshape(-1, *self.shape))

    def fill(self, writer: Writer, *, progress: bool) -> Contents:
        """Copies all images.

        Raises:
            ValueError: If a value is not in 0 .. levels-1, the labels do not fit, or the file is damaged.
        """
        top, classes = 0, 0
        for start, images, labels in self.parts(progress=progress):
            top = max(top, int(images.max()))
            classes = max(classes, 0 if labels is None else 1 + int(labels.max()))
            names = [str(k) for k in range(start, start + len(images))]
            writer.add(images, None if labels is None else labels.tolist(), names)
        return Contents(levels=self.levels or max(2, top + 1), classes=tuple(map(str, range(classes))) or None)

    def parts(self, *, progress: bool) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        """All images in parts: index of the first; images, levels (n, C, H, W); their labels, int64 (n,), or None.

        Raises:
            ValueError: If a value is not in 0 .. levels-1, the labels do not fit, or the file is damaged.
        """
        with _opened(self.path, self._key) as array:
            labels = self._labels(len(array))
            with progress_bar(f"reading {self.name}", len(array), "img", show=progress) as bar:
                for start, chunk in array.chunks():
                    self._check(chunk, start, array.where)
                    nchw = chunk.transpose(0, 3, 1, 2) if self.layout == "nhwc" else chunk.reshape(-1, *self.shape)
                    images = np.ascontiguousarray(nchw, dtype=self._image_dtype)
                    yield start, images, None if labels is None else labels[start : start + len(chunk)]
                    bar.update(len(chunk))

    @functools.cached_property
    def _image_dtype(self) -> np.dtype[Any]:
        """The type that holds the levels, for which an array of wide integers is read once if `levels` is not given."""
        if self.levels is not None or self.dtype.itemsize == 1:
            return array_dtype(self.levels or GREY_LEVELS)
        top = 0
        with _opened(self.path, self._key) as array:
            for start, chunk in array.chunks():
                self._check(chunk, start, array.where)
                top = max(top, int(chunk.max()))
        return array_dtype(top + 1)

    def _check(self, chunk: np.ndarray, start: int, where: str) -> None:
        """Checks the values of a part of the array that begins with image `start`."""
        low, high = int(chunk.min()), int(chunk.max())
        levels = self.levels or MAX_LEVELS
        if low >= 0 and high < levels:
            return
        first, *rest = map(int, np.argwhere((chunk < 0) | (chunk >= levels))[0])
        value = chunk[(first, *rest)]
        hint = f"a model has at most {MAX_LEVELS} levels"
        if low < 0 and np.isin(chunk, (-1, 1)).all():
            hint = "spins of -1 and 1 become levels by (x + 1) // 2"
        elif low < 0:
            hint = "integers that begin below 0 become levels by x.astype(int) - x.min()"
        elif self.levels is not None:
            hint = f"give more levels, at most {MAX_LEVELS}"
        raise ValueError(f"{where} holds {value} at {[start + first, *rest]}, but levels are 0..{levels - 1}; {hint}")

    def _labels(self, n: int) -> np.ndarray | None:
        if self._labels_key is None:
            return None
        with _opened(self.path, self._labels_key) as array:
            array.check_integers("number them by np.unique(labels, return_inverse=True)[1]")
            if array.shape != (n,):
                raise ValueError(f"{array.where} must have shape ({n},), one label per image, got {array.shape}")
            labels = np.concatenate([chunk for _, chunk in array.chunks()])
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= MAX_CLASSES:
            raise ValueError(
                f"{array.where} must be in 0..{MAX_CLASSES - 1}, since a model has at most {MAX_CLASSES} classes, "
                f"got {low if low < 0 else high}"
            )
        return labels.astype(np.int64)


@contextlib.contextmanager
def named_damage(what: str) -> Iterator[None]:
    """Makes whatever NumPy and zipfile raise for a damaged file an error that begins by saying what is damaged.

    Raises:
        ValueError: If they raise anything.
        OSError: If it is the file system's error, which names the file.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # of any kind: bzip2's is an OSError without a number
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{what}: {error}") from None


@dataclass(frozen=True)
class _Array:
    """An array in a file that has been read up to the end of its header."""

    where: str
    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def check_integers(self, advice: str) -> None:
        if self.dtype.kind not in "biu":
            raise ValueError(f"{self.where} must hold integers, got {self.dtype}; {advice}")

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The array in parts: the index of the first row, and rows."""
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        rows = max(1, _CHUNK // max(1, row))
        for start in range(0, len(self), rows):
            n = min(rows, len(self) - start)
            with named_damage(f"{self.where} is damaged"):
                content = self.file.read(n * row)
            if len(content) < n * row:
                raise ValueError(f"{self.where} is truncated: it ends in image {start + len(content) // row}")
            yield start, np.frombuffer(content, self.dtype).reshape(n, *self.shape[1:])


@contextlib.contextmanager
def _opened(path: Path, key: str | None) -> Iterator[_Array]:
    """The array of a .npy file, or the one under a name of a .npz file."""
    with contextlib.ExitStack() as files:
        where = str(path) if key is None else f"{path}[{key}]"
        with named_damage(f"{where} is damaged or not a NumPy file"):
            if key is None:
                file: IO[bytes] = files.enter_context(path.open("rb"))
            else:
                file = files.enter_context(files.enter_context(zipfile.ZipFile(path)).open(f"{key}.npy"))
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if not all(0 <= side < 2**63 for side in shape):
                raise ValueError(f"its header has the shape {shape}")
        if dtype.hasobject:
            raise ValueError(f"{where} holds Python objects, which are never read; save an array of integers")
        if fortran and len(shape) > 1:
            raise ValueError(f"{where} is in Fortran order; save np.ascontiguousarray(x)")
        yield _Array(where, file, shape, dtype)


def _keys(path: Path) -> tuple[str | None, str | None]:
    """The names of the images and of the labels inside a .npz file; None for each that there is not."""
    check_no_pointer(path, path)
    if path.suffix.lower() == ".npy":
        return None, None
    with named_damage(f"{path} is damaged or not a NumPy file"), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    labels = "labels" if "labels" in names else None
    if "images" in names:
        return "images", labels
    others = [name for name in names if name != "labels"]
    if len(others) != 1:
        found = ", ".join(names) or "no arrays"
        raise ValueError(f"{path} must hold an array named images, or a single one besides labels, got {found}")
    return others[0], labels


def _layout_of(
    shape: tuple[int, ...], where: str, given: Layout | None, image_shape: tuple[int, int, int] | None
) -> Layout:
    """What the axes of an array are."""
    every: tuple[Layout, ...] = ("nhw", "nchw", "nhwc")
    layouts = [layout for layout in every if len(layout) == len(shape) and given in (None, layout)]
    if not layouts:
        allowed = f"({', '.join(given.upper())})" if given else "(N, H, W), (N, C, H, W) or (N, H, W, C)"
        hint = "; one image is saved as x[None], sequences as x[:, None]" if len(shape) == 2 else ""
        raise ValueError(f"{where} must have shape {allowed}, got {shape}{hint}")
    found = {layout: _image_shape(shape, layout) for layout in layouts}
    fitting = [layout for layout in layouts if image_shape in (None, found[layout])]
    if not fitting:
        images = " or ".join(map(str, found.values()))
        raise ValueError(f"{where} has images of {images}, and the model {image_shape} (C, H, W); its shape is {shape}")
    if given is not None or (image_shape is not None and len(fitting) == 1):
        return fitting[0]
    if len(shape) == 4 and shape[3] <= 4 and shape[1] > 1:
        n, a, b, c = shape
        raise ValueError(
            f"{where} has the shape {shape}: are these {n} images of {a} channels and {b} x {c} pixels (--layout "
            f"nchw), or of {c} channels and {a} x {b} pixels (--layout nhwc)?"
        )
    if len(shape) == 3 and shape[2] in (3, 4) and shape[1] > 4:
        n, a, b = shape
        raise ValueError(
            f"{where} has the shape {shape}: are these {n} images of one channel and {a} x {b} pixels (--layout "
            f"nhw), or one image of {b} channels (then save x[None], --layout nhwc)?"
        )
    return fitting[0]


def _image_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, int, int]:
    """Channels, height and width."""
    sizes = dict(zip(layout, shape, strict=True))
    return sizes.get("c", 1), sizes["h"], sizes["w"]
