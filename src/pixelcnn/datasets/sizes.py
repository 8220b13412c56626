"""Pictures in their own sizes, one after another, for models that have none.

They are not cached: each is decoded when it is its turn, so memory does not grow with their number.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelcnn.config import DataConfig
from pixelcnn.datasets.cifar import is_cifar10
from pixelcnn.datasets.folder import FolderSource
from pixelcnn.datasets.picture_source import Frames, PictureSource
from pixelcnn.datasets.pictures import SUFFIXES, Depth, check_channels, opened, read_picture
from pixelcnn.datasets.sources import Data, open_data, refuse_options, warn_of
from pixelcnn.files import printable

__all__ = ["open_own_sizes"]

_BYTES = 2**26  # of pictures of one size that are returned together


def open_own_sizes(data: str, channels: int, levels: int, *, progress: bool = True, **options: Any) -> Iterator[Data]:
    """Images of a folder of pictures, of one picture or of an array, in their own sizes.

    Args:
        data: A folder or a file; or any source that `open_data` knows, whose images all have one size.
        channels: The model's.
        levels: The model's.
        progress: Show a bar on standard error.
        options: Fields of `DataConfig` except size, channels, crop and patch.

    Yields:
        Images of one size, as many as follow each other and take up to 64 MiB.

    Warns:
        UserWarning: If pictures are skipped, files or frames left out, or values of more than 8 bits cut.

    Raises:
        ValueError: If there is no such source, an option does not apply to it, or no picture in it can be used.
    """
    path, config = Path(data), DataConfig(channels=1 if channels == 1 else 3, **options)
    pictures = path.is_dir() and not is_cifar10(path)
    if not pictures and path.suffix.lower() not in SUFFIXES:
        yield open_data(data, levels, config=config, progress=progress)
        return
    check_channels(data, channels)
    refuse_options(data, config, PictureSource.fields)
    if not pictures:
        yield _picture(path, levels, config)
        return
    source = FolderSource(path, levels, config)
    source.stamp()
    warn_of(source, source.notices(), stacklevel=3)
    depth, frames = Depth(config, levels, source.opened), Frames()
    together: list[tuple[str, int | None, Tensor]] = []
    found = 0
    for name, label, _, result in source.decoded(depth, progress=progress, threads=1):
        if isinstance(result, Exception):
            warnings.warn(printable(f"{name} of {data} is skipped: {source.why_skipped(name, result)}"), stacklevel=2)
            continue
        frames.add(name, result[1])
        image = torch.from_numpy(result[0][0].copy())  # Pillow's memory is read-only
        if together and (
            image.shape != together[0][2].shape or (len(together) + 1) * image.nbytes > max(_BYTES, image.nbytes)
        ):
            yield _data(together, source.classes, levels)
            together = []
        together.append((name, label, image))
        found += 1
    if not found:
        raise ValueError(f"none of the pictures of {data} can be used")
    warn_of(source, [*frames.remarks, *depth.remarks], stacklevel=3)
    yield _data(together, source.classes, levels)


def _picture(path: Path, levels: int, config: DataConfig) -> Data:
    """The image of a single file."""
    depth = Depth(config, levels, lambda: opened([path]))
    image = read_picture(path, config.channels or 1, levels, depth.config_for)
    for remark in depth.remarks:
        warnings.warn(remark, stacklevel=3)
    return _data([(path.name, None, image)], None, levels)


def _data(pictures: Iterable[tuple[str, int | None, Tensor]], classes: tuple[str, ...] | None, levels: int) -> Data:
    names, labels, images = zip(*pictures, strict=True)
    return Data(
        images=torch.stack(images),
        labels=None if classes is None else torch.tensor(labels, dtype=torch.int64, device="cpu"),
        classes=classes,
        levels=levels,
        names=lambda: list(names),
    )
