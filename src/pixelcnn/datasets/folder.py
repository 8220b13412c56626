"""Folders of pictures, at any depth, in the formats of `.pictures`, recognised by their endings.

If there are pictures in sub-folders, these are the classes, in the order of their names; deeper folders belong to the
class above them. Files with other endings are left out and counted; hidden ones are ignored. Links to folders are
followed, but never in a circle.

The folder is read twice, once for names, sizes and times, once to decode; neither keeps more than the names of one
folder in memory. Files are decoded by threads, a few ahead of the one that is being written.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from pixelcnn.config import DataConfig
from pixelcnn.datasets.cache import MAX_CLASSES, stamp_of
from pixelcnn.datasets.picture_source import Decoded, Pictures, PictureSource
from pixelcnn.datasets.pictures import SUFFIXES, Depth, is_grey, open_picture, opened
from pixelcnn.files import printable
from pixelcnn.progress import progress_bar
from pixelcnn.threads import in_order

__all__ = ["FolderSource"]

_SPLITS = {"train", "training", "valid", "validation", "val", "test", "testing"}  # names that are hardly classes
_MAX_THREADS = 8


class FolderSource(PictureSource):
    """The pictures of a folder; arguments as for `PictureSource`."""

    def __init__(self, folder: Path, levels: int | None, config: DataConfig) -> None:
        super().__init__(folder.resolve().name, levels, config)
        self.folder = folder
        self._left_out: Counter[str] = Counter()  # files that are not read, by their endings
        self._count = 0

    def stamp(self) -> dict[str, Any]:
        """The path, and a hash of the names, sizes and times of all pictures; `fill` decodes these pictures.

        Raises:
            ValueError: If the folder holds no pictures, pictures both beside and in sub-folders, sub-folders that are
                splits, more than `MAX_CLASSES` classes, or other files although `config.strict` is set.
        """
        return {"folder": str(self.folder.resolve()), "files": self._survey()}

    def notices(self) -> list[str]:
        """A remark on the files that are left out, if there are any."""
        return [f"left out by their endings: {_by_ending(self._left_out)}"] if self._left_out else []

    def opened(self) -> Iterator[Image.Image]:
        """Opens each picture."""
        return opened(self.folder / name for name, _ in self._pictures())

    def decoded(self, depth: Depth, *, progress: bool, threads: int | None = None) -> Pictures:
        """Decodes the pictures by threads, by default as many as there are cores; twice as many pictures are begun."""
        channels = self.config.channels or (1 if all(map(is_grey, self.opened())) else 3)

        def decode(picture: tuple[str, int | None]) -> tuple[str, int | None, None, Decoded]:
            name, label = picture
            try:
                with open_picture(self.folder / name) as image:
                    return name, label, None, self.decode(image, channels, depth)
            except Exception as error:  # Pillow raises errors of any kind for damaged files
                return name, label, None, error

        threads = threads or min(_MAX_THREADS, os.cpu_count() or 1)
        with (
            progress_bar(f"reading {self.name}", self._count, "file", show=progress) as bar,
            in_order(decode, self._pictures(), threads=threads, ahead=2 * threads) as results,
        ):
            for result in results:
                yield result
                bar.update()

    def _pictures(self) -> Iterator[tuple[str, int | None]]:
        """Relative path and class of each picture, in the order of the names."""
        if self.classes is None:
            yield from ((name, None) for name in _entries(self.folder)[0])
        for label, name in enumerate(self.classes or ()):
            yield from ((picture, label) for picture in _walk(self.folder, name))

    def _survey(self) -> str:
        """Counts the pictures, finds the classes, and hashes what shows whether a file has changed."""
        self._left_out = Counter()
        pictures, folders = _entries(self.folder, self._left_out)
        digest = hashlib.sha256()
        for picture in pictures:
            digest.update(_stamp(self.folder, picture))
        count, classes = len(pictures), []
        for folder in folders:
            before = count
            for path in _walk(self.folder, folder, self._left_out):
                if pictures:
                    raise ValueError(
                        f"{self.folder} holds pictures ({pictures[0]}) beside sub-folders with pictures ({path}): "
                        "sub-folders are classes, so move the pictures into one"
                    )
                digest.update(_stamp(self.folder, path))
                count += 1
            if count > before:
                classes.append(folder)
            if len(classes) > MAX_CLASSES:
                raise ValueError(
                    f"{self.folder} has more than {MAX_CLASSES} sub-folders with pictures, which are classes; a model "
                    f"has at most {MAX_CLASSES}"
                )
        if not count:
            raise ValueError(f"{self.folder} holds no pictures: {self._why_empty()}")
        if self._left_out and self.config.strict:
            raise ValueError(
                f"{self.folder} holds files that are not read, {_by_ending(self._left_out)}: without strict they are "
                "left out"
            )
        if classes and {name.lower() for name in classes} <= _SPLITS:
            raise ValueError(
                f"{self.folder} has the sub-folders {' and '.join(classes)}, which are splits and not classes; name "
                f"one, as in {self.folder / classes[0]}"
            )
        self.classes, self._count = tuple(classes) or None, count
        return digest.hexdigest()

    def _why_empty(self) -> str:
        if not self._left_out:
            return "it is empty"
        return (
            f"none of its {self._left_out.total()} files ends in {', '.join(SUFFIXES)}; they are "
            f"{_by_ending(self._left_out)}"
        )


def _by_ending(files: Counter[str]) -> str:
    """Numbers of files by their endings, as in "30 .heic, 1 .txt"; the most frequent come first."""
    ordered = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {printable(ending) or 'without an ending'}" for ending, count in ordered)


def _entries(folder: Path, left_out: Counter[str] | None = None) -> tuple[list[str], list[str]]:
    """The names of a folder's pictures and sub-folders; other files are counted by their endings."""
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
    """The path from `root` of each picture below its sub-folder `name`; other files are counted by their endings."""
    real = os.path.realpath(root / name)
    if real in above:  # a link to a folder that contains it
        return
    pictures, folders = _entries(root / name, left_out)
    for picture in pictures:
        yield f"{name}/{picture}"
    for below in folders:
        yield from _walk(root, f"{name}/{below}", left_out, (*above, real))


def _stamp(root: Path, path: str) -> bytes:
    try:
        return os.fsencode("\0".join(map(str, (path, *stamp_of(os.path.join(root, path)), ""))))
    except OSError:  # a link to nowhere, which is reported when it is decoded
        return os.fsencode(f"{path}\0-\0-\0")
