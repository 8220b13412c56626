"""Image data of the `datasets` library: `hf:NAME`, or `hf:NAME@CONFIG` for one of its configurations.

Its splits `train`, `validation` and `test` are taken as they are. Where there is no validation split, a share of the
training images is held out by the hash of their content. The first column of images is used, and as classes the first
column of class labels, if there is one. The library downloads and keeps the data in its own way.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from pixelcnn.config import DataConfig
from pixelcnn.datasets.cache import Contents, Writer
from pixelcnn.datasets.folder import MOST_CLASSES, PictureSink, picture_options
from pixelcnn.datasets.pictures import Depth, frames_left_out, is_grey, to_levels
from pixelcnn.datasets.split import SIDES
from pixelcnn.progress import progress_bar

__all__ = ["HubSource"]


class HubSource:
    """Pictures of a data set of the `datasets` library.

    Args:
        name: NAME or NAME@CONFIG.
        levels: 2..256; None for 256.
        config: How the pictures are read.

    Raises:
        ValueError: If the library is not installed, the data set cannot be loaded, has no training split, no column of
            images, or too many classes.
    """

    def __init__(self, name: str, levels: int | None, config: DataConfig) -> None:
        try:
            library = importlib.import_module("datasets")
        except ImportError:
            raise ValueError("the library datasets is not installed: pip install 'pixelcnn[datasets]'") from None
        self.name = name.rpartition("/")[2]
        self.levels = levels or 256
        self.config = config
        self._full_name = name
        path, _, subset = name.partition("@")
        try:
            self._splits = dict(library.load_dataset(path, subset or None))
        except Exception as error:  # it raises errors of many libraries
            raise ValueError(f"hf:{name} cannot be loaded: {error}") from None
        if "train" not in self._splits:
            raise ValueError(f"hf:{name} must have a split named train, got {', '.join(self._splits) or 'none'}")
        features = self._splits["train"].features
        self._images = _column(features, "Image")
        self._labels = _column(features, "ClassLabel")
        if self._images is None:
            raise ValueError(f"hf:{name} must have a column of images, got {', '.join(features)}")
        self._classes = None if self._labels is None else tuple(map(str, features[self._labels].names))
        if self._classes is not None and len(self._classes) > MOST_CLASSES:
            raise ValueError(f"hf:{name} has {len(self._classes)} classes; a model has at most {MOST_CLASSES}")

    def stamp(self) -> dict[str, Any]:
        """Name and the library's fingerprints of the splits."""
        splits = {name: [len(rows), getattr(rows, "_fingerprint", "")] for name, rows in sorted(self._splits.items())}
        return {"hub": self._full_name, "splits": splits}

    def options(self, shape: tuple[int, int, int] | None = None) -> dict[str, Any]:
        """The levels, and how pictures are read."""
        return picture_options(self.config, self.levels, shape)

    def fill(self, writer: Writer, *, progress: bool) -> Contents:
        """Decodes all pictures; see `pixelcnn.datasets.folder.FolderSource.fill`."""
        sink = PictureSink(writer, self.config, self.name)
        given = {"train": None if "validation" not in self._splits else 0, "validation": 1, "test": 2}
        channels = self.config.channels
        depth = Depth(self.config, self._opened)
        for split, side in given.items():
            rows = self._splits.get(split, ())
            with (
                warnings.catch_warnings(action="ignore"),  # Pillow's, of what is odd in a file
                progress_bar(f"reading {self.name}, {split}", len(rows), "img", show=progress) as bar,
            ):
                for k in range(len(rows)):
                    label, image = self._row(rows, k)
                    if channels is None and isinstance(image, Image.Image):
                        channels = 1 if is_grey(image) else 3
                    elif self.config.channels is None and channels == 1 and _in_colour(image):
                        raise ValueError(f"{split}/{k} of {self.name} is in colour and others are not: give channels")
                    sink.take(f"{split}/{k}", label, self._decoded(image, channels, depth), side)
                    bar.update()
        sink.check()
        return Contents(levels=self.levels, classes=self._classes, remarks=(*sink.remarks, *depth.remarks))

    def _opened(self) -> Iterator[Image.Image]:
        for split in SIDES:
            rows = self._splits.get(split, ())
            for k in range(len(rows)):
                image = self._row(rows, k)[1]
                if isinstance(image, Image.Image):
                    yield image

    def _row(self, rows: Any, k: int) -> tuple[int | None, Image.Image | Exception]:
        """Label and picture of a row, or what is wrong with it."""
        try:
            row = rows[k]
        except Exception as error:  # the library decodes the picture, and Pillow meets damage with errors of any kind
            return 0, error
        label = None if self._labels is None else row[self._labels]
        if self._labels is not None and not (isinstance(label, int) and 0 <= label < len(self._classes or ())):
            return 0, ValueError(f"its class is {label}, which has no name")
        image = row[self._images]
        return label, image if isinstance(image, Image.Image) else ValueError("it has no picture")

    def _decoded(
        self, image: Image.Image | Exception, channels: int | None, depth: Depth
    ) -> tuple[np.ndarray, int] | Exception:
        if isinstance(image, Exception):
            return image
        assert channels is not None
        try:
            return to_levels(image, channels, self.levels, depth.config_for(image)), frames_left_out(image)
        except Exception as error:
            return error


def _in_colour(image: Image.Image | Exception) -> bool:
    return isinstance(image, Image.Image) and not is_grey(image)


def _column(features: Any, kind: str) -> str | None:
    """The first column of a kind of feature."""
    return next((str(name) for name, feature in features.items() if type(feature).__name__ == kind), None)
