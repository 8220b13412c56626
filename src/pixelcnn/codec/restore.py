"""From images back to the files that they were."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from pixelcnn.codec.entries import KEPT_SUFFIXES, Entry
from pixelcnn.images import to_pil

__all__ = ["restored"]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""From an upright picture to what a file of an EXIF orientation holds."""


def restored(
    entries: list[Entry], images: Mapping[int, Tensor], labels: Mapping[int, int], levels: int
) -> Iterator[tuple[Entry, bytes | None, int]]:
    """The files' content.

    Args:
        entries: The files.
        images: uint8 levels (C, H, W) by index; those that were lost are missing.
        labels: The classes, by index, if an array is to have them.
        levels: What white is.

    Yields:
        A file; its content, None if none of its images is there; and how many of its images were lost.
    """
    start = 0
    for entry in entries:
        indices = range(start, start + entry.count)
        start += entry.count
        here = [k for k in indices if k in images]
        lost = entry.count - len(here)
        if not here:
            yield entry, None, lost
        elif entry.is_array:
            yield entry, _array(entry, [images[k] for k in here], [labels[k] for k in here if k in labels]), lost
        else:
            yield entry, _picture(entry, images[here[0]], levels), lost


def _picture(entry: Entry, image: Tensor, levels: int) -> bytes:
    picture = to_pil(image if entry.kind == "RGB" else image[:1], levels)
    picture = picture.convert(entry.kind, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    kind = KEPT_SUFFIXES.get(Path(entry.name).suffix.lower(), "PNG")
    told: dict[str, Image.Exif] = {}
    if entry.orientation > 1:
        picture = picture.transpose(_TURNS[entry.orientation])
        told["exif"] = Image.Exif()
        told["exif"][ExifTags.Base.Orientation] = entry.orientation
    picture.save(buffer, kind, optimize=True, **told)  # `optimize` is for PNG
    return buffer.getvalue()


def _array(entry: Entry, images: list[Tensor], labels: list[int]) -> bytes:
    array = np.stack([image.numpy() for image in images]).astype(entry.kind)
    if entry.dimensions == 3:
        array = array[:, 0]
    elif entry.channels_last:
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    buffer = io.BytesIO()
    if entry.name.lower().endswith(".npz"):
        if labels:
            np.savez_compressed(buffer, images=array, labels=np.array(labels, dtype=np.int64))
        else:
            np.savez_compressed(buffer, images=array)
    else:
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
