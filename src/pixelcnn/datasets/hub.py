"""Image data of the `datasets` library: `hf:NAME`, or `hf:NAME@CONFIG` for one of its configurations.

Its splits `train`, `validation` and `test` are used as they are. If there is no validation split, a share of the
training images is held out by the hash of their content. The first column of images is used, and the first column of
class labels, if there is one, for the classes. The library downloads and stores the data in its own way.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

from pixelcnn.config import DataConfig
from pixelcnn.datasets.cache import MAX_CLASSES
from pixelcnn.datasets.picture_source import Pictures, PictureSource
from pixelcnn.datasets.pictures import Depth, is_grey
from pixelcnn.datasets.split import SIDES
from pixelcnn.progress import progress_bar

__all__ = ["HubSource"]


class HubSource(PictureSource):
    """Pictures of a data set of the `datasets` library.

    Args:
        name: NAME or NAME@CONFIG.
        levels: 2..65,536; None for 256.
        config: How the pictures are read.

    Raises:
        ValueError: If the library is not installed, or the data set cannot be loaded, has no training split, no column
            of images, or too many classes.
    """

    def __init__(self, name: str, levels: int | None, config: DataConfig) -> None:
        super().__init__(name.rpartition("/")[2], levels, config)
        try:
            library = importlib.import_module("datasets")
        except ImportError:
            raise ValueError("the library datasets is not installed: pip install 'pixelcnn[datasets]'") from None
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
        self.classes = None if self._labels is None else tuple(map(str, features[self._labels].names))
        if self.classes is not None and len(self.classes) > MAX_CLASSES:
            raise ValueError(f"hf:{name} has {len(self.classes)} classes; a model has at most {MAX_CLASSES}")

    def stamp(self) -> dict[str, Any]:
        """Name and the library's fingerprints of the splits."""
        splits = {name: [len(rows), getattr(rows, "_fingerprint", "")] for name, rows in sorted(self._splits.items())}
        return {"hub": self._full_name, "splits": splits}

    def opened(self) -> Iterator[Image.Image]:
        """Opens each picture."""
        for split in SIDES:
            rows = self._splits.get(split, ())
            for k in range(len(rows)):
                image = self._row(rows, k)[1]
                if isinstance(image, Image.Image):
                    yield image

    def decoded(self, depth: Depth, *, progress: bool) -> Pictures:
        """Decodes the pictures of all splits."""
        channels = self.config.channels
        for side, split in enumerate(SIDES):
            rows = self._splits.get(split, ())
            given = None if split == "train" and "validation" not in self._splits else side
            with progress_bar(f"reading {self.name}, {split}", len(rows), "img", show=progress) as bar:
                for k in range(len(rows)):
                    label, image = self._row(rows, k)
                    if isinstance(image, Exception):
                        yield f"{split}/{k}", label, given, image
                    else:
                        channels = channels or (1 if is_grey(image) else 3)
                        if self.config.channels is None and channels == 1 and not is_grey(image):
                            raise ValueError(
                                f"{split}/{k} of {self.name} is in colour and others are not: give channels"
                            )
                        yield f"{split}/{k}", label, given, self.decode(image, channels, depth)
                    bar.update()

    def _row(self, rows: Any, k: int) -> tuple[int | None, Image.Image | Exception]:
        """Label and picture of a row, or what is wrong with it."""
        try:
            row = rows[k]
        except Exception as error:  # the library decodes the picture, and Pillow raises errors of any kind for damage
            return 0, error
        label = None if self._labels is None else row[self._labels]
        if self._labels is not None and not (isinstance(label, int) and 0 <= label < len(self.classes or ())):
            return 0, ValueError(f"its class is {label}, which has no name")
        image = row[self._images]
        return label, image if isinstance(image, Image.Image) else ValueError("it has no picture")


def _column(features: Any, kind: str) -> str | None:
    """The first column of a kind of feature."""
    return next((str(name) for name, feature in features.items() if type(feature).__name__ == kind), None)
