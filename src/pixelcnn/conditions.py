"""What images are conditioned on: classes, and vectors or maps, validated and as the network reads them.

    classes     int64 (N,), -1 for none
    vectors     numbers (N, size), NaN throughout for none
    maps        numbers (N, channels, h, w), NaN throughout for none, whose sides divide the images'; uint8 stands for
                0..1 in steps of 1/255. The last channel may hold categories instead; -1 throughout a map of categories
                alone is none

The network reads them as the rows of one tensor, (N, D): the class one-hot, then the vector or the map, channel by
channel, and a 1. What an image lacks is zeros, which is how it differs from a vector or a map of zeros. A map is
repeated until its sides are the same share of the image's, so that the length of a row tells its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from pixelcnn.arguments import bounds, readable, tensor

__all__ = ["Conditions", "Given"]

Given: TypeAlias = tuple[Tensor | None, Tensor | None]
"""Labels and condition of images; None for none."""


@dataclass(frozen=True)
class Conditions:
    """What a model is conditional on."""

    classes: int | None
    """Number of classes."""
    size: int | None
    """Size of a vector."""
    numbers: int
    """Channels of a map that hold numbers."""
    categories: int
    """Number of categories in a further channel of a map."""
    height: int
    """Of the images."""
    width: int
    """Of the images."""

    @property
    def channels(self) -> int:
        """Channels of a map; 0 for none."""
        return self.numbers + (self.categories > 0)

    def checked(self, labels: object, condition: object, n: int) -> Given:
        """Labels and condition of n images, validated; None stays None.

        Raises:
            ValueError: If they do not fit the model or the number of images.
        """
        if labels is not None and condition is not None and self.classes is None:
            raise ValueError("labels must be None beside a condition: the model has no classes")
        return (
            None if labels is None else self.checked_labels(labels, n),
            None if condition is None else self.checked_condition(condition, n),
        )

    def checked_labels(self, labels: object, n: int) -> Tensor:
        """The labels of n images, validated: classes, int64 (n,).

        Of a model that has no classes but is conditional on a vector, they are the vectors.

        Args:
            labels: A tensor, an array or a list of integers of any type.
            n: Number of images.

        Raises:
            ValueError: If they do not fit the model or the number of images.
        """
        if self.classes is None:
            if self.size is None:
                raise ValueError("labels must be None: the model is unconditional and has no classes")
            return self.checked_condition(labels, n, "labels")
        found = tensor("labels", labels)
        if found.shape == (n,) == (0,):
            found = found.to(torch.int64)  # an empty list has no type
        if found.shape != (n,) or found.is_floating_point() or found.is_complex():
            raise ValueError(f"labels must be torch.int64 of shape ({n},), got {found.dtype} {tuple(found.shape)}")
        low, top = bounds(found) if n and readable(found) else (0, 0)
        if low < -1 or top >= self.classes:
            raise ValueError(f"labels must be in 0..{self.classes - 1}, got {low}..{top}")
        return found.to(torch.int64)

    def checked_condition(self, condition: object, n: int, name: str = "condition") -> Tensor:
        """The vectors or maps of n images, validated.

        Args:
            condition: A tensor, an array or lists of numbers.
            n: Number of images.
            name: Of the argument, for the error.

        Raises:
            ValueError: If they do not fit the model or the number of images.
        """
        if self.size is None and not self.channels:
            raise ValueError(f"{name} must be None: the model is not conditional on a vector or a map")
        found = tensor(name, condition)
        self._check_shape(found, n, name)
        if self.size is not None and not found.is_floating_point():
            found = found.double()
        elif not found.is_floating_point() and found.dtype != torch.uint8:
            found = found.long()  # torch cannot compare integers of every type
        if found.is_floating_point() and readable(found):
            each = found.float().flatten(1)  # in which models compute
            usable = each.isfinite().all(1) | each.isnan().all(1)
            if not usable.all():
                k = int((~usable).nonzero()[0])
                raise ValueError(
                    f"{name} must be finite in float32, or NaN throughout for none, got neither for image {k}"
                )
        if self.categories and n and readable(found):
            self._check_categories(found[:, -1].flatten(1), name)
        return found

    def rows(self, labels: Tensor | None, condition: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Validated labels and conditions, at least one of them, as the network reads them: (N, D) of a type, or of
        float32 if there are more categories than that type can tell apart.

        Nothing is synchronised with the tensors' device.
        """
        if self.categories > 2 / torch.finfo(dtype).eps:
            dtype = torch.float32
        if self.classes is None and condition is None:
            labels, condition = None, labels
        like = labels if condition is None else condition
        assert like is not None
        n, device, parts = like.shape[0], like.device, []
        if self.classes is not None:
            either = torch.full((n,), -1, device=device) if labels is None else labels
            parts.append(either.unsqueeze(1) == torch.arange(self.classes, device=device))
        if condition is not None:
            each = self._map_rows(condition) if self.channels else condition
            given = ~each[:, :1].isnan()
            if self.categories:
                given = given & (each[:, -1:] >= 0)
            parts += [torch.where(given, each, 0), given]
        elif self.size is not None or self.channels:
            cells = self.height * self.width // math.gcd(self.height, self.width) ** 2  # of the smallest map
            parts.append(torch.zeros(n, (self.size or self.channels * cells) + 1, device=device))
        return torch.cat([part.to(dtype) for part in parts], 1)

    def map_scale(self, rows: Tensor) -> int:
        """How many of an image's pixels far apart those of its map are, from what `rows` returned."""
        return math.isqrt(self.height * self.width * self.channels // (rows.shape[1] - (self.classes or 0) - 1))

    def of_stripe(self, rows: Tensor, top: int, bottom: int) -> Tensor:
        """What `rows` returned, for the images' own rows top .. bottom - 1, both multiples of `map_scale`: (N, D)."""
        if not self.channels:
            return rows
        start, scale = self.classes or 0, self.map_scale(rows)
        maps = rows[:, start:-1].view(-1, self.channels, self.height // scale, self.width // scale)
        part = maps[:, :, top // scale : bottom // scale].flatten(1)
        return torch.cat([rows[:, :start], part, rows[:, -1:]], 1)

    def _check_shape(self, found: Tensor, n: int, name: str) -> None:
        got = f"got {found.dtype} {tuple(found.shape)}"
        if self.size is not None:
            if found.shape != (n, self.size) or found.is_complex():
                raise ValueError(f"{name} must be floating-point of shape ({n}, {self.size}), {got}")
            return
        fits = found.dim() == 4 and found.shape[:2] == (n, self.channels) and not found.is_complex()
        h, w = found.shape[2:] if fits else (0, 0)
        if not h or not w or self.height % h or self.width % w:
            raise ValueError(
                f"{name} must have shape ({n}, {self.channels}, h, w) with sides that divide the images' {self.height} "
                f"x {self.width}, {got}"
            )

    def _check_categories(self, values: Tensor, name: str) -> None:
        values = values if values.is_floating_point() else values.long()  # to torch, 255 in uint8 equals -1
        none = values.isnan().any(1)
        if not self.numbers:
            none = none | (values == -1).all(1)
        given = values[~none]
        if len(given) and not (given.min() >= 0 and given.max() < self.categories and (given == given.round()).all()):
            raise ValueError(
                f"{name} must have categories 0..{self.categories - 1} in its last channel, got "
                f"{given.min().item()}..{given.max().item()}"
            )

    def _map_rows(self, maps: Tensor) -> Tensor:
        """Maps (N, D, h, w) as rows, with uint8 numbers scaled, and as far apart in both directions."""
        if maps.dtype == torch.uint8 and self.numbers:
            scaled = maps.to(torch.float32)
            maps = torch.cat([scaled[:, : self.numbers] / 255, scaled[:, self.numbers :]], 1)
        down, across = self.height // maps.shape[2], self.width // maps.shape[3]
        common = math.gcd(down, across)
        for dim, factor in ((2, down // common), (3, across // common)):
            maps = maps if factor == 1 else maps.repeat_interleave(factor, dim)
        return maps.flatten(1)
