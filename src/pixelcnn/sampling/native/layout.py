"""Memory layout of a packed network for a given number of images, and its description as `engine.c` reads it.

Every value of the program has a slot of memory:

- The image is stored at `base + (i * N + n) * line + slope * i + j`, as in `pixelcnn.sampling.front`: the taps of a
  kernel row are adjacent in memory. Of a large image only what is still read is kept: a line is then a ring of time
  slots, twice in a row so that taps stay adjacent, or the lines are a ring of image rows.
- Features that a convolution reads at other pixels are kept for as many steps as its furthest tap needs, in a ring of
  time slots, each (rows of the image, N, features).
- Keys and values of attention are kept for all pixels, image by image: keys feature by feature, values pixel by pixel.
- If the network is run row by row, there are, instead of time slots, as many image rows as the furthest tap reaches up,
  each (columns, N, features) and followed by as many zeros as it reaches to the side. A value that is computed a row
  at a time has at least one such row.
- Features of a map, which are known beforehand, are kept for all pixels, where those of the current rows are read in
  place: like the image or, if the network is run row by row, as (rows, columns, N, features).
- All other values are scratch and exist only for the current rows; for greyscale images a slot is reused as soon as its
  value is no longer needed. Threads that divide the rows of the front have everything else in common.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixelcnn.operations import IMAGE, Attention, Condition, ConditionMap, Conv, Node
from pixelcnn.sampling.native.packing import ALIGNMENT, PackedNetwork
from pixelcnn.sampling.native.structures import OP_FIELDS, SLOT_FIELDS, PlanStruct

__all__ = ["Plan", "plan_of"]

Numbers = np.ndarray[Any, Any]

_MAX_PLANS = 16
_LARGE = 8  # times what is read of an image at a time
_KEEP_KEYS, _KEEP_VALUES = 6, 7  # as in engine.c
_PER_ROW = SLOT_FIELDS.index("per_row")


def plan_of(network: PackedNetwork, images: int, copies: int = 1) -> Plan:
    """The cached plan for a number of images: for few images, laying it out takes as long as drawing them."""
    plan: Plan | None = network.plans.get((images, copies))
    if plan is None:
        if len(network.plans) >= _MAX_PLANS:
            network.plans.clear()
        plan = network.plans[images, copies] = Plan(network, images, copies)
    return plan


class Plan:
    """A network laid out for a number of images, each optionally with an unconditional copy for guidance."""

    def __init__(self, network: PackedNetwork, images: int, copies: int = 1) -> None:
        self.images = images
        self.n = n = images * copies
        """Number of images computed, including copies: first all images, then all copies."""
        self._network = network
        c, h, w = network.image_shape
        schedule, wavefront = network.schedule, network.schedule.wavefront
        self.rows = n * (w if network.by_rows else max(len(wavefront.rows(step)) for step in range(wavefront.steps)))
        """Rows of the largest matrix product."""
        self._given = [node for node in network.program.nodes if isinstance(node.op, Condition | ConditionMap)]
        self._size = self._scratch_size = 0
        self._slots: list[tuple[int, ...]] = []
        self._histories: dict[Node, tuple[int, int]] = {}
        self._slot_of: dict[int, int] = {}
        self._lay_out()
        operations = [
            [line for node, fields in group for line in self._lines(node, fields, channel)]
            for channel, group in enumerate(network.groups)
        ]
        origin = schedule.prelude + max(0, -min(schedule.leads))
        times = range(-origin, wavefront.steps + schedule.prelude)
        rows = [(r.start, max(r.start, r.stop)) for r in map(wavefront.rows, times)]
        self._arrays = [
            np.array(self._slots, dtype=np.int64),
            network.runs,
            np.array(list(itertools.chain(*operations)), dtype=np.int64),
            np.cumsum([len(lines) for lines in operations], dtype=np.int64),
            network.weights,
            np.array(rows, dtype=np.int64),
        ]
        self.struct = PlanStruct(
            *(array.ctypes.data for array in self._arrays),
            slot_count=len(self._slots), output=self._slot_of[network.program.output],
            channels=c, height=h, width=w, slope=0 if network.by_rows else wavefront.slope,
            levels=network.levels, params=network.params,
            likelihood=network.likelihood[0], mixtures=network.likelihood[1],
            prelude=schedule.prelude, origin=origin, reach=network.reach, by_rows=network.by_rows,
            image_features=network.image_features, embedding=network.embedding,
        )  # fmt: skip

    def arena(self, parts: int = 1) -> Numbers:
        """Memory for one thread's share, or for one that threads divide by rows into so many parts."""
        memory = np.zeros(
            # compiled code reads up to one vector past the end
            self._size + parts * self._scratch_size + 2 * ALIGNMENT,
            dtype=self._network.real,
        )
        skip = -memory.ctypes.data // memory.itemsize % ALIGNMENT
        return memory[skip:]

    def scratch(self, arena: Numbers, part: int) -> Numbers:
        """Where in the arena a part's scratch is, to which its slots' offsets are added."""
        return arena[part * self._scratch_size :]

    def begin(self, arena: Numbers, condition: Tensor | None, parts: int = 1) -> None:
        """Prepares the memory for a batch whose images are conditioned on the rows of `condition`, (images, D)."""
        arena.fill(0)
        for node in self._given:
            assert condition is not None
            if isinstance(node.op, Condition):
                offset, stride = self._slots[self._slot_of[node.target]][:2]
                values = self._by_image(node.op.of_images, condition)
                for part in range(parts):
                    rows = self.scratch(arena, part)[offset : offset + self.rows * stride]
                    rows.reshape(-1, self.n, stride)[:, : self.images] = values
            elif isinstance(node.op, ConditionMap):
                _, height, width = self._network.image_shape
                known = self._by_image(node.op.of_images, condition, height, width)
                self._map_in(arena, node.target)[:, : self.images] = known.transpose(1, 0, 2, 3)

    def _by_image(self, of_images: Callable[..., Tensor], condition: Tensor, *size: int) -> Numbers:
        """Features of what images are conditioned on, each alone: PyTorch's order of a sum may depend on the batch."""
        arithmetic = self._network.arithmetic
        alone = len(condition) == 1 or (not size and bool((condition.count_nonzero(1) <= 1).all()))  # no sums
        if arithmetic.exact or alone:
            return of_images(arithmetic, condition, *size).detach().numpy()
        distinct, index = torch.unique(condition, dim=0, return_inverse=True)  # particles all have the same
        return torch.cat([of_images(arithmetic, each, *size) for each in distinct.split(1)])[index].detach().numpy()

    def raw_params(self, arena: Numbers, rows: int) -> Numbers:
        """The parameters of the current front, (rows * n, params of all channels)."""
        offset, stride = self._slots[self._slot_of[self._network.program.output]][:2]
        return arena[offset : offset + rows * self.n * stride].reshape(rows * self.n, stride)

    def _lines(self, node: Node, fields: dict[str, int], channel: int) -> list[tuple[int, ...]]:
        """An operation as `struct op`, preceded, if it is attention, by two that store the current keys and values."""
        leads, features = self._network.schedule.leads, self._network.program.features

        def line(**fields: int) -> tuple[int, ...]:
            absent = dict.fromkeys(OP_FIELDS, 0) | {"source": -1, "add": -1, "residual": -1}
            return tuple((absent | fields)[name] for name in OP_FIELDS)

        memory = {name: self._slot_of[value] for name, value in node.op.slots(node).items()}
        lines = []
        if isinstance(node.op, Attention):
            memory["add"], memory["residual"] = histories = self._histories[node]
            # run row by row, attention that is computed a step late comes before what its step computes
            least = leads[node.target] if self._network.by_rows else max(leads)
            kinds = zip((_KEEP_KEYS, _KEEP_VALUES), node.inputs[1:], histories, strict=True)
            lines = [
                line(
                    kind=kind, lead=min(leads[value], least), source=self._slot_of[value], target=history,
                    columns=features[value], count=node.op.heads,
                )
                for kind, value, history in kinds
                if channel == 0
            ]  # fmt: skip
        here = {"lead": leads[node.target], "target": self._slot_of[node.target], "meets": self._meets(node, fields)}
        return [*lines, line(**here, **memory, **fields)]

    def _meets(self, node: Node, fields: dict[str, int]) -> bool:
        """Whether a convolution reads, at other pixels, features that are computed in the same step."""
        if not isinstance(node.op, Conv) or node.inputs[0] == IMAGE or self._network.by_rows:
            return False
        source, leads = node.inputs[0], self._network.schedule.leads
        runs = self._network.runs[fields["runs"] :][: fields["count"]]
        return any(delay == leads[node.target] - leads[source] and (delay or up) for delay, up, _ in runs)

    def _lay_out(self) -> None:
        """Gives every value its slot."""
        network, n, slot_of = self._network, self.n, self._slot_of
        program = network.program
        slot_of[IMAGE] = self._image_slot()
        last_read = {value: k for k, node in enumerate(program.nodes) for value in node.reads}
        last_read[program.output] = len(program.nodes)
        kept = program.conditions | program.maps | {IMAGE, *network.slots, *network.kept_rows}
        free: dict[int, list[int]] = {}

        def release(values: Iterable[int], k: int) -> None:
            """Frees slots for reuse, in greyscale images only: colour groups read what earlier groups left."""
            for value in set(values) - kept:
                if last_read[value] == k and network.image_shape[0] == 1:
                    free.setdefault(program.features[value], []).append(slot_of[value])

        for k, node in enumerate(program.nodes):
            in_place = set(node.op.in_place(node))
            rest = set(node.reads) - in_place
            release(in_place - rest, k)
            if isinstance(node.op, Attention):
                self._histories[node] = self._history_slots(node, node.op.heads)
            target = node.target
            features, lead = program.features[target], network.schedule.leads[target]
            if target in network.slots:
                above, steps = network.rows_above[target], network.slots[target]
                per_row = n * features
                per_step = (above + network.schedule.wavefront.height) * per_row
                offset = self._take(steps * per_step) + above * per_row
                slot_of[target] = self._slot(
                    offset=offset, stride=features, per_row=per_row, per_step=per_step, slots=steps, lead=lead
                )
            elif target in network.kept_rows:
                slot_of[target] = self._row_slot(target)
            elif target in program.maps:
                slot_of[target] = self._map_slot(target)
            elif target not in kept and free.get(features):
                slot_of[target] = free[features].pop()
            else:
                slot_of[target] = self._slot(offset=self._scratch_size, stride=features)
                self._scratch_size += _aligned(self.rows * features)
            release(rest, k)
        # scratch comes last
        self._slots = [slot if slot[_PER_ROW] else (slot[0] + self._size, *slot[1:]) for slot in self._slots]

    def _row_slot(self, value: int) -> int:
        """A slot of rows of a value's grid: as many as are read later, with zeros before, between and after them."""
        network = self._network
        above, left, right = network.kept_rows[value]
        features, columns = network.program.features[value], network.schedule.grid(value)[1]
        per_step = self.n * features
        per_row = (columns + max(left, right)) * per_step
        offset = self._take((above + 1) * per_row + left * per_step) + left * per_step
        lead = network.schedule.leads[value]
        return self._slot(offset=offset, stride=features, per_row=per_row, per_step=per_step, lead=lead, ring=above + 1)

    def _map_slot(self, value: int) -> int:
        """A slot for the features of a map at all pixels."""
        network, n, features = self._network, self.n, self._network.program.features[value]
        _, height, width = network.image_shape
        if network.by_rows:
            size = {"stride": features, "per_row": width * n * features, "per_step": n * features}
            return self._slot(offset=self._take(height * width * n * features), **size)
        skew = height * network.schedule.wavefront.slope
        size = {"stride": width * features, "per_row": n * width * features, "per_step": features}
        return self._slot(offset=self._take((height * n * width + skew) * features), **size)

    def _map_in(self, arena: Numbers, value: int) -> Numbers:
        """The features of a map in memory: (rows, N, columns, features), no copy."""
        network, (offset, stride, per_row, per_step, *_) = self._network, self._slots[self._slot_of[value]]
        _, height, width = network.image_shape
        skew = 0 if network.by_rows else network.schedule.wavefront.slope * per_step
        strides = [arena.itemsize * step for step in (per_row + skew, stride, per_step, 1)]
        shape = height, self.n, width, network.program.features[value]
        return np.lib.stride_tricks.as_strided(arena[offset:], shape, strides)

    def _image_slot(self) -> int:
        network, n, c = self._network, self.n, self._network.image_features
        wavefront = network.schedule.wavefront
        layers = [
            node.op.layer for node in network.program.nodes if isinstance(node.op, Conv) and node.inputs[0] == IMAGE
        ]
        above = max((-layer.window.top for layer in layers), default=0)
        beside = max((0, *(max(-layer.window.left, layer.right_of(wavefront.width)) for layer in layers)))
        line, rows, rings = wavefront.width + beside, wavefront.height, {}
        if network.by_rows and rows > _LARGE * (above + 2):
            rows = rings["ring"] = above + 2  # the current one, and one for what is computed a step late
        elif not network.by_rows and line > _LARGE * (slots := network.slots.get(IMAGE, line)):
            line, beside, rings["slots"] = 2 * slots, 0, slots
        row = n * line + (0 if network.by_rows or "slots" in rings else wavefront.slope)
        base = above * row + beside
        offset = self._take((base + rows * row + line) * c)
        return self._slot(offset=offset + base * c, stride=line * c, per_row=n * line * c, per_step=c, **rings)

    def _history_slots(self, node: Node, heads: int) -> tuple[int, int]:
        """Slots of keys, (N, features, pixels), and of values, (N, pixels, heads, features of a head), with scores."""
        _, h, w = self._network.image_shape
        keys, values = (self._network.program.features[value] for value in node.inputs[1:])
        pixels, size = _aligned(h * w), _aligned(values // heads)
        per_key, per_value = keys * pixels, pixels * heads * size
        return (
            self._slot(offset=self._take(self.n * per_key), stride=per_key, per_row=pixels),
            self._slot(offset=self._take(self.n * per_value + pixels), stride=per_value, per_row=heads * size),
        )

    def _take(self, numbers: int) -> int:
        offset = self._size
        self._size += _aligned(numbers)
        return offset

    def _slot(self, **fields: int) -> int:
        """Appends a `struct slot` and returns its index."""
        self._slots.append(tuple(fields.get(name, 0) for name in SLOT_FIELDS))
        return len(self._slots) - 1


def _aligned(numbers: int) -> int:
    return numbers + -numbers % ALIGNMENT
