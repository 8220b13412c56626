"""`pixelcnn info`: what a model consists of, or a stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["Info"]

_MOST = 20  # files that are named


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show a model's layers, parameters, receptive field and sampling schedule; or what `pixelcnn compress` wrote:
    which model it needs, its images and its files.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub,
    user/name or user/name@revision; or the file of a stream."""

    def run(self) -> None:
        """Prints."""
        from pixelcnn.models.base import load
        from pixelcnn.models.summary import summary

        if Path(self.model).is_file():
            print(_of_stream(Path(self.model)))
        else:
            print(summary(load(self.model)))


def _of_stream(path: Path) -> str:
    from pixelcnn.codec import StreamError, find_model
    from pixelcnn.codec.container import unpack
    from pixelcnn.codec.entries import entries_of
    from pixelcnn.files import check_no_pointer

    data = path.read_bytes()
    check_no_pointer(data, path)
    header, places = unpack(data)
    entries = entries_of(header)
    called = header.notes.get("model")
    try:
        known = f"the shipped model {find_model(header)[0]}"
    except StreamError:
        known = f"called {called!r} where it was compressed" if isinstance(called, str) else "not a shipped one"
    c, h, w = header.shape
    lines = [
        f"{path}: {len(data):,} bytes, {len(data) / header.count:,.2f} an image",
        f"model    {header.identity.hex()}, {known}",
        f"images   {header.count:,} of {c} x {h} x {w} in {header.levels} levels{', with classes' * header.labelled}",
        f"chunks   {header.chunks:,} of {header.per_chunk:,} images; {sum(size for _, size in places):,} bytes",
        f"files    {len(entries):,}",
    ]
    for entry in entries[:_MOST]:
        kind = f"{entry.kind}, {entry.count:,} images" if entry.is_array else f"mode {entry.kind}"
        lines.append(f"         {entry.name} ({kind})")
    if len(entries) > _MOST:
        lines.append(f"         and {len(entries) - _MOST:,} more")
    return "\n".join(lines)
