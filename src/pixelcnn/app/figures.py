"""Figures of a model as SVG: masks, receptive field, wavefront and losses, in the colours of the light or dark page.

`cells` draws a table of small squares, each of a kind that is a class of `style.css`; masks, the receptive field and
the wavefront are such tables. `curve` draws losses by epoch.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pixelcnn.app.served import Losses
from pixelcnn.layers import MaskedConv2d
from pixelcnn.models import AutoregressiveModel
from pixelcnn.models.summary import receptive_field
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["MAX_SIDE", "cells", "curve", "field_figure", "front_figure", "mask_figures", "pixels_seen"]

MAX_SIDE = 32
"""Rows and columns of an image, from its upper left corner, in the wavefront's figure."""
_SHADES = 10  # of the wavefront's steps
_DIGIT = 8  # largest width of a digit of a curve's numbers


def cells(kinds: Sequence[Sequence[str]], title: str, size: int) -> str:
    """Squares in rows and columns.

    Args:
        kinds: The kind of each square, by row; "" leaves it out.
        title: What the figure shows, in words.
        size: Largest size of a square, in pixels.
    """
    columns = max(map(len, kinds))
    paths: dict[str, list[str]] = {}
    for y, row in enumerate(kinds):
        for x, kind in enumerate(row):
            if kind:
                paths.setdefault(kind, []).append(f"M{x}.06 {y}.06h.88v.88h-.88z")
    drawn = "".join(f'<path class="px-{kind}" d="{"".join(path)}"/>' for kind, path in paths.items())
    return (
        f'<svg class="px-cells" style="max-width:{columns * size}px" viewBox="0 0 {columns} {len(kinds)}" role="img" '
        f'aria-label="{html.escape(title)}">{drawn}</svg>'
    )


def field_figure(network: AutoregressiveModel) -> str:
    """The receptive field: the pixels around one that it depends on."""
    found = receptive_field(network)
    field = found.tolist()
    middle, own = len(field[0]) // 2, len(field) - 1
    unseen = "far" if getattr(network.config, "attention", 0) else "unseen"
    kinds = [
        [
            "" if y == own and x > middle else "own" if (y, x) == (own, middle) else "seen" if seen else unseen
            for x, seen in enumerate(row)
        ]
        for y, row in enumerate(field)
    ]
    count = pixels_seen(found)
    return cells(kinds, f"receptive field: {count} pixels in {own} rows above and in its own row", 18)


def pixels_seen(field: Tensor) -> int:
    """The number of pixels in a `receptive_field`, without the pixel itself, whose earlier channels may be in it."""
    return int(field.sum()) - int(field[-1, field.shape[1] // 2])


def mask_figures(network: AutoregressiveModel) -> list[tuple[str, str]]:
    """Each kind of mask in the network once: (caption, figure)."""
    found: dict[tuple[object, ...], list[MaskedConv2d]] = {}
    for layer in network.masked_layers:
        key = (layer.window, layer.mask_type, len(layer.in_groups), len(layer.out_groups))
        found.setdefault(key, []).append(layer)
    figures = []
    for layers in found.values():
        layer, window = layers[0], layers[0].window
        name = f"{window.height}×{window.width}, mask {layer.mask_type}"
        many = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
        figures.append((f"{name}: {many}", _mask(layer, name)))
    return figures


def _mask(layer: MaskedConv2d, name: str) -> str:
    """The window, and the pixel itself where the window leaves it out."""
    window, taps = layer.window, set(layer.taps)
    here = (
        layer.mask[:, :, -window.top // layer.dilation, -window.left // layer.dilation].mean().item()
        if (0, 0) in window.taps()
        else 0.0
    )

    def kind(dy: int, dx: int) -> str:
        if (dy, dx) == (0, 0):
            return "own" if here == 1 else "part" if here > 0 else "own-unseen"
        if not (window.top <= dy <= window.bottom and window.left <= dx <= window.right):
            return ""
        return "seen" if (dy, dx) in taps else "unseen"

    rows = range(window.top, max(window.bottom, 0) + 1)
    columns = range(min(window.left, 0), max(window.right, 0) + 1)
    return cells([[kind(dy, dx) for dx in columns] for dy in rows], f"mask {name}", 20)


def front_figure(wavefront: Wavefront) -> str:
    """The image's pixels, shaded by the step that draws them, with those of the middle step marked."""
    height, width = min(wavefront.height, MAX_SIDE), min(wavefront.width, MAX_SIDE)
    last = wavefront.slope * (height - 1) + width - 1
    marked = last // 2

    def kind(y: int, x: int) -> str:
        step = wavefront.slope * y + x
        return "own" if step == marked else f"shade-{_SHADES * step // (last + 1)}"

    kinds = [[kind(y, x) for x in range(width)] for y in range(height)]
    title = f"the pixels of {height} rows and {width} columns by the step that draws them; step {marked + 1} is marked"
    return cells(kinds, title, 14)


def curve(losses: Losses) -> str:
    """Losses by epoch, in nats per sub-pixel."""
    width, height, bottom, top, right = 360, 220, 34, 10, 12
    points = [point for line in losses.values() for point in line]
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    locator = MaxNLocator(6, steps=[1, 2, 5, 10])
    ticks = [float(y) for y in locator.tick_values(low, low + (high - low or abs(low) / 10 or 1.0))]
    low, high = ticks[0], ticks[-1]
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    numbers = [f"{y:.{digits}f}" for y in ticks]
    left = 14 + _DIGIT * max(map(len, numbers))

    def across(x: float) -> float:
        share = (x - first) / (last - first) if last > first else 0.5
        return round(left + share * (width - left - right), 1)

    def up(y: float) -> float:
        return round(height - bottom - (y - low) / (high - low) * (height - bottom - top), 1)

    parts = [
        f'<path class="px-rule" d="M{left} {up(y)}H{width - right}"/>'
        f'<text x="{left - 6}" y="{up(y) + 4}" text-anchor="end">{number}</text>'
        for y, number in zip(ticks, numbers, strict=True)
    ]
    every = max(1, math.ceil((last - first) / 8))
    parts += [
        f'<text x="{across(x)}" y="{height - bottom + 16}" text-anchor="middle">{x}</text>'
        for x in range(first, last + 1, every)
    ]
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 3}" text-anchor="middle">epoch</text>')
    for k, line in enumerate(losses.values()):
        path = "L".join(f"{across(x)} {up(y)}" for x, y in line)
        dots = "".join(f'<circle cx="{across(x)}" cy="{up(y)}" r="3"/>' for x, y in line) if len(line) <= 20 else ""
        parts.append(f'<g class="px-line-{k}"><path d="M{path}"/>{dots}</g>')
    legend = "".join(
        f'<span class="px-key-line-{k}">{html.escape(name)} {line[-1][1]:.4f}</span>'
        for k, (name, line) in enumerate(losses.items())
    )
    return (
        f'<svg class="px-curve" viewBox="0 0 {width} {height}" role="img" aria-label="loss by epoch">{"".join(parts)}'
        f'</svg><p class="px-legend">{legend}</p>'
    )
