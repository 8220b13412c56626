"""`pixelcnn compress`: files as about as many bytes as a model's likelihood says."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.config import Layout

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.codec.gather import Gathered
    from pixelcnn.exact import PreparedModel
    from pixelcnn.models import AutoregressiveModel

__all__ = ["Compress"]


@dataclass(frozen=True, kw_only=True)
class Compress:
    """Compress images without loss, to about as many bytes as the model's likelihood says.

    `pixelcnn decompress` makes the files again, on any machine, with the same model. What cannot be kept as it is, is
    refused: pictures must have the model's size and its levels (a model of 2 levels takes black and white). Names,
    pixels, orientation, and whether they are black and white, grey or in colour are kept; other metadata are not, and
    files other than PNG, TIFF, BMP and PNM come back as PNG.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub,
    user/name or user/name@revision."""
    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN...")]
    """Picture files, folders of them at any depth, .npy or .npz files of levels, or data as for `pixelcnn evaluate`
    (mnist:test)."""
    out: Path | None = None
    """The stream's file; by default that of the first IN with the ending .pxcn, in this folder."""
    classes: Literal["given", "best", "none"] = "given"
    """Of a class-conditional model: `given` codes the classes that came with the images, if there are any; `best` finds
    the class that makes each image smallest, which takes a pass for each class; `none` codes without."""
    chunk: int | None = None
    """Images that can be decoded without the rest, and that damage is confined to: smaller is safer, and costs 16 bytes
    each; by default as many as have a million values."""
    layout: Layout | None = None
    """What the axes of an array are, where the model's shape does not say."""
    verify: bool = True
    """Decode again and compare before anything is written."""
    device: str = "cpu"
    """`cpu`, `auto` (CUDA where there is one), `cuda` or `cuda:N`; the bytes are the same."""

    def run(self) -> None:
        """Compresses, verifies and writes."""
        from pixelcnn.codec import compress
        from pixelcnn.codec.entries import notes_of
        from pixelcnn.codec.gather import gather
        from pixelcnn.devices import device_of
        from pixelcnn.exact import prepare
        from pixelcnn.files import printable, writable_file, write_file
        from pixelcnn.models.base import load

        if not self.sources:
            raise ValueError("IN must be files, folders or data, got none")
        model = load(self.model).to(device_of(self.device))
        classes: int | None = getattr(model.config, "num_classes", None)
        if self.classes == "best" and classes is None:
            raise ValueError(f"--classes best needs a class-conditional model, and {self.model} has no classes")
        out = self.out or Path(f"{_stem(self.sources[0])}.pxcn")
        if out.is_dir():
            raise ValueError(f"--out must be a file, and {out} is a folder")
        writable_file(out)
        prepared = prepare(model)
        found = gather(self.sources, model.image_shape, model.levels, classes, self.layout, progress=True)
        labels, kept = self._labels(model, found, classes)
        started = time.perf_counter()
        notes = notes_of(found.entries, kept, printable(self.model))
        data = compress(prepared, found.images, labels, chunk=self.chunk, notes=notes, progress=True)
        seconds = time.perf_counter() - started
        if self.verify:
            _verify(prepared, data, found.images, labels)
        write_file(out, data)
        self._report(model, found, labels, data, seconds, out)

    def _labels(
        self, model: AutoregressiveModel, found: Gathered, classes: int | None
    ) -> tuple[Tensor | None, Literal["given", "chosen"] | list[int] | None]:
        """The classes that are coded, and what the notes say of them."""
        import torch

        from pixelcnn.progress import progress_bar

        given = found.labels
        fitting = given is not None and classes is not None and int(given.max()) < classes
        if fitting and self.classes == "given":
            return given, "given"
        kept = None if given is None else given.tolist()
        if self.classes != "best":
            return None, kept
        parts = []
        with torch.inference_mode(), progress_bar("choosing classes", len(found.images), "img", show=True) as bar:
            for part in torch.split(found.images, 256):
                parts.append(model.classify(part.to(model.device)).argmax(1).cpu())
                bar.update(len(part))
        return torch.cat(parts), "chosen" if kept is None else kept

    def _report(
        self, model: AutoregressiveModel, found: Gathered, labels: Tensor | None, data: bytes, seconds: float, out: Path
    ) -> None:
        import math

        import torch

        from pixelcnn.progress import progress_bar

        count, values, nats = len(found.images), found.images.numel(), 0.0
        with torch.inference_mode(), progress_bar("measuring", count, "img", show=True) as bar:
            for start in range(0, count, 256):
                part = found.images[start : start + 256].to(model.device)
                nats -= float(
                    model.log_prob(part, None if labels is None else labels[start : start + 256]).double().sum()
                )
                bar.update(len(part))
        bits = nats / math.log(2)
        classes = getattr(model.config, "num_classes", None)
        told = 0.0 if labels is None else count * math.log2(classes or 1)
        likely = (bits + told) / 8
        c, h, w = model.image_shape
        print(f"{count:,} images of {c} x {h} x {w} in {model.levels} levels, {len(found.entries):,} files: {out}")
        print(f"{len(data):,} bytes, {len(data) / count:.2f} an image, {8 * len(data) / values:.4f} bits/dim")
        more = f"{len(data) / likely - 1:+.2%}"
        print(f"{likely:,.0f} bytes, {(bits + told) / values:.4f} bits/dim by the model's likelihood: {more}")
        packed = math.ceil(values * math.log2(model.levels) / 8)
        smaller = f"1 : {packed / len(data):.1f} of the bare values ({packed:,} bytes)"
        if found.file_bytes:
            smaller += f", 1 : {found.file_bytes / len(data):.1f} of the files ({found.file_bytes:,} bytes)"
        print(smaller)
        if found.changes:
            print("not kept: " + "; ".join(f"{what} of {n:,} files" for what, n in found.changes.items()))
        checked = "decoded again and compared" if self.verify else "not verified"
        print(f"{seconds:.1f} s, {count / seconds:,.0f} images a second; {checked}")


def _stem(source: str) -> str:
    from pixelcnn.datasets import name_of

    return Path(source).stem if Path(source).is_file() else name_of(source)


def _verify(prepared: PreparedModel, data: bytes, images: Tensor, labels: Tensor | None) -> None:
    import torch

    from pixelcnn.codec import decompress_with_labels

    found, classes = decompress_with_labels(prepared, data, progress=True, most_bytes=images.numel() + 8 * len(images))
    same = torch.equal(found, images) and (labels is None or (classes is not None and torch.equal(classes, labels)))
    if not same:
        raise ValueError(
            "what was compressed does not decode to the same images, so nothing is written: please report it"
        )
