"""Completing a part of a large image: only the window of pixels that matter to it is computed.

The parameters of a pixel depend on pixels up to some number of rows above and of columns beside it, its reach. So what
is drawn changes the probability of known pixels within that reach below and beside it alone, and these depend on no
pixel further away than twice the reach. A window of all of them, as an image of its own, gives the same distribution of
the unknown pixels. The other known pixels have the same probability whatever is drawn: one forward pass of the image.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike
from pixelcnn.completion import Completion, CompletionOptions, checked_mask, complete
from pixelcnn.operations import Conv
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.program import RecordingError, record

__all__ = ["Window", "complete_in_windows", "window_of"]

_LARGE = 2**16  # pixels of an image
_WORTH = 0.5  # of an image: the largest window


@dataclass(frozen=True)
class Window:
    """Which pixels matter to the unknown ones."""

    rows: slice
    columns: slice
    touched_rows: slice
    """Of the pixels whose parameters may depend on unknown ones, and those themselves."""
    touched_columns: slice

    @property
    def area(self) -> int:
        """Its number of pixels."""
        return len(range(self.rows.stop)[self.rows]) * len(range(self.columns.stop)[self.columns])


def window_of(model: Autoregressive, unknown: Tensor, *, conditional: bool = False) -> Window | None:
    """The window of unknown pixels, bool (H, W) of the model's size; None if the whole image may matter."""
    try:
        program = record(model, conditional=conditional)
    except (RecordingError, ValueError):
        return None
    if program.maps or max(program.scales) > 1:
        return None
    reach = [(0.0, 0, 0)] * len(program.features)  # rows above, columns to the left and to the right
    for node in program.nodes:
        above, left, right = (max((reach[value][k] for value in node.reads), default=0) for k in range(3))
        taps = node.op.layer.taps if isinstance(node.op, Conv) else []
        beside = [max((side * dx for _, dx in taps), default=0) for side in (-1, 1)]
        reach[node.target] = above + node.op.above(1), int(left) + max(0, beside[0]), int(right) + max(0, beside[1])
    above, left, right = reach[program.output]
    if math.isinf(above):
        return None
    (top, bottom), (start, end) = (_range(unknown.any(axis)) for axis in (1, 0))
    height, width = unknown.shape
    bottom, end = min(height, bottom + int(above)), min(width, end + left)
    return Window(
        rows=slice(max(0, top - int(above)), bottom),
        columns=slice(max(0, start - right - left), min(width, end + right)),
        touched_rows=slice(top, bottom),
        touched_columns=slice(max(0, start - right), end),
    )


def complete_in_windows(
    model: Autoregressive,
    images: ArrayLike,
    known: ArrayLike,
    labels: ArrayLike | None,
    options: CompletionOptions,
    condition: ArrayLike | None,
) -> Completion | None:
    """`pixelcnn.completion.complete`, by windows; None if the images are small, or the windows not much smaller.

    Args:
        model: As for `complete`, like all others. The draws of an image depend on the window that it gives.
        images: uint8 levels (N, C, H, W).
        known: bool, broadcastable to them.
        labels: (N,), or None.
        options: Everything else.
        condition: (N, D), or None.

    Raises:
        ValueError: As `complete` does.
    """
    _, height, width = model.image_shape
    if height * width < _LARGE or not getattr(model, "any_size", False):
        return None
    images, options = model.checked_images(images), options.checked()
    mask = checked_mask(known, images.shape)
    conditional = labels is not None or condition is not None
    windows = [window_of(model, ~each.all(0), conditional=conditional) for each in mask]
    if any(window is None or window.area > _WORTH * height * width for window in windows):
        return None
    labels, condition = model.checked_given(labels, condition, len(images))
    found = []
    for k, window in enumerate(cast(list[Window], windows)):
        given = tuple(None if each is None else each[k : k + 1] for each in (labels, condition))
        found.append(_in_window(model, images[k : k + 1], mask[k : k + 1], given, options, window, k))
    accepted = [each.accepted for each in found]
    return Completion(
        images=torch.cat([each.images for each in found]),
        ess=torch.cat([each.ess for each in found]),
        log_evidence=torch.cat([each.log_evidence for each in found]),
        accepted=sum(accepted) / len(accepted),
    )


def _in_window(
    model: Autoregressive,
    image: Tensor,
    known: Tensor,
    given: tuple[Tensor | None, ...],
    options: CompletionOptions,
    window: Window,
    k: int,
) -> Completion:
    """The completion of image k."""
    rows, columns = window.rows, window.columns
    part, mask = image[:, :, rows, columns], known[:, :, rows, columns]
    small = cast(Any, model).resized(part.shape[2:])
    index = k if options.indices is None else options.indices[k]
    found = complete(small, part, mask, given[0], dataclasses.replace(options, indices=(index,)), given[1])
    draws = image.to(found.images.device).repeat(options.n, 1, 1, 1)
    draws[:, :, rows, columns] = found.images[0]
    evidence = found.log_evidence
    if options.method != "raster":
        outside = known.clone()
        outside[:, :, window.touched_rows, window.touched_columns] = False
        for sign, of, levels, counted in (
            (1, cast(Any, model), image, outside),
            (-1, small, part, outside[:, :, rows, columns]),
        ):
            with torch.no_grad():
                log_probs = of.log_prob_map(levels, given[0], condition=given[1]).double().cpu()
            evidence = evidence + sign * log_probs[counted].sum()
    return dataclasses.replace(found, images=draws[None], log_evidence=evidence)


def _range(seen: Tensor) -> tuple[int, int]:
    """The first true entry, and the end of the last."""
    indices = seen.nonzero().flatten()
    return int(indices[0]), int(indices[-1]) + 1
