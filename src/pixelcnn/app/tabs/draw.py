"""The tab Draw: images grow as they are sampled, with the time, the number of steps and a picture to keep."""

from __future__ import annotations

import html
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from PIL import Image

from pixelcnn.app import parts
from pixelcnn.app.drawing import Request, Snapshot, draw
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.uploads import as_map, picture_field, received
from pixelcnn.images import encoded, grid
from pixelcnn.models import MixtureModel

__all__ = ["TITLE", "build", "snapshot_html"]

TITLE = "Draw"
ORDER = 1

_IMAGES = 16  # at first
_FIRST_SECONDS = 5.0  # that the first drawing may take
_MAX_HEADS = 20  # classes that are named above their columns
_ALL = "all, in columns"
_NO_MAP = "none"
_SIDE = 640  # approximate width of the picture in pixels
_REPLAY_SECONDS = 4.0
_SEEDS = 10**6  # a new seed is below it: it should be easy to write down
_UNDER_WAY = "shown => shown.includes('px-bar')"  # in the browser: the status has a bar while a drawing grows


def build(backend: parts.Backend) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    models, limits, first = backend.models, backend.limits, backend.first

    @backend.stream
    def on_draw(
        name: str,
        label: str,
        images: float,
        temperature: float,
        guidance: float,
        seed: float,
        replay: bool,
        size: str = _NO_MAP,
        file: str | None = None,
    ) -> Iterator[tuple[str, str]]:
        served = backend.served(name)
        request = _request(served, label, images, temperature, guidance, seed)
        if served.map_scales and file:
            parts.check_choice("size of the map", size, _sizes(served))
            scale = served.map_scales[_sizes(served).index(size)]
            request = replace(request, map=as_map(served, received(file, limits)[0], scale, limits))
        for snapshot in draw(served, request, limits):
            yield snapshot_html(served, request, snapshot, replay=replay)

    def on_model(name: str, images: float) -> tuple[Any, ...]:
        served = models[name]
        return (
            parts.new_choices(_choices(served), served),
            parts.up_to(limits.images_of(served), images),
            gr.update(visible=False, value=1.0),
            parts.new_choices(_sizes(served)),
            gr.update(visible=parts.visible(bool(served.map_scales))),
        )

    def on_class(name: str, label: str) -> Any:
        guided = models[name].guided and label != parts.ANY
        return gr.update(visible=True) if guided else gr.update(visible=False, value=1.0)

    def on_stopped(under_way: bool) -> Any:
        return parts.status("Stopped.") if under_way else gr.skip()

    most = limits.images_of(first)
    first_picture, first_status = _first_drawing(first, limits)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            picture = gr.HTML(first_picture)
            status = gr.HTML(first_status)
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                go = gr.Button("Draw", variant="primary", min_width=120)
                stop = gr.Button("Stop", min_width=120)
            model = parts.choice("Model", list(models))
            label = parts.choice("Class", _choices(first), first)
            images = gr.Slider(1, most, value=min(_IMAGES, most), step=1, label="Images")
            temperature = gr.Slider(
                0.1,
                2.0,
                value=1.0,
                step=0.05,
                label="Temperature",
                info="1 draws from the model as it was trained; lower is smoother, higher is wilder",
            )
            guidance = gr.Slider(
                0.0, 8.0, value=1.0, step=0.1, label="Guidance", info="above 1 exaggerates the class", visible=False
            )
            with gr.Row(elem_classes="px-seed"):
                seed = parts.seed_number(min_width=140)
                fresh = gr.Button("New seed", min_width=120)
            map_field = picture_field(
                "Map that the images are given", limits, size="scaled and cropped to the map's size"
            )
            file = gr.HTML(None, **map_field, visible=parts.visible(bool(first.map_scales)))
            size = parts.choice("Size of the map", _sizes(first))
            replay = gr.Checkbox(True, label="Replay slowly", info="when done, shows once more how the images grew")

    asked = [model, label, images, temperature, guidance, seed, replay, size, file]
    shown = [picture, status]
    work = {**parts.WORK, "show_progress_on": status}
    model.change(on_model, [model, images], [label, images, guidance, size, file], **parts.QUICK)
    label.change(on_class, [model, label], guidance, **parts.QUICK)
    drawing = [
        go.click(on_draw, asked, shown, **{**work, "api_name": "draw", "api_visibility": "public"}),
        seed.submit(on_draw, asked, shown, **work),
        fresh.click(lambda: random.randrange(_SEEDS), None, seed, **parts.QUICK).then(on_draw, asked, shown, **work),
    ]
    stop.click(None, cancels=drawing, api_visibility="private").then(
        on_stopped, status, status, js=_UNDER_WAY, **parts.QUICK
    )


def _sizes(served: Served) -> list[str]:
    """Of the maps that a model takes, in the order of its `map_scales`."""
    _, h, w = served.model.image_shape
    return [f"{h // scale} x {w // scale}" for scale in served.map_scales] or [_NO_MAP]


def _choices(served: Served) -> list[str]:
    return parts.class_choices(served, _ALL)


def _request(
    served: Served, label: str, images: float, temperature: float, guidance: float, seed: float | None
) -> Request:
    """The request that the controls describe.

    Raises:
        ValueError: If a number is missing or not whole, or there is no such class.
    """
    parts.check_choice("class", label, _choices(served))
    each = tuple(range(served.classes))
    return Request(
        images=parts.whole("number of images", images),
        classes=() if label == parts.ANY else each if label == _ALL else (int(label),),
        temperature=temperature,
        guidance=1.0 if label == parts.ANY else guidance,
        seed=parts.seed_of(seed),
    )


def snapshot_html(served: Served, request: Request, snapshot: Snapshot, *, replay: bool = False) -> tuple[str, str]:
    """The picture of a snapshot, and the step or, at the end, the time, the steps saved and a link to keep the picture.

    With `replay` the last picture first shows how the images grew, to visitors who have not asked for less motion.
    """
    images, columns = parts.count(request.images, "image"), request.columns
    canvases = snapshot.history if snapshot.finished and replay else (snapshot.canvas,)
    side = max(28, _SIDE // columns)
    frames = [grid(canvas, served.model.levels, columns, side=side) for canvas in canvases]
    alt = f"{images} drawn by {served.name}, seed {request.seed}"
    if not snapshot.finished:
        alt += f", step {snapshot.step} of {snapshot.steps}"
    moving = heads = ""
    if len(frames) > 1:
        url = parts.data_url(_animation(frames))
        moving = f'<source media="(prefers-reduced-motion: no-preference)" srcset="{url}">'
    if len(request.classes) > 1 and columns <= _MAX_HEADS:
        heads = "".join(f"<span>{html.escape(served.class_name(k))}</span>" for k in request.classes[:columns])
        heads = f'<div class="px-heads" aria-hidden="true">{heads}</div>'
    picture = f'<div class="px-picture">{heads}<picture>{moving}{parts.img(frames[-1], alt)}</picture></div>'
    if not snapshot.finished:
        return picture, parts.progress(snapshot.step, snapshot.steps)
    pixels = math.prod(served.model.image_shape[1:])
    together = not isinstance(served.model, MixtureModel)  # which draws a few images at a time, in all these steps
    instead = f" instead of {pixels:,}" if together and snapshot.steps < pixels else ""
    return picture, parts.status(
        f"<strong>{images}</strong> in <strong>{snapshot.seconds:.2f} s</strong>, "
        f"<strong>{snapshot.steps}</strong> exact steps{instead}",
        parts.download("Download PNG", served, f"-{request.seed}.png", encoded(frames[-1])),
    )


def _first_drawing(served: Served, limits: Limits) -> tuple[str, str]:
    """What a visitor finds: images that the first model drew as the page was built, if it was quick enough."""
    request = Request(images=min(_IMAGES, limits.images_of(served)))
    try:
        # This drawing compiles what is compiled on first use, before the clock runs.
        next(draw(served, replace(request, images=1), limits))
        *_, last = draw(served, request, replace(limits, seconds=_FIRST_SECONDS))
    except ValueError:
        return '<div class="px-picture"><div class="px-blank"></div></div>', parts.status("Press Draw.")
    return snapshot_html(served, request, last, replay=True)


def _animation(frames: Sequence[Image.Image]) -> bytes:
    """A PNG that plays once and stops at its last frame."""
    each = round(1000 * _REPLAY_SECONDS / len(frames))
    return encoded(frames[0], save_all=True, append_images=frames[1:], duration=each, loop=1)
