"""The lossless codec beside other formats, and its entropy coder beside constriction's.

    python benchmarks/codec.py [--images 10000] [--one-by-one 10000] [--threads 2] [--out benchmarks-out]

MNIST's test images, thresholded and with 256 levels, as one file for all; the former also as a file for each.
Everything is decoded and compared; one that differs ends the script with an error. Photographs are measured by
photographs.py. The other formats come with `pip install 'pixelcnn[codecs]'` and Debian's jbigkit-bin; what is not
installed is named and left out. Writes codec.md, codec.json and codec.png into the folder `--out`. A quarter of an hour
on two cores.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

import pixelcnn
from formats import Format, formats
from machine import Machine
from pixelcnn.benchmark import matrix_rate
from pixelcnn.exact import prepare
from pixelcnn.files import write_file
from plots import plot_codec
from table import duration, markdown
from yardstick import text_of as text_of_coders
from yardstick import yardstick

HEADER = 56 + 8
"""Of our streams: the header, and a chunk's length and checksum."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compress."""

    images: int = 10_000
    """The first so many test images of MNIST."""
    one_by_one: int = 10_000
    """The first so many of those in black and white also as a file each; 0 for none."""
    gray: bool = True
    """MNIST with 256 levels, too."""
    coder: int = 500
    """Images for the comparison of the coders; a fifth of it with 256 levels."""
    threads: int = torch.get_num_threads()
    """For our codec, for JPEG XL, and for files one by one."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """Ours with a model, or another, on some images."""

    name: str
    ours: bool
    encode: Callable[[slice], bytes]
    """Of some of the images, one file."""
    decode: Callable[[bytes, slice], Callable[[], bool]]
    """Of a file and what is in it; what it returns says whether that is what was encoded, and is not timed."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A codec's files, all together."""

    codec: str
    ours: bool
    size: int
    """Bytes."""
    encode: float
    """Seconds."""
    decode: float


@dataclass(frozen=True, kw_only=True)
class Table:
    """Codecs on the same images."""

    title: str
    images: int
    subpixels: int
    """Of an image."""
    together: list[Measured]
    """All in one file."""
    alone: int
    """The first so many images were coded a file each, too."""
    each: list[Measured]
    absent: list[str]
    """Who is missing, and why."""


def ours(name: str, model: str, images: Tensor, labels: Tensor | None = None) -> Codec:
    """The codec with a model, ready to be timed."""
    prepared = prepare(pixelcnn.load(model))

    def encode(part: slice) -> bytes:
        return pixelcnn.compress(prepared, images[part], None if labels is None else labels[part])

    def decode(data: bytes, part: slice) -> Callable[[], bool]:
        found, classes = pixelcnn.codec.decompress_with_labels(prepared, data)

        def same() -> bool:
            alike = labels is None or (classes is not None and torch.equal(classes, labels[part]))
            return alike and torch.equal(found, images[part])

        return same

    decode(encode(slice(1)), slice(1))  # compiles what is not compiled yet
    return Codec(name=f"ours, {name}", ours=True, encode=encode, decode=decode)


def other(of: Format, images: NDArray[np.uint8]) -> Codec:
    """Another, on images (N, H, W, C)."""

    def decode(data: bytes, part: slice) -> Callable[[], bool]:
        found = of.decode(data, images[part].shape)
        return lambda: np.array_equal(found, images[part])

    return Codec(name=of.name, ours=False, encode=lambda part: of.encode(images[part]), decode=decode)


def measure(title: str, images: Tensor, levels: int, own: Sequence[Codec], alone: int, threads: int) -> Table:
    """All codecs on images (N, C, H, W), `alone` of them also a file each."""
    array = images.permute(0, 2, 3, 1).contiguous().numpy()
    others, absent = formats(levels, images.shape[1], threads)
    alone = min(alone, len(images))
    together: list[Measured] = []
    each: list[Measured] = []
    for codec in [*own, *(other(of, array) for of in others)]:
        together.append(_measured(title, codec, [slice(len(images))], threads))
        if alone:
            each.append(_measured(title, codec, [slice(k, k + 1) for k in range(alone)], threads))
    return Table(
        title=title, images=len(images), subpixels=array[0].size, together=together, alone=alone, each=each,
        absent=absent,
    )  # fmt: skip


def _measured(title: str, codec: Codec, parts: Sequence[slice], threads: int) -> Measured:
    """One codec, a file a part, several at a time.

    Raises:
        SystemExit: If it does not give back what it was given.
    """
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        files = list(pool.map(codec.encode, parts))
        between = time.perf_counter()
        same = list(pool.map(codec.decode, files, parts))
        ended = time.perf_counter()
    if not all(check() for check in same):
        raise SystemExit(f"{codec.name} does not give back what it was given: {title}")
    size, encode, decode = sum(map(len, files)), between - started, ended - between
    print(f"{title}, {codec.name}, {len(parts)} files: {size} bytes, {encode:.2f} s, {decode:.2f} s", flush=True)
    return Measured(codec=codec.name, ours=codec.ours, size=size, encode=encode, decode=decode)


def text_of(table: Table) -> str:
    """As Markdown."""
    parts = [
        f"### {table.title}\n\n{table.images:,} images in one file:\n\n{_rows(table, table.together, table.images)}"
    ]
    if table.each:
        parts.append(f"The first {table.alone:,}, a file each:\n\n{_rows(table, table.each, table.alone, header=True)}")
    if table.absent:
        parts.append("\n".join(f"- not here: {reason}." for reason in table.absent))
    return "\n\n".join(parts) + "\n"


def _rows(table: Table, measured: Sequence[Measured], images: int, *, header: bool = False) -> str:
    """Ours, then the others from the smallest, each against the first of ours."""
    first = next(m.size for m in measured if m.ours)
    columns = ["codec", "bytes", "per image", "bits per sub-pixel", "times ours", "encode", "decode"]
    if header:
        columns.insert(3, "without our header")
    rows = []
    for m in sorted(measured, key=lambda m: 0 if m.ours else m.size):
        bare = m.size - HEADER * images
        row = [f"**{m.codec}**" if m.ours else m.codec, f"{m.size:,}", f"{m.size / images:.2f}"]
        row += [f"{bare / images:.2f}" if m.ours else ""] if header else []
        row += [f"{8 * m.size / images / table.subpixels:.4f}", f"{m.size / first:.2f}"]
        rows.append([*row, duration(m.encode), duration(m.decode)])
    return markdown(columns, rows)


def tables(options: Options) -> Iterable[Table]:
    """One after another."""
    threads = options.threads
    images, labels = (part[: options.images] for part in pixelcnn.datasets.mnist("test"))
    own = [ours("`mnist-seed`", "mnist-seed", images), ours("`mnist` and the classes", "mnist", images, labels)]
    yield measure("MNIST, thresholded", images, 2, own, options.one_by_one, threads)
    if options.gray:
        images = pixelcnn.datasets.mnist("test", 256)[0][: options.images]
        yield measure("MNIST, 256 levels", images, 256, [ours("`mnist-gray`", "mnist-gray", images)], 0, threads)


def main(options: Options) -> None:
    """Measures and writes.

    Raises:
        SystemExit: If images do not come back.
    """
    torch.set_num_threads(options.threads)
    cpu = torch.device("cpu")
    machine, rates = Machine.of(cpu), [matrix_rate(cpu)]
    found = list(tables(options))
    coders = {}
    for name, levels, count in (("mnist-seed", 2, options.coder), ("mnist-gray", 256, options.coder // 5)):
        if count and (levels == 2 or options.gray):
            images = pixelcnn.datasets.mnist("test", levels)[0][:count]
            coders[f"{count} images by `{name}`"] = yardstick(prepare(pixelcnn.load(name)), images)
    rates.append(matrix_rate(cpu))
    text = (
        f"{machine.conditions(rates)}\n\nThreads of ours, of JPEG XL and for files one by one: {options.threads}.\n\n"
    )
    text += "\n".join(map(text_of, found))
    for title, (symbols, content, rows) in coders.items():
        text += f"\n### The coders, {title}\n\n{symbols:,} symbols:\n\n{text_of_coders(symbols, content, rows)}\n"
    print(f"\n{text}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(options.out / "codec.md", text)
    about = {"machine": dataclasses.asdict(machine), "rates": rates, "threads": options.threads}
    report = {**about, "tables": [dataclasses.asdict(table) for table in found]}
    report["coders"] = {
        title: {"symbols": symbols, "bytes": content, "rows": [dataclasses.asdict(row) for row in rows]}
        for title, (symbols, content, rows) in coders.items()
    }
    write_file(options.out / "codec.json", json.dumps(report, indent=2) + "\n")
    shown = [(t.title, [(m.codec, m.size / t.images, m.ours) for m in t.together]) for t in found]
    plot_codec(shown, options.out / "codec.png")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
