"""Images made a wavefront at a time on the grid, each pixel chosen by its cumulative frequencies.

Sampling chooses by uniform numbers, decoding by what a stream says; both see the integers that one forward over the
whole images gives (`PreparedModel.cumulative`), whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from torch import Tensor

from pixelcnn.exact import grid
from pixelcnn.exact.frequencies import TOTAL_BITS, cumulative_frequencies
from pixelcnn.exact.native import NativeWalk, why_not_native
from pixelcnn.exact.prepared import PreparedModel
from pixelcnn.randomness import check_seed, uniforms
from pixelcnn.sampling.front import Front
from pixelcnn.sampling.schedule import schedule_of

__all__ = ["Choose", "sample_exactly", "walk"]

_SHARE = 16  # images that a thread draws side by side: their features stay in a core's caches

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
    front = Front(schedule, c, n, model.masked_layers[0].weight, exact=True)
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


def sample_exactly(
    prepared: PreparedModel,
    n: int,
    labels: Tensor | None = None,
    seed: int = 0,
    first: int = 0,
    engine: Literal["fast", "native", "eager"] = "fast",
) -> Tensor:
    """Draws images that are the same bits on any machine, in any batch: uint8 levels (n, C, H, W).

    Image k is drawn with the uniform numbers of image `first + k` of the seed, as by `AutoregressiveModel.sample`, from
    the distribution that the cumulative frequencies give. "native" is compiled code, "eager" PyTorch; "fast" is the
    first of them that can.

    Raises:
        ValueError: If an argument is out of range, or the engine cannot run the model here.
    """
    model = prepared.model
    check_seed(seed)
    condition = model.condition_of(labels, n)
    reason = why_not_native(prepared) if engine != "eager" else ""
    if engine == "native" and reason is not None:
        raise ValueError(f"engine 'native' cannot run this model here: {reason}")
    if reason is None:
        return _sampled(prepared, n, condition, seed, first)
    c, h, w = model.image_shape
    u = uniforms(seed, first, n, h * w * c, model.device).view(n, h * w, c)
    goals = torch.floor(u * 2.0**TOTAL_BITS).long()

    def choose(channel: int, pixels: slice, cumulative: Tensor) -> Tensor:
        goal = goals[:, pixels, channel].t().unsqueeze(-1)
        return (cumulative[..., 1:-1] <= goal).sum(-1)

    images = torch.zeros(n, c, h, w, dtype=torch.uint8)
    for _ in walk(prepared, images, condition, choose):
        pass
    return images


def _sampled(prepared: PreparedModel, n: int, condition: Tensor | None, seed: int, first: int) -> Tensor:
    """In compiled code, a share at a time for each thread."""
    images = torch.zeros(n, *prepared.model.image_shape, dtype=torch.uint8)
    threads = torch.get_num_threads()
    size = max(1, min(-(-n // threads), _SHARE))

    def draw(start: int) -> None:
        part = slice(start, min(start + size, n))
        walk_of_part = NativeWalk(prepared, len(images[part]), conditional=condition is not None)
        walk_of_part.sample(images[part], None if condition is None else condition[part], seed, first + start)

    with torch.inference_mode(), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(draw, range(0, n, size)):
            pass
    return images
