"""The walk: a batch of images is filled step by step, front after front, and the caller chooses each level.

Sampling, guidance, particles and decoding all use the same walk; they differ in how a level is chosen, given the
parameters of its distribution:

    sampling      the level whose interval of the cumulative distribution contains a uniform number
    guidance      the same, by the parameters of an image and of its unconditional copy, which walk side by side
    particles     known levels stay as they are and their log-probability is recorded; the others as in sampling
    decoding      the level that is read from a stream
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pixelcnn.arithmetic import Precision
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.autoregressive import Autoregressive, check_weights
from pixelcnn.sampling.front import WavefrontFront
from pixelcnn.sampling.rows import RowFront
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["Choose", "Walk", "numbers_of"]

Choose = Callable[[int, slice, Tensor], Tensor]
"""Takes a channel, the raster indices of the front's P pixels and their parameters, (P, N, params), where N includes
copies; returns the levels, integer (P, n)."""


class Walk:
    """A batch of images being filled: caches, packed weights, and what a step does.

    It keeps the weights as they were when it was made, and no reference to the model.

    Args:
        model: Any model.
        n: Number of images in the batch.
        conditional: Whether they are conditioned on something.
        copied: Whether each has an unconditional copy, for guidance.
        slope: Slope of the wavefront, by default the smallest that the network allows.
        precision: What operands are rounded to, see `pixelcnn.arithmetic.precision`.

    Raises:
        ValueError: If a weight is not finite.
    """

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        *,
        conditional: bool = False,
        copied: bool = False,
        slope: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        check_weights(model.named_parameters())
        self.schedule = schedule_of(model, slope, conditional=conditional)
        self._n = n
        self._copies = 1 + copied
        with torch.inference_mode():
            channels, like = model.image_shape[0], model.masked_layers[0].weight
            arithmetic = model.arithmetic_of(precision)
            front = RowFront if self.schedule.rows else WavefrontFront
            self._front = front(self.schedule, channels, n * self._copies, like, arithmetic)

    @property
    def steps(self) -> range:
        """All steps, in order; nothing is drawn before step 0."""
        return range(-self.schedule.prelude, self.schedule.wavefront.steps)

    @torch.inference_mode()
    def start(self, condition: Tensor | None) -> None:
        """Begins a batch of images that are conditioned on something, (n, D); None for nothing."""
        if condition is not None and self._copies == 2:
            condition = torch.cat([condition, torch.zeros_like(condition)])
        self._front.start(condition)

    @torch.inference_mode()
    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Copies images `sources` over images `targets` for the steps that follow; int64, no index in both."""
        self._front.copy(sources, targets)

    @torch.inference_mode()
    def step(self, model: Autoregressive, step: int, images: Tensor, choose: Choose) -> None:
        """Fills the pixels of a step in `images`, uint8 (n, C, H, W); steps must come in order."""
        front, n, c = self._front, self._n, model.image_shape[0]
        front.begin(step)
        if step < 0:
            for channel in range(c):
                front.compute(channel)  # computes only the values that run ahead of the pixels
            return
        canvas = images.view(n, c, -1).permute(1, 2, 0)  # (C, H * W, n), writes through
        pixels = self.schedule.wavefront.pixels(step)
        wide = torch.promote_types(model.dtype, torch.float32)
        raw, drawn = None, None
        for channel in range(c):
            if raw is None or model.grouped:
                raw = front.compute(channel).to(wide)
            params = raw
            if not model.grouped:
                if drawn is None:
                    drawn = torch.zeros(*raw.shape[:2], c, dtype=images.dtype, device=model.device)
                params = model.subpixel_params(raw, drawn, channel)
            levels = choose(channel, pixels, params)
            canvas[channel, pixels] = levels.to(images.dtype)
            seen = levels.repeat(1, self._copies)
            if drawn is not None:
                drawn[..., channel] = seen
            front.observe(channel, front.arithmetic.rounded(model.read_channel(seen, channel)))


def numbers_of(model: Autoregressive, seed: int, first: int, n: int) -> Tensor:
    """The uniform numbers of images `first ..` of a seed, in a walk's layout: float64 (C, H * W, n)."""
    c, h, w = model.image_shape
    return uniforms(seed, first, n, h * w * c, model.device).view(n, h * w, c).permute(2, 1, 0).contiguous()
