"""The tab Score: how many bits an image has, where in it the model is surprised, and how probable each class is.

An image is a digit of MNIST's test set, a file, or drawn by hand.
"""

from __future__ import annotations

import html
import math
import random
from functools import cache
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from pixelcnn.app import parts
from pixelcnn.app.served import TEST_IMAGES, Served
from pixelcnn.app.uploads import as_image, picture_field, received
from pixelcnn.images import encoded, grid, surprise_map
from pixelcnn.levels import GREY_LEVELS
from pixelcnn.models import MixtureModel
from pixelcnn.scoring import score

__all__ = ["TITLE", "build", "score_html", "share_below"]

TITLE = "Score"
ORDER = 3

_DIGIT, _FILE, _DRAWN = "a digit of MNIST", "a file", "drawn by hand"
_REFERENCE = 256  # test images that an image is compared with
_MAX_CLASSES = 100  # that are compared: one forward pass each
_MAX_LISTED = 10  # classes


def share_below(served: Served, bits: float) -> float | None:
    """The share of MNIST test images that have fewer bits; None if the model's images do not have MNIST's shape."""
    return (_reference_bits(served) < bits).double().mean().item() if served.has_digits else None


@cache
def _reference_bits(served: Served) -> Tensor:
    """The bits of some MNIST test images under a model."""
    images = served.digits(0, TEST_IMAGES)[:: TEST_IMAGES // _REFERENCE][:_REFERENCE]
    return -score(served.model, images).log_prob / math.log(2)


def build(backend: parts.Backend) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    models, limits, first = backend.models, backend.limits, backend.first

    @backend.task
    def on_score(name: str, label: str, kind: str, number: float | None, file: str | None, drawing: str | None) -> str:
        served = backend.served(name)
        parts.check_choice("source of the image", kind, _kinds(served))
        class_ = parts.class_of(served, label)
        if kind == _DIGIT:
            k = parts.test_image_of(number)
            image, title = served.digits(k)[0], f"test image {k}"
        else:
            if kind == _DRAWN and not drawing:
                raise ValueError("draw an image first")
            content, *_ = received(drawing if kind == _DRAWN else file, limits)
            image, title = as_image(served, content, limits), ""
        return score_html(served, image, class_, title)

    def on_kind(kind: str) -> tuple[Any, ...]:
        return tuple(gr.update(visible=parts.visible(kind == each)) for each in (_DIGIT, _FILE, _DRAWN))

    def on_model(name: str, kind: str) -> tuple[Any, ...]:
        kinds = _kinds(models[name])
        kind = kind if kind in kinds else kinds[0]
        label = parts.new_choices(parts.class_choices(models[name]), models[name])
        return label, gr.update(choices=kinds, value=kind), *on_kind(kind)

    kinds = _kinds(first)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            result = gr.HTML(parts.first_status("Choose an image, and press Score."))
        with gr.Column(scale=2, min_width=300):
            go = gr.Button("Score", variant="primary")
            model = parts.choice("Model", list(models))
            label = parts.choice("Class", parts.class_choices(first), first)
            kind = gr.Radio(kinds, value=kinds[0], label="Image")
            with gr.Row(elem_classes="px-seed", visible=parts.visible(kinds[0] == _DIGIT)) as digits:
                number = parts.test_image_number("Test image", min_width=140)
                another = gr.Button("Another digit", min_width=120)
            file = gr.HTML(None, **picture_field("Picture", limits), visible=parts.visible(kinds[0] == _FILE))
            pad = gr.HTML(None, html_template=_PAD, js_on_load=parts.asset("pad.js"), visible="hidden")

    asked = [model, label, kind, number, file, pad]
    model.change(on_model, [model, kind], [label, kind, digits, file, pad], **parts.QUICK)
    kind.input(on_kind, kind, [digits, file, pad], **parts.QUICK)
    go.click(on_score, asked, result, **parts.WORK)
    number.submit(on_score, asked, result, **parts.WORK)
    another.click(lambda: random.randrange(TEST_IMAGES), None, number, **parts.QUICK).then(
        on_score, asked, result, **parts.WORK
    )


def _kinds(served: Served) -> list[str]:
    drawn = [_DRAWN] if served.model.levels <= GREY_LEVELS else []  # a drawing has 8 bits
    return [*([_DIGIT] if served.has_digits else []), _FILE, *drawn]


@torch.inference_mode()
def score_html(served: Served, image: Tensor, label: int | None, title: str) -> str:
    """An image of levels (C, H, W), its map of surprise, which ensembles do not have, its scores and its classes.

    Without a label, the class that the model is given, the image's bits are compared with those of test images.
    """
    model = served.model
    images = image[None].to(model.device)
    labels = None if label is None else torch.tensor([label])
    scores = score(model, images, labels, method="complexity")
    nats = -scores.log_prob.item()
    bits = nats / math.log(2)
    given = "" if label is None else f", given class {served.class_name(label)}"
    alt = f"the image as {served.name} sees it"
    if isinstance(model, MixtureModel):  # its factors have no order in common
        picture = encoded(grid(images, model.levels, side=340))
    else:
        picture = surprise_map(image, model.log_prob_map(images, labels)[0], model.levels, title)
        alt += f", and its map of surprise{given}"
    share = share_below(served, bits) if label is None else None
    compared = "" if share is None else f", more than <strong>{share:.0%}</strong> of {_REFERENCE} MNIST test images"
    rows = [
        ("bits/dim", f"{scores.bits_per_dim.item():.4f}"),
        ("nats", f"{nats:.2f}"),
        ("bits/dim minus those of a lossless compressor (complexity score)", f"{scores.score.item():+.4f}"),
    ]
    return (
        f'<div class="px-surprise">{parts.img(picture, alt)}</div>'
        + parts.status(f"<strong>{bits:.1f} bits</strong>{html.escape(given)}{compared}")
        + parts.table(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
        + (_classes(served, images) if 0 < served.classes <= _MAX_CLASSES else "")
    )


def _classes(served: Served, images: Tensor) -> str:
    """The posterior of the classes of the one image as bars; if they are many, of the most probable ones, in order."""
    posterior = served.model.classify(images)[0].exp().double().cpu()
    listed = posterior.topk(min(_MAX_LISTED, len(posterior))).indices
    if len(posterior) <= _MAX_LISTED:
        listed = listed.sort().values
    rows = (
        f'<tr><th scope="row">{html.escape(served.class_name(k))}</th><td>{parts.bar(posterior[k].item())}</td>'
        f"<td>{posterior[k]:.1%}</td></tr>"
        for k in listed.tolist()
    )
    return f'<h3 class="px-heading px-after">Class, by Bayes\' rule</h3>{parts.table(rows, (), " px-classes")}'


_PAD = (
    '<div class="px-pad">'
    '<canvas width="280" height="280" role="img" aria-label="drawing area, for mouse or touch"></canvas>'
    '<button type="button" class="px-keep">Clear</button></div>'
)
