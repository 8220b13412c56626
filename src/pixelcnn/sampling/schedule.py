"""When each feature of a network is computed, so that everything it reads is there.

Pixels are drawn along a wavefront, pixel (i, j) at the time `slope * i + j` (`pixelcnn.sampling.wavefront`). A feature
that sees only the rows above, as in a vertical stack, may be read further right in its own row, and has to be computed
earlier: a value of lead L has its pixel (i, j) computed at the time slope * i + j - L. The output has lead 0.

    A convolution that reads the tap (dy, dx)      lead(source) >= lead(target) + slope * dy + dx
    the same, if it reads the image                          -1 >= lead(target) + slope * dy + dx
    whatever reads the own pixel alone             lead(source) >= lead(target)

The smallest slope for which these can be met is the schedule's, and the leads are the smallest that meet them. A
network like the seed's, whose features see what its pixel may see, has leads of 0 and the slope of its taps; a vertical
stack of n layers that reach r to the right needs leads up to n * r, and a slope that is larger by as much.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.program import IMAGE, Conv, Program, record
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["Schedule", "schedule_of"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When each value of a program is computed."""

    program: Program
    wavefront: Wavefront
    leads: tuple[int, ...]
    """How many steps each value is ahead of the pixels."""

    @property
    def prelude(self) -> int:
        """Steps before the first pixel is drawn."""
        return max(self.leads, default=0)

    def delay(self, op: Conv, dy: int, dx: int) -> int:
        """How many steps ago, by the source's own clock, what a tap sees was computed."""
        return self.ahead(op.source, op.target) - (self.wavefront.slope * dy + dx)

    def ahead(self, source: int, target: int) -> int:
        """How many steps ago a value was computed at the pixel at which another is computed now."""
        return self.leads[source] - self.leads[target]


def schedule_of(model: Autoregressive, slope: int | None = None, *, conditional: bool = False) -> Schedule:
    """The fastest schedule, or the one of a given slope; of slope `width` it is raster order.

    Args:
        model: Any model.
        slope: Of the wavefront.
        conditional: Whether the images are conditioned on something.

    Raises:
        ValueError: If the slope is too small.
        RecordingError: If the network cannot be recorded.
    """
    _, h, w = model.image_shape
    program = record(model, conditional=conditional)
    # no lead is larger than all steps to the right together; with a slope beyond that no row above is in the way
    most = sum(max((0, *(dx for _, dx in layer.taps))) for layer in model.masked_layers) + 1
    for candidate in range(most + 1) if slope is None else [slope]:
        wavefront = Wavefront(h, w, candidate)
        leads = _leads(program, wavefront)
        if leads is not None:
            return Schedule(program=program, wavefront=wavefront, leads=leads)
    raise ValueError(f"slope must be larger for this network, got {slope}")


def _leads(program: Program, wavefront: Wavefront) -> tuple[int, ...] | None:
    """The smallest leads for a slope, or None if it is too small."""
    leads = [0] * len(program.features)
    for op in reversed(program.operations):  # what reads a value comes after it, so the value's lead is final by then
        for value in op.pointwise:
            leads[value] = max(leads[value], leads[op.target])
        if not isinstance(op, Conv):
            continue
        for dy, dx in op.layer.taps:
            late = leads[op.target] + wavefront.slope * dy + dx
            if not wavefront.reaches(dy, dx):
                continue
            if op.source != IMAGE:
                leads[op.source] = max(leads[op.source], late)
            elif late > (0 if (dy, dx) == (0, 0) else -1):
                return None
    return tuple(leads) if leads[program.output] == 0 else None
