"""`pixelcnn decompress`: the files that `pixelcnn compress` was given."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from torch import Tensor

    from pixelcnn.codec import Header
    from pixelcnn.exact import PreparedModel

__all__ = ["Decompress"]


@dataclass(frozen=True, kw_only=True)
class Decompress:
    """Make the files again that `pixelcnn compress` was given.

    The model is found by its identity among those given or, if none is, among the shipped ones; a stream that needs
    another one says which. The folder appears when all is there and checked, or not at all.
    """

    stream: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL...] FILE")]
    """The stream's file; before it the models to look among, as for `pixelcnn compress`."""
    out: Path | None = None
    """The folder for the files, new or empty; by default named like FILE."""
    salvage: bool = False
    """Of a damaged stream: write what can still be decoded, and say what is lost."""
    device: str = "cpu"
    """`cpu`, `auto` (CUDA where there is one), `cuda` or `cuda:N`; the images are the same."""

    def run(self) -> None:
        """Decodes and writes."""
        from pixelcnn.codec import find_model, read_header
        from pixelcnn.codec.entries import entries_of, labels_of
        from pixelcnn.codec.restore import restored
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
        header = read_header(data)
        name, prepared = find_model(header, models)
        images, classes = self._images(self._on_device(prepared), data, header)
        entries, kept = entries_of(header), labels_of(header)
        labels = dict(enumerate(kept)) if isinstance(kept, list) else classes if kept == "given" else {}
        written = lost = 0
        with new_folder(out) as folder:
            for entry, content, missing in restored(entries, images, labels, header.levels):
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
        what = f"{len(images):,} images in {written:,} files" + (f", {lost:,} images lost" if lost else "")
        print(f"{what}, decoded with {name}: {out}")

    def _on_device(self, prepared: PreparedModel) -> PreparedModel:
        from pixelcnn.devices import device_of

        return prepared.to(device_of(self.device))

    def _images(self, prepared: PreparedModel, data: bytes, header: Header) -> tuple[dict[int, Tensor], dict[int, int]]:
        """Levels and classes by index."""
        from pixelcnn.codec import Stream, StreamError, decompress_with_labels
        from pixelcnn.progress import progress_bar

        if not self.salvage:
            try:
                images, labels = decompress_with_labels(prepared, data, progress=True)
            except StreamError as error:
                raise ValueError(f"{error}; --salvage writes what can still be decoded") from None
            return dict(enumerate(images)), dict(enumerate([] if labels is None else labels.tolist()))
        found: dict[int, Tensor] = {}
        classes: dict[int, int] = {}
        stream = Stream(prepared, data)

        def damaged(_chunk: int, error: StreamError) -> None:
            print(f"pixelcnn: {error}", file=sys.stderr)

        with progress_bar(f"decompressing {header.count}", header.count, "img", show=True) as bar:
            for chunk, (images, labels) in stream.decode(range(header.chunks), bar.update, damaged):
                members = header.images_of(chunk)
                found.update(zip(members, images, strict=True))
                classes.update(zip(members, [] if labels is None else labels.tolist(), strict=False))
        return found, classes
