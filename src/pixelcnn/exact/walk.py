"""Images made a wavefront at a time on the grid, each pixel chosen by its cumulative frequencies.

Sampling chooses by uniform numbers, decoding by what a stream says; both see the integers that one forward over the
whole images gives (`PreparedModel.cumulative`), whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pixelcnn.exact import grid
from pixelcnn.exact.frequencies import cumulative_frequencies
from pixelcnn.exact.prepared import PreparedModel
from pixelcnn.sampling.rows import front_of
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["Choose", "walk"]

Choose = Callable[[int, slice, Tensor], Tensor]
"""Of a channel, the raster indices of the front's P pixels and their cumulative frequencies, int64 (P, n, levels + 1):
the levels, int64 (P, n)."""


@torch.inference_mode()
def walk(prepared: PreparedModel, images: Tensor, condition: Tensor | None, choose: Choose) -> Iterator[None]:
    """Fills images, uint8 zeros (n, C, H, W), and yields after every step of the wavefront.

    Args:
        prepared: A model's exact twin.
        images: Filled; on the twin's device.
        condition: What each image is conditioned on, (n, D); None for nothing.
        choose: Says which levels.
    """
    model, n = prepared.model, len(images)
    c, h, w = model.image_shape
    schedule = schedule_of(model, conditional=condition is not None)
    front = front_of(schedule, c, n, model.masked_layers[0].weight, exact=True)
    front.start(None if condition is None else grid.clamped(condition))
    canvas = images.view(n, c, h * w)
    for step in range(-schedule.prelude, schedule.wavefront.steps):
        front.begin(step)
        if step < 0:
            front.compute(0)  # only what is ahead has anything to do
            continue
        pixels = schedule.wavefront.pixels(step)
        drawn = torch.zeros(len(schedule.wavefront.rows(step)) * n, c, dtype=torch.uint8, device=images.device)
        for channel in range(c):
            if model.grouped or channel == 0:
                params = front.compute(channel)
            cumulative = cumulative_frequencies(model.likelihood, params, drawn, channel)
            levels = choose(channel, pixels, cumulative.view(-1, n, cumulative.shape[1]))
            drawn[:, channel] = levels.flatten()
            canvas[:, channel, pixels] = levels.t().to(torch.uint8)
            front.observe(channel, grid.rounded(levels.flatten().double() / (model.levels - 1)))
        yield
