"""Symmetries: permutations of an image's positions and of its levels, and the finite groups that they form.

A `Transform` moves pixels and renames levels. The groups by their names, which may be combined:

    flip          level l becomes levels - 1 - l: of spins, the sign
    levels        all permutations of the levels, at most five: the states of a Potts model
    horizontal    left and right exchanged
    vertical      above and below exchanged
    reflections   both of the two
    rotations     by quarter turns, of square images
    dihedral      reflections and rotations, of square images
    translations  shifts by any number of rows and columns, what leaves on one side coming in on the other
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelcnn.config import GROUPS
from pixelcnn.orders import rearranged

__all__ = ["Transform", "group_of", "transform_of"]

_MAX_ELEMENTS = 4096
_MAX_POSITIONS = 2**27  # of all transforms together, 8 bytes each


@dataclass(frozen=True, kw_only=True, eq=False)
class Transform:
    """A permutation of positions, the same in every channel, and one of levels."""

    positions: Tensor
    """The raster index in an image of what each position of the transformed one shows: int64 (H', W')."""
    levels: Tensor | None = None
    """What each level becomes, (levels,); None if all stay as they are."""

    def moved(self, values: Tensor) -> Tensor:
        """Values at the positions of an image, (..., H, W), at those of the transformed one, (..., H', W')."""
        return _gathered(values, self.positions)

    def applied(self, images: Tensor) -> Tensor:
        """The transformed images, contiguous, from levels (..., H, W)."""
        moved = self.moved(images)
        return moved if self.levels is None else _renamed(moved, self.levels)

    def undone(self, images: Tensor, shape: tuple[int, int]) -> Tensor:
        """The images of height and width `shape` whose transformed ones are given, (..., H', W')."""
        back = _gathered(images, self.positions.flatten().argsort().view(shape))
        return back if self.levels is None else _renamed(back, self.levels.argsort())


def transform_of(order: str, shape: tuple[int, int]) -> Transform:
    """The rearrangement of images of height and width `shape` that `pixelcnn.orders.rearranged` makes for an order.

    Raises:
        ValueError: If the images have more than 2^27 pixels.
    """
    raster = _raster(*shape)
    return Transform(positions=rearranged(raster, order).contiguous())


def group_of(names: Sequence[str], image_shape: tuple[int, int, int], levels: int) -> list[Transform]:
    """All transforms that those of the named groups can be combined to, each once, the identity first.

    Args:
        names: Of `GROUPS`.
        image_shape: Channels, height and width.
        levels: Number of levels.

    Raises:
        ValueError: If a name is unknown, a group does not fit the shape or the levels, there are more than 4,096, or
            they have more than 2^27 positions together.
    """
    _, h, w = image_shape
    raster = _raster(h, w)
    names_of_levels = torch.arange(levels, device="cpu")
    found = [(raster, names_of_levels)]
    for name in names:
        if name not in GROUPS:
            raise ValueError(f"group must be of {', '.join(GROUPS)}, got {name!r}")
        if name in ("rotations", "dihedral") and h != w:
            raise ValueError(f"group must not have {name} for images of {h} rows and {w} columns, which are not square")
        if name == "levels" and levels > 5:
            raise ValueError(f"group must not have levels for more than 5 of them, got {levels}")
        if name == "translations" and h * w > _MAX_ELEMENTS:  # before they are made, which takes (h w)^2 numbers
            raise ValueError(f"group must have at most {_MAX_ELEMENTS} elements, got {h * w} translations")
        moves, renamings = _MOVES.get(name, _stay)(raster), _RENAMINGS.get(name, _stay)(names_of_levels)
        if len(found) * len(moves) * len(renamings) // 8 > _MAX_ELEMENTS:  # an element may recur
            raise ValueError(f"group must have at most {_MAX_ELEMENTS} elements, got more")
        product = itertools.product(found, moves, renamings)
        both = [(p.flatten()[move], renaming[r]) for (p, r), move, renaming in product]
        found = list({(p.numpy().tobytes(), r.numpy().tobytes()): (p, r) for p, r in both}.values())
        if len(found) > _MAX_ELEMENTS:
            raise ValueError(f"group must have at most {_MAX_ELEMENTS} elements, got {len(found)}")
        if len(found) * h * w > _MAX_POSITIONS:
            raise ValueError(f"group must have fewer elements for images of {h} x {w} pixels, got {len(found)}")
    return [Transform(positions=p, levels=None if torch.equal(r, names_of_levels) else r) for p, r in found]


def _raster(height: int, width: int) -> Tensor:
    """The raster index of each position: int64 (height, width)."""
    if height * width > _MAX_POSITIONS:
        raise ValueError(f"images of a mixture must have at most {_MAX_POSITIONS} pixels, got {height} x {width}")
    return torch.arange(height * width, device="cpu").view(height, width)


def _gathered(values: Tensor, positions: Tensor) -> Tensor:
    flat = values.flatten(-2)[..., positions.flatten().to(values.device)]
    return flat.view(*values.shape[:-2], *positions.shape)


def _renamed(images: Tensor, levels: Tensor) -> Tensor:
    return levels.to(images.device, images.dtype)[images.long()]


def _stay(values: Tensor) -> list[Tensor]:
    return [values]


def _rotations(raster: Tensor) -> list[Tensor]:
    return [raster.rot90(k) for k in range(4)]


_MOVES: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "horizontal": lambda raster: [raster, raster.flip(1)],
    "vertical": lambda raster: [raster, raster.flip(0)],
    "reflections": lambda raster: [raster, raster.flip(1), raster.flip(0), raster.flip(0, 1)],
    "rotations": _rotations,
    "dihedral": lambda raster: [*_rotations(raster), *_rotations(raster.flip(1))],
    "translations": lambda raster: [
        raster.roll(shift, (0, 1)) for shift in itertools.product(range(raster.shape[0]), range(raster.shape[1]))
    ],
}
_RENAMINGS: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "flip": lambda levels: [levels, levels.flip(0)],
    "levels": lambda levels: [torch.tensor(p, device="cpu") for p in itertools.permutations(levels.tolist())],
}
