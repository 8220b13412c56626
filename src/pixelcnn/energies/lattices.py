"""Energies: Ising and Potts lattices in two dimensions, and two spin glasses.

With spins s = -1, +1 at the sites, couplings J and fields h, the sum over the bonds of the lattice,

    Ising                    E = -sum_<ij> J_ij s_i s_j - sum_i h_i s_i
    Potts                    E = -sum_<ij> J_ij [x_i = x_j] - sum_i h_{x_i}
    Edwards-Anderson         an Ising lattice without field whose J are +1 or -1 at random
    Sherrington-Kirkpatrick  E = -sum_{i<j} J_ij s_i s_j, all pairs, J of mean 0 and variance 1 / sites

A boundary is "periodic", where the last column's right neighbour is the first column and the last row's lower neighbour
the first row, or "free", where there are no such bonds. With periodic boundaries a side of 2 has two bonds between the
same sites, and one of 1 has none.

References:
    | Theory of spin glasses (Edwards, Anderson, 1975), J. Phys. F 5, 965.
    | Solvable model of a spin-glass (Sherrington, Kirkpatrick, 1975), Phys. Rev. Lett. 35, 1792.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike, integer, shown, tensor
from pixelcnn.levels import level_dtype
from pixelcnn.randomness import check_seed, uniforms

__all__ = [
    "Boundary",
    "EdwardsAnderson",
    "Energy",
    "Ising",
    "Lattice",
    "Potts",
    "SherringtonKirkpatrick",
    "energies_of",
    "magnetisation",
    "uniform_images",
]

Boundary: TypeAlias = Literal["periodic", "free"]
Energy: TypeAlias = Callable[[Tensor], Tensor]
"""A function of images, uint8 levels (N, C, H, W), to their energies, (N,)."""


def energies_of(energy: Energy, images: Tensor, name: str = "energy") -> Tensor:
    """The energies of images, checked: float64 (N,) on the images' device, without gradients.

    Args:
        energy: The function, or another one whose results are numbers of images.
        images: uint8 levels (N, C, H, W).
        name: Of the function, for errors.

    Raises:
        ValueError: If it is no function, or returns anything other than one finite number per image on the images'
            device.
    """
    if not callable(energy):
        raise ValueError(f"{name} must be a function of images, got {shown(energy)}")
    found = energy(images)
    expected = f"{name} must return one number per image, a tensor of shape ({len(images)},) on {images.device}"
    if not isinstance(found, Tensor):
        raise ValueError(f"{expected}, got {type(found).__name__}")
    if found.shape != (len(images),) or found.device != images.device or found.is_complex():
        raise ValueError(f"{expected}, got {found.dtype} {tuple(found.shape)} on {found.device}")
    found = found.detach().to(torch.float64)
    if not (finite := found.isfinite()).all():
        k = int((~finite).nonzero()[0, 0])
        raise ValueError(f"{name} must be finite, got {found[k].item()} for image {k} of {len(images)}")
    return found


def magnetisation(images: Tensor) -> Tensor:
    """The mean spin of each image of two levels, in -1..1: float64 (N,).

    Raises:
        ValueError: If an image has other levels than 0 and 1.
    """
    return _spins(images.flatten(1)).mean(1)


def uniform_images(n: int, image_shape: tuple[int, int, int], levels: int, seed: int = 0) -> Tensor:
    """Images of levels that are uniform and independent, at infinite temperature: uint8 (n, C, H, W) on the CPU."""
    c, h, w = image_shape
    return (uniforms(seed, 0, n, c * h * w) * levels).to(level_dtype(levels)).view(n, c, h, w)


class Lattice(ABC):
    """The energy of a lattice of H x W sites with bonds between neighbours; images have one channel.

    Called with images, integer levels (N, 1, H, W), it returns their energies, float64 (N,). What has arrays of its own
    is for images of their height and width; a call with others, or with levels that are no states, raises a ValueError.

    Args:
        coupling: A number for all bonds; or a pair of arrays (H, W), for the bonds to the right and downwards of each
            site. What they say about bonds that the boundary does not have is ignored.
        boundary: "periodic" or "free".

    Raises:
        ValueError: If an argument is out of range, not finite, or of the wrong shape.
    """

    def __init__(self, coupling: float | tuple[ArrayLike, ArrayLike] = 1.0, boundary: Boundary = "periodic") -> None:
        if boundary not in ("periodic", "free"):
            raise ValueError(f"boundary must be 'periodic' or 'free', got {boundary!r}")
        self.boundary = boundary
        pair = coupling if isinstance(coupling, tuple) else (coupling, coupling)
        if len(pair) != 2:
            raise ValueError(f"coupling must be a number or a pair of arrays (H, W), got {len(pair)} of them")
        self._right, self._down = (_finite("coupling", each, (0, 2)) for each in pair)

    def bonds(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The couplings of the bonds to the right and downwards of each site: float64 (H, W) both; 0 for no bond."""
        right = _on_lattice("coupling", self._right, height, width).clone()
        down = _on_lattice("coupling", self._down, height, width).clone()
        if self.boundary == "free" or width == 1:
            right[:, -1] = 0
        if self.boundary == "free" or height == 1:
            down[-1] = 0
        return right, down

    def __call__(self, images: Tensor) -> Tensor:
        """The energies of images: float64 (N,)."""
        if images.dim() != 4 or images.shape[1] != 1:
            raise ValueError(f"images must have shape (N, 1, H, W) for a lattice, got {tuple(images.shape)}")
        x = images[:, 0]
        right, down = (each.to(images.device) for each in self.bonds(*x.shape[1:]))
        pairs = right * self.pair(x, x.roll(-1, 2)) + down * self.pair(x, x.roll(-1, 1))
        return -(pairs + self.alone(x)).flatten(1).sum(1)

    @abstractmethod
    def pair(self, x: Tensor, y: Tensor) -> Tensor:
        """What a bond of coupling 1 between levels x and y lowers the energy by: float64, of their shape."""

    @abstractmethod
    def alone(self, x: Tensor) -> Tensor:
        """What the field lowers the energy by at sites of levels (N, H, W): float64, of a shape that fits theirs."""


class Ising(Lattice):
    """The Ising model: E = -sum_<ij> J_ij s_i s_j - sum_i h_i s_i, for images of two levels.

    Args:
        coupling: J: a number for all bonds; or a pair of arrays (H, W), for the bonds to the right and downwards of
            each site. Positive is ferromagnetic.
        field: h, a number or an array (H, W).
        boundary: "periodic" or "free".

    Raises:
        ValueError: If an argument is out of range, not finite, or of the wrong shape; when called, if the images are
            not levels 0 and 1 of one channel, (N, 1, H, W), of the arrays' height and width.

    Examples:
        >>> import torch
        >>> Ising()(torch.ones(1, 1, 4, 4, dtype=torch.uint8))
        tensor([-32.], dtype=torch.float64)
    """

    def __init__(
        self,
        coupling: float | tuple[ArrayLike, ArrayLike] = 1.0,
        field: ArrayLike = 0.0,
        boundary: Boundary = "periodic",
    ) -> None:
        super().__init__(coupling, boundary)
        self._field = _finite("field", field, (0, 2))

    def field(self, height: int, width: int) -> Tensor:
        """The field at each site: float64 (H, W)."""
        return _on_lattice("field", self._field, height, width)

    def pair(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Lattice.pair`."""
        return _spins(x) * _spins(y)

    def alone(self, x: Tensor) -> Tensor:
        """See `Lattice.alone`."""
        return self.field(*x.shape[1:]).to(x.device) * _spins(x)


class Potts(Lattice):
    """The Potts model: E = -sum_<ij> J_ij [x_i = x_j] - sum_i h_{x_i}, for images of any number of levels.

    Args:
        coupling: J, as for `Ising`.
        field: h of each level, (levels,); none by default.
        boundary: "periodic" or "free".

    Raises:
        ValueError: If an argument is out of range, not finite, or of the wrong shape; when called, if the images are
            not levels of one channel, (N, 1, H, W), of the couplings' height and width, or the field lacks a level.
    """

    def __init__(
        self,
        coupling: float | tuple[ArrayLike, ArrayLike] = 1.0,
        field: ArrayLike | None = None,
        boundary: Boundary = "periodic",
    ) -> None:
        super().__init__(coupling, boundary)
        self._field = None if field is None else _finite("field", field, (1,))

    def pair(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Lattice.pair`."""
        return (x == y).to(torch.float64)

    def alone(self, x: Tensor) -> Tensor:
        """See `Lattice.alone`."""
        if self._field is None:
            return torch.zeros((), dtype=torch.float64, device=x.device)
        top = int(x.max())
        if top >= len(self._field):
            raise ValueError(f"field must have a number for every level, got {len(self._field)} and a level {top}")
        return self._field.to(x.device)[x.long()]


class EdwardsAnderson(Ising):
    """The Edwards-Anderson spin glass: an Ising lattice whose couplings are +1 or -1 at random, frozen.

    Args:
        shape: Height and width of the lattice.
        seed: Decides the couplings, 0..2**63-1: the same on every machine.
        field: As for `Ising`.
        boundary: "periodic" or "free".

    Raises:
        ValueError: As for `Ising`; or if `shape` is no height and width, or `seed` no seed.
    """

    def __init__(
        self, shape: tuple[int, int], seed: int = 0, field: ArrayLike = 0.0, boundary: Boundary = "periodic"
    ) -> None:
        if not isinstance(shape, Sequence) or len(shape) != 2:
            raise ValueError(f"shape must be a height and a width, got {shape!r}")
        height, width = (integer("shape", side, 1) for side in shape)
        drawn = uniforms(check_seed(seed), 0, 2, height * width).view(2, height, width)
        right, down = torch.where(drawn < 0.5, -1.0, 1.0)
        super().__init__((right, down), field, boundary)


class SherringtonKirkpatrick:
    """The Sherrington-Kirkpatrick spin glass: E = -sum_{i<j} J_ij s_i s_j between all sites, for images of two levels.

    The couplings are Gaussian with variance 1 / sites. The sites are the sub-pixels of an image of any shape.

    Args:
        sites: Number of sites, at least 1.
        seed: Decides the couplings, 0..2**63-1.

    Raises:
        ValueError: If an argument is out of range; when called, if the images have other levels than 0 and 1, or
            another number of sub-pixels.
    """

    def __init__(self, sites: int, seed: int = 0) -> None:
        n = integer("sites", sites, 1)
        drawn = torch.special.ndtri(uniforms(check_seed(seed), 0, n, n).clamp(min=2.0**-54))
        upper = drawn.triu(1) / n**0.5
        self.couplings = upper + upper.T
        """J, symmetric, float64 (sites, sites) with zeros on the diagonal."""

    def __call__(self, images: Tensor) -> Tensor:
        """The energies of images: float64 (N,)."""
        spins = _spins(images.flatten(1))
        if spins.shape[1] != len(self.couplings):
            raise ValueError(f"images must have {len(self.couplings)} sub-pixels, got {spins.shape[1]}")
        energies: Tensor = -0.5 * ((spins @ self.couplings.to(images.device)) * spins).sum(1)
        return energies


def _spins(levels: Tensor) -> Tensor:
    if levels.numel() and (top := int(levels.max())) > 1:
        raise ValueError(f"images of spins must hold levels 0..1, got {top}")
    return 2 * levels.to(torch.float64) - 1


def _finite(name: str, value: ArrayLike, dims: tuple[int, ...]) -> Tensor:
    """An argument as float64 on the CPU, of one of some numbers of dimensions."""
    found = tensor(name, value).detach().to("cpu", torch.float64)
    if found.dim() not in dims or not found.isfinite().all():
        allowed = " or ".join({0: "a number", 1: "a list of numbers", 2: "an array (H, W)"}[dim] for dim in dims)
        raise ValueError(f"{name} must be {allowed}, finite, got {value!r}")
    return found


def _on_lattice(name: str, values: Tensor, height: int, width: int) -> Tensor:
    if values.dim() == 2 and values.shape != (height, width):
        raise ValueError(f"{name} must have the lattice's shape ({height}, {width}), got {tuple(values.shape)}")
    return values.expand(height, width)
