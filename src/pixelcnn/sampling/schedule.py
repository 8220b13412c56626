"""When each feature of a network is computed, so that everything it reads is available.

Pixels are drawn along a wavefront, pixel (i, j) at the time `slope * i + j` (`pixelcnn.sampling.wavefront`). A feature
that sees only the rows above, as in a vertical stack, may be read further right in its own row, and has to be computed
earlier: a value with lead L is computed for pixel (i, j) at the time slope * i + j - L. The output has lead 0.

    A convolution that reads the tap (dy, dx)      lead(source) >= lead(target) + slope * dy + dx
    the same, if it reads the image                          -1 >= lead(target) + slope * dy + dx
    the same, of another pixel's colour groups     lead(source) >= lead(target) + slope * dy + dx + 1
    an operation that reads only its own pixel     lead(source) >= lead(target)
    the current pixel's later colour groups        lead(source) >= lead(target) + 1      (mask "all")
    attention, to keys and values                    lead(keys) >= lead(target) + max(-1, width - 1 - slope)

Attention reads all pixels to the left in the current row, the latest of which is (0, -1), and all rows above up to
their right end, (-1, width - 1). What mask "all" reads at the current pixel, and what attention reads at the one
before, is complete only after that pixel has been drawn, so keys and values that know it have lead -1: they are
computed one step after it. No slope below the width then meets the conditions: attention forces raster order, one pixel
per step.

Operations state these conditions themselves (`Operation.needs`). The schedule uses the smallest slope for which they
can be met, and the smallest leads that meet them. A network like the seed's, in which every feature may see all that
its pixel may see, has leads of 0 and the slope of its taps; a vertical stack of n layers that reach r to the right
needs leads up to n * r, and a slope that is larger by the same amount.

A coarse context (`pixelcnn.models.context`) waits for whole rows of cells, so there is nothing to gain from a slope:
pixels are drawn in raster order, one per step. Instead, everything that depends only on the rows above (the context,
but also the vertical stack) is computed one row at a time, `Schedule.rows`, before the row's first pixel: all together
in large products. Only the operations that see the current row are left for each pixel, with a lead of 0 or -1. What
has a lead of -1 is computed at the beginning of a step, before the row-wise values, which may read it of the row above.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from pixelcnn.layers import MaskedConv2d
from pixelcnn.operations import IMAGE, Attention, Conv, Node, Upsample
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.program import Program, RecordingError, record
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["Reading", "Schedule", "schedule_of"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How an operation reads a value, which tells engines how much of it they must keep."""

    node: Node
    layer: MaskedConv2d | None = None
    """The convolution whose taps see it; None if it is read only at the current pixel, or by attention."""
    elsewhere: bool = False
    """Whether pixels other than the current one are seen."""
    everywhere: bool = False
    """Whether all earlier pixels are seen, as attention sees keys and values."""
    delay: int = 0
    """How many steps ago, at most, the value was computed."""

    @property
    def later(self) -> bool:
        """Whether the value is read at another position or a later step than it is computed."""
        return self.elsewhere or self.everywhere or self.delay != 0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When each value of a program is computed."""

    program: Program
    wavefront: Wavefront
    leads: tuple[int, ...]
    """How many steps each value is ahead of the pixels; -1 if it is computed a step after its pixel."""
    rows: frozenset[int] = frozenset()
    """The values that are computed a row at a time, before the row's first pixel is drawn; if there are any, the steps
    are the pixels in raster order. Those on the grid of a context of scale s are computed at every s-th row."""

    @property
    def prelude(self) -> int:
        """Steps before the first pixel is drawn."""
        return max(self.leads, default=0)

    def grid(self, value: int) -> tuple[int, int, int]:
        """A value's number of rows and of columns, and how many pixels apart they are."""
        scale = self.program.scales[value]
        return -(-self.wavefront.height // scale), -(-self.wavefront.width // scale), scale

    def ahead(self, source: int, target: int) -> int:
        """How many steps ago a value was computed at the pixel at which another is computed now."""
        return self.leads[source] - self.leads[target]

    def inside(self, layer: MaskedConv2d) -> list[tuple[int, int]]:
        """The taps that lie inside the image for at least one pixel."""
        return [tap for tap in layer.taps if layer.stride > 1 or self.wavefront.reaches(*tap)]

    def delay(self, node: Node, dy: int, dx: int) -> int:
        """How many steps ago what a convolution's tap sees was computed, on the source's own clock."""
        return self.ahead(node.inputs[0], node.target) - (self.wavefront.slope * dy + dx)

    @functools.cached_property
    def readings(self) -> tuple[tuple[Reading, ...], ...]:
        """For each value, how it is read."""
        found: list[list[Reading]] = [[] for _ in self.program.features]
        for node in self.program.nodes:
            of_layer = isinstance(node.op, Conv)
            for k, value in enumerate(node.reads):
                delay = self.ahead(value, node.target)
                if of_layer and k == 0:
                    assert isinstance(node.op, Conv)
                    taps = self.inside(node.op.layer)
                    delay = max((self.delay(node, *tap) for tap in taps), default=0)
                    elsewhere = any(tap != (0, 0) for tap in taps)
                    reading = Reading(node=node, layer=node.op.layer, elsewhere=elsewhere, delay=delay)
                else:
                    reading = Reading(node=node, everywhere=isinstance(node.op, Attention) and k > 0, delay=delay)
                found[value].append(reading)
        return tuple(map(tuple, found))


def schedule_of(model: Autoregressive, slope: int | None = None, *, conditional: bool = False) -> Schedule:
    """The fastest schedule, or the one with a given slope; from slope `width` on it is raster order.

    Args:
        model: Any model of one scan order.
        slope: Slope of the wavefront, in steps per row; by default the smallest that the network allows. A network with
            a coarse context has one schedule, of slope `width`.
        conditional: Whether the images are conditioned on something.

    Raises:
        ValueError: If the model is a mixture, or the network has no schedule of that slope.
        RecordingError: If the network cannot be recorded, or has no schedule. It is a ValueError.
    """
    _, h, w = model.image_shape
    program = record(model, conditional=conditional)
    if any(isinstance(node.op, Upsample) for node in program.nodes):
        if slope not in (None, w):
            raise ValueError(f"slope must be {w}, raster order, for a network with a coarse context, got {slope}")
        return _by_rows(program, Wavefront(h, w, w))
    # no lead exceeds the sum of all steps to the right, and one for each layer's colour groups; with a larger slope, no
    # row above is in the way; a layer counts as often as the network uses it
    layers = [node.op.layer for node in program.nodes if isinstance(node.op, Conv)]
    largest = sum(1 + max((0, *(dx for _, dx in layer.taps))) for layer in layers) + 1
    largest += sum(w for node in program.nodes if isinstance(node.op, Attention))
    for candidate in range(largest + 1) if slope is None else [slope]:
        wavefront = Wavefront(h, w, candidate)
        leads = _leads(program, wavefront)
        if leads is not None:
            return Schedule(program=program, wavefront=wavefront, leads=leads)
    if slope is None:
        raise RecordingError("the network reads features of a pixel before they can be computed step by step")
    raise ValueError(f"slope must be larger for this network, got {slope}")


def _by_rows(program: Program, wavefront: Wavefront) -> Schedule:
    """The schedule in raster order that computes as much as possible a row at a time."""
    rows: set[int] = set()
    for node in program.nodes:
        if node.op.by_rows(node, rows):
            rows.add(node.target)
    coarse = {node.target for node in program.nodes if isinstance(node.op, Upsample) or program.scales[node.target] > 1}
    if coarse - rows:
        raise RecordingError("the network's coarse features see the row of pixels in which their cell begins")
    by_pixel = [node for node in program.nodes if node.target not in rows]
    leads = _leads(program, wavefront, frozenset(rows))
    if leads is None or max(leads) > 0 or any(_reads_right(node, rows, wavefront) for node in by_pixel):
        raise RecordingError("the network has coarse features, and reads others to the right in their own row")
    return Schedule(program=program, wavefront=wavefront, leads=leads, rows=frozenset(rows))


def _reads_right(node: Node, rows: set[int], wavefront: Wavefront) -> bool:
    """Whether a convolution reads, to the right in its own row, what is computed pixel by pixel."""
    if not isinstance(node.op, Conv) or node.inputs[0] in rows:
        return False
    return any(dy == 0 and dx > 0 and wavefront.reaches(dy, dx) for dy, dx in node.op.layer.taps)


def _leads(program: Program, wavefront: Wavefront, rows: frozenset[int] = frozenset()) -> tuple[int, ...] | None:
    """The smallest leads for a slope, or None if the slope is too small.

    Row-wise values need no lead. Beside them, what could be computed several steps late is computed one step late: a
    row's first pixel may need it of the whole row above.
    """
    size = wavefront.height, wavefront.width, wavefront.slope
    least = -1 if rows else -math.inf
    found: dict[int, int] = {program.output: 0}
    for node in reversed(program.nodes):  # what reads a value comes after it, so the value's lead is final by then
        if node.target in rows:
            found[node.target] = 0
            needs = [(value, -1) for value in node.reads if value != IMAGE]
        elif node.target in found:
            needs = list(node.op.needs(node, *size))
        else:  # in small images all taps that read it may lie outside
            continue
        for value, ahead in needs:
            lead = max(found[node.target] + ahead, least)
            found[value] = int(max(found.get(value, lead), lead))
    if found.setdefault(IMAGE, -1) > -1:  # a pixel is available one step after it has been drawn
        return None
    found[IMAGE] = -1
    for node in program.nodes:
        if node.target not in found:
            latest = min((found[value] - ahead for value, ahead in node.op.needs(node, *size)), default=0)
            found[node.target] = int(max(min(latest, 0), least))
    leads = tuple(0 if value == IMAGE else found.get(value, 0) for value in range(len(program.features)))
    return leads if leads[program.output] == 0 else None
