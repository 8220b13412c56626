"""Pictures in their own sizes, one after another, for models that have none.

They are not cached: each is decoded when it is its turn, so memory does not grow with their number.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from pixelcnn.config import DataConfig, Layout
from pixelcnn.datasets.cifar import is_cifar10
from pixelcnn.datasets.folder import FolderSource
from pixelcnn.datasets.pictures import SUFFIXES, Depth, frames_left_out, open_picture, opened, to_levels
from pixelcnn.datasets.sources import Data, open_data
from pixelcnn.files import printable

__all__ = ["open_own_sizes"]

_BYTES = 2**26  # of pictures of one size that are returned together


def open_own_sizes(
    data: str,
    channels: int,
    levels: int,
    *,
    bit_depth: int | None = None,
    layout: Layout | None = None,
    progress: bool = True,
) -> Iterator[Data]:
    """Images of a folder of pictures, of one picture or of an array, in their own sizes.

    Args:
        data: A folder or a file; or any source that `open_data` knows, whose images all have one size.
        channels: The model's.
        levels: The model's.
        bit_depth: As in `DataConfig`.
        layout: As in `DataConfig`.
        progress: Show a bar on standard error.

    Yields:
        Images of one size, as many as follow each other and take up to 64 MiB.

    Warns:
        UserWarning: If pictures are skipped, or frames left out.

    Raises:
        ValueError: If there is no such source, or no picture in it can be used.
    """
    path = Path(data)
    pictures = path.is_dir() and not is_cifar10(path)
    if not pictures and path.suffix.lower() not in SUFFIXES:
        yield open_data(data, levels, config=DataConfig(layout=layout), progress=progress)
        return
    if channels not in (1, 3):
        raise ValueError(f"{data} are pictures, and the model's images have {channels} channels: give it arrays")
    if layout is not None:
        raise ValueError(f"layout must be left out for {data}, which is no array, got {layout!r}")
    config = DataConfig(channels=1 if channels == 1 else 3, bit_depth=bit_depth)
    if not pictures:
        yield _picture(path, levels, config)
        return
    source = FolderSource(path, levels, config)
    source.stamp()
    depth = Depth(config, levels, source.opened)
    together: list[tuple[str, int | None, Tensor]] = []
    found = 0
    for name, label, _, result in source.decoded(depth, progress=progress, threads=1):
        if isinstance(result, Exception):
            warnings.warn(printable(f"{name} of {data} is skipped: {result}"), stacklevel=2)
            continue
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
    yield _data(together, source.classes, levels)


def _picture(path: Path, levels: int, config: DataConfig) -> Data:
    """The image of a single file."""
    try:
        with open_picture(path) as picture:
            depth = Depth(config, levels, lambda: opened([path]))
            image = to_levels(picture, config.channels or 1, levels, depth.config_for(picture))[0]
            left_out = frames_left_out(picture)
    except FileNotFoundError:
        raise ValueError(f"there is no file {printable(str(path))!r}") from None
    except Exception as error:  # Pillow raises errors of any kind for damaged files
        raise ValueError(f"{path} cannot be read as a picture: {error}") from None
    if left_out:
        warnings.warn(f"{path} has several frames or pages, of which the first is taken", stacklevel=2)
    return _data([(path.name, None, torch.from_numpy(image.copy()))], None, levels)


def _data(pictures: Iterable[tuple[str, int | None, Tensor]], classes: tuple[str, ...] | None, levels: int) -> Data:
    names, labels, images = zip(*pictures, strict=True)
    return Data(
        images=torch.stack(images),
        labels=None if classes is None else torch.tensor(labels, dtype=torch.int64, device="cpu"),
        classes=classes,
        levels=levels,
        names=lambda: list(names),
    )
