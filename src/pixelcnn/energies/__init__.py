"""Energies of spins on lattices, for `pixelcnn.fit_energy`, and their exact partition functions.

An image's levels are the spins: of two levels, 0 is the spin -1 and 1 is +1; the q levels of a Potts model are its
states. An energy is any function of images, uint8 (N, C, H, W), to one finite number for each, (N,). Those of this
package are in `lattices`; what is known exactly about them is computed in `references`.
"""

from __future__ import annotations

from pixelcnn.energies.lattices import (
    Boundary,
    EdwardsAnderson,
    Energy,
    Ising,
    Lattice,
    Potts,
    SherringtonKirkpatrick,
    energies_of,
    magnetisation,
    uniform_images,
)
from pixelcnn.energies.references import enumerated_log_z, every_image, kaufman_log_z, transfer_log_z

__all__ = [
    "Boundary",
    "EdwardsAnderson",
    "Energy",
    "Ising",
    "Lattice",
    "Potts",
    "SherringtonKirkpatrick",
    "energies_of",
    "enumerated_log_z",
    "every_image",
    "kaufman_log_z",
    "magnetisation",
    "transfer_log_z",
    "uniform_images",
]
