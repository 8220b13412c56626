"""Large images in horizontal stripes, so that a forward pass of any image takes bounded memory.

What a network of convolutions computes at a pixel depends on the rows up to some number above it, its reach. So rows
a .. b - 1 are computed from rows a - reach .. b - 1 alone: the zeros that lie above these, in place of the image's own
rows, change only rows that belong to the stripe before. Nothing is approximated. A map that the image is conditioned on
is cut with it, and two of its pixels more on both sides, as far as its encoder sees.

A network with attention, or with features of positions, has to see the whole image and is not cut; nor is one that
cannot be recorded as a program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from pixelcnn.operations import ConditionMap
from pixelcnn.progress import progress_bar
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.program import Program, RecordingError, record

__all__ = ["Stripe", "in_stripes", "stripes_of"]

_BYTES = 2.0**24  # of one layer's features in a stripe; about ten times that are held at a time


@dataclass(frozen=True)
class Stripe:
    """Rows of an image that are computed together."""

    seen: range
    """The rows that are computed."""
    own: range
    """Those of them whose result is the whole image's."""


def stripes_of(model: Autoregressive, condition: Tensor | None) -> list[Stripe]:
    """The stripes of an image, whose own rows together are the image's; empty if it need not or cannot be cut.

    At least half of the rows that are computed are a stripe's own, about.

    Args:
        model: Any model, for images of that size.
        condition: What they are conditioned on, (N, D), see `pixelcnn.conditions`; None for nothing.
    """
    _, height, width = model.image_shape
    layers = [layer for layer in model.masked_layers if layer is not model.logit_layer]
    if not layers:
        return []
    widest = max(len(layer.taps) * layer.in_channels if model.exact else layer.out_channels for layer in layers)
    rows = max(1, int(_BYTES / (width * widest * model.dtype.itemsize)))  # at a time
    if rows >= height:
        return []
    try:
        program = record(model, conditional=condition is not None)
    except (RecordingError, ValueError):
        return []
    reach = _reach(program)
    if math.isinf(reach):
        return []
    beside, step = 0, math.lcm(*program.scales)
    if condition is not None and program.maps:
        scale = model.conditions.map_scale(condition)
        beside, step = ConditionMap.REACH * scale, math.lcm(step, scale)
    above = int(reach) + beside
    stripes = []
    for start in range(0, height, count := max(rows - above, above, step)):
        own = range(start, min(start + count, height))
        top = max(0, start - above) // step * step
        stripes.append(Stripe(range(top, min(height, -(-(own.stop + beside) // step) * step)), own))
    return stripes


def in_stripes(
    function: Callable[[Tensor, Tensor | None], Tensor],
    model: Autoregressive,
    stripes: list[Stripe],
    images: Tensor,
    condition: Tensor | None,
    *,
    progress: bool = False,
) -> Iterator[Tensor]:
    """The results of stripes, one below the other.

    Args:
        function: The result for images and what they are conditioned on, (N, C, H, W, ...).
        model: The model, for images of that size.
        stripes: What `stripes_of` returned.
        images: (N, C, H, W).
        condition: (N, D), or None.
        progress: Show a progress bar on standard error.
    """
    with progress_bar("in stripes", model.image_shape[1], "row", show=progress) as bar:
        for stripe in stripes:
            seen, own = stripe.seen, stripe.own
            given = None if condition is None else model.conditions.of_stripe(condition, seen.start, seen.stop)
            found = function(images[:, :, seen.start : seen.stop], given)
            yield found[:, :, own.start - seen.start : own.stop - seen.start]
            bar.update(len(own))


def _reach(program: Program) -> float:
    """How many rows above its own a pixel's parameters may depend on."""
    reach = [0.0] * len(program.features)
    for node in program.nodes:
        scale = max((program.scales[value] for value in node.inputs), default=1)
        reach[node.target] = max((reach[value] for value in node.reads), default=0) + node.op.above(scale)
    return reach[program.output]
