"""Photographs without loss: `photos` beside PNG, WebP and JPEG XL, a file for each picture.

    python benchmarks/photographs.py [--data trained/photographs] [--model photos] [--threads 2] [--out benchmarks-out]

On the photographs that were held out in training, on those of another source, which the model has not seen either
(runs/photos_data.py fetches both), and on screenshots, for which it was not made: docs/images of this repository.
Everything is decoded and compared; one that differs ends the script with an error. Times are of encoding and decoding
from memory to memory, ours without the reading of the model, which is done once; AVIF's include a process for each
picture, and the PNG file that it reads or writes. JPEG XL comes with `pip install 'pixelcnn[codecs]'`, AVIF with
Debian's libavif-bin; what is not installed is named and left out. Writes photographs.md and photographs.json into the
folder `--out`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image

import pixelcnn
from formats import Format, formats
from machine import ROOT, Machine
from pixelcnn.exact import prepare
from pixelcnn.files import write_file
from table import markdown

Pixels = NDArray[np.uint8]
"""A picture (H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compress."""

    data: Path = Path("trained/photographs")
    """The folder of runs/photos_data.py."""
    model: str = "photos"
    """A model of colour pictures of any size."""
    screenshots: Path = ROOT / "docs/images"
    """A folder of screenshots, app-*.png."""
    most: int = 0
    """Pictures of each kind; 0 for all."""
    threads: int = torch.get_num_threads()
    """For our codec, and for JPEG XL."""
    out: Path = Path("benchmarks-out")
    """Folder of the results."""


@dataclass
class Total:
    """A format's files of one kind of picture."""

    name: str
    size: int = 0
    encode: float = 0.0
    decode: float = 0.0


def codec_of(name: str) -> Format:
    """The codec with a model."""
    model = prepare(pixelcnn.load(name))

    def encode(images: Pixels) -> bytes:
        own = model.resized((images.shape[1], images.shape[2]))
        return pixelcnn.compress(own, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))

    def decode(data: bytes, shape: tuple[int, ...]) -> Pixels:
        own = model.resized((shape[1], shape[2]))
        found: Pixels = pixelcnn.decompress(own, data).permute(0, 2, 3, 1).numpy()
        return found

    return Format(name=f"pixelcnn {name}", encode=encode, decode=decode)


def measured(pictures: list[Path], codecs: list[Format]) -> tuple[list[Total], int]:
    """The totals of each codec, and the number of values."""
    totals, values = [Total(codec.name) for codec in codecs], 0
    for path in pictures:
        images = np.asarray(Image.open(path).convert("RGB"))[None]
        values += images.size
        for codec, total in zip(codecs, totals, strict=True):
            start = time.perf_counter()
            data = codec.encode(images)
            between = time.perf_counter()
            found = codec.decode(data, images.shape)
            total.decode += time.perf_counter() - between
            total.encode += between - start
            total.size += len(data)
            if not np.array_equal(found, images):
                raise SystemExit(f"{codec.name} does not restore {path}")
        print(f"{path.name}: {images.shape[2]} x {images.shape[1]}", flush=True)
    return totals, values


def main(options: Options) -> None:
    """Measures, prints and writes."""
    torch.set_num_threads(options.threads)
    machine = Machine.of(torch.device("cpu"))  # before the load is our own
    others, absent = formats(256, 3, options.threads, efforts=(7, 9))
    codecs = [codec_of(options.model), *(codec for codec in others if not codec.general)]
    small = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    for codec in codecs:  # compiles, loads libraries
        codec.decode(codec.encode(small), small.shape)
    kinds = {
        "held-out photographs": sorted((options.data / "held-out").glob("*.png")),
        "photographs of another source": sorted((options.data / "other").glob("*.png")),
        "screenshots": sorted(options.screenshots.glob("app-*.png")),
    }
    text, results = [f"{machine}, commit {machine.commit}, load {machine.load:.1f} before\n"], {}
    for kind, every in kinds.items():
        pictures = every[: options.most] if options.most else every
        if not pictures:
            fetched = "" if kind == "screenshots" else "; runs/photos_data.py fetches them"
            absent.append(f"{kind}: there are none{fetched}")
            continue
        totals, values = measured(pictures, codecs)
        megapixels = values / 3e6
        text.append(f"{len(pictures)} {kind}, {megapixels:.1f} megapixels\n")
        rows = [
            [
                total.name, f"{total.size:,}", f"{8 * total.size / values:.3f}", f"{total.size / totals[0].size:.3f}",
                f"{total.encode / megapixels:.2f}", f"{total.decode / megapixels:.2f}",
            ]
            for total in totals
        ]  # fmt: skip
        headings = ["format", "bytes", "bits per value", "relative", "encoding, s/MP", "decoding, s/MP"]
        text.append(markdown(headings, rows) + "\n")
        results[kind] = {"values": values, "formats": [vars(total) for total in totals]}
    text += [f"Left out: {each}\n" for each in absent]
    print("\n".join(text))
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(options.out / "photographs.md", "\n".join(text).encode())
    write_file(options.out / "photographs.json", json.dumps(results, indent=2).encode())


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
