"""`pixelcnn info`: what a model consists of, or a stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pixelcnn.cli import options

_MAX_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show a model's layers, parameters, receptive field and sampling schedule; or, for a stream that `pixelcnn
    compress` wrote, which model it needs, its images and its files.
    """

    model: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL", help=f"{options.MODEL} Or a stream: its file.")
    ]

    def run(self) -> None:
        """Prints."""
        from pixelcnn.models.base import load
        from pixelcnn.models.summary import summary

        path = Path(self.model)
        print(_stream_summary(path) if path.is_file() else summary(load(self.model)))


def _stream_summary(path: Path) -> str:
    from pixelcnn.codec import StreamError, find_model
    from pixelcnn.codec.container import unpack
    from pixelcnn.codec.manifest import entries_of
    from pixelcnn.files import check_no_pointer

    data = path.read_bytes()
    check_no_pointer(data, path)
    header, spans = unpack(data)
    entries = entries_of(header)
    original = header.notes.get("model")
    try:
        known = f"the shipped model {find_model(header)[0]}"
    except StreamError:
        known = f"called {original!r} where it was compressed" if isinstance(original, str) else "not a shipped one"
    c, h, w = header.shape
    lines = [
        f"{path}: {len(data):,} bytes, {len(data) / header.count:,.2f} per image",
        f"model    {header.identity.hex()}, {known}",
        f"images   {header.count:,} of {c} x {h} x {w} in {header.levels} levels{', with classes' * header.labelled}",
        f"chunks   {header.chunks:,} of {header.per_chunk:,} images; {sum(size for _, size in spans):,} bytes",
        f"files    {len(entries):,}",
    ]
    for entry in entries[:_MAX_LISTED]:
        kind = f"{entry.kind}, {entry.count:,} images" if entry.is_array else f"mode {entry.kind}"
        lines.append(f"         {entry.name} ({kind})")
    if len(entries) > _MAX_LISTED:
        lines.append(f"         and {len(entries) - _MAX_LISTED:,} more")
    return "\n".join(lines)


COMMANDS = {"info": Info}
