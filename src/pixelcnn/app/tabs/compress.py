"""The tab Compress: a lossless stream of images, its size beside those of picture formats, and back to images."""

from __future__ import annotations

import base64
import html
import math
import re
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from pixelcnn.app import parts
from pixelcnn.app.compressing import Compressed, Decompressed, compressed, decompressed, max_images
from pixelcnn.app.drawing import Request, draw
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.uploads import as_image, from_base64, picture_field, received, upload_field
from pixelcnn.files import values_digest
from pixelcnn.images import grid

__all__ = ["TITLE", "browser_copy", "build", "decoded_html", "stream_html"]

TITLE = "Compress"
ORDER = 4

_DIGITS, _DRAWN, _FILES = "digits of MNIST", "draws of the model", "files"
_PROBABLE = "the most probable"
_IMAGES = 16  # at first
_MAX_CLASSES = 100  # of which the most probable one is found: one forward pass each
_MAX_LISTED = 64  # classes of decoded images
_SIZE = (
    "scaled and cropped to the size of the model's images; for a model of colours that takes any size they keep their "
    "own, have to be of one, and are made smaller if they have more than {:,} pixels"
)
_SIDE = 640  # approximate width of the picture in pixels
_TOO_LARGE = "large"  # instead of a stream that would not fit into a message
_RESERVE = 2**16  # bytes for what else is in the message of a stream
_COPY = re.compile(r"([0-9a-f]{64}) ([A-Za-z0-9+/=]+)")


def build(backend: parts.Backend) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    models, limits, first = backend.models, backend.limits, backend.first

    @backend.task
    def on_compress(
        name: str, label: str, kind: str, number: float, seed: float, n: float, files: str | None
    ) -> tuple[str, str]:
        served = backend.served(name)
        images = _images(served, label, kind, number, seed, n, files, limits)
        result = compressed(served, images, _labels(served, label, images), limits)
        return stream_html(served, result), browser_copy(result, limits)

    @backend.task
    def on_again(copy: object) -> str:
        if copy == _TOO_LARGE:
            raise ValueError("the stream is too large to be sent back: download it, and use pixelcnn decompress")
        sent = _COPY.fullmatch(copy) if isinstance(copy, str) else None
        if sent is None:
            raise ValueError("compress images first")
        return decoded_html(decompressed(models.values(), from_base64("stream", sent[2]), limits), sent[1])

    @backend.task
    def on_decode(file: object) -> str:
        content, *_ = received(file, limits)
        return decoded_html(decompressed(models.values(), content, limits), None)

    def on_kind(kind: str) -> tuple[Any, ...]:
        return tuple(gr.update(visible=parts.visible(shown)) for shown in _shown(kind))

    def on_model(name: str, kind: str, n: float) -> tuple[Any, ...]:
        kinds, most = _kinds(models[name]), max_images(models[name], limits)
        kind = kind if kind in kinds else kinds[0]
        number, seed, slider, files = on_kind(kind)
        label = parts.new_choices(_choices(models[name]), models[name])
        return label, gr.update(choices=kinds, value=kind), number, seed, {**parts.up_to(most, n), **slider}, files

    kinds, most = _kinds(first), max_images(first, limits)
    shown_number, shown_seed, shown_n, shown_files = map(parts.visible, _shown(kinds[0]))
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            result = gr.HTML(parts.first_status("Choose images, and press Compress."))
            copy = gr.Textbox(None, visible="hidden", label="Latest")  # stays with the visitor, not here
        with gr.Column(scale=2, min_width=300):
            go = gr.Button("Compress", variant="primary")
            model = parts.choice("Model", list(models))
            kind = gr.Radio(kinds, value=kinds[0], label="Images from")
            number = parts.test_image_number("First test image", visible=shown_number)
            seed = parts.seed_number(visible=shown_seed)
            n = gr.Slider(1, most, value=min(_IMAGES, most), step=1, label="How many", visible=shown_n)
            field = picture_field("Pictures", limits, several=True, size=_SIZE.format(limits.coded))
            files = gr.HTML(None, **field, visible=shown_files)
            label = parts.choice(
                "Class", _choices(first), first, info="is given to the model, and stored in the stream"
            )
    gr.HTML('<h3 class="px-heading px-after">Decode</h3>')
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            decoded = gr.HTML(
                parts.first_status("A stream names the model that decodes it, which has to be served here.")
            )
        with gr.Column(scale=2, min_width=300):
            again = gr.Button("Decode what was compressed")
            file = gr.HTML(None, **upload_field("Stream", ".pxcn", "as pixelcnn.compress writes it.", limits))
            decode = gr.Button("Decode the file")

    asked = [model, label, kind, number, seed, n, files]
    model.change(on_model, [model, kind, n], [label, kind, number, seed, n, files], **parts.QUICK)
    kind.input(on_kind, kind, [number, seed, n, files], **parts.QUICK)
    gr.on(
        [go.click, number.submit, seed.submit],
        on_compress,
        asked,
        [result, copy],
        show_progress_on=result,
        **parts.WORK,
    )
    again.click(on_again, copy, decoded, **parts.WORK)
    decode.click(on_decode, file, decoded, **parts.WORK)


def _shown(kind: str) -> tuple[bool, ...]:
    """Which of the controls number, seed, how many and files there are for a kind of images."""
    return kind == _DIGITS, kind == _DRAWN, kind != _FILES, kind == _FILES


def _kinds(served: Served) -> list[str]:
    return [_DIGITS, _DRAWN, _FILES] if served.has_digits else [_DRAWN, _FILES]


def _choices(served: Served) -> list[str]:
    return parts.class_choices(served, *([_PROBABLE] if served.classes <= _MAX_CLASSES else []))


def _images(
    served: Served, label: str, kind: str, number: float, seed: float, n: float, files: object, limits: Limits
) -> Tensor:
    """The images that the controls describe: levels (N, C, H, W).

    Raises:
        ValueError: If a control's value is invalid, or a file is no picture.
    """
    parts.check_choice("source of images", kind, _kinds(served))
    parts.check_choice("class", label, _choices(served))
    contents = received(files, limits) if kind == _FILES else []
    count = parts.whole("number of images", len(contents) if contents else n, 1, max_images(served, limits))
    if kind == _DIGITS:
        return served.digits(parts.test_image_of(number), count)
    if kind == _DRAWN:
        classes = () if label in (parts.ANY, _PROBABLE) else (int(label),)
        *_, last = draw(served, Request(images=count, classes=classes, seed=parts.seed_of(seed)), limits)
        return last.canvas
    images = [_image(served, content, k, count, limits) for k, content in enumerate(contents, start=1)]
    if len({image.shape for image in images}) > 1:
        raise ValueError("pictures that are compressed together must have one size")
    return torch.stack(images)


def _image(served: Served, content: bytes, number: int, count: int, limits: Limits) -> Tensor:
    try:
        return as_image(served, content, limits, own_size=served.keeps_sizes)
    except ValueError as error:
        raise ValueError(f"picture {number} of {count}: {error}" if count > 1 else str(error)) from None


def _labels(served: Served, label: str, images: Tensor) -> Tensor | None:
    """The classes that are given to the model; None for any."""
    if label == parts.ANY:
        return None
    if label == _PROBABLE:
        model = served.of_size(*images.shape[2:]).model
        return model.classify(images.to(model.device)).argmax(1).cpu()
    return torch.full((len(images),), int(label))


def stream_html(served: Served, result: Compressed) -> str:
    """The images, the sizes of their stream and of other formats, and a link to keep the stream."""
    images, size = parts.count(len(result.images), "image"), len(result.data)
    raw = list(result.others.values())[-1]
    ratio = f"{raw / size:.1f} times smaller" if raw >= size else f"{size / raw:.1f} times larger"
    status = parts.status(
        f"<strong>{images}</strong> in <strong>{size:,} bytes</strong>, {ratio} than raw, in "
        f"<strong>{result.seconds:.2f} s</strong>",
        parts.download(
            "Download stream", served, f"-{len(result.images)}.pxcn", result.data, "application/octet-stream"
        ),
    )
    own = "<strong>this stream</strong>"
    sizes = {own: size, "without its header": size - result.overhead, **result.others}
    largest = max(sizes.values())

    def row(name: str, each: float) -> str:
        return (
            f'<tr class="px-numbers"><th scope="row">{name}'
            f"{parts.bar(each / largest, ' px-bar-own' if name == own else '')}</th>"
            f"<td>{each:,.0f}</td><td>{each / len(result.images):,.1f}</td>"
            f"<td>{8 * each / result.images.numel():.3f}</td><td>{raw / max(each, 1):.1f} ×</td></tr>"
        )

    rows = [row(name, each) for name, each in sizes.items()]
    table = parts.table(rows, ("what", "bytes", "each", "bits/dim", "ratio"), " px-sizes", "bytes")
    return (
        f"{_sheet(served, result.images, f'{images} to compress')}{status}{table}"
        f'<p class="px-note">{_caveats(served, result)}</p>'
    )


def _caveats(served: Served, result: Compressed) -> str:
    """What one has to know to read the table."""
    size, sentences = len(result.data), []
    if 4 * result.overhead > size:
        sentences.append(
            f"{result.overhead} of the {size:,} bytes are header and checksums, which hardly grow with the number of "
            "images: with more images per stream they matter less."
        )
    weights = sum(parameter.numel() * parameter.element_size() for parameter in served.model.parameters())
    sentences.append(
        f"Decoding also needs the model, {weights / 1e6:.1f} MB, which was trained on such images; picture formats "
        "know nothing of them."
    )
    return " ".join(sentences)


def browser_copy(result: Compressed, limits: Limits) -> str:
    """What the visitor's browser keeps for decoding it again: a digest of the images, and the stream, or that it is too
    large for a message.
    """
    if 4 * math.ceil(len(result.data) / 3) > limits.body - _RESERVE:
        return _TOO_LARGE
    return f"{values_digest(result.images)} {base64.b64encode(result.data).decode()}"


def decoded_html(result: Decompressed, digest: str | None) -> str:
    """The images of a stream, and whether they are those that were compressed, if their digest is known."""
    n, served = len(result.images), result.served
    images, own_digest = parts.count(n, "image"), values_digest(result.images)
    equal = "they match the digest in the stream"
    if digest is not None:
        equal = f"equal to the original: <strong>{'yes' if own_digest == digest else 'no'}</strong>"
    c, h, w = result.images.shape[1:]
    rows = [
        ("model", html.escape(served.name)),
        ("images", f"{n} of {c} × {h} × {w}, {served.model.levels} levels"),
        ("stream", f"{result.bytes:,} bytes, {result.bytes / n:,.1f} per image"),
    ]
    if result.labels is not None:
        listed = html.escape(", ".join(map(served.class_name, result.labels[:_MAX_LISTED].tolist())))
        rows.append(("classes", listed + ", …" * (len(result.labels) > _MAX_LISTED)))
    rows.append(("SHA-256 of the levels", f"<code>{own_digest}</code>"))
    table = parts.table(
        (f'<tr><th scope="row">{key}</th><td>{value}</td></tr>' for key, value in rows), (), " px-sizes"
    )
    return (
        _sheet(served, result.images, f"{images} decoded by {served.name}")
        + parts.status(f"<strong>{images}</strong> decoded in <strong>{result.seconds:.2f} s</strong>; {equal}")
        + table
    )


def _sheet(served: Served, images: Tensor, alt: str) -> str:
    """All images side by side, about twice as many in a row as in a column."""
    columns = min(len(images), max(8, math.ceil(math.sqrt(2 * len(images)))))
    sheet = grid(images, served.model.levels, columns, side=max(28, min(112, _SIDE // columns)))
    return f'<div class="px-sheet">{parts.img(sheet, alt)}</div>'
