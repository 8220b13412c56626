"""`pixelcnn compress` and `pixelcnn decompress`: image files as one small stream, and back, bit for bit."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.codec import Header
    from pixelcnn.codec.archive import FileImages
    from pixelcnn.codec.manifest import Entry
    from pixelcnn.exact import PreparedModel
    from pixelcnn.models import AutoregressiveModel


@dataclass(frozen=True, kw_only=True)
class Compress:
    """Compress images without loss, to about as many bytes as the model's likelihood implies.

    With the same model, `pixelcnn decompress` restores the files on any machine. What cannot be kept exactly is
    refused: pictures must have the model's levels (a model of 2 levels takes black and white) and, unless its network
    is good for any, its size. Names,
    pixels, orientation, and whether pictures are black and white, grey or in colour are kept; other metadata are not,
    and files other than PNG, TIFF, BMP and PNM come back as PNG. The bytes are the same on every device.
    """

    model: options.ModelName
    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN...")]
    """Picture files, folders of them at any depth, .npy or .npz files of levels, or data as for `pixelcnn evaluate`
    (mnist:test)."""
    out: Path | None = None
    """The stream's file; by default named like the first IN with the suffix .pxcn, in this folder."""
    classes: Literal["given", "best", "none"] = "given"
    """For a class-conditional model: `given` codes the classes that came with the images, if any; `best` finds the
    class that makes each image smallest, which takes one pass per class; `none` codes without classes."""
    chunk: int | None = None
    """Images per chunk, which can be decoded without the rest and to which damage is confined: smaller chunks are
    safer, and each costs 16 bytes; by default as many images as have a million values."""
    layout: options.Layout = None
    condition: Annotated[
        str | None,
        tyro.conf.arg(
            help="For a model that is conditional on a map or a vector, as for `pixelcnn train`: with `shrink:S` the "
            "small pictures are coded first, then the images given them; of anything else, which is not coded, "
            "`pixelcnn decompress` needs the same."
        ),
    ] = None
    verify: bool = True
    """Decode the stream and compare before anything is written."""
    device: options.Device = "cpu"

    def run(self) -> None:
        """Compresses, verifies and writes."""
        from pixelcnn.codec import compress, joined
        from pixelcnn.codec.archive import read_files
        from pixelcnn.codec.container import maps_of
        from pixelcnn.codec.manifest import names_of, notes_of
        from pixelcnn.datasets import name_of
        from pixelcnn.exact import prepare
        from pixelcnn.files import printable, writable_file, write_file

        if not self.sources:
            raise ValueError("IN must be files, folders or data, got none")
        model = options.loaded(self.model, self.device)
        classes = model.num_classes
        if self.classes == "best" and classes is None:
            raise ValueError(f"--classes best needs a class-conditional model, and {self.model} has no classes")
        first = self.sources[0]
        out = self.out or Path(f"{Path(first).stem if Path(first).is_file() else name_of(first)}.pxcn")
        if out.is_dir():
            raise ValueError(f"--out must be a file, and {out} is a folder")
        writable_file(out)
        prepared = prepare(model)
        groups = read_files(
            self.sources, model.image_shape, model.levels, classes, self.layout, any_size=model.any_size, progress=True
        )
        streams, seconds, bits, small = [], 0.0, 0.0, 0
        for files in groups:
            height, width = files.images.shape[2:]
            own, exact = model, prepared
            if (height, width) != model.image_shape[1:]:
                own, exact = model.resized((height, width)), prepared.resized((height, width))
            labels, noted = self._labels(own, files, classes)
            started = time.perf_counter()
            notes = notes_of(files.entries, noted, printable(self.model))
            maps = options.condition_of(self.condition, own, self.model, files.images, names_of(files.entries))
            shrunk = self.condition is not None and self.condition.startswith("shrink:")
            given = self.condition if shrunk else maps
            streams.append(
                compress(exact, files.images, labels, condition=given, chunk=self.chunk, notes=notes, progress=True)
            )
            seconds += time.perf_counter() - started
            if self.verify:
                _verify(exact, streams[-1], files.images, labels, None if shrunk else maps)
            small += len(maps_of(streams[-1])) if shrunk else 0
            bits += _ideal_bits(own, files, labels, maps)
        data = joined(streams)
        write_file(out, data)
        self._report(model, groups, bits + 8 * small, data, seconds, out)
        if small:
            print(f"{small:,} bytes are those of the small pictures")

    def _labels(
        self, model: AutoregressiveModel, files: FileImages, classes: int | None
    ) -> tuple[Tensor | None, Literal["given", "chosen"] | list[int] | None]:
        """The classes to code, and what the notes record of classes."""
        given = files.labels
        if self.classes == "given" and given is not None and classes is not None and int(given.max()) < classes:
            return given, "given"
        noted = None if given is None else given.tolist()
        if self.classes != "best":
            return None, noted
        chosen = options.class_posteriors(model, files.images, "choosing classes").argmax(1)
        return chosen, "chosen" if noted is None else noted

    def _report(
        self,
        model: AutoregressiveModel,
        groups: list[FileImages],
        bits: float,
        data: bytes,
        seconds: float,
        out: Path,
    ) -> None:
        count, size = sum(len(files.images) for files in groups), len(data)
        values, file_bytes = (
            sum(column) for column in zip(*((f.images.numel(), f.file_bytes) for f in groups), strict=True)
        )
        c, h, w = groups[0].images.shape[1:]
        shape = f"{c} x {h} x {w}" if len(groups) == 1 else f"{len(groups)} sizes"
        number = sum(len(files.entries) for files in groups)
        print(f"{count:,} images of {shape} in {model.levels} levels, {number:,} files: {out}")
        print(f"{size:,} bytes, {size / count:.2f} per image, {8 * size / values:.4f} bits/dim")
        print(
            f"{bits / 8:,.0f} bytes, {bits / values:.4f} bits/dim by the model's likelihood: {8 * size / bits - 1:+.2%}"
        )
        bare = math.ceil(values * math.log2(model.levels) / 8)
        ratios = f"1 : {bare / size:.1f} of the bare values ({bare:,} bytes)"
        if file_bytes:
            ratios += f", 1 : {file_bytes / size:.1f} of the files ({file_bytes:,} bytes)"
        print(ratios)
        dropped: Counter[str] = Counter()
        for files in groups:
            dropped.update(files.dropped)
        if dropped:
            print("not kept: " + "; ".join(f"{what} of {n:,} files" for what, n in dropped.items()))
        checked = "decoded again and compared" if self.verify else "not verified"
        print(f"{seconds:.1f} s, {count / seconds:,.0f} images/s; {checked}")


def _ideal_bits(
    model: AutoregressiveModel, files: FileImages, labels: Tensor | None, condition: Tensor | None
) -> float:
    """What images and labels take by the model's likelihood, in bits."""
    from pixelcnn.scoring import score

    found = score(model, files.images, labels, condition=condition, progress=True)
    bits = -float(found.log_prob.sum()) / math.log(2)
    return bits if labels is None else bits + len(files.images) * math.log2(model.num_classes or 1)


def _verify(
    prepared: PreparedModel, data: bytes, images: Tensor, labels: Tensor | None, condition: Tensor | None
) -> None:
    """Raises ValueError if a stream does not decode to its images and labels."""
    import torch

    from pixelcnn.codec import decompress_with_labels

    most = images.nbytes + 8 * len(images)
    found, classes = decompress_with_labels(prepared, data, condition=condition, progress=True, most_bytes=most)
    same = torch.equal(found, images) and (labels is None or (classes is not None and torch.equal(classes, labels)))
    if not same:
        raise ValueError(
            "what was compressed does not decode to the same images, so nothing is written: please report it"
        )


@dataclass(frozen=True, kw_only=True)
class Decompress:
    """Restore the files that `pixelcnn compress` was given.

    The model is found by its identity among those given or, if none is, among the shipped ones; for a stream that needs
    another model, the error says which. The folder appears when all is there and checked, or not at all. The files are
    the same on every device.
    """

    stream: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL...] FILE")]
    """The stream's file, preceded by the models to choose from, as for `pixelcnn compress`."""
    out: Path | None = None
    """The folder for the files, new or empty; by default named like FILE."""
    salvage: bool = False
    """If the stream is damaged, write what can still be decoded, and say what is lost."""
    condition: str | None = None
    """What `pixelcnn compress` was given, unless that was shrink:S or nothing."""
    device: options.Device = "cpu"

    def run(self) -> None:
        """Decodes and writes."""
        from pixelcnn.codec import find_model, read_header, separated
        from pixelcnn.codec.archive import restored_files
        from pixelcnn.codec.manifest import check_names, entries_of, labels_of
        from pixelcnn.devices import device_of
        from pixelcnn.files import check_no_pointer, new_folder, write_file

        if not self.stream:
            raise ValueError("FILE must be a stream that pixelcnn compress wrote, got none")
        *models, file = self.stream
        path = Path(file)
        if not path.is_file():
            raise ValueError(f"there is no file {file!r}")
        out = self.out or Path(path.stem if path.suffix else f"{path.name}-files")
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} exists and is not an empty folder; choose another with --out")
        data = path.read_bytes()
        check_no_pointer(data, path)
        streams = [(stream, read_header(stream)) for stream in separated(data)]
        found = [find_model(header, models, device=device_of(self.device)) for _, header in streams]
        every = [entries_of(header) for _, header in streams]
        check_names(entry.name for entries in every for entry in entries)
        written = lost = count = 0
        with new_folder(out) as folder:
            for (stream, header), (_, prepared), entries in zip(streams, found, every, strict=True):
                maps = self._maps(prepared, header, entries)
                images, classes = (_salvaged if self.salvage else _decoded)(prepared, stream, header, maps)
                count, noted = count + len(images), labels_of(header)
                labels = dict(enumerate(noted)) if isinstance(noted, list) else classes if noted == "given" else {}
                for entry, content, missing in restored_files(entries, images, labels, header.levels):
                    lost += missing
                    if missing:
                        print(f"pixelcnn: lost: {missing} of {entry.count} images of {entry.name}", file=sys.stderr)
                    if content is None:
                        continue
                    target = folder / entry.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write_file(target, content)
                    written += 1
            if written == 0:
                raise ValueError("nothing of the stream can be decoded")
        summary = f"{count:,} images in {written:,} files" + (f", {lost:,} images lost" if lost else "")
        print(f"{summary}, decoded with {found[0][0]}: {out}")

    def _maps(self, prepared: PreparedModel, header: Header, entries: list[Entry]) -> Tensor | None:
        """What --condition says of a stream's images."""
        if header.conditioned != (self.condition is not None):
            rule = "given, as it was" if header.conditioned else "left out, as it was or was shrink:S"
            raise ValueError(f"--condition must be {rule} in compressing")
        if self.condition is None:
            return None
        from pixelcnn.codec.manifest import names_of
        from pixelcnn.datasets import read_given

        maps = read_given(self.condition, names_of(entries))
        return prepared.conditions.checked_condition(maps, header.count, "--condition")


def _decoded(
    prepared: PreparedModel, data: bytes, _header: Header, condition: Tensor | None
) -> tuple[dict[int, Tensor], dict[int, int]]:
    """All images and classes, by index."""
    from pixelcnn.codec import StreamError, decompress_with_labels

    try:
        images, labels = decompress_with_labels(prepared, data, condition=condition, progress=True)
    except StreamError as error:
        raise ValueError(f"{error}; --salvage writes what can still be decoded") from None
    return dict(enumerate(images)), dict(enumerate([] if labels is None else labels.tolist()))


def _salvaged(
    prepared: PreparedModel, data: bytes, header: Header, condition: Tensor | None
) -> tuple[dict[int, Tensor], dict[int, int]]:
    """The images and classes of undamaged chunks, by index."""
    from pixelcnn.codec import Stream, StreamError
    from pixelcnn.progress import progress_bar

    def damaged(_chunk: int, error: StreamError) -> None:
        print(f"pixelcnn: {error}", file=sys.stderr)

    images: dict[int, Tensor] = {}
    classes: dict[int, int] = {}
    stream = Stream(prepared, data, condition)
    unit = "part" if header.large else "img"
    with progress_bar(f"decompressing {header.count}", stream.units(header.count), unit, show=True) as bar:
        for chunk, (levels, labels) in stream.decode(range(header.chunks), bar.update, damaged):
            members = header.images_of(chunk)
            images.update(zip(members, levels, strict=True))
            classes.update(zip(members, [] if labels is None else labels.tolist(), strict=False))
    return images, classes


COMMANDS = {"compress": Compress, "decompress": Decompress}
