"""How users' own images are read: size, channels, layout, and which of them are held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pixelcnn.config.checks import Range, check_fields, check_rules, is_int

__all__ = ["DataConfig", "Layout"]

Layout = Literal["nhw", "nchw", "nhwc"]
"""Axes of an array: n images of height h, width w and c channels."""
_MAX_SIDE = 2**16


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How users' own images are read, and which of them are held out."""

    size: int | tuple[int, int] | None = None
    """Side of the images, or their height and width. `None`: the pictures' own size, which all must share."""
    channels: Literal[1, 3] | None = None
    """1 for greyscale, 3 for RGB. `None`: 1 if every picture is stored in greyscale, else 3."""
    crop: Literal["centre", "patches"] = "centre"
    """How pictures get their size: `centre` scales a picture until it just covers the size, and crops the centre;
    `patches` cuts an unscaled picture into adjacent tiles of the size, and drops what is left at the edges."""
    patch: Annotated[int | None, Range(1, _MAX_SIDE)] = None
    """In training on a folder: patches of so many rows and columns, drawn anew in each epoch from pictures of any size,
    which are held out as a whole."""
    bit_depth: Annotated[int | None, Range(8, 16)] = None
    """Bits used per value, 8..16, in pictures stored with more than 8; the upper 8 of them are kept, or all with more
    than 256 levels. `None`: what files say that say less than 16; for the others what their largest value needs."""
    layout: Layout | None = None
    """Axes of an array: n images of height h, width w and c channels. `None`: `nhw` for three axes, `nchw` for four;
    required where the last axis could be channels."""
    strict: bool = False
    """Refuse data with an unusable picture or a file that is not read, instead of naming and skipping it."""
    held_out: Annotated[float, Range(0, 1, strict=True)] = 0.1
    """Share of the images used for validation, between 0 and 1, chosen by a hash of each image's content, so that
    copies stay together."""
    test: float = 0.0
    """Share of the images reserved for DATA:test by the same hash, used for neither training nor validation; at least
    0, and less than 1 - held_out."""

    def __post_init__(self) -> None:
        check_fields(self)
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        fits = len(sides) == 2 and all(is_int(s) and 1 <= s <= _MAX_SIDE for s in sides)
        rules = {
            "size": (self.size is None or fits, f"be an integer in 1..{_MAX_SIDE}, or two of them, or None"),
            "test": (
                0 <= self.test < 1 - self.held_out,
                f"be at least 0 and less than 1 - held_out = {1 - self.held_out:g}",
            ),
        }
        check_rules(self, rules)
        if self.patch is not None and (self.size is not None or self.crop == "patches"):
            raise ValueError(f"patch must be None beside a size, to which pictures are brought, got {self.patch}")
        if self.crop == "patches" and self.size is None:
            raise ValueError("size must be given for patches, got None")

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """The size as height and width, or None."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size
