"""What was measured, as rows, and rows as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Row", "duration", "markdown", "sampling_table", "short", "training_table"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A competitor at a batch size: all its measurements, or why there are none."""

    competitor: str
    batch: int
    about: str = ""
    steps: int = 0
    """Steps of a whole batch."""
    taken: int = 0
    """Steps that each measurement took."""
    seconds: tuple[float, ...] = ()
    """What `taken` steps took, each time."""
    prepare_seconds: float = 0.0
    """The first steps of the process, compilation included."""
    peak_bytes: int = 0
    absent: str = ""
    """Why it could not run here."""

    @property
    def whole_seconds(self) -> list[float]:
        """What all steps take, scaled from those taken."""
        return [s * self.steps / self.taken for s in self.seconds]

    @property
    def median(self) -> float:
        """Median of `whole_seconds`."""
        return statistics.median(self.whole_seconds)


def short(x: float) -> str:
    """Three significant digits, never an exponent."""
    return f"{x:,.{max(0, 2 - math.floor(math.log10(x)))}f}" if x > 0 else "0"


def duration(seconds: float) -> str:
    """In seconds, milliseconds or microseconds."""
    unit, factor = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)
    return f"{short(seconds * factor)} {unit}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns are aligned in the source too."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def sampling_table(rows: Sequence[Row], *, ours: str, gflop: float, rate: float) -> str:
    """The rows with each one's ratio to `ours` at the same batch.

    Args:
        rows: What was measured.
        ours: The competitor that the others are compared with.
        gflop: Useful arithmetic of an image in 1e9 operations.
        rate: The machine's matrix-product rate in GFLOP/s.
    """
    own = {row.batch: row.median for row in rows if row.competitor == ours and row.seconds}
    lines = []
    for row in (row for row in rows if row.seconds):
        whole, useful = row.whole_seconds, gflop * row.batch / row.median
        lines.append(
            (
                str(row.batch),
                row.competitor,
                str(row.steps) if row.taken == row.steps else f"{row.taken} of {row.steps}, scaled",
                duration(row.median),
                f"{duration(min(whole))} .. {duration(max(whole))} ({len(whole)})",
                duration(row.median / row.batch),
                short(row.median / own[row.batch]) if row.batch in own else "-",
                short(useful),
                f"{short(100 * useful / rate)} %",
                f"{row.peak_bytes / 2**20:,.0f} MiB",
            )
        )
    header = ["batch", "competitor", "steps", "median", "min .. max (runs)", "per image"]
    header += [f"times {ours}", "useful GFLOP/s", "of the machine's", "peak memory"]
    text = markdown(header, lines)
    about = {row.competitor: row.about for row in rows if row.about}
    text += "\n" + "".join(f"\n- **{name}**: {what}." for name, what in about.items())
    text += _absent(rows)
    compiling = [
        f"{short(r.prepare_seconds)} s at batch {r.batch}"
        for r in rows
        if r.competitor == "pytorch-compile" and r.seconds
    ]
    if compiling:
        text += f"\n- Not counted: compiling `pytorch-compile`, {', '.join(compiling)}."
    return text


def training_table(rows: Sequence[Row], *, ours: str, gflop: float, rate: float) -> str:
    """The rows, of training steps, with each one's ratio to `ours` at the same batch; arguments as for sampling."""
    own = {row.batch: row.median for row in rows if row.competitor == ours and row.seconds}
    lines = []
    for row in (row for row in rows if row.seconds):
        each, useful = row.whole_seconds, gflop * row.batch / row.median
        lines.append(
            (
                str(row.batch),
                row.competitor,
                duration(row.median),
                f"{duration(min(each))} .. {duration(max(each))} ({len(each)})",
                short(row.batch / row.median),
                short(row.median / own[row.batch]) if row.batch in own else "-",
                short(useful),
                f"{short(100 * useful / rate)} %",
                f"{row.peak_bytes / 2**20:,.0f} MiB",
            )
        )
    header = ["batch", "competitor", "median per step", "min .. max (turns)", "images/s", f"times {ours}"]
    text = markdown([*header, "useful GFLOP/s", "of the machine's", "peak memory"], lines)
    about = {row.competitor: row.about for row in rows if row.about}
    return text + "\n" + "".join(f"\n- **{name}**: {what}." for name, what in about.items()) + _absent(rows)


def _absent(rows: Sequence[Row]) -> str:
    """Who is missing, and why."""
    text = ""
    for name, why in dict.fromkeys((row.competitor, row.absent) for row in rows if row.absent):
        batches = ", ".join(str(row.batch) for row in rows if (row.competitor, row.absent) == (name, why))
        text += f"\n- **{name}** is not here at batch {batches}: {why}."
    return text
