"""Files as images of one model, without losing a value; what cannot be kept exactly is refused.

A picture keeps its pixels, its mode (black and white, grey or colour) and the orientation that its file records; the
image is the upright one, as in training. Refused is whatever changes a picture and cannot be kept: several frames,
transparency, more than 8 bits (kept where the model has more than 256 levels, as the values themselves), colours or a
gamma other than sRGB's. What can be dropped without changing a visible pixel (a palette, an opaque alpha channel, fewer
bits) is counted. Colour profiles and EXIF data are kept on request, and other metadata are dropped; files of formats
that are not in `KEPT_SUFFIXES` come back as PNG.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from pixelcnn.codec.container import StreamError
from pixelcnn.codec.manifest import KEPT_SUFFIXES, Entry, check_names
from pixelcnn.config import DataConfig
from pixelcnn.datasets import name_of, open_data
from pixelcnn.datasets.arrays import ArraySource
from pixelcnn.datasets.cifar import is_cifar10
from pixelcnn.datasets.pictures import SUFFIXES, check_channels, deep_values, frames_left_out, open_picture, stored_bits
from pixelcnn.levels import GREY_LEVELS, array_dtype, grey_values
from pixelcnn.progress import progress_bar
from pixelcnn.threads import in_order

__all__ = ["FileImages", "check_together", "picture_files", "read_files"]

_ARRAYS = (".npy", ".npz")
_SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green and blue of a PNG's cHRM
_STORAGE_TAGS = (
    254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 34675,
)  # fmt: skip


@dataclass(frozen=True)
class FileImages:
    """Images and the files that they came from."""

    images: Tensor
    """uint8 levels (N, C, H, W)."""
    labels: Tensor | None
    """Classes, int64 (N,), if all files came with them."""
    entries: list[Entry]
    """The files, in the order of the images."""
    file_bytes: int
    """Size of the files on the disk; 0 for published data."""
    dropped: dict[str, int]
    """What of the pictures is not kept, and of how many."""


def read_files(
    sources: Sequence[str],
    shape: tuple[int, int, int],
    levels: int,
    classes: int | None = None,
    config: DataConfig | None = None,
    *,
    any_size: bool = False,
    metadata: bool = False,
    progress: bool = False,
) -> list[FileImages]:
    """Reads files; those whose images have the same size are together, in the order of the first of them.

    Args:
        sources: Picture files; folders of them, at any depth; .npy and .npz files as for `pixelcnn.datasets`; or names
            of published data, such as mnist:test.
        shape: Channels, height and width that all images must have.
        levels: Number of levels; up to 256, grey values must be those of the levels, evenly spaced from black to white;
            above, pictures have more than 8 bits, and their values are the levels.
        classes: Number of classes of the model; without any, those of published data are left out.
        config: The layout of arrays, and the shares of data that are split; by default `DataConfig()`.
        any_size: Whether pictures may have any height and width.
        metadata: Keep colour profiles and EXIF data of pictures.
        progress: Show a bar on standard error.

    Warns:
        UserWarning: If a folder holds files other than pictures, which are left out.

    Raises:
        ValueError: If a file cannot be read or kept exactly, or two would have the same name.
        OSError: If a file cannot be read.
    """
    pictures, config = picture_files(sources), config or DataConfig()
    if config.layout is not None and all(pictures):
        raise ValueError(f"layout must be left out for pictures, which are no arrays, got {config.layout!r}")
    count = sum(map(len, pictures))
    jobs = (picture for each in pictures for picture in each)
    threads = os.cpu_count() or 1
    parts: list[FileImages] = []
    with (
        progress_bar("reading pictures", count or None, "img", show=progress and count > 0) as bar,
        in_order(
            lambda job: _picture(*job, shape, levels, any_size, metadata), jobs, threads=threads, ahead=4 * threads
        ) as results,
    ):
        for source, each in zip(sources, pictures, strict=True):
            if not each:
                parts.append(_array(source, shape, levels, classes, config, progress=progress))
            for _ in each:
                parts.append(next(results))
                bar.update()
    check_together(entry.name for part in parts for entry in part.entries)
    alike: dict[torch.Size, list[FileImages]] = {}
    for part in parts:
        alike.setdefault(part.images.shape[1:], []).append(part)
    return [_together(group) for group in alike.values()]


def check_together(names: Iterable[str]) -> None:
    """Raises ValueError if files of these names cannot be restored into one folder."""
    try:
        check_names(names)
    except StreamError as error:
        raise ValueError(f"{error}; rename one, or compress them apart") from None


def picture_files(sources: Sequence[str]) -> list[list[tuple[Path, str]]]:
    """For each source, its pictures with their names in a stream; none if it holds arrays or is published data.

    Raises:
        ValueError: If there is no source, or a folder holds no pictures.
    """
    if not sources or "" in sources:
        raise ValueError(f"IN must be files, folders or data, got {'an empty name' if sources else 'none'}")
    return [list(_pictures(source, len(sources) > 1)) for source in sources]


def _together(parts: list[FileImages]) -> FileImages:
    """Files whose images have the same size."""
    labels = [part.labels for part in parts if part.labels is not None]
    dropped = Counter(what for part in parts for what in part.dropped)
    if 0 < len(labels) < len(parts):
        dropped["labels (other files have none)"] = len(labels)
    return FileImages(
        torch.cat([part.images for part in parts]),
        torch.cat(labels) if len(labels) == len(parts) else None,
        [entry for part in parts for entry in part.entries],
        sum(part.file_bytes for part in parts),
        dict(dropped),
    )


def _pictures(source: str, several: bool) -> Iterator[tuple[Path, str]]:
    """The pictures of a source, and their names in the stream; none if it is something else."""
    path = Path(source)
    if path.is_file() and path.suffix.lower() not in _ARRAYS and not is_cifar10(path):
        yield path, path.name
    elif path.is_dir() and not is_cifar10(path):
        found = sorted(_walk(path), key=lambda one: _natural_key(one.relative_to(path).as_posix()))
        others = [one for one in found if one.suffix.lower() not in SUFFIXES]
        if len(others) == len(found):
            raise ValueError(f"{source} holds no pictures")
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            links = ", or links to folders, which are not followed" if any(one.is_dir() for one in others) else ""
            warnings.warn(f"{others[0]}{more} left out: no pictures by their endings{links}", stacklevel=3)
        above = f"{path.resolve().name}/" if several else ""
        for one in found:
            if one.suffix.lower() in SUFFIXES:
                yield one, above + one.relative_to(path).as_posix()


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder except hidden ones, and the links to folders, which are not followed."""
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(above, name) for name in names if not name.startswith("."))
        yield from (path for name in folders if (path := Path(above, name)).is_symlink())


def _natural_key(name: str) -> tuple[list[tuple[str, int]], str]:
    """A sorting key that puts 9.png before 10.png; no two names have the same, as 9.png and 09.png would."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]{0,18})", name)], name


def _picture(
    path: Path, name: str, shape: tuple[int, int, int], levels: int, any_size: bool, metadata: bool
) -> FileImages:
    channels, height, width = shape
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(path)!r} has a name that is not UTF-8; rename it") from None
    check_channels(path, channels)
    if Path(name).suffix.lower() not in KEPT_SUFFIXES:
        name += ".png"
    try:
        size = None if any_size else (width, height)
        picture, entry, dropped = _upright(path, size, name, deep=levels > GREY_LEVELS, metadata=metadata)
        if KEPT_SUFFIXES[Path(name).suffix.lower()] not in ("PNG", "TIFF"):
            if picture.mode == "I;16":
                raise ValueError("16 bits are kept in PNG and TIFF files; save it as one")
            if entry.orientation > 1 or entry.profile or entry.exif:
                what = "an orientation" if entry.orientation > 1 else "a colour profile or EXIF data"
                raise ValueError(f"it has {what}, which files of its ending do not have; rename it")
        values = np.atleast_3d(np.asarray(picture.convert("L") if picture.mode == "1" else picture))
    except FileNotFoundError:
        raise ValueError(f"there is no file {str(path)!r}") from None
    except Exception as error:  # Pillow raises anything for damaged files
        raise ValueError(f"{path} cannot be compressed: {error}") from None
    if channels == 1:
        if (values != values[..., :1]).any():
            raise ValueError(f"{path} is in colour, and the model's images have one channel")
        values = values[..., :1]
    values = np.broadcast_to(values, (*values.shape[:2], channels))
    if levels > GREY_LEVELS:
        _check_deep(path, values, levels)
    found = values if levels >= GREY_LEVELS else _levels_of_greys(levels)[values]
    if levels < GREY_LEVELS and (found < 0).any():
        raise ValueError(
            f"{path} has the grey value {values[found < 0][0]}, which is not one of the {levels} that the model has, "
            "evenly spaced from 0 to 255, so it could not be restored"
        )
    image = torch.from_numpy(found.astype(array_dtype(levels)).transpose(2, 0, 1).copy())
    return FileImages(image[None], None, [entry], path.stat().st_size, dict.fromkeys(dropped, 1))


def _check_deep(path: Path, values: np.ndarray, levels: int) -> None:
    """Checks that a picture's values (height, width, channels) are levels of a model with more than 256 of them."""
    if values.shape[2] != 1:
        raise ValueError(f"{path} is a picture, and the model has {levels} levels in several channels: give it arrays")
    if (largest := int(values.max())) >= levels:
        raise ValueError(f"{path} has the value {largest}, but the model's levels are 0..{levels - 1}")


def _upright(
    path: Path, size: tuple[int, int] | None, name: str, *, deep: bool, metadata: bool
) -> tuple[Image.Image, Entry, tuple[str, ...]]:
    """A picture in mode 1, L or RGB, or if `deep` in I;16; its entry, of a name; and what of it is dropped.

    Raises:
        ValueError: If it has another size than a given one, upright, or cannot be kept exactly. Damaged ones may raise
            anything.
    """
    with open_picture(path) as file:
        if frames_left_out(file):
            raise ValueError("it has several frames or pages")
        bits = max(stored_bits(file), _coded_bits(path, file.format))
        if deep != (bits > 8):
            if deep:
                raise ValueError(f"its values have {bits} bits, and the model is of pictures with more than 8")
            raise ValueError(f"its pixels are stored as {file.mode}, of {bits} bits, and not in grey or RGB of 8 bits")
        _check_colours(file, kept=metadata)
        upright, orientation, profile, exif = file, 1, b"", b""
        if size is None or sorted(file.size) == sorted(size):  # else its pixels need not be read
            recorded = file.getexif()
            turn = recorded.get(ExifTags.Base.Orientation)
            orientation = (
                int(turn) if turn is not None and turn in range(1, 9) else 1
            )  # a file may say 6.0, and Pillow turns it
            if metadata:
                profile = file.info.get("icc_profile") or b""
                exif = _exif_bytes(recorded)
            upright = ImageOps.exif_transpose(_deep(file) if deep else file)
        if size is not None and upright.size != size:
            turned = " upright" if orientation > 1 else ""
            raise ValueError(
                f"it is {upright.width} x {upright.height} pixels{turned}, and not {size[0]} x {size[1]}; networks "
                "trained with --no-places --no-context-places and without attention take any size"
            )
        plain = upright if deep else _plain(upright)
        entry = Entry(name, plain.mode, orientation=orientation, profile=profile, exif=exif)
        return plain, entry, tuple(_dropped(upright, bits, file.format))


def _coded_bits(path: Path, kind: str | None) -> int:
    """Bits per value of a JPEG 2000 or AVIF file, of whose colours Pillow gives the upper 8; 0 for other kinds."""
    if kind not in ("JPEG2000", "AVIF"):
        return 0
    with path.open("rb") as file:
        head = file.read(2**20)
    if kind == "JPEG2000":
        sizes = head.partition(b"\xff\x4f\xff\x51")[2]  # the first marker segment of its codestream
        channels = int.from_bytes(sizes[36:38])
        return max((1 + (bits & 0x7F) for bits in sizes[38 : 38 + 3 * channels : 3]), default=0)
    flags = int.from_bytes(head.partition(b"av1C")[2][2:3])
    return 12 if flags & 0x20 else 10 if flags & 0x40 else 8


def _exif_bytes(exif: Image.Exif) -> bytes:
    """EXIF data without a TIFF file's own tags, which say how its pixels are stored; b"" if there are no others."""
    kept = Image.Exif()
    kept.load(exif.tobytes())
    for tag in _STORAGE_TAGS:
        kept.pop(tag, None)
    return kept.tobytes() if kept.keys() - {ExifTags.Base.Orientation} else b""


def _check_colours(picture: Image.Image, *, kept: bool) -> None:
    """Checks that the values mean the same without the metadata that are dropped; a profile may be `kept`.

    Raises:
        ValueError: If they do not.
    """
    profile, gamma = picture.info.get("icc_profile"), picture.info.get("gamma", 1 / 2.2)
    if profile:
        if not kept and b"sRGB" not in profile.replace(b"\0", b""):  # its description, in ASCII or UTF-16
            raise ValueError("it has a colour profile other than sRGB; keep it with --metadata, or convert the picture")
    elif "srgb" not in picture.info:
        white = picture.info.get("chromaticity", _SRGB)
        grey = picture.mode.startswith(("L", "I"))
        if abs(gamma - 1 / 2.2) > 0.01 or (not grey and np.abs(np.subtract(white, _SRGB)).max() > 0.01):
            raise ValueError("it has a gamma or colours other than sRGB's, which would be lost; convert it")


def _dropped(picture: Image.Image, bits: int, kind: str | None) -> Iterator[str]:
    """What is not kept of a picture from a file of a kind, although no visible pixel changes."""
    if kind in ("JPEG", "MPO"):
        yield "JPEG's coding (the pixels come back, as PNG)"
    if picture.mode in ("P", "PA"):
        yield "a palette (back in RGB)"
    if picture.mode in ("LA", "PA", "RGBA"):
        yield "an opaque alpha channel"
    if picture.mode == "L" and bits < 8:
        yield "values of fewer bits (back with 8)"


def _plain(picture: Image.Image) -> Image.Image:
    """The same pixels in mode 1, L or RGB.

    Raises:
        ValueError: If those modes cannot hold them.
    """
    if picture.mode in ("1", "L", "RGB") and "transparency" not in picture.info:
        return picture
    if picture.mode in ("P", "PA", "LA", "RGBA", "L", "RGB", "1"):
        full = picture.convert("RGBA")
        if full.getchannel("A").getextrema() != (255, 255):
            raise ValueError("it is transparent in places")
        return full.convert("L" if picture.mode in ("LA", "L", "1") else "RGB")
    raise ValueError(f"its pixels are stored as {picture.mode}, and not in grey or RGB of 8 bits")


def _deep(picture: Image.Image) -> Image.Image:
    """The same pixels in mode I;16, with the orientation that the file records.

    Raises:
        ValueError: If that mode cannot hold them.
    """
    if picture.format == "PPM":
        raise ValueError("16 bits are kept in PNG and TIFF files; save it as one")  # others are scaled by Pillow
    values, _ = deep_values(picture)
    if values is None or "transparency" in picture.info:
        raise ValueError("its pixels are in colour or transparent, and of more than 8 bits only grey is kept")
    found = Image.fromarray(values)
    found.getexif()[ExifTags.Base.Orientation] = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return found


def _levels_of_greys(levels: int) -> np.ndarray:
    """The level of each grey value; -1 for a grey value that belongs to none."""
    found = np.full(GREY_LEVELS, -1, dtype=np.int16)
    found[grey_values(levels)] = np.arange(levels)
    return found


def _array(
    source: str, shape: tuple[int, int, int], levels: int, classes: int | None, config: DataConfig, *, progress: bool
) -> FileImages:
    path = Path(source)
    if path.suffix.lower() in _ARRAYS and path.is_file():
        stored = ArraySource(path, levels, config.layout, shape)
        parts = list(stored.parts(progress=progress))  # not from the cache, which has an order of its own
        images = torch.from_numpy(np.concatenate([part for _, part, _ in parts]))
        classed = [part for *_, part in parts if part is not None]
        labels = torch.from_numpy(np.concatenate(classed)) if classed else None
        axes = stored.layout
        entry = Entry(path.name, stored.dtype.name, len(images), len(axes), channels_last=axes == "nhwc")
        dropped = dict.fromkeys(_dropped_arrays(path, stored.dtype), 1)
        return FileImages(images, labels, [entry], path.stat().st_size, dropped)
    data = open_data(source, levels, config=config, progress=progress)
    if (found := tuple(data.images.shape[1:])) != shape:
        raise ValueError(f"{source} has images of {found}, and the model {shape} (C, H, W)")
    labels = None if classes is None or data.labels is None else data.labels.long().clone()
    name = name_of(source) + (".npy" if labels is None else ".npz")
    entry = Entry(name, array_dtype(levels).name, len(data.images), 4)
    return FileImages(data.images.clone(), labels, [entry], 0, {})


def _dropped_arrays(path: Path, dtype: np.dtype) -> Iterator[str]:
    """What is not kept of a file of arrays, whose images, of a type, and labels are."""
    if not dtype.isnative:
        yield "the order of an array's bytes (back in this machine's)"
    if path.suffix.lower() == ".npz":
        with np.load(path, allow_pickle=False) as file:
            if "images" not in file.files:
                yield "the array's name (back as images)"
            elif set(file.files) - {"images", "labels"}:
                yield "arrays besides images and labels"
            if "labels" in file.files and file["labels"].dtype != np.int64:
                yield "the labels' type (back as int64)"
