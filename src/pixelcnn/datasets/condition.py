"""What images are conditioned on beside a class, as the command line's --condition names it.

    shrink:S       the images themselves, each S x S pixels averaged, as in super-resolution
    FOLDER         pictures of 8 bits with the same names as the images' files; their values 0..255 stand for 0..1
    FILE.npy       an array (N, h, w) or (N, D, h, w) of maps, or (N, D) of vectors, in the order of the images
    labels:PATH    categories: a folder of pictures whose values are labels, or an array (N, h, w) of integers

A folder belongs to a folder of images, where the names say which map is whose; an array belongs to an array or to a
split of MNIST. Maps are held in memory.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelcnn.arguments import bounds, tensor
from pixelcnn.config import DataConfig
from pixelcnn.datasets.arrays import named_damage
from pixelcnn.datasets.pictures import SUFFIXES, is_grey, named_picture, stored_bits, stored_values, to_levels
from pixelcnn.files import check_no_pointer, printable
from pixelcnn.levels import GREY_LEVELS
from pixelcnn.progress import progress_bar

__all__ = ["condition_fields", "read_condition", "read_given", "read_maps", "read_shrunk", "shrunk"]

_SHRINK, _LABELS = "shrink:", "labels:"
_CHUNK = 2**24  # values that are averaged at a time
_MAX_CATEGORIES = 2**16  # as many as a model can have


def read_condition(
    spec: str, images: Tensor, levels: int, names: Sequence[str], total: int | None = None, *, colour: bool = False
) -> Tensor:
    """What images are conditioned on.

    Args:
        spec: As the module's docstring says.
        images: The images, levels (N, C, H, W).
        levels: Number of their levels.
        names: Their names, see `pixelcnn.datasets.sources.Data`.
        total: How many maps an array must have; None for at least as many as `names` need.
        colour: Whether pictures are read in colour, as a model with maps of three channels has them, even if all of
            them are stored in grey; by default one in colour decides for all.

    Returns:
        Maps, uint8 or what the array holds, (N, D, h, w), or vectors (N, D).

    Raises:
        ValueError: If there is no such thing, or it does not fit the images.
    """
    if spec.startswith(_SHRINK):
        return read_shrunk(spec, images, levels)
    return read_given(spec, names, total, colour=colour)


def read_given(spec: str, names: Sequence[str], total: int | None = None, *, colour: bool = False) -> Tensor:
    """`read_condition` of images that need not be known, only their names: of everything but shrink:S.

    Raises:
        ValueError: If there is no such thing, or it does not have what belongs to the names.
    """
    path = _path_of(spec)
    if path.is_dir():
        found = [_file_of(path, name) for name in names]
        return _read_pictures(found, categories=spec.startswith(_LABELS), colour=colour)
    if _is_picture(path):
        raise ValueError(f"--condition must be a folder of pictures named like the images, got the picture {spec!r}")
    array = _read_array(path, categories=spec.startswith(_LABELS))
    if not all(name.isdecimal() for name in names):
        raise ValueError(f"--condition must be a folder with the names of the images' files, got the array {spec!r}")
    indices = torch.tensor([int(name) for name in names], dtype=torch.int64, device="cpu")
    if total not in (None, len(array)):
        raise ValueError(f"--condition {spec} has {len(array)} maps, and there are {total} images")
    if len(indices) and int(indices.max()) >= len(array):
        raise ValueError(f"--condition {spec} has {len(array)} maps, and the images are at least {max(indices) + 1}")
    return array[indices]


def read_shrunk(spec: str, images: Tensor, levels: int) -> Tensor:
    """What `shrink:S` says of images, see `shrunk`.

    Raises:
        ValueError: If it is something else, or S does not divide the images' sides.
    """
    factor = spec.removeprefix(_SHRINK)
    if not spec.startswith(_SHRINK) or not factor.isdecimal() or int(factor) < 2:
        raise ValueError(f"condition shrink:S needs an integer S of at least 2, got {spec!r}")
    return shrunk(images, int(factor), levels)


def read_maps(spec: str, *, colour: bool = False) -> Tensor:
    """All maps, or vectors, of a picture, a folder of pictures in the order of their names, or an array.

    Args:
        spec: As the module's docstring says, but for shrink:S.
        colour: As for `read_condition`.

    Raises:
        ValueError: If there are none, or `spec` makes maps from images.
    """
    if spec.startswith(_SHRINK):
        raise ValueError(f"--condition must name small pictures when there are no images to be shrunk, got {spec!r}")
    path, categories = _path_of(spec), spec.startswith(_LABELS)
    if path.is_file() and path.suffix.lower() in (".npy", ".npz"):
        found = _read_array(path, categories=categories)
        if not len(found):
            raise ValueError(f"--condition {spec} holds no maps: its shape is {tuple(found.shape)}")
        return found
    files = sorted(filter(_is_picture, path.iterdir())) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"--condition {spec} holds no pictures")
    return _read_pictures(files, categories=categories, colour=colour)


def condition_fields(spec: str, *conditions: Tensor | None) -> dict[str, int]:
    """The options of a network that is conditional on all of these."""
    found = [condition for condition in conditions if condition is not None]
    if found[0].dim() == 2:
        return {"condition_dim": found[0].shape[1]}
    if spec.startswith(_LABELS):
        return {"condition_levels": max(int(each.max()) for each in found) + 1}
    return {"condition_channels": found[0].shape[1]}


def shrunk(images: Tensor, factor: int, levels: int) -> Tensor:
    """Smaller pictures: the mean of each factor x factor pixels, as grey values 0..255, rounded.

    Args:
        images: Levels (N, C, H, W).
        factor: Divides H and W.
        levels: Number of levels.

    Returns:
        uint8 (N, C, H / factor, W / factor): the same integers on any machine.

    Raises:
        ValueError: If the factor does not divide both sides.
    """
    c, height, width = images.shape[1:]
    if height % factor or width % factor:
        raise ValueError(f"images are shrunk by {factor}, so their sides must be multiples, got {height} x {width}")
    parts = []
    per = factor * factor * (levels - 1)  # the sum of a white cell
    for part in torch.split(images, max(1, _CHUNK // max(1, c * height * width))):
        cells = part.view(-1, c, height // factor, factor, width // factor, factor).sum((3, 5), dtype=torch.int64)
        parts.append(((2 * (GREY_LEVELS - 1) * cells + per) // (2 * per)).to(torch.uint8))
    return torch.cat(parts)


def _path_of(spec: str) -> Path:
    path = Path(spec.removeprefix(_LABELS))
    if not path.exists():
        raise ValueError(
            f"--condition must be a folder, an array, shrink:S or labels:PATH, and there is no {printable(str(path))!r}"
        )
    return path


def _file_of(folder: Path, name: str) -> Path:
    """The picture of a folder with the name of an image's file, whatever its suffix."""
    stem, ending = os.path.splitext(name)
    if "#" in ending:  # patch k of a picture, or record k of a file
        raise ValueError(
            f"--condition {folder} has a map for each file, and {printable(name)} is one of several images of its file"
        )
    for suffix in (ending, *SUFFIXES, *map(str.upper, SUFFIXES)):
        if (path := folder / f"{stem}{suffix}").is_file():
            return path
    raise ValueError(f"--condition {folder} has no picture for the image {printable(name)}: it needs the same names")


def _is_picture(path: Path) -> bool:
    """Whether an entry of a folder is one of its pictures, hidden files being none."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".") and not path.is_dir()


def _read_pictures(paths: Sequence[Path], *, categories: bool, colour: bool) -> Tensor:
    maps: list[Tensor] = []
    channels = 3 if colour else 1
    for path in [] if categories or colour else paths:
        with named_picture(path) as picture:
            channels = channels if is_grey(picture) else 3
        if channels == 3:
            break
    with progress_bar("reading maps", len(paths), "file", show=len(paths) > 100) as bar:
        for path in paths:
            maps.append(_read_labels(path) if categories else _read_numbers(path, channels))
            if maps[-1].shape != maps[0].shape:
                raise ValueError(
                    f"maps must have one size: {path} is {maps[-1].shape[2]} x {maps[-1].shape[1]}, and {paths[0]} "
                    f"{maps[0].shape[2]} x {maps[0].shape[1]}"
                )
            bar.update()
    return torch.stack(maps)


def _read_numbers(path: Path, channels: int) -> Tensor:
    with named_picture(path) as picture:
        if (bits := stored_bits(picture)) > 8:  # each map would be scaled by its own largest value
            raise ValueError(f"it has {bits} bits per value, and maps have 8; give deeper ones as a .npy file")
        return torch.from_numpy(to_levels(picture, channels, GREY_LEVELS, DataConfig())[0].copy())


def _read_labels(path: Path) -> Tensor:
    with named_picture(path) as picture:
        values = stored_values(picture)
    if values.ndim != 2:
        raise ValueError(f"{path} must hold one label per pixel, got a picture of mode {picture.mode}")
    return _checked_labels(values[None], path).to(torch.int32)


def _read_array(path: Path, *, categories: bool) -> Tensor:
    check_no_pointer(path, path)
    with named_damage(f"{path} is not a NumPy file of one array"), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            np.lib.format.read_magic(file)  # or NumPy takes it for a pickle, and advises to trust it
        file.seek(0)
        array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            (key,) = array.files
            array = array[key]
    found = tensor(str(path), array)
    if found.dim() == 3:
        found = found.unsqueeze(1)
    if found.dim() not in (2, 4) or (categories and (found.dim() != 4 or found.shape[1] != 1)):
        allowed = "(N, h, w)" if categories else "(N, h, w), (N, D, h, w) or (N, D)"
        raise ValueError(f"{path} must have shape {allowed}, got {tuple(array.shape)}")
    return _checked_labels(found, path) if categories else found


def _checked_labels(values: Tensor | np.ndarray, path: Path) -> Tensor:
    """Categories, uint8 or int32 whatever the type of integers or truth values that a file holds."""
    labels = tensor(str(path), values)
    low, top = (0, 0) if labels.is_floating_point() or not labels.numel() else bounds(labels)
    if labels.is_floating_point() or low < 0 or top >= _MAX_CATEGORIES:
        got = labels.dtype if labels.is_floating_point() else f"{low}..{top}"
        raise ValueError(f"{path} must hold labels, integers in 0..{_MAX_CATEGORIES - 1}, got {got}")
    return labels if labels.dtype == torch.uint8 else labels.to(torch.int32)
