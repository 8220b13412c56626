"""CIFAR-10 in its binary version: the folder `cifar-10-batches-bin`, or the archive that it comes in.

A record is one byte for the class and 3 x 32 x 32 bytes for the image, in the order of `(C, H, W)`.

Splits:

    train        the first nine tenths of data_batch_1 to 5: 45,000 images
    validation   the last tenth: 5,000
    test         test_batch: the official 10,000

References:
    | Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009).
    | https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pixelcnn.datasets.cache import Contents, Source, Writer, stamp_of
from pixelcnn.files import check_no_pointer
from pixelcnn.levels import GREY_LEVELS, quantised
from pixelcnn.progress import progress_bar

__all__ = ["CIFAR10Source", "is_cifar10"]

_TRAINING = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
_TEST = "test_batch.bin"
_NAMES = "batches.meta.txt"
_RECORD = 1 + 3 * 32 * 32
_CLASSES = 10
_PART = 2**20  # bytes

_Files: TypeAlias = Mapping[str, Callable[[], bytes]]  # functions that read files, by the files' names


def is_cifar10(path: Path) -> bool:
    """Whether a folder or a tar archive holds one of CIFAR-10's files; for a damaged archive its name decides."""
    if path.is_dir():
        return any((path / name).is_file() for name in (*_TRAINING, _TEST))
    if "".join(path.suffixes[-2:]) not in (".tar.gz", ".tar", ".tgz") and path.suffix not in (".tar", ".tgz"):
        return False
    try:
        with tarfile.open(path) as archive:
            return any(Path(member.name).name in (*_TRAINING, _TEST) for member in archive)
    except (tarfile.TarError, EOFError, zlib.error, OSError):
        return path.name.startswith("cifar-10")


class CIFAR10Source(Source):
    """CIFAR-10's images.

    Args:
        path: The folder or the archive.
        levels: 2..256, to which the 256 are quantised; None for 256.
    """

    name = "cifar10"
    is_split = True

    def __init__(self, path: Path, levels: int | None) -> None:
        self.path = path
        self.levels = levels or GREY_LEVELS

    def stamp(self) -> dict[str, Any]:
        """Path, sizes and times of the files."""
        files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        stamps = [[file.name, *stamp_of(file)] for file in files]
        return {"cifar10": str(self.path.resolve()), "files": stamps}

    def options(self, shape: tuple[int, int, int] | None = None) -> dict[str, Any]:  # noqa: ARG002  # the images leave nothing open
        """The levels."""
        return {"levels": self.levels}

    def fill(self, writer: Writer, *, progress: bool) -> Contents:
        """Copies all images.

        Raises:
            ValueError: If a file is missing or damaged; it is named.
        """
        with self._files() as files:
            classes = tuple(self._content(files, _NAMES).decode("ascii", errors="replace").split())
            if len(classes) != _CLASSES:
                raise ValueError(f"{self.path}: {_NAMES} must name {_CLASSES} classes, got {len(classes)}")
            count = sum(len(self._records(files, name)) for name in _TRAINING)
            validation, seen = count - count // 10, 0  # index of the first validation image, and images so far
            with progress_bar("reading cifar10", None, "img", show=progress) as bar:
                for name in (*_TRAINING, _TEST):
                    records = self._records(files, name)
                    for k, record in enumerate(records):
                        side = 2 if name == _TEST else 1 if seen + k >= validation else 0
                        image = quantised(record[1:], self.levels).reshape(1, 3, 32, 32)
                        writer.add(image, [int(record[0])], [f"{name}#{k}"], side)
                    seen += len(records)
                    bar.update(len(records))
        return Contents(levels=self.levels, classes=classes)

    def _records(self, files: _Files, name: str) -> np.ndarray:
        content = self._content(files, name)
        check_no_pointer(content, f"{self.path}: {name}")
        if not content or len(content) % _RECORD:
            raise ValueError(f"{self.path}: {name} is damaged: {len(content)} bytes are not a multiple of {_RECORD}")
        records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
        if records[:, 0].max() >= _CLASSES:
            raise ValueError(f"{self.path}: {name} is damaged: it holds a class {records[:, 0].max()}")
        return records

    def _content(self, files: _Files, name: str) -> bytes:
        if name not in files:
            raise ValueError(f"{self.path}: {name} is missing")
        return files[name]()

    @contextlib.contextmanager
    def _files(self) -> Iterator[_Files]:
        if self.path.is_dir():
            yield {path.name: path.read_bytes for path in self.path.iterdir() if path.is_file()}
            return
        try:
            with tarfile.open(self.path) as archive:
                members = [member for member in archive if member.isfile()]
                while archive.fileobj and archive.fileobj.read(_PART):  # to the end, where gzip's checksum is compared
                    pass
                yield {Path(each.name).name: functools.partial(_extracted, archive, each) for each in members}
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            check_no_pointer(self.path, self.path)
            raise ValueError(f"{self.path} is damaged: {error}") from None


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, "it is a regular file"
    return file.read()
