"""How images of one's own are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pixelcnn.config.checks import is_int, make_plain

__all__ = ["DataConfig", "Layout"]

Layout = Literal["nhw", "nchw", "nhwc"]
"""Axes of an array: n images of height h, width w and c channels."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How images of one's own are read, and which of them are held out."""

    size: int | tuple[int, int] | None = None
    """Side of the images, or their height and width. `None`: the pictures' own size, which must be the same for all."""
    channels: Literal[1, 3] | None = None
    """1 for greyscale, 3 for RGB. `None`: 1 if every picture is stored in greyscale, else 3."""
    crop: Literal["centre", "patches"] = "centre"
    """How pictures get their size: `centre` scales the picture until it just covers the size, and crops the centre;
    `patches` cuts the picture, unscaled, into tiles of the size side by side, and drops what is left at the edges."""
    bit_depth: int | None = None
    """Bits of a value, 8..16, in pictures that are stored with 16; the upper 8 of them are kept. `None`: as many as the
    largest value of all such pictures needs."""
    layout: Layout | None = None
    """What the axes of an array are: n images of height h, width w and c channels. `None`: `nhw` for three axes, `nchw`
    for four; where the last one may be channels, it must be given."""
    strict: bool = False
    """Refuse data with a picture that cannot be used, or a file that is not read, instead of naming and skipping it."""
    held_out: float = 0.1
    """Share of the images that validate. A hash of an image's content decides, so copies stay together."""
    test: float = 0.0
    """Share of the images that are kept for DATA:test, by the same hash: neither trained on nor validated with."""

    def __post_init__(self) -> None:
        make_plain(self)
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if self.size is not None and not (
            len(sides) == 2 and all(isinstance(s, int) and is_int(s) and 1 <= s <= 2**16 for s in sides)
        ):
            raise ValueError(f"size must be an integer in 1..{2**16}, or two of them, or None, got {self.size!r}")
        checks = {
            "channels": (
                self.channels is None or (is_int(self.channels) and self.channels in (1, 3)),
                "be 1, 3 or None",
            ),
            "crop": (self.crop in ("centre", "patches"), "be 'centre' or 'patches'"),
            "bit_depth": (
                self.bit_depth is None or (is_int(self.bit_depth) and 8 <= self.bit_depth <= 16),
                "be an integer in 8..16, or None",
            ),
            "layout": (self.layout in (None, *get_args(Layout)), "be 'nhw', 'nchw', 'nhwc' or None"),
            "strict": (isinstance(self.strict, bool), "be True or False"),
            "held_out": (0 < self.held_out < 1, "lie strictly between 0 and 1"),
            "test": (
                0 <= self.test < 1 - self.held_out,
                f"be at least 0 and less than 1 - held_out = {1 - self.held_out:g}",
            ),
        }
        for name, (right, rule) in checks.items():
            if not right:
                raise ValueError(f"{name} must {rule}, got {getattr(self, name)!r}")
        if self.crop == "patches" and self.size is None:
            raise ValueError("size must be given for patches, got None")

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """The size as height and width."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size
