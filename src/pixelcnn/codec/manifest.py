"""The manifest in a stream's notes: what its files were called and how they stored their images.

    {"files": [["a/007.png", "1", 3], ["codes.npy", "int64", 100, 3]], "labels": "chosen", "model": "mnist"}

A picture is one image, with a name and a mode (Pillow's: "1" black and white, "L" grey, "RGB"; "I;16" grey with more
than 256 levels, which are its values). A number after them stands for that many pictures whose names count up, here to
a/009.png. A second number, 2..8, is the EXIF orientation of their files, which hold them turned. An array has a name, a
NumPy type, its number of images, and how many dimensions it had, or "nhwc" if its channels came last. `labels` says
what the stream's classes are: "given" with the files, or "chosen" to save bytes; or it is a list of classes that are
not coded, since the model does not have them. `model` is what the model was called.

    {"profiles": ["AAAC..."], "metadata": [[0, 0, "RXhpZ..."], [7, 0, ""]]}

are colour profiles, and for some pictures their number in "files" (runs count as their pictures), which profile they
have, -1 for none, and their EXIF data, in Base64. A stream may come from anyone, so nothing of this is trusted.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from pixelcnn.codec.container import Header, StreamError
from pixelcnn.datasets.pictures import SUFFIXES
from pixelcnn.levels import GREY_LEVELS, array_dtype

__all__ = ["KEPT_SUFFIXES", "Entry", "Labels", "check_names", "entries_of", "labels_of", "names_of", "notes_of"]

KEPT_SUFFIXES = {
    ".png": "PNG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".pbm": "PPM",
    ".pgm": "PPM",
    ".ppm": "PPM",
}
"""Suffixes of pictures that are restored in their own format, and Pillow's name of it; others become PNG files."""
_MODES = ("1", "L", "RGB", "I;16")
_MAX_PICTURES = 2**22  # of a stream: a run of any number takes no room, and each of its pictures some hundred bytes
_MAX_CHARACTERS = 2**29  # of the names of all pictures: a run repeats its name, which the notes hold once
_MAX_DEPTH = 256  # folders above a file: more cannot be made one after the other
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of controls, surrogates, and ends of lines
_DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")

Labels = Literal["given", "chosen"] | list[int] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of images."""

    name: str
    """Its path below the folder that is unpacked to; parts are separated by slashes."""
    kind: str
    """A picture's mode, or an array's type."""
    count: int = 1
    """Number of images."""
    dimensions: int = 0
    """For an array: 3 for (N, H, W), 4 for (N, C, H, W)."""
    channels_last: bool = False
    """For an array with 4 dimensions: whether it is (N, H, W, C)."""
    orientation: int = 1
    """For a picture: the EXIF orientation of its file, 1..8. The image is upright, the file's pixels may not be."""
    profile: bytes = b""
    """For a picture: the ICC profile of its file, if it is kept."""
    exif: bytes = b""
    """For a picture: the EXIF data of its file, if they are kept."""

    @property
    def is_array(self) -> bool:
        """Whether it is an array, as opposed to a picture."""
        return self.dimensions > 0


def notes_of(entries: Iterable[Entry], labels: Labels, model: str) -> dict[str, Any]:
    """The notes of a stream.

    Raises:
        ValueError: If there are too many pictures.
    """
    files: list[list[Any]] = []
    entries, last = list(entries), None
    _check_number(entries)
    for entry in (replace(each, profile=b"", exif=b"") for each in entries):
        if entry.is_array:
            axes = "nhwc" if entry.channels_last else entry.dimensions
            files.append([entry.name, entry.kind, entry.count, axes])
        elif last is not None and not last.is_array and entry == replace(last, name=_next_name(last.name) or ""):
            files[-1][2:3] = [files[-1][2] + 1 if len(files[-1]) > 2 else 2]
        else:
            files.append([entry.name, entry.kind] + ([1, entry.orientation] if entry.orientation > 1 else []))
        last = entry
    notes: dict[str, Any] = {"files": files, "model": model}
    profiles = list(dict.fromkeys(entry.profile for entry in entries if entry.profile))
    metadata = [
        [k, profiles.index(entry.profile) if entry.profile else -1, _text(entry.exif)]
        for k, entry in enumerate(entries)
        if entry.profile or entry.exif
    ]
    if metadata:
        notes |= {"profiles": [_text(profile) for profile in profiles], "metadata": metadata}
    return notes if labels is None else {**notes, "labels": labels}


def entries_of(header: Header) -> list[Entry]:
    """The files of a stream; for a stream without a manifest one array, images.npy, or images.npz with labels.

    Raises:
        StreamError: If the notes contradict themselves or the header, a name leads out of the folder, or there are too
            many pictures.
    """
    kind = array_dtype(header.levels).name
    if "files" not in header.notes:
        return [Entry("images.npz" if header.labelled else "images.npy", kind, header.count, 4)]
    files = header.notes["files"]
    if not isinstance(files, list):
        raise StreamError("the notes are damaged: files is no list")
    runs = [_entry(file) for file in files]
    if sum(entry.count for entry in runs) != header.count:
        raise StreamError("the notes are damaged: the files do not have as many images as the stream")
    _check_number(runs)
    entries = [entry for run in runs for entry in _expanded(run)]
    for k, profile, exif in _metadata_of(header, len(entries)):
        entries[k] = replace(entries[k], profile=profile, exif=exif)
    check_names(entry.name for entry in entries)
    for entry in entries:
        deep = entry.kind == "I;16"
        if not entry.is_array and (
            header.shape[0] not in ((1,) if deep else (1, 3)) or deep != (header.levels > GREY_LEVELS)
        ):
            raise StreamError(f"the notes are damaged: {entry.name!r} cannot be a picture of mode {entry.kind}")
        if entry.is_array and entry.dimensions == 3 and header.shape[0] != 1:
            raise StreamError(f"the notes are damaged: {entry.name!r} cannot have 3 dimensions")
    return entries


def names_of(entries: Iterable[Entry]) -> list[str]:
    """The names by which a condition is found for each image: a picture's own, an array's indices."""
    names: list[str] = []
    for entry in entries:
        if entry.is_array:
            names += map(str, range(len(names), len(names) + entry.count))
        else:
            own = entry.name.removesuffix(".png")  # a.jpg.png was a.jpg, but a.tif.png was not a.tif
            added = own.lower().endswith(SUFFIXES) and not own.lower().endswith(tuple(KEPT_SUFFIXES))
            names.append(own if added else entry.name)
    return names


def labels_of(header: Header) -> Labels:
    """What a stream's classes are.

    Raises:
        StreamError: If the notes say what cannot be true.
    """
    labels = header.notes.get("labels", "given" if header.labelled else None)
    known = (
        isinstance(labels, list)
        and len(labels) == header.count
        and all(type(k) is int and 0 <= k < 2**63 for k in labels)
    )
    if not (known or (labels in ("given", "chosen") and header.labelled) or labels is None):
        raise StreamError("the notes are damaged: labels are no labels of these images")
    return cast(Labels, labels)


def check_names(names: Iterable[str]) -> None:
    """Checks that files of these names can be created inside a folder.

    Raises:
        StreamError: If one leads out of it or too deep, two are the same to a file system that ignores upper and lower
            case and the form in which Unicode composes letters, or one is another's folder.
    """
    seen: set[str] = set()
    for name in names:
        parts = name.split("/")
        unprintable = any(unicodedata.category(character) in _UNPRINTABLE for character in name)
        if unprintable or any(part in ("", ".", "..") or "\\" in part for part in parts):
            raise StreamError(f"{name!r} is no name for a file inside a folder")
        if any(len(part.encode(errors="replace")) > 255 for part in parts) or len(name) > 4096:
            raise StreamError(f"{name[:40]!r}... is too long for a file's name")
        if len(parts) > _MAX_DEPTH:
            raise StreamError(f"{name[:40]!r}... lies in more than {_MAX_DEPTH - 1} folders")
        plain = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
        if plain in seen:
            raise StreamError(f"two files would be called {name!r}")
        seen.add(plain)
    # with the folders' ends before all other characters, what a folder holds follows it at once
    for one, other in itertools.pairwise(sorted(name.replace("/", "\0") for name in seen)):
        if other.startswith(one + "\0"):
            raise StreamError(f"{one.replace(chr(0), '/')!r} would be a file and a folder")


def _entry(file: object) -> Entry:
    match file:
        case [str(name), str(kind)] if kind in _MODES:
            return Entry(name, kind)
        case [str(name), str(kind), int(count)] if kind in _MODES and count > 1 and _next_name(name) is not None:
            return Entry(name, kind, int(count))
        case [str(name), str(kind), int(count), int(orientation)] if kind in _MODES and count > 0:
            if 2 <= orientation <= 8 and (count == 1 or _next_name(name) is not None):
                return Entry(name, kind, int(count), orientation=int(orientation))
        case [str(name), str(kind), int(count), 3 | 4 as dimensions] if kind in _DTYPES and count > 0:
            return Entry(name, kind, int(count), int(dimensions))
        case [str(name), str(kind), int(count), "nhwc"] if kind in _DTYPES and count > 0:
            return Entry(name, kind, int(count), 4, channels_last=True)
    raise StreamError(f"the notes are damaged: {str(file)[:60]!r} is no file")


def _metadata_of(header: Header, count: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Which of so many files have kept metadata: their profile and EXIF data."""
    profiles, metadata = header.notes.get("profiles", []), header.notes.get("metadata", [])
    if not isinstance(profiles, list) or not isinstance(metadata, list):
        raise StreamError("the notes are damaged: profiles and metadata are no lists")
    found = [_bytes(profile) for profile in profiles]
    for one in metadata:
        match one:
            case [int(k), int(profile), exif] if 0 <= k < count and -1 <= profile < len(found):
                yield int(k), found[profile] if profile >= 0 else b"", _bytes(exif)
            case _:
                raise StreamError(f"the notes are damaged: {str(one)[:60]!r} is no metadata of a file")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(cast(str, text), validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise StreamError("the notes are damaged: metadata are not in Base64") from None


def _check_number(entries: Iterable[Entry]) -> None:
    runs = [entry for entry in entries if not entry.is_array]
    pictures, characters = sum(run.count for run in runs), sum(run.count * len(run.name) for run in runs)
    if pictures > _MAX_PICTURES or characters > _MAX_CHARACTERS:
        raise StreamError(
            f"a stream may have at most {_MAX_PICTURES:,} pictures with {_MAX_CHARACTERS:,} characters in their names, "
            f"got {pictures:,} and {characters:,}; compress fewer at a time"
        )


def _expanded(run: Entry) -> Iterator[Entry]:
    """The single files that an entry of the notes stands for."""
    if run.is_array:
        yield run
        return
    name: str | None = run.name
    for _ in range(run.count):
        assert name is not None
        yield replace(run, name=name, count=1)
        name = _next_name(name)


def _next_name(name: str) -> str | None:
    """The name with its last number one larger; None without one."""
    found = re.fullmatch(r"(.*?)([0-9]{1,18})([^0-9]*)", name, re.DOTALL)
    return found and found[1] + str(int(found[2]) + 1).zfill(len(found[2])) + found[3]
