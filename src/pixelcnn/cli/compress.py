"""`pixelcnn compress`: image files as one small stream, or a stream for each."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.codec.archive import FileImages
    from pixelcnn.exact import PreparedModel
    from pixelcnn.models import AutoregressiveModel


@dataclass(frozen=True, kw_only=True)
class Compress:
    """Compress images without loss, to about as many bytes as the model's likelihood implies.

    With the same model, `pixelcnn decompress` restores the files on any machine. What cannot be kept exactly is
    refused: pictures must have the model's levels (a model of 2 levels takes black and white) and, unless its network
    is good for any, its size. Names, pixels, orientation, and whether pictures are black and white, grey or in colour
    are kept; colour profiles and EXIF data on request; other metadata are not, and files other than PNG, TIFF, BMP,
    PBM, PGM and PPM come back as PNG. The bytes are the same on every device.
    """

    model: options.ModelName
    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN...")]
    """Picture files, folders of them at any depth, .npy or .npz files of levels, or data as for `pixelcnn evaluate`
    (mnist:test)."""
    out: Path | None = None
    """The stream's file; by default named like the first IN with the suffix .pxcn, in this folder. A folder, which is
    a name without a suffix unless there is such a file, gets a file for each picture, a.png.pxcn for a.png."""
    classes: Literal["given", "best", "none"] = "given"
    """For a class-conditional model: `given` codes the classes that came with the images, if any; `best` finds the
    class that makes each image smallest, which takes one pass per class; `none` codes without classes."""
    chunk: int | None = None
    """Images per chunk, which can be decoded without the rest and to which damage is confined: smaller chunks are
    safer, and each costs some 16 bytes; by default as many images as have 2^20 values."""
    held_out: options.HeldOut = 0.1
    test: options.TestShare = 0.0
    layout: options.Layout = None
    condition: Annotated[
        str | None,
        tyro.conf.arg(
            help="For a model that is conditional on a map or a vector, as for `pixelcnn train`: with `shrink:S` the "
            "small pictures are coded first, then the images given them; of anything else, which is not coded, "
            "`pixelcnn decompress` needs the same."
        ),
    ] = None
    metadata: bool = False
    """Keep colour profiles and EXIF data of pictures, too. Without, pictures with a profile other than sRGB are
    refused."""
    verify: bool = True
    """Decode each stream and compare before it is written."""
    device: options.Device = "cpu"
    threads: options.Threads = None

    def run(self) -> None:
        """Compresses, verifies and writes."""
        from pixelcnn.codec import joined
        from pixelcnn.codec.archive import check_together, picture_files, read_files
        from pixelcnn.config import DataConfig
        from pixelcnn.datasets import name_of
        from pixelcnn.exact import prepare
        from pixelcnn.files import writable_file, writable_folder, write_file

        if not self.sources:
            raise ValueError("IN must be files, folders or data, got none")
        model = options.loaded(self.model, self.device)
        if self.classes == "best" and model.num_classes is None:
            raise ValueError(f"--classes best needs a class-conditional model, and {self.model} has no classes")
        prepared = prepare(model)
        config = DataConfig(layout=self.layout, held_out=self.held_out, test=self.test)

        def groups_of(sources: Sequence[str], *, progress: bool = True) -> list[FileImages]:
            return read_files(
                sources, model.image_shape, model.levels, model.num_classes, config, any_size=model.any_size,
                metadata=self.metadata, progress=progress,
            )  # fmt: skip

        tally = _Tally(model.levels)
        if self._folder is not None:
            pictures = picture_files(self.sources)
            if not all(pictures):
                raise ValueError("a folder for --out takes pictures, a stream for each; give a file's name for arrays")
            every = list(itertools.chain(*pictures))
            check_together(name for _, name in every)
            writable_folder(self._folder if self._folder.exists() else self._folder.parent)
            for path, name in every:
                (files,) = groups_of([str(path)], progress=False)
                (entry,) = files.entries
                files.entries[:] = [replace(entry, name=str(PurePosixPath(name).parent / entry.name))]
                data = self._stream(model, prepared, files, tally)
                target = self._folder / f"{name}.pxcn"
                target.parent.mkdir(parents=True, exist_ok=True)
                write_file(target, data)
                bits = 8 * len(data) / files.images.numel()
                print(f"{name}: {files.file_bytes:,} bytes, now {len(data):,}, {bits:.3f} bits/dim", flush=True)
                tally.size += len(data)
            tally.report(self._folder, verified=self.verify)
            return
        first = self.sources[0]
        out = self.out or Path(f"{Path(first).stem if Path(first).is_file() else name_of(first)}.pxcn")
        options.check_other_file("--out", out, *self.sources)
        writable_file(out)
        data = joined([self._stream(model, prepared, files, tally) for files in groups_of(self.sources)])
        write_file(out, data)
        tally.size = len(data)
        tally.report(out, verified=self.verify)

    @functools.cached_property
    def _folder(self) -> Path | None:
        """The folder that gets a file for each picture, if that is what was asked for."""
        out = self.out
        return out if out is not None and (out.is_dir() or not (out.suffix or out.exists())) else None

    def _stream(self, model: AutoregressiveModel, prepared: PreparedModel, files: FileImages, tally: _Tally) -> bytes:
        """Images of one size as a stream, verified, and counted."""
        from pixelcnn.codec import compress, read_header
        from pixelcnn.codec.container import maps_of
        from pixelcnn.codec.manifest import names_of, notes_of
        from pixelcnn.files import printable
        from pixelcnn.scoring import coded_bits

        images = files.images
        height, width = images.shape[2:]
        if (height, width) != model.image_shape[1:]:
            model, prepared = model.resized((height, width)), prepared.resized((height, width))
        names = names_of(files.entries)
        maps = options.condition_of(self.condition, model, self.model, images, names, len(images))
        labels, noted = self._labels(model, files, maps)
        started = time.perf_counter()
        notes = notes_of(files.entries, noted, printable(self.model))
        shrunk = self.condition is not None and self.condition.startswith("shrink:")
        data = compress(
            prepared, images, labels, condition=self.condition if shrunk else maps, chunk=self.chunk, notes=notes,
            progress=True,
        )  # fmt: skip
        tally.seconds += time.perf_counter() - started
        if self.verify:
            _verify(prepared, data, images, labels, None if shrunk else maps)
        tally.count(files)
        tally.small += len(maps_of(data)) if shrunk else 0
        if not read_header(data).large:  # else it takes as long as coding
            tally.ideal_bits += coded_bits(model, images, labels, condition=maps, progress=True)
            tally.ideal_values += images.numel()
        return data

    def _labels(
        self, model: AutoregressiveModel, files: FileImages, maps: Tensor | None
    ) -> tuple[Tensor | None, Literal["given", "chosen"] | list[int] | None]:
        """The classes to code, and what the notes record of classes."""
        given, classes = files.labels, model.num_classes
        if self.classes == "given" and given is not None and classes is not None and int(given.max()) < classes:
            return given, "given"
        noted = None if given is None else given.tolist()
        if self.classes != "best":
            return None, noted
        chosen = options.class_posteriors(model, files.images, maps, "choosing classes").argmax(1)
        return chosen, "chosen" if noted is None else noted


class _Tally:
    """What was compressed, and what it took.

    Args:
        levels: Number of the model's levels.
    """

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._images = self._files = self._pixels = self._values = self._file_bytes = 0
        self._shapes: set[str] = set()
        self._dropped: Counter[str] = Counter()
        self.size = 0
        """Bytes of all streams."""
        self.small = 0
        """Bytes of them that are smaller pictures'."""
        self.ideal_bits, self.ideal_values = 0.0, 0
        """What the model's likelihood says, of how many values."""
        self.seconds = 0.0

    def count(self, files: FileImages) -> None:
        """Counts images and their files."""
        self._images += len(files.images)
        self._files += len(files.entries)
        self._pixels += files.images[:, 0].numel()
        self._values += files.images.numel()
        self._file_bytes += files.file_bytes
        self._shapes.add(" x ".join(map(str, files.images.shape[1:])))
        self._dropped.update(files.dropped)

    def report(self, out: Path, *, verified: bool) -> None:
        """Prints it."""
        count, size, values = self._images, self.size, self._values
        shape = min(self._shapes) if len(self._shapes) == 1 else f"{len(self._shapes)} sizes"
        print(f"{count:,} images of {shape} in {self._levels} levels, {self._files:,} files: {out}")
        print(f"{size:,} bytes, {size / count:.2f} per image, {8 * size / values:.4f} bits/dim")
        if self.ideal_values == values:
            bits = self.ideal_bits + 8 * self.small
            likely = f"{bits / 8:,.0f} bytes, {bits / values:.4f} bits/dim"
            print(f"{likely} by the model's likelihood: {8 * size / bits - 1:+.2%}")
        bare = math.ceil(values * math.log2(self._levels) / 8)
        ratios = f"1 : {bare / size:.1f} of the bare values ({bare:,} bytes)"
        if self._file_bytes:
            ratios += f", 1 : {self._file_bytes / size:.1f} of the files ({self._file_bytes:,} bytes)"
        print(ratios)
        if self._dropped:
            print("not kept: " + "; ".join(f"{what} of {n:,} files" for what, n in self._dropped.items()))
        checked = "decoded again and compared" if verified else "not verified"
        rate = f"{count / self.seconds:,.0f} images/s"
        if self.ideal_values < values:
            megapixels = self._pixels / 1e6
            rate = f"{megapixels:.1f} megapixels, {megapixels / self.seconds:.2f} per second"
        print(f"{self.seconds:.1f} s, {rate}; {checked}")
        if self.small:
            print(f"{self.small:,} bytes are those of the small pictures")


def _verify(
    prepared: PreparedModel, data: bytes, images: Tensor, labels: Tensor | None, condition: Tensor | None
) -> None:
    """Raises ValueError if a stream does not decode to its images and labels."""
    import torch

    from pixelcnn.codec import decompress_with_labels

    most = 2 * images.nbytes + 8 * len(images)  # with small pictures, which have fewer bytes than the images
    found, classes = decompress_with_labels(prepared, data, condition=condition, progress=True, most_bytes=most)
    same = torch.equal(found, images) and (labels is None or (classes is not None and torch.equal(classes, labels)))
    if not same:
        raise ValueError(
            "what was compressed does not decode to the same images, so nothing is written: please report it"
        )


COMMANDS = {"compress": Compress}
