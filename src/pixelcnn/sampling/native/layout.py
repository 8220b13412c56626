"""Where a packed network keeps its features, for a number of images, and its description as `engine.c` reads it.

Every value of the program has a place:

- The image stands at `base + (i * N + n) * line + slope * i + j`, as in `pixelcnn.sampling.front`: a kernel row's taps
  are neighbours in memory.
- Features that a convolution reads at other pixels are kept for as many steps as its furthest tap needs, in a ring of
  time slots, each (rows of the image, N, features).
- All others are scratch, which only the current rows have; in grey images a place is used again as soon as its value is
  not needed any more.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from pixelcnn.sampling.native.packing import ALIGNMENT, PackedNetwork
from pixelcnn.sampling.program import IMAGE, Conv, Sum

__all__ = ["Plan", "PlanStruct"]

_BLOCK = 192  # rows computed at a time: their features stay in a core's cache
_ENDLESS = 2**62  # slots of a place that is no ring

_NUMBERS = (
    *("count", "place_count", "output"),
    *("channels", "height", "width", "slope", "levels", "params", "block", "reach"),
)


class PlanStruct(ctypes.Structure):
    """`struct plan` of engine.c."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("places", "runs", "ops", "weights", "rows")] + [
        (name, ctypes.c_int64) for name in _NUMBERS
    ]


class Plan:
    """A network laid out for `n` images."""

    def __init__(self, network: PackedNetwork, n: int) -> None:
        self.n = n
        self._network = network
        c, h, w = network.image_shape
        self._block = min(_BLOCK, max(1, n * (h if network.wavefront.slope == 0 else -(-w // network.wavefront.slope))))
        self._size = 0
        self._places: list[tuple[int, int, int, int, int]] = []
        place_of = self._lay_out()
        operations = [
            (kind, place_of[source], place_of[op.target], -1 if other is None else place_of[other], *group)
            for groups in network.groups
            for op, group in zip(network.program.operations, groups, strict=True)
            for kind, source, other in [_reads(op)]
        ]
        rows = [(r.start, r.stop) for r in map(network.wavefront.rows, range(network.wavefront.steps))]
        self._arrays = [
            np.ascontiguousarray(self._places, dtype=np.int64),
            network.runs,
            np.ascontiguousarray(operations, dtype=np.int64),
            network.weights,
            np.ascontiguousarray(rows, dtype=np.int64),
        ]
        numbers = (len(network.program.operations), len(self._places), place_of[network.program.output])
        shape = (c, h, w, network.wavefront.slope, network.levels, network.params, self._block, network.reach)
        self.struct = PlanStruct(*(array.ctypes.data for array in self._arrays), *numbers, *shape)

    def arena(self) -> np.ndarray[Any, Any]:
        """Memory for one share."""
        memory = np.zeros(self._size + ALIGNMENT, dtype=self._network.real)
        skip = -memory.ctypes.data // memory.itemsize % ALIGNMENT
        return memory[skip:]

    def _lay_out(self) -> dict[int, int]:
        """The place of each value."""
        network, n = self._network, self.n
        program, wavefront = network.program, network.wavefront
        place_of = {IMAGE: self._image_place()}
        last_read = {program.output: len(program.operations)}
        for k, op in enumerate(program.operations):
            for value in _reads(op)[1:]:
                if value is not None:
                    last_read[value] = max(k, last_read.get(value, 0))
        free: dict[int, list[int]] = {}

        def release(value: int | None, k: int) -> None:
            if (
                value is not None
                and value not in (IMAGE, *network.slots)
                and last_read[value] == k
                and network.image_shape[0] == 1
            ):
                free.setdefault(program.features[value], []).append(place_of[value])

        for k, op in enumerate(program.operations):
            _, source, other = _reads(op)
            release(other, k)  # read and written element by element, so its place may be the target's
            features = program.features[op.target]
            if op.target in network.slots:
                above = network.rows_above[op.target]
                per_row = n * features
                per_step = (above + wavefront.height) * per_row
                offset = self._take(network.slots[op.target] * per_step) + above * per_row
                place_of[op.target] = self._place(offset, features, per_row, per_step, network.slots[op.target])
            elif free.get(features):
                place_of[op.target] = free[features].pop()
            else:
                place_of[op.target] = self._place(self._take(self._block * features), features, 0, 0, 1)
            if source != other:
                release(source, k)
        return place_of

    def _image_place(self) -> int:
        wavefront, n, reach, c = (
            self._network.wavefront,
            self.n,
            self._network.image_reach,
            self._network.image_shape[0],
        )
        line = wavefront.width + reach
        row = n * line + wavefront.slope
        base = reach * (row + 1)
        offset = self._take((base + wavefront.height * row + line) * c)
        return self._place(offset + base * c, line * c, n * line * c, c, _ENDLESS)

    def _take(self, numbers: int) -> int:
        offset = self._size
        self._size += numbers + -numbers % ALIGNMENT
        return offset

    def _place(self, *place: int) -> int:
        assert len(place) == 5
        self._places.append(place)
        return len(self._places) - 1


def _reads(op: Conv | Sum) -> tuple[int, int, int | None]:
    """Kind, source and second source of an operation."""
    return (0, op.source, op.residual) if isinstance(op, Conv) else (1, op.left, op.right)
