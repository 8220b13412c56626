"""How networks are computed: in floating point, or exactly on a grid of binary fractions."""

from pixelcnn.arithmetic.kinds import GRID, Arithmetic, Grid
from pixelcnn.arithmetic.precision import Precision

__all__ = ["GRID", "Arithmetic", "Grid", "Precision"]
