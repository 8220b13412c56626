"""The tab that scores: an image's bits, and where in it the model is surprised.

An image is a digit of the package's MNIST, a file, or drawn by hand.
"""

from __future__ import annotations

import asyncio
import html
import io
import math
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from pixelcnn.app import pieces, uploads
from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.datasets.mnist import mnist
from pixelcnn.images import grid, surprise_map
from pixelcnn.models import OrderEnsemble
from pixelcnn.scoring import score

__all__ = ["TITLE", "Reference", "build", "digit", "scored"]

TITLE = "Score"

_ANY = "any"
_DIGIT, _FILE, _DRAWN = "a digit of MNIST", "a file", "drawn by hand"
_DIGITS = 10_000  # in the test set
_REFERENCE = 256  # of them an image is compared with
_MOST_CLASSES = 100  # a forward each
_LISTED = 10  # classes that are listed
_NOTE = f"{uploads.READABLE}; it is scaled and cropped to the model's size."


class Reference:
    """Bits of images that the models' images are compared with: computed when first asked for, and kept."""

    def __init__(self) -> None:
        self._bits: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def share_below(self, served: Served, bits: float) -> float | None:
        """The share of some MNIST test images that have fewer bits; None if the model's images are not like MNIST's."""
        if not _has_digits(served):
            return None
        with self._lock:  # whoever comes meanwhile waits, instead of computing the same
            if served.name not in self._bits:
                images, _ = mnist("test", served.model.levels)
                log_prob = score(served.model, images[:: _DIGITS // _REFERENCE][:_REFERENCE]).log_prob
                self._bits[served.name] = -log_prob / math.log(2)
            return (self._bits[served.name] < bits).double().mean().item()


def build(models: Sequence[Served], limits: Limits) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    import gradio as gr

    by_name = {served.name: served for served in models}
    first = models[0]
    reference = Reference()
    workers = ThreadPoolExecutor(limits.concurrency, "score")

    def work(name: str, label: str, kind: str, index: float | None, file: str | None, drawing: str | None) -> str:
        served = by_name[name]
        if label not in _choices(served):
            raise ValueError(f"the class must be one of {', '.join(_choices(served))}, got {label}")
        if kind == _DIGIT:
            image, title = digit(served, index), f"test image {index:.0f}"
        else:
            if kind == _DRAWN and not drawing:
                raise ValueError("draw an image first")
            content, *_ = uploads.received(drawing if kind == _DRAWN else file, limits)
            image, title = uploads.as_image(served, content, limits), ""
        return scored(served, image, None if label == _ANY else int(label), title, reference)

    async def on_score(
        name: str, label: str, kind: str, index: float | None, file: str | None, drawing: str | None
    ) -> str:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                workers, work, name, label, kind, index, file, drawing
            )
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def shown_of(kind: str) -> tuple[Any, Any, Any]:
        return tuple(gr.update(visible=True if kind == each else "hidden") for each in (_DIGIT, _FILE, _DRAWN))

    def on_model(name: str, kind: str) -> tuple[Any, ...]:
        served = by_name[name]
        kinds = _kinds(served)
        kind = kind if kind in kinds else kinds[0]
        return (
            gr.update(choices=_choices(served), value=_ANY, visible=served.classes > 0),
            gr.update(choices=kinds, value=kind),
            *shown_of(kind),
        )

    kinds = _kinds(first)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            told = gr.HTML(pieces.status("Choose an image, and press Score."))
        with gr.Column(scale=2, min_width=300):
            go = gr.Button("Score", variant="primary")
            model = gr.Dropdown(
                list(by_name), value=first.name, label="Model", filterable=False, visible=len(models) > 1
            )
            label = gr.Dropdown(_choices(first), value=_ANY, label="Class", filterable=False, visible=first.classes > 0)
            kind = gr.Radio(kinds, value=kinds[0], label="Image")
            with gr.Row(elem_classes="px-seed", visible=True if kinds[0] == _DIGIT else "hidden") as digits:
                index = gr.Number(
                    0, precision=0, minimum=0, maximum=_DIGITS - 1, label="Number in the test set", min_width=140
                )
                another = gr.Button("Another digit", min_width=120)
            file = gr.HTML(
                None,
                **uploads.chooser("Picture", uploads.PICTURES, _NOTE, limits),
                visible=True if kinds[0] == _FILE else "hidden",
            )
            pad = gr.HTML(None, html_template=_PAD, js_on_load=_PAINT, visible="hidden")

    asked = [model, label, kind, index, file, pad]
    private: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    working: dict[str, Any] = {
        "concurrency_id": "work",
        "show_progress": "minimal",
        "trigger_mode": "once",
        "api_visibility": "private",
    }
    model.change(on_model, [model, kind], [label, kind, digits, file, pad], **private)
    kind.input(shown_of, kind, [digits, file, pad], **private)
    go.click(on_score, asked, told, **working)
    index.submit(on_score, asked, told, **working)
    another.click(lambda: random.randrange(_DIGITS), None, index, **private).then(on_score, asked, told, **working)


def _choices(served: Served) -> list[str]:
    return [_ANY, *map(str, range(served.classes))]


def _has_digits(served: Served) -> bool:
    return served.model.image_shape == (1, 28, 28)


def _kinds(served: Served) -> list[str]:
    return [_DIGIT, _FILE, _DRAWN] if _has_digits(served) else [_FILE, _DRAWN]


def digit(served: Served, index: float | None) -> Tensor:
    """An image of MNIST's test set: uint8 levels (1, 28, 28).

    Raises:
        ValueError: If there is none of that number, or the model's images have another shape.
    """
    if not _has_digits(served):
        raise ValueError(f"the images of {served.name} are not of MNIST's shape")
    if index is None or index != int(index) or not 0 <= index < _DIGITS:
        raise ValueError(f"the number in the test set must be in 0..{_DIGITS - 1}, got {index}")
    return mnist("test", served.model.levels)[0][int(index)]


@torch.inference_mode()
def scored(served: Served, image: Tensor, label: int | None, title: str, reference: Reference) -> str:
    """The image, its map of surprise, which ensembles do not have, and its scores, as HTML within which everything is.

    Args:
        served: What scores.
        image: uint8 levels (C, H, W).
        label: The class that it is given; None for any.
        title: Of the image.
        reference: What it is compared with, where no class is given.
    """
    model = served.model
    one = image[None].to(model.device)
    labels = None if label is None else torch.tensor([label])
    found = score(model, one, labels, method="complexity")
    nats = -found.log_prob.item()
    bits = nats / math.log(2)
    given = "" if label is None else f", given class {label}"
    alt = f"the image as {served.name} sees it"
    if isinstance(model, OrderEnsemble):  # its factors have no order in common
        figure = _enlarged(image, model.levels)
    else:
        figure = surprise_map(image, model.log_prob_map(one, labels)[0], model.levels, title)
        alt += f", and its map of surprise{given}"
    address = pieces.data_address(figure)
    share = reference.share_below(served, bits) if label is None else None
    beside = "" if share is None else f", more than <strong>{share:.0%}</strong> of {_REFERENCE} MNIST test images"
    rows = [
        ("bits/dim", f"{found.bits_per_dim.item():.4f}"),
        ("nats", f"{nats:.2f}"),
        ("bits/dim beyond a lossless compressor's (complexity score)", f"{found.score.item():+.4f}"),
    ]
    table = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    classes = _classes(served, one) if 0 < served.classes <= _MOST_CLASSES else ""
    return (
        f'<div class="px-surprise"><img src="{address}" alt="{html.escape(alt, quote=True)}"></div>'
        f"{pieces.status(f'<strong>{bits:.1f} bits</strong>{given}{beside}')}"
        f'<div class="px-table"><table><tbody>{table}</tbody></table></div>{classes}'
    )


def _enlarged(image: Tensor, levels: int) -> bytes:
    buffer = io.BytesIO()
    grid(image[None], levels, side=340).save(buffer, "PNG")
    return buffer.getvalue()


def _classes(served: Served, one: Tensor) -> str:
    """The posterior of the classes as bars, the most probable first if they are many."""
    posterior = served.model.classify(one)[0].exp().double().cpu()
    chosen = posterior.topk(min(_LISTED, len(posterior))).indices
    if len(posterior) <= _LISTED:
        chosen = chosen.sort().values
    rows = "".join(
        f'<tr><th scope="row">{k}</th><td><div class="px-bar" aria-hidden="true">'
        f'<div style="width:{100 * posterior[k]:.1f}%"></div></div></td><td>{posterior[k]:.1%}</td></tr>'
        for k in chosen.tolist()
    )
    return (
        '<h3 class="px-heading px-after">Class, by Bayes\' rule</h3>'
        f'<div class="px-table px-classes"><table><tbody>{rows}</tbody></table></div>'
    )


_PAD = (
    '<div class="px-pad"><canvas width="280" height="280" role="img" aria-label="drawing area"></canvas>'
    '<button type="button" class="px-keep">Clear</button></div>'
)

_PAINT = """
const canvas = element.querySelector("canvas"), brush = canvas.getContext("2d", {willReadFrequently: true});
const clear = () => { brush.fillStyle = "#000"; brush.fillRect(0, 0, canvas.width, canvas.height); };
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
};
let last = null;
const stroke = (event) => {
  const next = place(event);
  brush.strokeStyle = "#fff"; brush.lineWidth = 22; brush.lineCap = "round";
  brush.beginPath(); brush.moveTo(...last); brush.lineTo(...next); brush.stroke();
  last = next;
};
clear();
canvas.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  last = place(event); stroke(event);
});
canvas.addEventListener("pointermove", (event) => { if (last) stroke(event); });
const lift = () => { if (last) { last = null; props.value = canvas.toDataURL("image/png"); } };
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
element.querySelector("button").addEventListener("click", () => { clear(); props.value = null; });
"""
