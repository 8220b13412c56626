"""`pixelcnn decompress`: the files that `pixelcnn compress` was given, bit for bit, or what damage has left of them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pixelcnn.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.codec import Header
    from pixelcnn.codec.manifest import Entry
    from pixelcnn.exact import PreparedModel


@dataclass(frozen=True, kw_only=True)
class Decompress:
    """Restore the files that `pixelcnn compress` was given.

    The model is found by its identity among those given or, without any, among the shipped ones; for a stream that
    needs another model, the error says which. The folder appears when all is there and checked, or not at all. The
    files are the same on every device.
    """

    streams: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL...] FILE...")]
    """The streams' files, preceded by the models to choose from, as for `pixelcnn compress`."""
    out: Path | None = None
    """The folder for the files, new or empty; by default named like FILE, if there is only one."""
    salvage: bool = False
    """If a stream is damaged, write what can still be decoded, and say what is lost: exit code 1 if anything is."""
    condition: str | None = None
    """What `pixelcnn compress` was given, unless that was shrink:S or nothing."""
    device: options.Device = "cpu"
    threads: options.Threads = None

    def run(self) -> int:
        """Decodes and writes; returns the exit code."""
        from pixelcnn.codec import find_model
        from pixelcnn.codec.manifest import check_names
        from pixelcnn.devices import device_of
        from pixelcnn.files import new_folder

        models, paths = _models_and_files(self.streams)
        out = self.out or Path(paths[0].stem if paths[0].suffix else f"{paths[0].name}-files")
        if self.out is None and len(paths) > 1:
            raise ValueError("several FILEs need a folder for what is in them: --out FOLDER")
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} exists and is not an empty folder; choose another with --out")
        device = device_of(self.device)
        loaded: dict[str, PreparedModel] = {}
        found: dict[tuple[bytes, tuple[int, ...]], str] = {}
        names: list[str] = []
        tally: Counter[str] = Counter()
        for path in paths:
            with _named(path, several=len(paths) > 1):
                for _, header, entries in self._streams(path, tally):
                    names += [entry.name for entry in entries]
                    if (key := (header.identity, header.shape)) not in found:
                        found[key] = find_model(header, models, device=device, loaded=loaded)[0]
        check_names(names)
        with new_folder(out, replace=False) as folder:
            for path in paths:
                with _named(path, several=len(paths) > 1):
                    for stream, header, entries in self._streams(path):
                        name = found[header.identity, header.shape]
                        _, prepared = find_model(header, [name], device=device, loaded=loaded)
                        self._restore(prepared, stream, header, entries, folder, tally)
            if tally["files"] == 0:
                raise ValueError("nothing of the stream can be decoded")
        summary = f"{tally['images']:,} images in {tally['files']:,} files"
        for what in ("images", "streams"):
            if lost := tally[f"{what} lost"]:
                summary += f", {lost:,} {what} lost"
        by = ", ".join(dict.fromkeys(found.values()))
        print(f"{summary}, decoded with {by}: {out}")
        return int(tally["images lost"] + tally["streams lost"] > 0)

    def _streams(self, path: Path, tally: Counter[str] | None = None) -> Iterator[tuple[bytes, Header, list[Entry]]]:
        """The streams of a file, one or several joined ones: its bytes, header and files.

        With `salvage`, those whose header is damaged are left out; with a tally, counted, and standard error says so.

        Raises:
            StreamError: If one is damaged.
        """
        from pixelcnn.codec import StreamError, read_header, separated
        from pixelcnn.codec.manifest import entries_of
        from pixelcnn.files import check_no_pointer

        data = path.read_bytes()
        check_no_pointer(data, path)
        streams = separated(data, whole=not self.salvage)
        for k, stream in enumerate(streams, start=1):
            try:
                header = read_header(stream)
                entries = entries_of(header)
            except StreamError as error:
                if not self.salvage:
                    raise
                if tally is not None:
                    tally["streams lost"] += 1
                    print(f"pixelcnn: stream {k} of {len(streams)} of {path} is lost: {error}", file=sys.stderr)
                continue
            yield stream, header, entries

    def _restore(
        self,
        prepared: PreparedModel,
        stream: bytes,
        header: Header,
        entries: list[Entry],
        folder: Path,
        tally: Counter[str],
    ) -> None:
        """Writes the files of a stream into a folder, and counts them."""
        from pixelcnn.codec.manifest import labels_of
        from pixelcnn.codec.restore import restored_files
        from pixelcnn.files import write_file

        maps = self._maps(prepared, header, entries)
        images, classes = (_salvaged if self.salvage else _decoded)(prepared, stream, header, maps)
        noted = labels_of(header)
        labels = dict(enumerate(noted)) if isinstance(noted, list) else classes if noted == "given" else {}
        tally["images"] += len(images)
        for entry, content, missing in restored_files(entries, images, labels, header.levels):
            tally["images lost"] += missing
            if missing:
                print(f"pixelcnn: lost: {missing} of {entry.count} images of {entry.name}", file=sys.stderr)
            if content is None:
                continue
            target = folder / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_file(target, content)
            tally["files"] += 1

    def _maps(self, prepared: PreparedModel, header: Header, entries: list[Entry]) -> Tensor | None:
        """What --condition says of a stream's images."""
        if header.conditioned != (self.condition is not None):
            rule = "given, as it was" if header.conditioned else "left out, as it was or was shrink:S"
            raise ValueError(f"--condition must be {rule} in compressing")
        if self.condition is None:
            return None
        from pixelcnn.codec.manifest import names_of
        from pixelcnn.datasets import read_given

        maps = read_given(self.condition, names_of(entries), colour=prepared.conditions.numbers == 3)
        return prepared.conditions.checked_condition(maps, header.count, "--condition")


@contextlib.contextmanager
def _named(path: Path, *, several: bool) -> Iterator[None]:
    """Makes errors name a file, if it is one of several."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if several else str(error)) from None


def _models_and_files(names: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Models, which are no files, and the files of streams after them.

    Raises:
        ValueError: If there is no file.
    """
    if not names:
        raise ValueError("FILE must be a stream that pixelcnn compress wrote, got none")
    first = len(names) - 1
    while first and Path(names[first - 1]).is_file():
        first -= 1
    files = [Path(name) for name in names[first:]]
    if not files[-1].is_file():
        if files[-1].exists():
            kind = "a folder" if files[-1].is_dir() else "a pipe or a device, which cannot be read twice"
            raise ValueError(f"FILE must be a stream that pixelcnn compress wrote, got {names[-1]!r}: that is {kind}")
        raise ValueError(f"there is no file {names[-1]!r}")
    return list(names[:first]), files


def _decoded(
    prepared: PreparedModel, data: bytes, _header: Header, condition: Tensor | None
) -> tuple[dict[int, Tensor], dict[int, int]]:
    """All images and classes, by index."""
    from pixelcnn.codec import StreamError, decompress_with_labels

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # more could not be held
    try:
        images, labels = decompress_with_labels(prepared, data, condition=condition, progress=True, most_bytes=memory)
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
    try:
        stream = Stream(prepared, data, condition, whole=False)
        if stream.chunks < header.chunks:
            print(f"pixelcnn: the stream ends within chunk {stream.chunks} of {header.chunks}", file=sys.stderr)
        unit = "px" if header.large else "img"
        with progress_bar(f"decompressing {header.count}", stream.units(header.count), unit, show=True) as bar:
            for chunk, (levels, labels) in stream.decode(range(stream.chunks), bar.update, damaged):
                members = header.images_of(chunk)
                images.update(zip(members, levels, strict=True))
                classes.update(zip(members, [] if labels is None else labels.tolist(), strict=False))
    except StreamError as error:  # of all chunks, such as a model that does not fit, or damaged small pictures
        print(f"pixelcnn: {error}", file=sys.stderr)
    return images, classes


COMMANDS = {"decompress": Decompress}
