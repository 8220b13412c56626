"""Exact arithmetic: networks whose outputs are the same bits in any order of summation, on any machine.

- `grid`: numbers that float64 multiplies and adds without rounding, and the few functions of them.
- `mixture`: a sub-pixel's mixture of logistics on the grid.
- `frequencies`: what a coder wants, cumulative frequencies in integers, for every likelihood.
- `view`: a network over whole images, on the grid.
- `prepared`: a model's exact twin, with the bounds that prove it, and its identity.
"""

from pixelcnn.exact.frequencies import TOTAL_BITS, cumulative_frequencies
from pixelcnn.exact.prepared import PreparedModel, prepare

__all__ = ["TOTAL_BITS", "PreparedModel", "cumulative_frequencies", "prepare"]
