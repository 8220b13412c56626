"""The tables as pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pixelcnn.files import write_file
from table import Row

__all__ = ["plot_codec", "plot_sampling", "plot_scaling"]

_STYLES = {  # colour says what computes, line and marker say how
    "keras-tensorflow": ("#b5443a", "o", "-"),
    "keras-jax": ("#b5443a", "s", "--"),
    "pytorch": ("#c98a1b", "o", "-"),
    "pytorch-compile": ("#c98a1b", "s", "--"),
    "raster": ("#5b7fa6", "o", "-"),
    "eager": ("#2b6a4d", "s", "--"),
    "fast": ("#2b6a4d", "o", "-"),
}


def plot_sampling(rows: Sequence[Row], title: str, path: Path) -> None:
    """Seconds per image against the batch size, a line for each competitor."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    drawn = [row for row in rows if row.seconds]
    for name in dict.fromkeys(row.competitor for row in drawn):
        # where a competitor ran both in part and in full, the later row is the full one
        by_batch = {row.batch: row for row in drawn if row.competitor == name}
        ordered = [by_batch[batch] for batch in sorted(by_batch)]
        colour, marker, line = _STYLES[name]
        x = [row.batch for row in ordered]
        axes.plot(x, [r.median / r.batch for r in ordered], line, color=colour, marker=marker, markersize=5, label=name)
        low = [min(r.whole_seconds) / r.batch for r in ordered]
        axes.fill_between(x, low, [max(r.whole_seconds) / r.batch for r in ordered], color=colour, alpha=0.15, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="images drawn together", ylabel="seconds per image")
    _clean(axes, sorted({row.batch for row in drawn}), title)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    _write(figure, path)


def plot_scaling(
    sides: Sequence[tuple[int, float, float]], depths: Sequence[tuple[int, float, float]], title: str, path: Path
) -> None:
    """Microseconds per pixel against the image's side and against depth.

    Args:
        sides: Side, what `fast` takes, what one full forward pass per pixel takes.
        depths: Residual blocks and the same.
        title: The hardware.
        path: A PNG file.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = (("image side", sides), ("residual blocks", depths))
    for axes, (label, points) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        x = [point[0] for point in points]
        for column, name in ((2, "pytorch"), (1, "fast")):
            colour, marker, line = _STYLES[name]
            y = [point[column] for point in points]
            axes.plot(x, y, line, color=colour, marker=marker, markersize=5, label=name)
        axes.set(xscale="log", yscale="log", xlabel=label)
        _clean(axes, x, "")
    figure.axes[0].set_ylabel("microseconds per pixel")
    figure.axes[0].legend(frameon=False)
    figure.suptitle(title, fontsize=9, color="#555555", x=0.01, ha="left")
    _write(figure, path)


def plot_codec(tables: Sequence[tuple[str, Sequence[tuple[str, float, bool]]]], path: Path) -> None:
    """Bytes per image, a bar for each codec, a panel for each kind of image.

    Args:
        tables: A title and, for each codec, its name, its bytes per image and whether it is ours.
        path: A PNG file.
    """
    most = max(len(bars) for _, bars in tables)
    figure = Figure(figsize=(8, 0.6 + len(tables) * (0.6 + 0.24 * most)), layout="constrained")
    for axes, (title, bars) in zip(figure.subplots(len(tables), 1, squeeze=False).flat, tables, strict=True):
        ordered = sorted(bars, key=lambda bar: bar[1])
        colours = [_STYLES["fast" if bar[2] else "raster"][0] for bar in ordered]
        names = [bar[0].replace("`", "") for bar in ordered]
        drawn = axes.barh(names, [bar[1] for bar in ordered], color=colours)
        axes.bar_label(drawn, [f"{bar[1]:,.1f}" for bar in ordered], padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.08)
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_title(f"{title}: bytes per image, all in one file", fontsize=9, color="#555555", loc="left")
    _write(figure, path)


def _clean(axes: Axes, ticks: Sequence[int], title: str) -> None:
    axes.set_title(title, fontsize=9, color="#555555", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))


def _write(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=160)
    write_file(path, picture.getvalue())
