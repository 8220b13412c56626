"""Log-likelihoods in bounded memory, of any number of images of any size: some at a time, or a large one in stripes.

Where gradients are needed, all images are computed in one piece, and much memory is warned of.

What a network of convolutions computes at a pixel depends on the rows up to some number above it, its reach. So rows
a .. b - 1 are computed from rows a - reach .. b - 1 alone: the zeros that lie above these, in place of the image's own
rows, change only rows that belong to the stripe before. Nothing is approximated. A map that the image is conditioned on
is cut with it, and two of its pixels more on both sides, as far as its encoder sees.

A network with attention, or with features of positions, has to see the whole image and is not cut; nor is one that
cannot be recorded as a program.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelcnn.arguments import readable, transforming
from pixelcnn.operations import ConditionMap
from pixelcnn.progress import progress_bar
from pixelcnn.sampling.autoregressive import Autoregressive, MakeView
from pixelcnn.sampling.program import Program, RecordingError, record
from pixelcnn.threads import in_parallel

__all__ = ["Bounded", "Stripe", "in_stripes", "stripes_of"]

_KEPT = 2  # times the features of all layers, for gradients: those before and after the activations
_MANY_BYTES = 2.0**31  # for gradients
_CACHE_BYTES = 3.2e6  # of one layer's features that stay in the caches of one or two cores
_DEVICE_BYTES = 2.0**28  # of one layer's features that a GPU computes at a time
_STRIPE_BYTES = 2.0**24  # of one layer's features in a stripe; about ten times that are held at a time
_UNKNOWN = 128  # features of a layer that are assumed of a network without masked convolutions


@dataclass(frozen=True)
class Stripe:
    """Rows of an image that are computed together."""

    seen: range
    """The rows that are computed."""
    own: range
    """Those of them whose result is the whole image's."""


class Bounded(Autoregressive):
    """A model that scores as many images at a time as is fastest and fits into memory."""

    @property
    def slice_size(self) -> int:
        """The fastest number of images for a CPU at a time: as many as fit one layer's features in its cache.

        Depends only on the architecture, so that sums cut into slices do not depend on the machine.
        """
        return self._images_within(_CACHE_BYTES)

    def _images_within(self, size: float) -> int:
        """The number of images whose features of one layer take `size` bytes in float32; at least 1."""
        _, h, w = self.image_shape
        in_parts = self.logit_layer if self._many_logits else None
        layers = [layer for layer in self.masked_layers if layer is not in_parts]
        widest = max((layer.out_channels for layer in layers), default=_UNKNOWN)
        return max(1, int(size / (4 * h * w * widest)))

    def _log_prob_map(
        self, images: Tensor, condition: Tensor | None, view: MakeView, *, progress: bool = False
    ) -> Tensor:
        """Computes the map in one piece if gradients are needed, otherwise in parts with bounded memory."""
        plain = readable(images) and not transforming()  # which other threads would not know of
        if (torch.is_grad_enabled() and not self.exact) or images.shape[0] == 0 or not plain:
            self._warn_of_memory(images)
            return self.unchecked_log_prob_map(images, condition, view)
        if stripes := stripes_of(self, condition):
            return self._map_in_stripes(stripes, images, condition, view, progress=progress)
        on_host = self.device.type == "cpu"
        size = self.slice_size if on_host else self._images_within(_DEVICE_BYTES)
        if on_host and len(images) <= size:
            size = -(-len(images) // torch.get_num_threads())  # one part per thread
        parts = torch.split(images, size)
        conditions = [None] * len(parts) if condition is None else torch.split(condition, size)
        both = list(zip(parts, conditions, strict=True))
        if on_host and len(both) > 1:
            return torch.cat(in_parallel(lambda part: self.unchecked_log_prob_map(*part, view), both))
        return torch.cat([self.unchecked_log_prob_map(*part, view) for part in both])

    def _map_in_stripes(
        self, stripes: list[Stripe], images: Tensor, condition: Tensor | None, view: MakeView, *, progress: bool
    ) -> Tensor:
        """The map of large images, one stripe of one image at a time."""

        def of_stripe(part: Tensor, given: Tensor | None) -> Tensor:
            if self.logit_layer is not None:  # many pixels have many logits
                return self._by_parts(self.likelihood.log_prob, part, given, view).to(self._wide)
            return self.unchecked_log_prob_map(part, given, view)

        found = torch.empty(images.shape, dtype=self._wide, device=self.device)
        for k in range(len(images)):
            given = None if condition is None else condition[k : k + 1]
            parts = in_stripes(of_stripe, self, stripes, images[k : k + 1], given, progress=progress)
            for stripe, part in zip(stripes, parts, strict=True):
                found[k, :, stripe.own.start : stripe.own.stop] = part[0]
        return found

    def _warn_of_memory(self, images: Tensor) -> None:
        """Warns if gradients are kept that take much memory."""
        if not readable(images) or self.exact or not any(parameter.requires_grad for parameter in self.parameters()):
            return
        _, h, w = self.image_shape
        features = sum(layer.out_channels for layer in self.masked_layers)
        size = _KEPT * len(images) * h * w * features * self.dtype.itemsize
        if size > _MANY_BYTES:
            warnings.warn(
                f"{len(images)} images with gradients keep about {size / 2**30:.1f} GiB: without gradients, within "
                "torch.inference_mode(), memory does not grow with their number",
                stacklevel=5,  # of `log_prob`
            )


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
    rows = max(1, int(_STRIPE_BYTES / (width * widest * model.dtype.itemsize)))  # at a time
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
