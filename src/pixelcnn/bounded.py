"""Log-likelihoods in bounded memory, of any number of images of any size: some at a time, or a large one in stripes.

Where gradients are needed, all images are computed in one piece, and much memory is warned of.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pixelcnn.arguments import readable, transforming
from pixelcnn.sampling.autoregressive import Autoregressive, MakeView
from pixelcnn.stripes import Stripe, in_stripes, stripes_of
from pixelcnn.threads import in_parallel

__all__ = ["Bounded"]

_KEPT = 2  # times the features of all layers, for gradients: those before and after the activations
_MANY_BYTES = 2.0**31  # for gradients
_CACHE_BYTES = 3.2e6  # of one layer's features that stay in the caches of one or two cores
_DEVICE_BYTES = 2.0**28  # of one layer's features that a GPU computes at a time
_UNKNOWN = 128  # features of a layer that are assumed of a network without masked convolutions


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
        if (torch.is_grad_enabled() and not self.exact) or len(images) == 0 or not plain:
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
