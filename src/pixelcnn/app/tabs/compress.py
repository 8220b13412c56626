"""The tab that compresses: a stream's bytes beside those of picture formats, the stream to keep, and back."""

from __future__ import annotations

import asyncio
import base64
import html
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from pixelcnn.app import pieces, uploads
from pixelcnn.app.completing import digit, has_digits
from pixelcnn.app.compressing import (
    Compressed,
    Decompressed,
    Size,
    Twins,
    compressed,
    decompressed,
    digest_of,
    most_images,
    most_probable,
)
from pixelcnn.app.drawing import Request, draw
from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.images import grid

__all__ = ["TITLE", "build", "kept", "shown", "shown_again"]

TITLE = "Compress"

_DIGITS, _DRAWN, _FILES = "digits of MNIST", "draws of the model", "files"
_ANY, _PROBABLE = "any", "the most probable"
_IMAGES = 16  # at first
_IN_TEST_SET = 10_000
_MOST_CLASSES = 100  # a forward each
_LISTED = 64  # classes
_SIDE = 640  # of the picture, about, in pixels
_NOTE = f"{uploads.READABLE}; each is scaled and cropped to the model's size."
_KEPT = re.compile(r"([0-9a-f]{64}) ([A-Za-z0-9+/=]+)")

T = TypeVar("T")


def build(models: Sequence[Served], limits: Limits) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    import gradio as gr

    by_name = {served.name: served for served in models}
    first = models[0]
    twins = Twins(models)
    workers = ThreadPoolExecutor(limits.concurrency, "compress")  # few: each thread keeps some memory

    async def working(job: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(workers, job)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    async def on_compress(name: str, *said: Any) -> tuple[str, str]:
        return await working(partial(_compress, by_name[name], twins, limits, *said))

    async def on_again(stream: str | None) -> str:
        return await working(partial(_again, twins, limits, stream))

    async def on_decode(file: str | None) -> str:
        return await working(partial(_decode, twins, limits, file))

    def on_model(name: str, kind: str, n: float) -> tuple[Any, ...]:
        return _controls(by_name[name], kind, n, limits)

    kinds, most = _kinds(first), most_images(first, limits)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            told = gr.HTML(pieces.status("Choose images, and press Compress."))
            stream = gr.Textbox(None, visible="hidden", label="Latest")  # stays with the visitor, not here
        with gr.Column(scale=2, min_width=300):
            go = gr.Button("Compress", variant="primary")
            model = gr.Dropdown(
                list(by_name), value=first.name, label="Model", filterable=False, visible=len(models) > 1
            )
            kind = gr.Radio(kinds, value=kinds[0], label="Images from")
            number = gr.Number(
                0,
                precision=0,
                minimum=0,
                maximum=_IN_TEST_SET - 1,
                label="First, in the test set",
                visible=True if kinds[0] == _DIGITS else "hidden",
            )
            seed = gr.Number(0, precision=0, minimum=0, maximum=2**53 - 1, label="Seed", visible="hidden")
            n = gr.Slider(1, most, value=min(_IMAGES, most), step=1, label="How many")
            files = gr.HTML(
                None, **uploads.chooser("Pictures", uploads.PICTURES, _NOTE, limits, several=True), visible="hidden"
            )
            label = gr.Dropdown(
                _choices(first),
                value=_ANY,
                label="Class",
                info="is told to the model, and kept in the stream",
                filterable=False,
                visible=first.classes > 0,
            )
    gr.HTML('<h3 class="px-heading px-after">Decode</h3>')
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            back = gr.HTML(pieces.status("A stream names its model, and is decoded by it."))
        with gr.Column(scale=2, min_width=300):
            again = gr.Button("Decode what was compressed")
            file = gr.HTML(None, **uploads.chooser("Stream", ".pxcn", "as pixelcnn.compress writes it.", limits))
            decode = gr.Button("Decode the file")

    asked = [model, label, kind, number, seed, n, files]
    private: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    work: dict[str, Any] = {
        "concurrency_id": "work",
        "show_progress": "minimal",
        "trigger_mode": "once",
        "api_visibility": "private",
    }
    model.change(on_model, [model, kind, n], [label, kind, number, seed, n, files], **private)
    kind.input(_shown_of, kind, [number, seed, n, files], **private)
    gr.on([go.click, number.submit, seed.submit], on_compress, asked, [told, stream], show_progress_on=told, **work)
    again.click(on_again, stream, back, **work)
    decode.click(on_decode, file, back, **work)


def _compress(
    served: Served,
    twins: Twins,
    limits: Limits,
    label: str,
    kind: str,
    number: float,
    seed: float,
    n: float,
    files: Any,
) -> tuple[str, str]:
    images = _images(served, label, kind, number, seed, n, files, limits)
    found = compressed(served, twins, images, _labels(served, label, images), limits)
    return shown(served, found), kept(found)


def _again(twins: Twins, limits: Limits, stream: object) -> str:
    said = _KEPT.fullmatch(stream) if isinstance(stream, str) else None
    if said is None:
        raise ValueError("compress images first")
    return shown_again(decompressed(twins, uploads.in_base64(said[2], "the stream"), limits), said[1])


def _decode(twins: Twins, limits: Limits, file: object) -> str:
    content, *_ = uploads.received(file, limits)
    return shown_again(decompressed(twins, content, limits), None)


def _controls(served: Served, kind: str, n: float, limits: Limits) -> tuple[Any, ...]:
    """What class, kind, number, seed, slider and files become with another model."""
    import gradio as gr

    kinds, most = _kinds(served), most_images(served, limits)
    kind = kind if kind in kinds else kinds[0]
    number, seed, images, files = _shown_of(kind)
    return (
        gr.update(choices=_choices(served), value=_ANY, visible=served.classes > 0),
        gr.update(choices=kinds, value=kind),
        number,
        seed,
        {**images, "maximum": most, "value": min(int(n), most)},
        files,
    )


def _shown_of(kind: str) -> tuple[Any, ...]:
    """Which of number, seed, slider and files are shown."""
    import gradio as gr

    wanted = (kind == _DIGITS, kind == _DRAWN, kind != _FILES, kind == _FILES)
    return tuple(gr.update(visible=True if each else "hidden") for each in wanted)


def _kinds(served: Served) -> list[str]:
    return [_DIGITS, _DRAWN, _FILES] if has_digits(served) else [_DRAWN, _FILES]


def _choices(served: Served) -> list[str]:
    probable = [_PROBABLE] if 0 < served.classes <= _MOST_CLASSES else []
    return [_ANY, *probable, *map(str, range(served.classes))]


def _images(
    served: Served, label: str, kind: str, number: float, seed: float, n: float, files: object, limits: Limits
) -> Tensor:
    """What the controls say: uint8 levels (N, C, H, W).

    Raises:
        ValueError: If it is not to be had.
    """
    if kind not in _kinds(served):
        raise ValueError(f"images must be from one of {', '.join(_kinds(served))}, got {kind}")
    if label not in _choices(served):
        raise ValueError(f"the class must be one of {', '.join(_choices(served))}, got {label}")
    most = most_images(served, limits)
    contents = uploads.received(files, limits) if kind == _FILES else []
    count = len(contents) if kind == _FILES else pieces.whole(n, "number of images")
    if not 1 <= count <= most:
        raise ValueError(f"the number of images must be in 1..{most}, got {count}")
    if kind == _DIGITS:
        begin = pieces.whole(number, "number in the test set")
        if not 0 <= begin < _IN_TEST_SET:
            raise ValueError(f"the number in the test set must be in 0..{_IN_TEST_SET - 1}, got {begin}")
        return torch.stack([digit(served, begin + k) for k in range(count)])
    if kind == _DRAWN:
        given: Any = label if label == _ANY else _ANY if label == _PROBABLE else int(label)
        *_, last = draw(served, Request(images=count, label=given, seed=pieces.whole(seed, "seed")), limits)
        return last.canvas
    return torch.stack([_image(served, content, k, count, limits) for k, content in enumerate(contents, start=1)])


def _image(served: Served, content: bytes, number: int, count: int, limits: Limits) -> Tensor:
    try:
        return uploads.as_image(served, content, limits)
    except ValueError as error:
        raise ValueError(f"picture {number} of {count}: {error}" if count > 1 else str(error)) from None


def _labels(served: Served, label: str, images: Tensor) -> Tensor | None:
    """The classes that are told to the model; None for any."""
    if label == _ANY:
        return None
    if label == _PROBABLE:
        return most_probable(served, images)
    return torch.full((len(images),), int(label))


def shown(served: Served, found: Compressed) -> str:
    """The images, the bytes of their stream and of what it is beside, and a link to keep it, as HTML."""
    n, size = len(found.images), len(found.data)
    raw = found.others[-1].bytes
    assert raw is not None
    times = raw / size
    beside = f"{times:.1f} times smaller" if times >= 1 else f"{1 / times:.1f} times larger"
    address = pieces.data_address(found.data, "application/octet-stream")
    file = html.escape(f"{pieces.file_name(served.name)}-{n}.pxcn", quote=True)
    said = pieces.status(
        f"<strong>{_count(n)}</strong> in <strong>{size:,} bytes</strong>, {beside} than raw, in "
        f"<strong>{found.seconds:.2f} s</strong>",
        f'<a class="px-keep" href="{address}" download="{file}">Download stream</a>',
    )
    mine = [
        Size(name="this stream", bytes=size),
        Size(name="without its header", bytes=size - found.overhead),
    ]
    every = [*mine, *found.others]
    largest = max(each.bytes or 0 for each in every)
    rows = "".join(_row(each, found, raw, largest, first=each is mine[0]) for each in every)
    heads = "".join(f'<th scope="col">{each}</th>' for each in ("what", "bytes", "each", "bits/dim", "ratio"))
    return (
        f"{_panel(served, found.images, f'{_count(n)} to compress')}{said}"
        '<div class="px-table px-sizes" tabindex="0" role="region" aria-label="bytes">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="px-note">{_honestly(served, found)}</p>'
    )


def _row(each: Size, found: Compressed, raw: float, largest: float, *, first: bool) -> str:
    name = f"<strong>{each.name}</strong>" if first else each.name
    if each.bytes is None:
        return f'<tr><th scope="row" colspan="5">{name}</th></tr>'
    bar = f'<div style="width:{100 * each.bytes / largest:.1f}%"></div>'
    bar = f'<div class="px-bar{" px-bar-own" * first}" aria-hidden="true">{bar}</div>'
    bits = 8 * each.bytes / found.images.numel()
    return (
        f'<tr class="px-numbers"><th scope="row">{name}{bar}</th>'
        f"<td>{each.bytes:,.0f}</td><td>{each.bytes / len(found.images):,.1f}</td><td>{bits:.3f}</td>"
        f"<td>{raw / max(each.bytes, 1):.1f} ×</td></tr>"
    )


def _honestly(served: Served, found: Compressed) -> str:
    """What has to be known to read the table."""
    size, parts = len(found.data), []
    if 4 * found.overhead > size:
        parts.append(
            f"{found.overhead} of the {size:,} bytes are header and checksums, which hardly grow with the number of "
            "images: the more at a time, the less they count."
        )
    weights = sum(parameter.numel() * parameter.element_size() for parameter in served.model.parameters())
    parts.append(
        f"Whoever decodes needs the model too, {weights / 1e6:.1f} MB, which has learnt such images; picture formats "
        "know nothing of them."
    )
    return " ".join(parts)


def kept(found: Compressed) -> str:
    """What the visitor's browser keeps for decoding it again: a digest of the images, and the stream."""
    return f"{digest_of(found.images)} {base64.b64encode(found.data).decode()}"


def shown_again(found: Decompressed, digest: str | None) -> str:
    """The images of a stream, and whether they are those that it was made of, as HTML.

    Args:
        found: What was decoded.
        digest: Of the images that were compressed, if it is known.
    """
    n, name = len(found.images), html.escape(found.served.name, quote=True)
    equal = "they have the digest that the stream says"
    if digest is not None:
        equal = f"equal to the original: <strong>{'yes' if digest_of(found.images) == digest else 'no'}</strong>"
    c, h, w = found.served.model.image_shape
    rows = [
        ("model", name),
        ("images", f"{n} of {c} × {h} × {w}, {found.served.model.levels} levels"),
        ("stream", f"{found.bytes:,} bytes, {found.bytes / n:,.1f} an image"),
    ]
    if found.labels is not None:
        listed = ", ".join(map(str, found.labels[:_LISTED].tolist()))
        rows.append(("classes", listed + ", …" * (len(found.labels) > _LISTED)))
    rows.append(("SHA-256 of the levels", f"<code>{digest_of(found.images)}</code>"))
    table = "".join(f'<tr><th scope="row">{key}</th><td>{value}</td></tr>' for key, value in rows)
    return (
        f"{_panel(found.served, found.images, f'{_count(n)} decoded by {found.served.name}')}"
        f"{pieces.status(f'<strong>{_count(n)}</strong> decoded in <strong>{found.seconds:.2f} s</strong>; {equal}')}"
        f'<div class="px-table px-sizes"><table><tbody>{table}</tbody></table></div>'
    )


def _panel(served: Served, images: Tensor, words: str) -> str:
    """All images side by side, twice as many in a row as below each other."""
    columns = min(len(images), max(8, math.ceil(math.sqrt(2 * len(images)))))
    sheet = grid(images, served.model.levels, columns, side=max(28, min(112, _SIDE // columns)))
    alt = html.escape(words, quote=True)
    width, height = sheet.size
    return f'<div class="px-sheet"><img src="{pieces.png(sheet)}" alt="{alt}" width="{width}" height="{height}"></div>'


def _count(n: int) -> str:
    return f"{n} image{'s' * (n > 1)}"
