"""Where a packed network keeps its features, for a number of images, and its description as `engine.c` reads it.

Every value of the program has a place:

- The image stands at `base + (i * N + n) * line + slope * i + j`, as in `pixelcnn.sampling.front`: a kernel row's taps
  are neighbours in memory.
- Features that a convolution reads at other pixels are kept for as many steps as its furthest tap needs, in a ring of
  time slots, each (rows of the image, N, features).
- Keys and values of attention are kept at all pixels, image after image, keys feature after feature and values pixel
  after pixel.
- Where the network is run by rows, there are instead of time slots as many image rows as the furthest tap reaches up,
  each (columns, N, features) and behind it as many zeros as it reaches to the side. What is computed a row at a time
  has at least one such row.
- All others are scratch, which only the current rows have; in grey images a place is used again as soon as its value is
  not needed any more.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from pixelcnn.exact import grid
from pixelcnn.sampling.native.packing import ALIGNMENT, PackedNetwork
from pixelcnn.sampling.program import IMAGE, Attention, Condition, Conv, Operation, Place, Sum, Unit, Upsample, reads

__all__ = ["Plan", "PlanStruct", "plan_of"]

Numbers = np.ndarray[Any, Any]

_NUMBERS = (
    *("place_count", "output"),
    *(
        "channels",
        "height",
        "width",
        "slope",
        "levels",
        "params",
        "likelihood",
        "mixtures",
        "prelude",
        "origin",
        "reach",
        "by_rows",
    ),
)


_MOST_PLANS = 16
_UNITS = {"gate": 2, "glu": 3, "concat_elu": 4}
_PLACE, _KEEP_KEYS, _KEEP_VALUES, _ATTENTION, _UPSAMPLE = 5, 6, 7, 8, 9


class PlanStruct(ctypes.Structure):
    """`struct plan` of engine.c."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("places", "runs", "ops", "ends", "weights", "rows")] + [
        (name, ctypes.c_int64) for name in _NUMBERS
    ]


def plan_of(network: PackedNetwork, images: int, copies: int = 1) -> Plan:
    """The plan for so many images, laid out once: for few images that takes as long as drawing them."""
    plan = network.plans.get((images, copies))
    if plan is None:
        if len(network.plans) >= _MOST_PLANS:
            network.plans.clear()
        plan = network.plans[images, copies] = Plan(network, images, copies)
    return plan


class Plan:
    """A network laid out for so many images, each perhaps with an unconditional copy for guidance."""

    def __init__(self, network: PackedNetwork, images: int, copies: int = 1) -> None:
        self.images = images
        self.n = n = images * copies
        """Images that are computed, copies included: first all images, then all copies."""
        self._network = network
        c, h, w = network.image_shape
        schedule, wavefront = network.schedule, network.schedule.wavefront
        self.rows = n * (w if network.by_rows else max(len(wavefront.rows(step)) for step in range(wavefront.steps)))
        """Rows of the largest product."""
        self._size = 0
        self._places: list[tuple[int, ...]] = []
        self._place_of = place_of = self._lay_out()
        operations = [
            [
                line
                for op, packed in group
                if not isinstance(op, Condition)
                for line in (*(self._keeping(op) if channel == 0 else []), (*self._operands(op), *packed))
            ]
            for channel, group in enumerate(network.groups)
        ]
        origin = schedule.prelude + max(0, -min(schedule.leads))
        times = range(-origin, wavefront.steps + schedule.prelude)
        rows = [(r.start, max(r.start, r.stop)) for r in map(wavefront.rows, times)]
        self._arrays = [
            np.array(self._places, dtype=np.int64),
            network.runs,
            np.array(list(itertools.chain(*operations)), dtype=np.int64),
            np.cumsum([len(lines) for lines in operations], dtype=np.int64),
            network.weights,
            np.array(rows, dtype=np.int64),
        ]
        numbers = (len(self._places), place_of[network.program.output])
        shape = (
            c,
            h,
            w,
            0 if network.by_rows else wavefront.slope,
            network.levels,
            network.params,
            *network.likelihood,
            schedule.prelude,
            origin,
            network.reach,
            int(network.by_rows),
        )
        self.struct = PlanStruct(*(array.ctypes.data for array in self._arrays), *numbers, *shape)

    def arena(self) -> Numbers:
        """Memory for one share."""
        memory = np.zeros(
            self._size + 2 * ALIGNMENT,  # compiled code reads up to a vector too far
            dtype=self._network.real,
        )
        skip = -memory.ctypes.data // memory.itemsize % ALIGNMENT
        return memory[skip:]

    def begin(self, arena: Numbers, condition: Tensor | None) -> None:
        """Makes the memory ready for a batch whose images are conditioned on the rows of `condition`, (images, D)."""
        arena.fill(0)
        for op in self._network.program.operations:
            if isinstance(op, Condition):
                assert condition is not None
                offset, stride = self._places[self._place_of[op.target]][:2]
                values = np.zeros((self.n, stride), dtype=arena.dtype)
                added = condition @ op.layer.weight.detach().T
                values[: self.images] = (grid.clamped(added) if self._network.exact else added).numpy()
                repeated = np.tile(values, (self.rows // self.n, 1))
                arena[offset : offset + self.rows * stride] = repeated.reshape(-1)

    def raw_params(self, arena: Numbers, rows: int) -> Numbers:
        """The parameters of the current front, (rows * n, params of all channels)."""
        offset, stride = self._places[self._place_of[self._network.program.output]][:2]
        return arena[offset : offset + rows * self.n * stride].reshape(rows * self.n, stride)

    def _operands(self, op: Operation) -> tuple[int, ...]:
        """Kind, lead, and the places of source, target, what is added and the residual."""
        lead = self._network.schedule.leads[op.target]

        def place(value: int | None) -> int:
            return -1 if value is None else self._place_of[value]

        if isinstance(op, Conv):
            return 0, lead, place(op.source), place(op.target), place(op.add), place(op.residual)
        if isinstance(op, Sum):
            return 1, lead, place(op.left), place(op.target), -1, place(op.right)
        if isinstance(op, Place):
            return _PLACE, lead, place(op.target), place(op.target), -1, -1
        if isinstance(op, Upsample):
            return _UPSAMPLE, lead, place(op.source), place(op.target), -1, -1
        if isinstance(op, Attention):
            return _ATTENTION, lead, place(op.query), place(op.target), *self._histories[op]
        assert isinstance(op, Unit)
        return _UNITS[op.kind], lead, place(op.source), place(op.target), -1, -1

    def _keeping(self, op: Operation) -> list[tuple[int, ...]]:
        """For attention, two operations before it that keep keys and values of the current pixels."""
        if not isinstance(op, Attention):
            return []
        leads, features = self._network.schedule.leads, self._network.program.features
        keys, values = self._histories[op]
        return [
            (kind, leads[value], self._place_of[value], history, -1, -1, 0, features[value], 0, 0, op.heads, *([0] * 4))
            for kind, value, history in ((_KEEP_KEYS, op.keys, keys), (_KEEP_VALUES, op.values, values))
        ]

    def _lay_out(self) -> dict[int, int]:
        """The place of each value."""
        network, n = self._network, self.n
        program = network.program
        place_of = {IMAGE: self._image_place()}
        self._place_of = place_of
        last_read = {value: k for k, op in enumerate(program.operations) for value in reads(op)}
        last_read[program.output] = len(program.operations)
        kept = {op.target for op in program.operations if isinstance(op, Condition)} | {IMAGE, *network.slots}
        kept |= set(network.kept_rows)
        free: dict[int, list[int]] = {}
        self._histories: dict[Attention, tuple[int, int]] = {}

        def release(values: Iterable[int], k: int) -> None:
            """Their places may be used again: colour groups read what earlier ones left, so only in grey images."""
            for value in set(values) - kept:
                if last_read[value] == k and network.image_shape[0] == 1:
                    free.setdefault(program.features[value], []).append(place_of[value])

        for k, op in enumerate(program.operations):
            in_place = () if isinstance(op, Unit | Attention) else op.pointwise  # read and written element by element
            rest = set(reads(op)) - set(in_place)
            release(set(in_place) - rest, k)
            if isinstance(op, Attention):
                self._histories[op] = self._history_places(op)
            features, lead = program.features[op.target], network.schedule.leads[op.target]
            if op.target in network.slots:
                above = network.rows_above[op.target]
                per_row = n * features
                per_step = (above + network.schedule.wavefront.height) * per_row
                offset = self._take(network.slots[op.target] * per_step) + above * per_row
                place_of[op.target] = self._place(offset, features, per_row, per_step, network.slots[op.target], lead)
            elif op.target in network.kept_rows:
                place_of[op.target] = self._row_place(op.target)
            elif op.target not in kept and free.get(features):
                place_of[op.target] = free[features].pop()
            else:
                place_of[op.target] = self._place(self._take(self.rows * features), features, 0, 0, 0, 0)
            release(rest, k)
        return place_of

    def _row_place(self, value: int) -> int:
        """Rows of a value's grid: as many as are read later, with zeros before, between and behind them."""
        network = self._network
        above, left, right = network.kept_rows[value]
        features, columns = network.program.features[value], network.schedule.grid(value)[1]
        per_step = self.n * features
        per_row = (columns + max(left, right)) * per_step
        offset = self._take((above + 1) * per_row + left * per_step) + left * per_step
        lead = network.schedule.leads[value]
        return self._place(offset, features, per_row, per_step, 0, lead, above + 1)

    def _image_place(self) -> int:
        network, n, c = self._network, self.n, self._network.image_shape[0]
        wavefront = network.schedule.wavefront
        convs = [op for op in network.program.operations if isinstance(op, Conv) and op.source == IMAGE]
        above = max(-op.layer.window.top for op in convs)
        beside = max(max(-op.layer.window.left, op.layer.right_of(wavefront.width)) for op in convs)
        line = wavefront.width + beside
        row = n * line + (0 if network.by_rows else wavefront.slope)
        base = above * row + beside
        offset = self._take((base + wavefront.height * row + line) * c)
        return self._place(offset + base * c, line * c, n * line * c, c, 0, 0)

    def _history_places(self, op: Attention) -> tuple[int, int]:
        """Those of keys, (N, features, pixels), and of values, (N, pixels, heads, features of a head), and scores."""
        _, h, w = self._network.image_shape
        keys, values = (self._network.program.features[value] for value in (op.keys, op.values))
        pixels, size = _aligned(h * w), _aligned(values // op.heads)
        per_key, per_value = keys * pixels, pixels * op.heads * size
        return (
            self._place(self._take(self.n * per_key), per_key, pixels, 0, 0, 0),
            self._place(self._take(self.n * per_value + pixels), per_value, op.heads * size, 0, 0, 0),
        )

    def _take(self, numbers: int) -> int:
        offset = self._size
        self._size += _aligned(numbers)
        return offset

    def _place(self, *place: int) -> int:
        """Notes a `struct place`, whose `ring` is 0 where it is left out."""
        assert len(place) in (6, 7)
        self._places.append((*place, 0)[:7])
        return len(self._places) - 1


def _aligned(numbers: int) -> int:
    return numbers + -numbers % ALIGNMENT
