"""`pixelcnn info`: what a model consists of, or a stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pixelcnn.cli import options

if TYPE_CHECKING:
    from pixelcnn.exact import PreparedModel

_MAX_LISTED = 20
_MAX_NAME = 256  # characters of a model's name


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
        from pixelcnn.codec import StreamError
        from pixelcnn.models.base import load
        from pixelcnn.models.summary import summary

        path = Path(self.model)
        if not path.is_file():
            print(summary(load(self.model)))
            return
        try:
            print(_stream_summary(path))
        except StreamError as error:
            raise ValueError(f"{path}: {error}") from None


def _stream_summary(path: Path) -> str:
    """What a file of one stream or several joined ones, of images of several sizes, holds."""
    from pixelcnn.codec import separated
    from pixelcnn.codec.container import unpack
    from pixelcnn.files import check_no_pointer

    data = path.read_bytes()
    check_no_pointer(data, path)
    streams = separated(data)
    images = sum(unpack(stream)[0].count for stream in streams)
    several = f" in {len(streams):,} streams" if len(streams) > 1 else ""
    lines = [f"{path}: {len(data):,} bytes{several}, {len(data) / images:,.2f} per image"]
    loaded: dict[str, PreparedModel] = {}
    for stream in streams[:_MAX_LISTED]:
        lines += _stream_lines(stream, loaded)
    if len(streams) > _MAX_LISTED:
        lines.append(f"and {len(streams) - _MAX_LISTED:,} more streams")
    return "\n".join(lines)


def _stream_lines(stream: bytes, loaded: dict[str, PreparedModel]) -> list[str]:
    """Which model a stream needs, looked for among the shipped ones, which are kept in `loaded`; what it holds."""
    from pixelcnn.codec import StreamError, find_model
    from pixelcnn.codec.container import unpack
    from pixelcnn.codec.manifest import entries_of

    header, spans = unpack(stream)
    entries = entries_of(header)
    original = header.notes.get("model")
    try:
        known = f"the shipped model {find_model(header, loaded=loaded)[0]}"
    except StreamError:
        known = "not a shipped one"
        if isinstance(original, str):
            known = f"called {original[:_MAX_NAME]!r} where it was compressed"
    c, h, w = header.shape
    lines = [
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
    return lines


COMMANDS = {"info": Info}
