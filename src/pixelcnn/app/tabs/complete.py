"""The tab Complete: a visitor hides or paints pixels in an editor, and the model draws what is hidden from the rest.

The editor in the browser (`editor.html`, `editor.js`) and the server exchange one string, JSON:

    shape   [C, H, W]
    levels  the number of levels; levels - 1 is white
    image   the levels (C, H, W), two bytes each, the low one first, in base64
    hidden  H * W characters in raster order: 1 where a pixel is hidden

Whatever comes back is checked, for a visitor may send anything.
"""

from __future__ import annotations

import base64
import html
import json
import random
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from pixelcnn.app import parts
from pixelcnn.app.served import TEST_IMAGES, Limits, Served
from pixelcnn.app.uploads import as_image, from_base64, max_bytes
from pixelcnn.completion import FEW, Completion, comes_first
from pixelcnn.images import completion_panel, encoded, hidden, shades, to_pil
from pixelcnn.levels import level_dtype
from pixelcnn.models import MixtureModel

__all__ = ["TITLE", "Edited", "Result", "build", "complete", "from_editor", "result_html", "to_editor", "too_large"]

TITLE = "Complete"
ORDER = 2

_MAX_DRAWS = 8
_PARTICLES = 128  # at first
_FIRST_DIGIT = 4  # in the test set: a 4 that might be a 9
_RESERVE = 2**12  # bytes for what else is in the message of a picture or of the editor's string


@dataclass(frozen=True, kw_only=True)
class Edited:
    """An image, and which of its pixels are known."""

    image: Tensor
    """Levels (C, H, W)."""
    known: Tensor
    """bool (C, H, W), the same for all channels."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A completion, and how far its draws can be trusted."""

    completion: Completion
    """Of one image."""
    exact: bool
    """Whether the known sub-pixels come first, so that the draws are exact and independent."""
    few: bool
    """Whether the draws are likely to be few and alike."""
    particles: int
    seconds: float

    @property
    def draws(self) -> Tensor:
        """Levels (n, C, H, W)."""
        return self.completion.images[0].cpu()


def build(backend: parts.Backend) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    models, limits, first = backend.models, backend.limits, backend.first

    @backend.task
    def on_complete(name: str, text: str, label: str, n: float, particles: float, seed: float) -> tuple[str, str]:
        served = backend.served(name)
        if wrong := too_large(served, limits):
            raise ValueError(wrong)
        edited = from_editor(served, text)
        draws, of = parts.whole("number of completions", n), parts.whole("number of particles", particles)
        number = parts.seed_of(seed)
        result = complete(served, edited, draws, of, parts.class_of(served, label), number, limits)
        return result_html(served, edited, result, number)

    @backend.task
    def on_upload(name: str, event: gr.EventData) -> str:
        served = backend.served(name)
        content = event._data.get("content") if isinstance(event._data, dict) else None
        return to_editor(served, as_image(served, from_base64("file", content), limits))

    def on_model(name: str, particles: float) -> tuple[Any, ...]:
        served = models[name]
        most = limits.particles_of(served)
        return (
            gr.update(**_note(served, limits)),
            gr.update(**_editor(served, limits)),
            gr.update(visible=served.has_digits),
            parts.new_choices(parts.class_choices(served), served),
            parts.up_to(min(_MAX_DRAWS, most), _MAX_DRAWS),
            parts.up_to(most, particles),
        )

    def on_digit(name: str) -> Any:
        served = models[name]
        return to_editor(served, served.digits(random.randrange(TEST_IMAGES))[0]) if served.has_digits else gr.skip()

    most = limits.particles_of(first)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            note = gr.HTML(**_note(first, limits))
            editor = gr.HTML(
                html_template=parts.asset("editor.html", MAX_BYTES=max_bytes(limits, _RESERVE)),
                js_on_load=parts.asset("editor.js"),
                **_editor(first, limits),
            )
            another = gr.Button("Another digit", visible=first.has_digits)
        with gr.Column(scale=3, min_width=320):
            go = gr.Button("Complete", variant="primary")
            status = gr.HTML(parts.status("Press Complete to draw the orange pixels from all the others."))
            pictures = gr.HTML("")
            with gr.Row():
                model = parts.choice("Model", list(models))
                label = parts.choice("Class", parts.class_choices(first), first)
            with gr.Row():
                start = min(_MAX_DRAWS, most)
                n = gr.Slider(1, start, value=start, step=1, label="Completions", min_width=200)
                particles = gr.Slider(1, most, value=min(_PARTICLES, most), step=1, label="Particles", min_width=200)
            seed = parts.seed_number()

    asked = [model, editor, label, n, particles, seed]
    work = {**parts.WORK, "show_progress_on": status}
    model.change(on_model, [model, particles], [note, editor, another, label, n, particles], **parts.QUICK)
    another.click(on_digit, model, editor, **parts.QUICK)
    editor.upload(on_upload, model, editor, **work)
    gr.on([go.click, seed.submit], on_complete, asked, [pictures, status], **work)


def _note(served: Served, limits: Limits) -> dict[str, Any]:
    """Options of the note above the editor."""
    words = too_large(served, limits)
    return {"value": parts.status(html.escape(words)), "visible": bool(words)}


def _editor(served: Served, limits: Limits) -> dict[str, Any]:
    """Options of the editor: its first image, or none where it would be too large."""
    fits = not too_large(served, limits)
    image = served.digits(_FIRST_DIGIT)[0] if served.has_digits else None
    return {"value": to_editor(served, image) if fits else "", "visible": parts.visible(fits)}


def too_large(served: Served, limits: Limits) -> str:
    """What to say if the editor's string of an image would not fit into a message; empty if it does."""
    c, h, w = served.model.image_shape
    most = (limits.body - _RESERVE) * 3 // (8 * c + 3)  # a pixel is c levels of 8/3 letters, and a letter of the mask
    if h * w <= most:
        return ""
    return (
        f"{served.name} draws images of {h} x {w} pixels, and this page completes at most {most:,} pixels of "
        f"{parts.count(c, 'channel')}: use pixelcnn complete"
    )


def to_editor(served: Served, image: Tensor | None = None) -> str:
    """The editor's string of an image, by default a black one, with its middle rows hidden."""
    c, h, w = served.model.image_shape
    if image is None:
        image = torch.zeros(c, h, w, dtype=torch.uint8)
    top = max(0, min(h - 1, round(0.36 * h)))
    bottom = max(top + 1, round(0.64 * h))
    return json.dumps(
        {
            "shape": [c, h, w],
            "levels": served.model.levels,
            "image": base64.b64encode(image.cpu().numpy().astype("<u2").tobytes()).decode(),
            "hidden": "".join("1" if top <= y < bottom else "0" for y in range(h) for _ in range(w)),
        }
    )


def from_editor(served: Served, text: object) -> Edited:
    """The image and the mask in the editor's string.

    Raises:
        ValueError: If it is not an image for the model with something hidden.
    """
    c, h, w = served.model.image_shape
    try:
        sent = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise ValueError("the editor has no image: reload the page")
    if sent.get("shape") != [c, h, w] or sent.get("levels") != served.model.levels:
        raise ValueError(
            f"the editor's image does not fit {served.name}: choose another model, and then this one again"
        )
    mask = sent.get("hidden")
    if not isinstance(mask, str) or len(mask) != h * w or set(mask) - {"0", "1"}:
        raise ValueError(f"the mask must be {h} x {w} pixels, each known or hidden")
    content = from_base64("editor's image", sent.get("image"))
    levels = np.frombuffer(content, "<u2") if len(content) == 2 * c * h * w else np.full(1, served.model.levels)
    if levels.max() >= served.model.levels:
        raise ValueError(f"the image must be {c} x {h} x {w} numbers below {served.model.levels}")
    unknown = torch.tensor([letter == "1" for letter in mask]).view(1, h, w).expand(c, h, w)
    if not unknown.any():
        raise ValueError("nothing is hidden: paint over the part that is to be completed")
    image = torch.from_numpy(levels.astype(np.int32)).view(c, h, w).to(level_dtype(served.model.levels))
    return Edited(image=image, known=~unknown)


def complete(
    served: Served, edited: Edited, n: int, particles: int, label: int | None, seed: int, limits: Limits
) -> Result:
    """Completes an image n times, with at least n particles, which are not needed where the draws are exact.

    Raises:
        ValueError: If the request is invalid or exceeds the limits, or what is known is impossible.
    """
    parts.whole("number of particles", particles, 1, limits.particles_of(served))
    if not 1 <= n <= particles:
        raise ValueError(f"the number of completions must be in 1..{particles}, the number of particles, got {n}")
    labels = None if label is None else torch.tensor([label])
    begun = time.monotonic()
    completion = served.model.complete(
        edited.image[None], edited.known[None], n, particles, labels, seed, seconds=limits.seconds
    )
    seconds = time.monotonic() - begun
    model = served.model
    seen = [p.transform.moved(edited.known) for p in model.parts] if isinstance(model, MixtureModel) else [edited.known]
    exact = any(map(comes_first, seen))
    few = not exact and completion.ess.item() < min(FEW, particles)
    return Result(completion=completion, exact=exact, few=few, particles=particles, seconds=seconds)


def result_html(served: Served, edited: Edited, result: Result, seed: int) -> tuple[str, str]:
    """What was known, the draws, their mean and deviation; how far to trust them, and a link to keep the panel."""
    levels, draws = served.model.levels, result.draws
    count = parts.count(len(draws), "completion")
    pictures = [("known", hidden(edited.image, edited.known, levels))]
    pictures += [(f"draw {k}", to_pil(draw, levels)) for k, draw in enumerate(draws, start=1)]
    if len(draws) > 1:
        values = draws.double() / (levels - 1)
        pictures += [("mean", shades(values.mean(0))), ("deviation", shades(2 * values.std(0)))]
    figures = "".join(
        f"<figure>{parts.img(picture, caption)}<figcaption>{caption}</figcaption></figure>"
        for caption, picture in pictures
    )
    name = html.escape(f"{count} by {served.name}, seed {seed}")
    by = " under one part of the mixture" if isinstance(served.model, MixtureModel) else ""
    if result.exact:
        trust = f"exact and independent{by}: the known pixels all come first"
    else:
        ess = result.completion.ess.item()
        trust = f"effective sample size <strong>{ess:.1f}</strong> of {parts.count(result.particles, 'particle')}{by}"
    warning = ""
    if result.few:
        warning = (
            '<p class="px-warning" role="alert">The draws are few and alike: use more particles, or hide less.</p>'
        )
    panel = completion_panel(edited.image[None], edited.known[None], draws[None], levels, _MAX_DRAWS)
    link = parts.download("Download PNG", served, f"-completed-{seed}.png", encoded(panel))
    status = parts.status(
        f"<strong>{count}</strong> in <strong>{result.seconds:.2f} s</strong>, {trust}; "
        f"log p(known) {result.completion.log_evidence.item():.2f} nats",
        link + warning,
    )
    return f'<div class="px-draws" role="group" aria-label="{name}">{figures}</div>', status
