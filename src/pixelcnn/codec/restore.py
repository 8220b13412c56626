"""Files from their images, the way back from `pixelcnn.codec.archive`: pictures and arrays as their entries say."""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from pixelcnn.codec.container import StreamError
from pixelcnn.codec.manifest import KEPT_SUFFIXES, Entry
from pixelcnn.images import encoded, exact_picture, to_pil

__all__ = ["restored_files"]

_TURNS = {  # from an upright picture to what a file of an EXIF orientation holds
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def restored_files(
    entries: Sequence[Entry], images: Mapping[int, Tensor], labels: Mapping[int, int], levels: int
) -> Iterator[tuple[Entry, bytes | None, int]]:
    """The content of files, from their images.

    Args:
        entries: The files.
        images: uint8 levels (C, H, W) by index; those that were lost are missing.
        labels: The classes that .npz files are to have, by index.
        levels: Number of levels; `levels - 1` is white.

    Yields:
        A file; its content, None if all of its images were lost; and how many of its images were lost.

    Raises:
        StreamError: If a file cannot be written as the stream has it.
    """
    start, found = 0, sorted(images)
    for entry in entries:
        first, start = start, start + entry.count
        here = found[bisect.bisect_left(found, first) : bisect.bisect_left(found, start)]  # a count may be any number
        content = None
        if here and entry.is_array:
            content = _array_file(entry, [images[k] for k in here], [labels[k] for k in here if k in labels])
        elif here:
            try:
                content = _picture_file(entry, images[here[0]], levels)
            except Exception as error:  # Pillow raises anything for damaged metadata
                raise StreamError(f"{entry.name!r} cannot be restored: {error}") from None
        yield entry, content, entry.count - len(here)


def _picture_file(entry: Entry, image: Tensor, levels: int) -> bytes:
    if entry.kind == "I;16":
        picture = exact_picture(image, levels)
    else:
        picture = to_pil(image if entry.kind == "RGB" else image[:1], levels)
        picture = picture.convert(entry.kind, dither=Image.Dither.NONE)
    options: dict[str, object] = {}
    if entry.orientation > 1:
        picture = picture.transpose(_TURNS[entry.orientation])
    if entry.exif or entry.orientation > 1:
        options["exif"] = exif = Image.Exif()
        exif.load(entry.exif)
        if entry.orientation > 1:
            exif[ExifTags.Base.Orientation] = entry.orientation
    if entry.profile:
        options["icc_profile"] = entry.profile
    suffix = Path(entry.name).suffix.lower()
    return encoded(picture, KEPT_SUFFIXES.get(suffix, "PNG"), optimize=True, **options)  # `optimize` is for PNG


def _array_file(entry: Entry, images: list[Tensor], labels: list[int]) -> bytes:
    array = np.stack([image.numpy() for image in images]).astype(entry.kind)
    if entry.dimensions == 3:
        array = array[:, 0]
    elif entry.channels_last:
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    buffer = io.BytesIO()
    if not entry.name.lower().endswith(".npz"):
        np.save(buffer, array, allow_pickle=False)
    elif labels:
        np.savez_compressed(buffer, images=array, labels=np.array(labels, dtype=np.int64))
    else:
        np.savez_compressed(buffer, images=array)
    return buffer.getvalue()
