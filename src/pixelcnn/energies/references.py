"""Exact partition functions: by enumeration, by the transfer matrix, and by Kaufman's formula.

All return ln Z in nats, with Z = sum over x of exp(-beta E(x)); the free energy is F = -ln Z / beta.

References:
    | Statistics of two-dimensional lattices with four components (Kramers, Wannier, 1941), Phys. Rev. 60, 252: the
    | transfer matrix.
    | Crystal statistics II: partition function evaluated by spinor analysis (Kaufman, 1949), Phys. Rev. 76, 1232.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pixelcnn.arguments import integer, number
from pixelcnn.energies.lattices import Energy, Ising, energies_of
from pixelcnn.levels import level_dtype

__all__ = ["checked_beta", "enumerated_log_z", "every_image", "kaufman_log_z", "transfer_log_z"]

_MAX_IMAGES = 2**24
_MAX_FREE, _MAX_PERIODIC = 16, 10  # width of a lattice whose rows' states are enumerated, by its vertical boundary
_CHUNK = 2**16
_COLD = 20.0  # beta * coupling above which, to the last bit, only the two states of equal spins count


def every_image(image_shape: tuple[int, int, int], levels: int, chunk: int = _CHUNK) -> Iterator[Tensor]:
    """Every image of a shape once, in chunks of uint8 (n, C, H, W).

    Raises:
        ValueError: If there are more than 2**24.
    """
    sites = math.prod(image_shape)
    if levels**sites > _MAX_IMAGES:
        raise ValueError(f"image_shape must allow at most 2**24 images, got {levels}**{sites}")
    powers = levels ** torch.arange(sites, device="cpu")
    for start in range(0, levels**sites, chunk):
        index = torch.arange(start, min(start + chunk, levels**sites), device="cpu")
        yield (index[:, None] // powers % levels).to(level_dtype(levels)).view(-1, *image_shape)


def enumerated_log_z(energy: Energy, image_shape: tuple[int, int, int], levels: int, beta: float) -> float:
    """Computes ln Z by enumeration of all images, at most 2**24.

    Args:
        energy: A function of images, integer levels (N, C, H, W) on the CPU, to (N,), finite.
        image_shape: Channels, height and width.
        levels: Number of levels.
        beta: Inverse temperature, at least 0.

    Returns:
        ln Z in nats.

    Raises:
        ValueError: If beta is out of range, there are more images, or the function returns something else.

    Examples:
        >>> from pixelcnn.energies import Ising
        >>> round(enumerated_log_z(Ising(boundary="free"), (1, 1, 2), 2, 1.0), 6)  # ln(2 e + 2 / e)
        1.820075
    """
    beta = checked_beta(beta)
    parts = [torch.logsumexp(-beta * energies_of(energy, images), 0) for images in every_image(image_shape, levels)]
    return torch.logsumexp(torch.stack(parts), 0).item()


def transfer_log_z(energy: Ising, height: int, width: int, beta: float) -> float:
    """Computes ln Z of an Ising lattice with any couplings and fields, site by site, over all states of a row.

    Args:
        energy: The lattice's energy, with its couplings, field and boundary.
        height: Number of rows, at least 1.
        width: Number of columns, at least 1: at most 16, or 10 if bonds join the last row to the first, whose states
            then have to be remembered. Memory and time grow with 2**width, or 4**width.
        beta: Inverse temperature, at least 0.

    Returns:
        ln Z in nats.

    Raises:
        ValueError: If an argument is out of range, or the energy's arrays have another shape.
    """
    beta, height, width = checked_beta(beta), integer("height", height, 1), integer("width", width, 1)
    right, down = energy.bonds(height, width)
    wraps = bool((down[-1] != 0).any())
    width = integer("width", width, 1, _MAX_PERIODIC if wraps else _MAX_FREE)
    states = torch.arange(2**width, device="cpu")
    spins = 2 * (states[:, None] >> torch.arange(width - 1, -1, -1, device="cpu") & 1).double() - 1
    field = energy.field(height, width)

    def row(i: int) -> Tensor:
        """The logarithm of the weight of row i alone in each of its states."""
        return beta * ((spins * spins.roll(-1, 1)) @ right[i] + spins @ field[i])

    def next_row(state: Tensor, i: int) -> Tensor:
        """Sums over the states of row i, the last axis, with the bonds to the row below it, whose states remain."""
        for j in range(width):
            bond = beta * down[i, j]
            low, high = state.reshape(-1, 2, 2 ** (width - 1 - j)).unbind(1)  # by the spin of row i
            state = torch.stack([torch.logaddexp(low + bond, high - bond), torch.logaddexp(low - bond, high + bond)], 1)
        return state.reshape(-1, 2**width)

    state = row(0)[None]  # logarithms; with the first row as the first axis, if that is to be remembered
    if wraps:
        state = torch.full((2**width, 2**width), -math.inf, dtype=torch.float64, device="cpu").diagonal_scatter(row(0))
    for i in range(1, height):
        state = next_row(state, i - 1) + row(i)
    found = next_row(state, height - 1).diagonal() if wraps else state
    return torch.logsumexp(found.flatten(), 0).item()


def kaufman_log_z(height: int, width: int, beta: float, coupling: float = 1.0) -> float:
    """Computes ln Z of the Ising model without field on a torus of height x width sites by Kaufman's formula.

    Z is a sum of four products over the momenta of a row, taken here by their logarithms.

    Args:
        height: Number of rows, at least 2.
        width: Number of columns, at least 2.
        beta: Inverse temperature, positive.
        coupling: J, positive.

    Returns:
        ln Z in nats.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> round(kaufman_log_z(16, 16, 0.44) / 256, 6)
        0.9312
    """
    m, n = integer("height", height, 2), integer("width", width, 2)
    k = checked_beta(beta) * number("coupling", coupling)
    if not k > 0:
        raise ValueError(f"beta * coupling must be positive, got {k!r}")
    if k > _COLD:
        return 2 * m * n * k + math.log(2)
    momenta = torch.arange(2 * n, dtype=torch.float64, device="cpu") * (math.pi / n)
    # cosh(gamma) = cosh(2k)^2 / sinh(2k) - cos(momentum), without its cancellation near 1
    excess = (math.sinh(2 * k) - 1) ** 2 / math.sinh(2 * k) + 2 * torch.sin(momenta / 2) ** 2
    gamma = 2 * torch.asinh((excess / 2).sqrt())
    gamma[0] = 2 * k + math.log(math.tanh(k))  # negative above the critical temperature
    half = m * gamma / 2
    cosh = half.abs() + torch.log1p(torch.exp(-2 * half.abs()))  # ln(2 cosh)
    sinh = half.abs() + torch.log(-torch.expm1(-2 * half.abs()))  # ln(2 |sinh|); -inf at the critical temperature
    terms = torch.stack([cosh[1::2].sum(), sinh[1::2].sum(), cosh[::2].sum(), sinh[::2].sum()])
    most = terms.max()
    shares = (terms - most).exp()
    total = shares[:3].sum() + math.copysign(shares[3], half[0])
    return (m * n / 2 * math.log(2 * math.sinh(2 * k)) + most + total.log() - math.log(2)).item()


def checked_beta(beta: float) -> float:
    """An inverse temperature as a Python number.

    Raises:
        ValueError: If it is negative or not finite.
    """
    found = number("beta", beta)
    if not 0 <= found < math.inf:
        raise ValueError(f"beta must be at least 0 and finite, got {found!r}")
    return found
