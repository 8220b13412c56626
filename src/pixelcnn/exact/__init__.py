"""Exact arithmetic: networks whose outputs are the same bits in any order of summation, on any machine.

- `grid`: numbers that float64 multiplies and adds without rounding, and the few functions of them.
- `mixture`: a sub-pixel's mixture of logistics on the grid.
- `frequencies`: what a coder wants, cumulative frequencies in integers, for every likelihood.
- `units`: gates and attention on the grid.
- `view`: a network over whole images, on the grid.
- `prepared`: a model's exact twin, with the bounds that prove it, and its identity.
- `walk`: images made a wavefront at a time, each pixel chosen by what its frequencies are, as sampling and decoding do.
- `native`: the walk in compiled code, by a team of threads.
- `sampler`: exact samples, for `AutoregressiveModel.sample`.
"""
