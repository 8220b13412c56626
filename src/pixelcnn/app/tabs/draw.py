"""The tab that draws: images grow as they are sampled, with the time, the number of steps and a picture to keep."""

from __future__ import annotations

import asyncio
import html
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image

from pixelcnn.app import pieces
from pixelcnn.app.drawing import Moment, Request, draw
from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.images import grid

__all__ = ["TITLE", "build", "drawn", "status"]

TITLE = "Draw"

_IMAGES = 16  # at first
_FIRST = 5.0  # seconds that the first drawing may take
_HEADS = 20  # classes that are named above their columns
_ANY, _ALL = "any", "all, in columns"
_SIDE = 640  # of the picture, about, in pixels
_REPLAY = 4.0  # seconds
_SEEDS = 10**6  # a new seed is below it: it should be easy to write down


def build(models: Sequence[Served], limits: Limits) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    import gradio as gr

    by_name = {served.name: served for served in models}
    first = models[0]

    workers = ThreadPoolExecutor(limits.concurrency, "draw")  # few: each thread keeps some memory for the next drawing

    def moments(name: str, request: Request, replay: bool) -> Iterator[tuple[str, str]]:
        served = by_name[name]
        for moment in draw(served, request, limits):
            yield drawn(served, request, moment, replay=replay), status(served, request, moment)

    async def on_draw(
        name: str, label: str, images: float, temperature: float, guidance: float, seed: float, replay: bool
    ) -> AsyncIterator[tuple[str, str]]:
        try:
            request = _request(by_name[name], label, images, temperature, guidance, seed)
            shown = moments(name, request, replay)
            next_of = partial(asyncio.get_running_loop().run_in_executor, workers, next, shown, None)
            while (latest := await next_of()) is not None:
                yield latest
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def on_model(name: str, images: float) -> tuple[Any, Any, Any]:
        served = by_name[name]
        most = limits.images_of(served.model)
        return (
            gr.update(choices=_choices(served), value=_ANY, visible=served.classes > 0),
            gr.update(maximum=most, value=min(int(images), most)),
            gr.update(visible=False, value=1.0),
        )

    def on_class(name: str, label: str) -> Any:
        guided = by_name[name].guided and label != _ANY
        return gr.update(visible=guided) if guided else gr.update(visible=False, value=1.0)

    most = limits.images_of(first.model)
    begun, said = _at_first(first, limits)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            picture = gr.HTML(begun)
            told = gr.HTML(said)
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                go = gr.Button("Draw", variant="primary", min_width=120)
                stop = gr.Button("Stop", min_width=120)
            model = gr.Dropdown(
                list(by_name), value=first.name, label="Model", filterable=False, visible=len(models) > 1
            )
            label = gr.Dropdown(_choices(first), value=_ANY, label="Class", filterable=False, visible=first.classes > 0)
            images = gr.Slider(1, most, value=min(_IMAGES, most), step=1, label="Images")
            temperature = gr.Slider(
                0.1,
                2.0,
                value=1.0,
                step=0.05,
                label="Temperature",
                info="1 is what the model learnt; below 1 smoother, above 1 wilder",
            )
            guidance = gr.Slider(
                0.0, 8.0, value=1.0, step=0.1, label="Guidance", info="above 1 exaggerates the class", visible=False
            )
            with gr.Row(elem_classes="px-seed"):
                seed = gr.Number(0, precision=0, minimum=0, maximum=2**53 - 1, label="Seed", min_width=140)
                fresh = gr.Button("New seed", min_width=120)
            replay = gr.Checkbox(True, label="Replay slowly", info="once drawn, shows again how the images grew")

    asked = [model, label, images, temperature, guidance, seed, replay]
    shown = [picture, told]
    private: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    work: dict[str, Any] = {"concurrency_id": "work", "show_progress": "hidden", "trigger_mode": "once"}
    model.change(on_model, [model, images], [label, images, guidance], **private)
    label.change(on_class, [model, label], guidance, **private)
    drawing = [
        go.click(on_draw, asked, shown, api_name="draw", **work),
        seed.submit(on_draw, asked, shown, api_visibility="private", **work),
        fresh.click(lambda: random.randrange(_SEEDS), None, seed, **private).then(
            on_draw, asked, shown, api_visibility="private", **work
        ),
    ]
    stop.click(None, cancels=drawing, api_visibility="private").then(_stopped, None, told, **private)


def _choices(served: Served) -> list[str]:
    return [_ANY, _ALL, *map(str, range(served.classes))] if served.classes else [_ANY]


def _request(
    served: Served, label: str, images: float, temperature: float, guidance: float, seed: float | None
) -> Request:
    """What the controls say.

    Raises:
        ValueError: If a number is missing or not whole.
    """
    if seed is None or seed != int(seed):
        raise ValueError(f"the seed must be a whole number, got {seed}")
    if images != int(images):
        raise ValueError(f"the number of images must be whole, got {images}")
    if label not in _choices(served):
        raise ValueError(f"the class must be one of {', '.join(_choices(served))}, got {label}")
    return Request(
        images=int(images),
        label="any" if label == _ANY else "all" if label == _ALL else int(label),
        temperature=temperature,
        guidance=1.0 if label == _ANY else guidance,
        seed=int(seed),
    )


def drawn(served: Served, request: Request, moment: Moment, *, replay: bool) -> str:
    """The picture of a moment as HTML, within which everything is: nothing is written to a disk or fetched.

    Args:
        served: What drew.
        request: What was asked for.
        moment: Which.
        replay: Whether the last one, where motion is welcome, first shows how the images grew.
    """
    sheets = [_sheet(served, request, canvas) for canvas in (*moment.grown, moment.canvas)]
    words = f"{_count(request)} drawn by {served.name}, seed {request.seed}"
    alt = html.escape(words if moment.finished else f"{words}, step {moment.step} of {moment.steps}", quote=True)
    moving = ""
    if moment.finished and replay and len(sheets) > 2:
        moving = f'<source media="(prefers-reduced-motion: no-preference)" srcset="{_png(sheets[:-1])}">'
    heads = ""
    if request.label == "all" and request.columns(served) <= _HEADS:
        heads = "".join(f"<span>{k}</span>" for k in range(request.columns(served)))
        heads = f'<div class="px-heads" aria-hidden="true">{heads}</div>'
    width, height = sheets[-1].size
    image = f'<img src="{_png(sheets[-1:])}" alt="{alt}" width="{width}" height="{height}">'
    return f'<div class="px-picture">{heads}<picture>{moving}{image}</picture></div>'


def status(served: Served, request: Request, moment: Moment) -> str:
    """The step, as HTML; at the end the time, what it would have been otherwise, and a link to keep the picture."""
    if not moment.finished:
        share = 100 * moment.step / moment.steps
        return pieces.status(
            f"step {moment.step} of {moment.steps}",
            f'<div class="px-bar" aria-hidden="true"><div style="width:{share:.1f}%"></div></div>',
        )
    pixels = served.model.subpixels
    instead = f" instead of {pixels:,}" if moment.steps < pixels else ""
    file = html.escape(f"{pieces.file_name(served.name)}-{request.seed}.png", quote=True)
    picture = _png([_sheet(served, request, moment.canvas)])
    return pieces.status(
        f"<strong>{_count(request)}</strong> in <strong>{moment.seconds:.2f} s</strong>, "
        f"<strong>{moment.steps}</strong> exact steps{instead}",
        f'<a class="px-keep" href="{picture}" download="{file}">Download PNG</a>',
    )


def _at_first(served: Served, limits: Limits) -> tuple[str, str]:
    """What a visitor finds: images that the first model drew as the page was built, if it was quick enough."""
    request = Request(images=min(_IMAGES, limits.images_of(served.model)))
    try:
        # What is compiled on first use is compiled by this one, before the clock runs.
        next(draw(served, replace(request, images=1), limits))
        *_, last = draw(served, request, replace(limits, seconds=_FIRST))
    except ValueError:
        return '<div class="px-picture"><div class="px-blank"></div></div>', pieces.status("Press Draw.")
    return drawn(served, request, last, replay=True), status(served, request, last)


def _count(request: Request) -> str:
    return f"{request.images} image{'s' * (request.images > 1)}"


def _sheet(served: Served, request: Request, canvas: Any) -> Image.Image:
    columns = request.columns(served)
    return grid(canvas, served.model.levels, columns, side=max(28, _SIDE // columns))


def _png(frames: Sequence[Image.Image]) -> str:
    """One picture, or an animation that runs once and stays at its end, as a data address."""
    if len(frames) == 1:
        return pieces.png(frames[0])
    each = round(1000 * _REPLAY / len(frames))
    return pieces.png(frames[0], save_all=True, append_images=frames[1:], duration=each, loop=1)


def _stopped() -> str:
    return pieces.status("Stopped.")
