"""Files to be compressed as images of one model, without losing a value: what cannot be kept as it is, is refused.

A picture keeps its pixels, its mode (black and white, grey or colour) and the orientation that its file tells; the
image is the upright one, as in training. What changes a picture and cannot be kept is refused: several frames,
transparency, more than 8 bits, colours or a gamma other than sRGB's. What is not kept and changes no pixel that is seen
(a palette, an opaque alpha channel, fewer bits) is counted. Other metadata are not kept; files of other formats than
`KEPT_SUFFIXES` come back as PNG.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from pixelcnn.codec.container import StreamError
from pixelcnn.codec.entries import KEPT_SUFFIXES, Entry, check_names
from pixelcnn.config import Layout
from pixelcnn.datasets import name_of, open_data
from pixelcnn.datasets.arrays import ArraySource
from pixelcnn.datasets.cifar import is_cifar10
from pixelcnn.datasets.pictures import SUFFIXES, frames_left_out, open_picture, stored_bits
from pixelcnn.progress import progress_bar

__all__ = ["Gathered", "gather"]

_ARRAYS = (".npy", ".npz")
_SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green and blue of a PNG's cHRM


@dataclass(frozen=True)
class Gathered:
    """Images and what files they are of."""

    images: Tensor
    """uint8 levels (N, C, H, W)."""
    labels: Tensor | None
    """Classes that came with all of them, int64 (N,)."""
    entries: list[Entry]
    """The files, in the order of the images."""
    file_bytes: int
    """What the files have on the disk; 0 for data that are none."""
    changes: dict[str, int]
    """What of pictures is not kept, and of how many."""


def gather(
    sources: Sequence[str],
    shape: tuple[int, int, int],
    levels: int,
    classes: int | None = None,
    layout: Layout | None = None,
    *,
    progress: bool = False,
) -> Gathered:
    """Reads files.

    Args:
        sources: Picture files; folders of them, at any depth; .npy and .npz files as for `pixelcnn.datasets`; or names
            of published data, such as mnist:test.
        shape: Channels, height and width that all must have.
        levels: 2..256; grey values must be those of the levels, evenly from black to white.
        classes: How many the model knows; without any, published data are taken without theirs.
        layout: What the axes of arrays are; None for what the shape says.
        progress: Show a bar on standard error.

    Warns:
        UserWarning: If a folder holds other files than pictures, which are left out.

    Raises:
        ValueError: If a file cannot be read or kept as it is, or two would have one name.
        OSError: If a file cannot be read.
    """
    if not sources or "" in sources:
        raise ValueError(f"IN must be files, folders or data, got {'an empty name' if sources else 'none'}")
    parts: list[_Part] = []
    pictures = [(source, *named) for source in sources for named in _pictures(source, len(sources) > 1)]
    with (
        progress_bar("reading pictures", len(pictures) or None, "img", show=progress and len(pictures) > 0) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        reading = pool.map(lambda one: _picture(one[1], one[2], shape, levels), pictures)
        try:
            for source in sources:
                count = sum(1 for other, *_ in pictures if other == source)
                if count == 0:
                    parts.append(_array(source, shape, levels, classes, layout, progress=progress))
                for _ in range(count):
                    parts.append(next(reading))
                    bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    entries = [part.entry for part in parts]
    try:
        check_names(entry.name for entry in entries)
    except StreamError as error:
        raise ValueError(f"{error}; rename one, or compress them apart") from None
    labels = [part.labels for part in parts if part.labels is not None]
    return Gathered(
        torch.cat([part.images for part in parts]),
        torch.cat(labels) if len(labels) == len(parts) else None,
        entries,
        sum(part.file_bytes for part in parts),
        dict(Counter(change for part in parts for change in part.changes)),
    )


@dataclass(frozen=True)
class _Part:
    entry: Entry
    images: Tensor
    labels: Tensor | None
    file_bytes: int
    changes: tuple[str, ...] = ()


def _pictures(source: str, several: bool) -> Iterator[tuple[Path, str]]:
    """The pictures of a source, and their names in the stream."""
    path = Path(source)
    if path.is_file() and path.suffix.lower() not in _ARRAYS:
        yield path, path.name
    elif path.is_dir() and not is_cifar10(path):
        found = sorted(_walk(path), key=lambda one: _as_counted(one.relative_to(path).as_posix()))
        others = [one for one in found if one.suffix.lower() not in SUFFIXES]
        if len(others) == len(found):
            raise ValueError(f"{source} holds no pictures")
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            warnings.warn(f"{others[0]}{more} left out: no pictures by their endings", stacklevel=3)
        above = f"{path.resolve().name}/" if several else ""
        for one in found:
            if one.suffix.lower() in SUFFIXES:
                yield one, above + one.relative_to(path).as_posix()


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones; a link to a folder is not followed."""
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(above, name) for name in names if not name.startswith("."))


def _as_counted(name: str) -> list[tuple[str, int]]:
    """A key that puts 9.png before 10.png."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]{0,18})", name)]


def _picture(path: Path, name: str, shape: tuple[int, int, int], levels: int) -> _Part:
    channels, height, width = shape
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(path)!r} has a name that is not UTF-8; rename it") from None
    if channels not in (1, 3):
        raise ValueError(f"{path} is a picture, and the model's images have {channels} channels: give it arrays")
    if Path(name).suffix.lower() not in KEPT_SUFFIXES:
        name += ".png"
    try:
        picture, orientation, changes = _upright(path, (width, height))
        if orientation > 1 and KEPT_SUFFIXES[Path(name).suffix.lower()] not in ("PNG", "TIFF"):
            raise ValueError("it has an orientation, which files of its ending do not have; rename it")
        grey = np.asarray(picture.convert("L" if picture.mode == "1" else picture.mode))
    except FileNotFoundError:
        raise ValueError(f"there is no file {str(path)!r}") from None
    except Exception as error:  # Pillow raises anything for damaged files
        raise ValueError(f"{path} cannot be compressed: {error}") from None
    if channels == 3:
        values = grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, -1)
    elif grey.ndim == 3:
        if (grey != grey[..., :1]).any():
            raise ValueError(f"{path} is in colour, and the model's images have one channel")
        values = grey[..., :1]
    else:
        values = grey[..., None]
    found = _levels_of(levels)[values]
    if (found < 0).any():
        wrong = int(values[found < 0][0])
        raise ValueError(
            f"{path} has the grey value {wrong}, which is none of the {levels} evenly from 0 to 255 that the model "
            "has: nothing would bring it back"
        )
    image = torch.from_numpy(found.astype(np.uint8).transpose(2, 0, 1).copy())
    entry = Entry(name, picture.mode, orientation=orientation)
    return _Part(entry, image[None], None, path.stat().st_size, changes)


def _upright(path: Path, size: tuple[int, int]) -> tuple[Image.Image, int, tuple[str, ...]]:
    """A picture in mode 1, L or RGB, the orientation in which its file holds it, and what of it is not kept.

    Raises:
        ValueError: If it has another size, upright, or cannot be kept. Damaged ones may raise anything.
    """
    with open_picture(path) as file:
        if frames_left_out(file):
            raise ValueError("it has several frames or pages")
        bits = stored_bits(file)
        if bits > 8:
            raise ValueError(f"its pixels are stored as {file.mode}, of {bits} bits, and not in grey or RGB of 8 bits")
        _check_colours(file)
        upright, orientation = file, 1
        if sorted(file.size) == sorted(size):  # else its pixels need not be read
            told = file.getexif().get(ExifTags.Base.Orientation)
            orientation = told if isinstance(told, int) and 1 <= told <= 8 else 1
            upright = ImageOps.exif_transpose(file)
        if upright.size != size:
            turned = " upright" if orientation > 1 else ""
            raise ValueError(f"it is {upright.width} x {upright.height} pixels{turned}, and not {size[0]} x {size[1]}")
        return _plain(upright), orientation, tuple(_changes(upright, bits))


def _check_colours(picture: Image.Image) -> None:
    """Looks whether the values mean what they mean without the metadata, which are not kept.

    Raises:
        ValueError: If not.
    """
    profile, gamma = picture.info.get("icc_profile"), picture.info.get("gamma", 1 / 2.2)
    if profile:
        if b"sRGB" not in profile.replace(b"\0", b""):  # its description, in ASCII or UTF-16
            raise ValueError("it has a colour profile other than sRGB, which would be lost; convert it")
    elif "srgb" not in picture.info:
        white = picture.info.get("chromaticity", _SRGB)
        if abs(gamma - 1 / 2.2) > 0.01 or (picture.mode != "L" and np.abs(np.subtract(white, _SRGB)).max() > 0.01):
            raise ValueError("it has a gamma or colours other than sRGB's, which would be lost; convert it")


def _changes(picture: Image.Image, bits: int) -> Iterator[str]:
    """What is not kept of a picture, although no pixel changes."""
    if picture.mode in ("P", "PA"):
        yield "a palette (back in RGB)"
    if picture.mode in ("LA", "PA", "RGBA"):
        yield "an opaque alpha channel"
    if picture.mode == "L" and bits < 8:
        yield "values of fewer bits (back with 8)"


def _plain(picture: Image.Image) -> Image.Image:
    """The same pixels in mode 1, L or RGB.

    Raises:
        ValueError: If they do not fit.
    """
    if picture.mode in ("1", "L", "RGB") and "transparency" not in picture.info:
        return picture
    if picture.mode in ("P", "PA", "LA", "RGBA", "L", "RGB", "1"):
        full = picture.convert("RGBA")
        if full.getchannel("A").getextrema() != (255, 255):
            raise ValueError("it is transparent in places")
        return full.convert("L" if picture.mode in ("LA", "L", "1") else "RGB")
    raise ValueError(f"its pixels are stored as {picture.mode}, and not in grey or RGB of 8 bits")


def _levels_of(levels: int) -> np.ndarray:
    """The level of each grey value; -1 for what is none."""
    found = np.full(256, -1, dtype=np.int16)
    found[np.rint(np.arange(levels) * (255 / (levels - 1))).astype(int)] = np.arange(levels)
    return found


def _array(
    source: str,
    shape: tuple[int, int, int],
    levels: int,
    classes: int | None,
    layout: Layout | None,
    *,
    progress: bool,
) -> _Part:
    path = Path(source)
    if path.suffix.lower() in _ARRAYS and path.is_file():
        stored = ArraySource(path, levels, layout, shape)
        parts = list(stored.parts(progress=progress))  # not from the cache, which has an order of its own
        images = torch.from_numpy(np.concatenate([part for _, part, _ in parts]))
        classed = [part for *_, part in parts if part is not None]
        labels = torch.from_numpy(np.concatenate(classed)) if classed else None
        entry = Entry(
            path.name, stored.dtype.name, len(images), len(stored.layout), channels_last=stored.layout == "nhwc"
        )
        return _Part(entry, images, labels, path.stat().st_size)
    data = open_data(source, levels, progress=progress)
    if (found := tuple(data.images.shape[1:])) != shape:
        raise ValueError(f"{source} has images of {found}, and the model {shape} (C, H, W)")
    labels = None if classes is None or data.labels is None else data.labels.long().clone()
    name = name_of(source) + (".npy" if labels is None else ".npz")
    images = data.images.clone()
    return _Part(Entry(name, "uint8", len(images), 4), images, labels, 0)
