"""The figures of the documentation, from the package itself: `python docs/figures.py` writes docs/images/how-*.png.

Masks are those of layers, receptive fields are Jacobians, the wavefront is the sampler's, and images and maps come from
the shipped model. Names of figures as arguments make those alone. Seconds, on one core.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle
from PIL import Image

import pixelcnn
from pixelcnn.images import completion_panel, surprise_of
from pixelcnn.layers import MaskedConv2d
from pixelcnn.models.summary import receptive_field
from pixelcnn.sampling.schedule import schedule_of

FOLDER = Path(__file__).parent / "images"
SEEN, BLIND, OWN, LATER, INK = "#3b6fb6", "#e07b39", "#22262b", "#eceef1", "#22262b"
_LAYOUT = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.08)
STYLE: dict[str, Any] = {"fontsize": 11, "color": INK}


def masks() -> Image.Image:
    """Mask A and mask B of a 7x7 kernel."""
    figure, (left, right) = _figure(7.6, 4.3, 2)
    first = pixelcnn.PixelCNN(filters=2, blocks=0).input
    later = MaskedConv2d(1, 1, 7, mask_type="B")
    for axes, layer, title in (
        (left, first, "mask A: the first layer"),
        (right, later, "mask B: all layers behind it"),
    ):
        mask = layer.mask[0, 0].numpy()
        _cells(axes, mask, [LATER, SEEN])
        for (y, x), value in np.ndenumerate(mask):
            colour = "white" if value else "#9aa1aa"
            axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=11, color=colour)
        axes.add_patch(Rectangle((2.5, 2.5), 1, 1, fill=False, edgecolor=BLIND, linewidth=3))
        axes.set_title(f"{title}\n{int(mask.sum())} of 49 taps", **STYLE)
    _legend(figure, {"read": SEEN, "multiplied by 0": LATER}, outlined="the pixel itself")
    return _rendered(figure)


def receptive_fields() -> Image.Image:
    """What a pixel sees: the seed network beside a gated one that reaches as far."""
    figure, (left, right) = _figure(9.6, 3.7, 2)
    seed, gated = pixelcnn.PixelCNN(), pixelcnn.GatedPixelCNN(layers=6)
    for axes, model, title in ((left, seed, "PixelCNN(), 5 blocks"), (right, gated, "GatedPixelCNN(layers=6)")):
        field = receptive_field(model).numpy()
        own, middle = len(field) - 1, field.shape[1] // 2
        shown = np.where(field, 1, 2)
        shown[own, middle:] = 0  # not drawn yet
        shown[own, middle] = 3
        below = np.zeros((2, field.shape[1]), dtype=int)
        _cells(axes, np.concatenate([shown, below]), [LATER, SEEN, BLIND, OWN])
        blind = int((shown == 2).sum())
        axes.set_title(f"{title}\nsees {int(field.sum())} pixels, {blind or 'none'} of the window unseen", **STYLE)
    colours = {"seen": SEEN, "blind spot": BLIND, "the pixel": OWN, "drawn later": LATER}
    _legend(figure, colours)
    return _rendered(figure)


def wavefront() -> Image.Image:
    """When each pixel of the seed network's image is drawn, with one step marked, and what one of its pixels reads."""
    model = pixelcnn.load("mnist-seed")
    front = schedule_of(model).wavefront
    times = np.zeros((front.height, front.width), dtype=int)
    for step in range(front.steps):
        times.reshape(-1)[front.pixels(step)] = step
    figure = Figure(figsize=(9.8, 5.0), layout=_LAYOUT, facecolor="white")
    whole, part = figure.subplots(1, 2, width_ratios=[1.25, 1])
    row, column = 12, 12
    marked = times[row, column]
    shades = LinearSegmentedColormap.from_list("steps", ["#20406b", SEEN, "#a9c4e6", "#eef4fb"])
    drawn = whole.imshow(times, cmap=shades)
    _grid(whole, times.shape, "#ffffff55")
    for y, x in np.argwhere(times == marked):
        whole.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=BLIND))
    top, left = 8, 8
    whole.add_patch(Rectangle((left - 0.5, top - 0.5), 9, 6, fill=False, edgecolor=INK, linewidth=1.8))
    pixels = int((times == marked).sum())
    whole.set_title(
        f"pixel (i, j) is drawn in step {front.slope} i + j\norange: {pixels} pixels in step {marked}", **STYLE
    )
    figure.colorbar(drawn, ax=whole, label=f"step, 0 to {front.steps - 1}", shrink=0.8)

    taps = {(row + dy, column + dx) for dy, dx in model.masked_layers[0].taps}
    shown = times[top : top + 6, left : left + 9]
    kinds = [[1 if (top + y, left + x) in taps else 0 for x in range(9)] for y in range(6)]
    kinds[row - top][column - left] = 2
    _cells(part, np.array(kinds), [LATER, SEEN, BLIND])
    for (y, x), value in np.ndenumerate(shown):
        part.text(x, y, str(value), ha="center", va="center", fontsize=11, color="white" if kinds[y][x] else "#858c96")
    latest = max(times[place] for place in taps)
    part.set_title(f"the frame: blue is what the 7x7 kernel\nreads, all drawn by step {latest}", **STYLE)
    return _rendered(figure)


def growing(moments: tuple[int, ...] = (20, 44, 68, 92, 116, 136), images: int = 3) -> Image.Image:
    """Images after some steps: white and black are drawn, orange is being drawn, grey is to come."""
    model = pixelcnn.load("mnist-seed")
    front = schedule_of(model).wavefront
    figure = Figure(figsize=(9.6, 5.2), layout=_LAYOUT, facecolor="white")
    panels = figure.subplots(images, len(moments))
    done = np.zeros(front.height * front.width, dtype=bool)
    for step, canvas in enumerate(model.sample_steps(images, seed=6)):
        done[front.pixels(step)] = True
        if step + 1 not in moments:
            continue
        column = moments.index(step + 1)
        for row in range(images):
            shown = np.where(done, canvas[row, 0].flatten().numpy(), 2)
            if step + 1 < front.steps:
                shown[front.pixels(step)] = 3
            axes = panels[row, column]
            shades = ListedColormap(["black", "white", "#c9ced6", BLIND])
            axes.imshow(shown.reshape(front.height, front.width), cmap=shades, vmin=0, vmax=3)
            _bare(axes)
        panels[0, column].set_title(f"{step + 1} steps", **STYLE)
    colours = {"drawn in the last step": BLIND, "to be drawn": "#c9ced6"}
    _legend(figure, colours)
    return _rendered(figure)


def completions() -> Image.Image:
    """Two digits whose right half is hidden and two whose middle rows are, completed by 1,024 particles each."""
    model = pixelcnn.load("mnist")
    images = pixelcnn.datasets.mnist("test")[0][[0, 4, 1, 7]]
    known = torch.ones(images.shape, dtype=torch.bool)
    known[:2, ..., 14:] = False
    known[2:, :, 7:21] = False
    found = model.complete(images, known, n=6, particles=1024, seed=0)
    print("effective sample sizes:", [round(size, 1) for size in found.ess.tolist()])
    return completion_panel(images, known, found.images, model.levels)


def surprise() -> Image.Image:
    """Digits, one of them damaged, above maps of their surprise."""
    model = pixelcnn.load("mnist")
    images = pixelcnn.datasets.mnist("test")[0][[1, 2, 4, 4]].clone()
    images[3, 0, 4:7, 4:7] = 1  # what no digit has
    with torch.inference_mode():
        bits = [surprise_of(each).clamp(min=0).numpy() for each in model.log_prob_map(images)]
    figure = Figure(figsize=(9.6, 4.7), layout=_LAYOUT, facecolor="white")
    panels = figure.subplots(2, len(images))
    for k, image in enumerate(images):
        panels[0, k].imshow(image[0], cmap="gray")
        drawn = panels[1, k].imshow(bits[k], cmap="magma", vmin=0, vmax=8)
        panels[0, k].set_title(f"{'damaged: ' if k == 3 else ''}{bits[k].sum():.0f} bits", **STYLE)
        _bare(panels[0, k])
        _bare(panels[1, k])
    figure.colorbar(drawn, ax=panels[1].tolist(), label="bits per pixel", extend="max")
    return _rendered(figure)


FIGURES: dict[str, Callable[[], Image.Image]] = {
    "masks": masks,
    "receptive-fields": receptive_fields,
    "wavefront": wavefront,
    "growing": growing,
    "completions": completions,
    "surprise": surprise,
}


def _figure(width: float, height: float, panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout=_LAYOUT, facecolor="white")
    return figure, list(np.ravel(figure.subplots(1, panels)))


def _cells(axes: Axes, values: np.ndarray, colours: list[str]) -> None:
    """Squares with white lines between, the colour of each by its integer."""
    axes.imshow(values, cmap=ListedColormap(colours), vmin=0, vmax=len(colours) - 1)
    _grid(axes, values.shape, "white")


def _grid(axes: Axes, shape: tuple[int, ...], colour: str) -> None:
    _bare(axes)
    for y in range(shape[0] + 1):
        axes.axhline(y - 0.5, color=colour, linewidth=1)
    for x in range(shape[1] + 1):
        axes.axvline(x - 0.5, color=colour, linewidth=1)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(figure: Figure, colours: dict[str, str], outlined: str = "") -> None:
    handles = [Patch(facecolor=colour, edgecolor="#b7bdc6", label=name) for name, colour in colours.items()]
    if outlined:
        handles.append(Patch(fill=False, edgecolor=BLIND, linewidth=2.5, label=outlined))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=11)


def _rendered(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer).convert("RGB")


def main(names: list[str]) -> None:
    """Writes the named figures, or all."""
    if unknown := sorted(set(names) - set(FIGURES)):
        sys.exit(f"unknown figures {', '.join(unknown)}; known: {', '.join(FIGURES)}")
    for name in names or FIGURES:
        path = FOLDER / f"how-{name}.png"
        picture = FIGURES[name]()
        picture.save(path, optimize=True)
        print(f"{path.name}: {picture.width} x {picture.height}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
