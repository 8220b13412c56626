"""Sources of pictures: what the pictures of a folder and of a published data set have in common.

A source decodes its pictures one after another (`.pictures`) and writes them into a cache (`.cache`); those that cannot
be used are skipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from abc import abstractmethod
from collections.abc import Generator, Iterator
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from pixelcnn.config import DataConfig
from pixelcnn.datasets.cache import Contents, Source, Writer
from pixelcnn.datasets.pictures import Depth, frames_left_out, to_levels
from pixelcnn.levels import GREY_LEVELS

__all__ = ["Decoded", "Frames", "PictureSource", "Pictures"]

Decoded: TypeAlias = "tuple[np.ndarray, int] | Exception"
"""A picture's images, as of `to_levels`, and its number of frames after the first; or what went wrong."""

Pictures: TypeAlias = "Generator[tuple[str, int | None, int | None, Decoded], None, None]"
"""Name and class of each picture; the index in `SIDES` of its side, None to let the content decide; its images."""


class PictureSource(Source):
    """A source of pictures, which are decoded as a `DataConfig` says.

    Args:
        name: The source's name in messages.
        levels: 2..65,536; None for 256.
        config: How the pictures are read.
    """

    fields = tuple(field.name for field in dataclasses.fields(DataConfig) if field.name != "layout")
    has_pictures = True

    def __init__(self, name: str, levels: int | None, config: DataConfig) -> None:
        self.name = name
        self.levels = levels or GREY_LEVELS
        self.config = config
        self.classes: tuple[str, ...] | None = None
        """Names of the classes, known before `fill`."""

    @abstractmethod
    def opened(self) -> Iterator[Image.Image]:
        """Opens each picture in turn, except those that cannot be opened."""

    @abstractmethod
    def decoded(self, depth: Depth, *, progress: bool) -> Pictures:
        """Decodes all pictures.

        Raises:
            ValueError: If no number of channels fits all pictures.
        """

    def options(self, shape: tuple[int, int, int] | None = None) -> dict[str, Any]:
        """Everything that the levels of the pictures depend on.

        Args:
            shape: Channels, height and width, after all pictures could be used or were skipped: it settles what the
                configuration leaves open. None for the options as they are.
        """
        size, channels, strict = self.config.height_and_width, self.config.channels, self.config.strict
        if shape is not None:
            size, channels, strict = shape[1:], 1 if shape[0] == 1 else 3, False
        return {
            "size": size,
            "channels": channels,
            "strict": strict,
            "crop": self.config.crop,
            "bit_depth": self.config.bit_depth,
            "levels": self.levels,
        }

    def decode(self, image: Image.Image, channels: int, depth: Depth) -> Decoded:
        """Decodes one picture."""
        try:
            return to_levels(image, channels, self.levels, depth.config_for(image)), frames_left_out(image)
        except Exception as error:  # Pillow raises errors of any kind for damaged files
            return error

    def why_skipped(self, name: str, error: Exception) -> str:
        """The reason why a picture of a name cannot be used, by the error that it caused.

        Raises:
            ValueError: If `config.strict` is set.
        """
        reason = _reason(error)
        if self.config.strict:
            raise ValueError(f"{name} of {self.name} cannot be used: {reason}; without strict it is skipped")
        return reason

    def fill(self, writer: Writer, *, progress: bool) -> Contents:
        """Writes the images of all pictures; those that cannot be used are skipped.

        Raises:
            ValueError: If pictures have different sizes and no size is given, no picture can be used, or one cannot be
                used and `config.strict` is set.
        """
        first, frames = "", Frames()
        depth = Depth(self.config, self.levels, self.opened)
        with (
            warnings.catch_warnings(action="ignore"),  # Pillow warns of oddities in files
            contextlib.closing(self.decoded(depth, progress=progress)) as pictures,
        ):
            for name, label, side, result in pictures:
                if isinstance(result, Exception):
                    writer.skip(name, self.why_skipped(name, result))
                    continue
                images, left_out = result
                shape = writer.shape or images.shape[1:]
                if images.shape[1:] != shape:
                    raise ValueError(
                        f"{name} of {self.name} is {images.shape[2]} x {images.shape[3]}, but {first} is {shape[1]} x "
                        f"{shape[2]}: give a size, to which all are scaled and cropped"
                    )
                first = first or name
                frames.add(name, left_out)
                names = [name] if self.config.crop == "centre" else [f"{name}#{k}" for k in range(len(images))]
                writer.add(images, None if label is None else [label] * len(images), names, side)
        if writer.shape is None:
            raise ValueError(
                f"none of the {writer.skipped} pictures of {self.name} can be used; the first is {writer.first_skipped}"
            )
        return Contents(levels=self.levels, classes=self.classes, remarks=(*frames.remarks, *depth.remarks))


class Frames:
    """Frames, or pages, of pictures after the first, which are left out: how many, and of which pictures."""

    def __init__(self) -> None:
        self._pictures = self._left_out = 0
        self._first = ""

    def add(self, name: str, left_out: int) -> None:
        """Counts those of one picture."""
        if left_out:
            self._pictures, self._left_out = self._pictures + 1, self._left_out + left_out
            self._first = self._first or name

    @property
    def remarks(self) -> tuple[str, ...]:
        """A sentence on them, if there are any."""
        if not self._pictures:
            return ()
        have = "picture has" if self._pictures == 1 else "pictures have"
        taken = f"{self._pictures:,} {have} several frames or pages, of which the first is taken"
        return (f"{taken}: {self._left_out:,} are left out; {self._first} is the first",)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture of a format that is read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
