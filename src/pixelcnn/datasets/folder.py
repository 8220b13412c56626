"""A folder of pictures at any depth, of the formats of `.pictures`, told by their endings.

Where pictures are in sub-folders, these are the classes, in the order of their names; what is deeper belongs to the
class above it. Files with other endings are left out and counted; hidden ones are passed over. Links to folders are
followed, never in a circle.

The folder is read twice, once for names, sizes and times, once to decode; neither holds more than the names of one
folder. Files are decoded by threads, a few ahead of the one that is being written.
"""

from __future__ import annotations

import collections
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from pixelcnn.config import DataConfig
from pixelcnn.datasets.cache import Contents, Writer, stamp_of
from pixelcnn.datasets.pictures import SUFFIXES, Depth, frames_left_out, is_grey, open_picture, opened, to_levels
from pixelcnn.files import printable
from pixelcnn.progress import progress_bar

__all__ = ["MOST_CLASSES", "FolderSource", "PictureSink", "by_ending", "picture_options"]

MOST_CLASSES = 2**16  # as many as a model can have
_SPLITS = {"train", "training", "valid", "validation", "val", "test", "testing"}  # names that are hardly classes
_THREADS = 8  # at most

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class FolderSource:
    """The pictures of a folder.

    Args:
        folder: The folder.
        levels: 2..256; None for 256.
        config: How they are read.
    """

    def __init__(self, folder: Path, levels: int | None, config: DataConfig) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self.levels = levels or 256
        self.config = config
        self.left_out: Counter[str] = Counter()
        """Files that `stamp` found and `fill` does not read, by their endings."""
        self._classes: tuple[str, ...] | None = None
        self._count = 0

    def stamp(self) -> dict[str, Any]:
        """The path, and a hash of the names, sizes and times of all pictures; `fill` decodes what it has found.

        Raises:
            ValueError: If the folder holds no pictures, pictures both beside and in sub-folders, sub-folders that are
                splits, more than `MOST_CLASSES` classes, or other files although `config.strict` is set.
        """
        return {"folder": str(self.folder.resolve()), "files": self._survey()}

    def options(self, shape: tuple[int, int, int] | None = None) -> dict[str, Any]:
        """The levels, and how pictures are read."""
        return picture_options(self.config, self.levels, shape)

    def fill(self, writer: Writer, *, progress: bool) -> Contents:
        """Decodes all pictures.

        Raises:
            ValueError: If pictures have different sizes and none is asked for, none can be used, or one cannot and
                `config.strict` is set.
        """
        channels = self.config.channels or (1 if self._all_grey() else 3)

        depth = Depth(self.config, self._opened)

        def decode(item: tuple[str, int | None]) -> tuple[np.ndarray, int] | Exception:
            try:
                with open_picture(self.folder / item[0]) as image:
                    return to_levels(image, channels, self.levels, depth.config_for(image)), frames_left_out(image)
            except Exception as error:  # Pillow meets damaged files with errors of any kind
                return error

        sink = PictureSink(writer, self.config, self.name)
        with (
            warnings.catch_warnings(action="ignore"),  # Pillow's, of what is odd in a file
            progress_bar(f"reading {self.name}", self._count, "file", show=progress) as bar,
            ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool,
        ):
            for (name, label), result in _in_order(pool, decode, self._pictures()):
                sink.take(name, label, result)
                bar.update()
        sink.check()
        return Contents(levels=self.levels, classes=self._classes, remarks=(*sink.remarks, *depth.remarks))

    def _all_grey(self) -> bool:
        """Whether every picture is stored in greyscale; the first one in colour ends the search."""
        return all(map(is_grey, self._opened()))

    def _opened(self) -> Iterator[Image.Image]:
        return opened(self.folder / name for name, _ in self._pictures())

    def _pictures(self) -> Iterator[tuple[str, int | None]]:
        """Relative path and class of each picture, in the order of the names."""
        if self._classes is None:
            yield from ((name, None) for name in _entries(self.folder)[0])
        for label, name in enumerate(self._classes or ()):
            yield from ((picture, label) for picture in _walk(self.folder, name))

    def _survey(self) -> str:
        """Counts the pictures, finds the classes, and hashes what tells whether a file has changed."""
        self.left_out = Counter()
        pictures, folders = _entries(self.folder, self.left_out)
        digest = hashlib.sha256()
        classes: list[str] = []
        inside = 0
        for picture in pictures:
            digest.update(_stamp(self.folder, picture))
        for folder in folders:
            before = inside
            for path in _walk(self.folder, folder, self.left_out):
                if pictures:
                    raise ValueError(
                        f"{self.folder} holds pictures ({pictures[0]}) beside sub-folders with pictures ({path}): "
                        "sub-folders are classes, so move the pictures into one"
                    )
                digest.update(_stamp(self.folder, path))
                inside += 1
            if inside > before:
                classes.append(folder)
            if len(classes) > MOST_CLASSES:
                raise ValueError(
                    f"{self.folder} has more than {MOST_CLASSES} sub-folders with pictures, which are classes; a model "
                    f"has at most {MOST_CLASSES}"
                )
        if not pictures and not inside:
            if not self.left_out:
                raise ValueError(f"{self.folder} holds no pictures: it is empty")
            raise ValueError(
                f"{self.folder} holds no pictures: none of its {self.left_out.total()} files ends in "
                f"{', '.join(SUFFIXES)}; they are {by_ending(self.left_out)}"
            )
        if self.left_out and self.config.strict:
            raise ValueError(
                f"{self.folder} holds files that are not read, {by_ending(self.left_out)}: without strict they are left"
                " out"
            )
        if classes and {name.lower() for name in classes} <= _SPLITS:
            raise ValueError(
                f"{self.folder} has the sub-folders {' and '.join(classes)}, which are splits and not classes; name "
                f"one, as in {self.folder / classes[0]}"
            )
        self._classes, self._count = tuple(classes) or None, len(pictures) + inside
        return digest.hexdigest()


def picture_options(config: DataConfig, levels: int, shape: tuple[int, int, int] | None) -> dict[str, Any]:
    """What the levels of pictures depend on.

    Args:
        config: How they are read.
        levels: 2..256.
        shape: Channels, height and width, where all pictures could be used, or were skipped, to settle what
            `config` leaves open. None: the options as they are.
    """
    size, channels, strict = config.height_and_width, config.channels, config.strict
    if shape is not None:
        size, channels, strict = shape[1:], 1 if shape[0] == 1 else 3, False
    return {
        "size": size,
        "channels": channels,
        "strict": strict,
        "crop": config.crop,
        "bit_depth": config.bit_depth,
        "levels": levels,
    }


def by_ending(files: Mapping[str, int]) -> str:
    """Numbers of files by their endings, as in "30 .heic, 1 .txt"; the commonest come first."""
    most = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {printable(ending) or 'without an ending'}" for ending, count in most)


class PictureSink:
    """Takes decoded pictures in order, and refuses or skips what cannot be used.

    Args:
        writer: Where the images go.
        config: `size` and `strict` count.
        source: Name of the data, for errors.
    """

    def __init__(self, writer: Writer, config: DataConfig, source: str) -> None:
        self._writer, self._config, self._source = writer, config, source
        self._first = ""
        self._animated, self._frames, self._first_animated = 0, 0, ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """A sentence on what was left out of pictures, if something was."""
        if not self._animated:
            return ()
        were = "picture has" if self._animated == 1 else "pictures have"
        return (
            f"{self._animated:,} {were} several frames or pages, of which the first is taken: {self._frames:,} are "
            f"left out; {self._first_animated} is the first",
        )

    def take(
        self, name: str, label: int | None, result: tuple[np.ndarray, int] | Exception, side: int | None = None
    ) -> None:
        """Writes the images of a picture, or notes why there are none.

        Args:
            name: Of the picture.
            label: Its class, in every call or in none.
            result: Its images, as of `to_levels`, and how many frames of it they are not of; or what went wrong.
            side: Index of `SIDES`; None lets the content decide.

        Raises:
            ValueError: If the picture has another size than the first, or cannot be used and `strict` is set.
        """
        if isinstance(result, Exception):
            reason = _reason(result)
            if self._config.strict:
                raise ValueError(f"{name} of {self._source} cannot be used: {reason}; without strict it is skipped")
            self._writer.skip(name, reason)
            return
        images, frames = result
        shape = self._writer.shape
        if shape is not None and images.shape[1:] != shape:
            raise ValueError(
                f"{name} of {self._source} is {images.shape[2]} x {images.shape[3]}, but {self._first} is "
                f"{shape[1]} x {shape[2]}: give a size, to which all are scaled and cropped"
            )
        self._first = self._first or name
        if frames:
            self._animated, self._frames = self._animated + 1, self._frames + frames
            self._first_animated = self._first_animated or name
        names = [name] if self._config.crop == "centre" else [f"{name}#{k}" for k in range(len(images))]
        self._writer.add(images, None if label is None else [label] * len(images), names, side)

    def check(self) -> None:
        """To be called at the end.

        Raises:
            ValueError: If no picture could be used.
        """
        if self._writer.shape is None:
            raise ValueError(
                f"none of the {self._writer.skipped} pictures of {self._source} can be used; the first is "
                f"{self._writer.first_skipped}"
            )


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture of a format that is read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _entries(folder: Path, left_out: Counter[str] | None = None) -> tuple[list[str], list[str]]:
    """The names of a folder's pictures and sub-folders; counts other files by their endings."""
    pictures: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.lower().endswith(SUFFIXES):
                pictures.append(entry.name)
            elif left_out is not None:
                left_out[os.path.splitext(entry.name)[1].lower()] += 1
    return sorted(pictures), sorted(folders)


def _walk(root: Path, name: str, left_out: Counter[str] | None = None, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The path from `root` of each picture below its sub-folder `name`; counts other files by their endings."""
    real = os.path.realpath(root / name)
    if real in above:  # a link to a folder that it is in
        return
    pictures, folders = _entries(root / name, left_out)
    for picture in pictures:
        yield f"{name}/{picture}"
    for below in folders:
        yield from _walk(root, f"{name}/{below}", left_out, (*above, real))


def _stamp(root: Path, path: str) -> bytes:
    try:
        return os.fsencode("\0".join(map(str, (path, *stamp_of(os.path.join(root, path)), ""))))
    except OSError:  # a link to nowhere; told when it is decoded
        return os.fsencode(f"{path}\0-\0-\0")


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]
) -> Iterator[tuple[ItemT, ResultT]]:
    """Each item with its result, computed a few ahead."""
    ahead = 2 * min(_THREADS, os.cpu_count() or 1)
    waiting: collections.deque[tuple[ItemT, Future[ResultT]]] = collections.deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    for item, future in waiting:
        yield item, future.result()
