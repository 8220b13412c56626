"""The tab that completes: pixels are hidden or painted in an editor, and drawn from what the others leave open."""

from __future__ import annotations

import asyncio
import html
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pixelcnn.app import pieces
from pixelcnn.app.completing import Completed, Edited, completed, digit, edited, has_digits, opened, read_picture
from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.images import completion_panel, hidden, shades, to_pil

if TYPE_CHECKING:
    from collections.abc import Callable

    import gradio

__all__ = ["TITLE", "build", "shown", "status"]

TITLE = "Complete"

_MOST = 8  # completions
_PARTICLES = 128  # at first
_ANY = "any"
_DIGITS = 10_000
_FIRST = 4  # the digit at first: a 4 that may be a 9
_SCRIPT = Path(__file__).parent.parent / "editor.js"

T = TypeVar("T")


def build(models: Sequence[Served], limits: Limits) -> None:
    """See `pixelcnn.app.tabs.Tab`."""
    import gradio as gr

    by_name = {served.name: served for served in models}
    first = models[0]
    workers = ThreadPoolExecutor(limits.concurrency, "complete")  # few: each thread keeps some memory

    async def working(job: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(workers, job)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    async def on_complete(name: str, text: str, label: str, n: float, particles: float, seed: float) -> tuple[str, str]:
        def job() -> tuple[str, str]:
            served = by_name[name]
            given = edited(served, text)
            draws, many = pieces.whole(n, "number of completions"), pieces.whole(particles, "number of particles")
            chosen, which = _class(served, label), pieces.whole(seed, "seed")
            found = completed(served, given, draws, many, chosen, which, limits)
            return shown(served, given, found, which), status(served, given, found, which)

        return await working(job)

    async def on_upload(name: str, event: gradio.EventData) -> str:
        def job() -> str:
            served = by_name[name]
            content = event._data.get("content") if isinstance(event._data, dict) else None
            return opened(served, read_picture(served, content, limits))

        return await working(job)

    def on_model(name: str, particles: float) -> tuple[Any, ...]:
        served = by_name[name]
        most = limits.particles_of(served.model)
        return (
            _at_first(served),
            gr.update(visible=has_digits(served)),
            gr.update(choices=_choices(served), value=_ANY, visible=served.classes > 0),
            gr.update(maximum=min(_MOST, most), value=min(_MOST, most)),
            gr.update(maximum=most, value=min(int(particles), most)),
        )

    def on_digit(name: str) -> Any:
        served = by_name[name]
        return opened(served, digit(served, random.randrange(_DIGITS))) if has_digits(served) else gr.skip()

    most = limits.particles_of(first.model)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            editor = gr.HTML(
                _at_first(first),
                html_template=_EDITOR.replace("MOST", str(limits.body * 3 // 4 - 2**12)),
                js_on_load=_SCRIPT.read_text(encoding="utf-8"),
            )
            another = gr.Button("Another digit", visible=has_digits(first))
        with gr.Column(scale=3, min_width=320):
            go = gr.Button("Complete", variant="primary")
            told = gr.HTML(pieces.status("What is orange is drawn from all the rest. Press Complete."))
            pictures = gr.HTML("")
            with gr.Row():
                model = gr.Dropdown(
                    list(by_name), value=first.name, label="Model", filterable=False, visible=len(models) > 1
                )
                label = gr.Dropdown(
                    _choices(first), value=_ANY, label="Class", filterable=False, visible=first.classes > 0
                )
            with gr.Row():
                n = gr.Slider(1, min(_MOST, most), value=min(_MOST, most), step=1, label="Completions", min_width=200)
                particles = gr.Slider(1, most, value=min(_PARTICLES, most), step=1, label="Particles", min_width=200)
            seed = gr.Number(0, precision=0, minimum=0, maximum=2**53 - 1, label="Seed")

    asked = [model, editor, label, n, particles, seed]
    private: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    work: dict[str, Any] = {
        "concurrency_id": "work",
        "show_progress": "minimal",
        "show_progress_on": told,
        "trigger_mode": "once",
        "api_visibility": "private",
    }
    # Types of a nested function's arguments cannot be looked up where they are not imported.
    on_upload.__annotations__["event"] = gr.EventData
    model.change(on_model, [model, particles], [editor, another, label, n, particles], **private)
    another.click(on_digit, model, editor, **private)
    editor.upload(on_upload, model, editor, **work)
    gr.on([go.click, seed.submit], on_complete, asked, [pictures, told], **work)


def _at_first(served: Served) -> str:
    return opened(served, digit(served, _FIRST) if has_digits(served) else None)


def _choices(served: Served) -> list[str]:
    return [_ANY, *map(str, range(served.classes))]


def _class(served: Served, label: str) -> int | None:
    if label not in _choices(served):
        raise ValueError(f"the class must be one of {', '.join(_choices(served))}, got {label}")
    return None if label == _ANY else int(label)


def shown(served: Served, given: Edited, found: Completed, seed: int) -> str:
    """What was known, the draws, their mean and their standard deviation, as HTML that holds its pictures."""
    levels, n = served.model.levels, len(found.draws)
    pictures = [("known", hidden(given.image, given.known, levels))]
    pictures += [(f"draw {k + 1}", to_pil(draw, levels)) for k, draw in enumerate(found.draws)]
    if n > 1:
        values = found.draws.double() / (levels - 1)
        pictures += [("mean", shades(values.mean(0))), ("deviation", shades(2 * values.std(0)))]
    figures = "".join(
        f'<figure><img src="{pieces.png(picture)}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        for caption, picture in pictures
    )
    words = html.escape(f"{_count(n)} by {served.name}, seed {seed}", quote=True)
    return f'<div class="px-draws" role="group" aria-label="{words}">{figures}</div>'


def status(served: Served, given: Edited, found: Completed, seed: int) -> str:
    """How many, how long, how far to trust them, and a link to keep the panel, as HTML."""
    n = len(found.draws)
    if found.exact:
        trust = "exact and independent: all that is known comes first"
    else:
        trust = f"effective sample size <strong>{found.ess:.1f}</strong> of {found.particles} particles"
    warned = ""
    if found.few:
        warned = '<p class="px-warning">The draws are few and alike: take more particles, or hide less.</p>'
    panel = completion_panel(given.image[None], given.known[None], found.draws[None], served.model.levels, _MOST)
    file = html.escape(f"{pieces.file_name(served.name)}-completed-{seed}.png", quote=True)
    return pieces.status(
        f"<strong>{_count(n)}</strong> in <strong>{found.seconds:.2f} s</strong>, {trust}; "
        f"log p(known) {found.log_evidence:.2f} nats",
        f'<a class="px-keep" href="{pieces.png(panel)}" download="{file}">Download PNG</a>{warned}',
    )


def _count(n: int) -> str:
    return f"{n} completion{'s' * (n > 1)}"


_EDITOR = """
<div class="px-editor">
<canvas tabindex="0" role="img" aria-label="The image: paint with the mouse, or with arrow keys and space"></canvas>
<div class="px-tools" role="group" aria-label="Brush">
<button type="button" data-tool="hide" aria-pressed="true">Hide</button>
<button type="button" data-tool="reveal" aria-pressed="false">Reveal</button>
<button type="button" data-tool="white" aria-pressed="false">White</button>
<button type="button" data-tool="black" aria-pressed="false">Black</button>
<label>Width <input type="range" min="1" max="9" value="3"></label>
</div>
<div class="px-tools" role="group" aria-label="What is hidden">
<span>Hide</span>
<button type="button" data-fill="middle">the middle rows</button>
<button type="button" data-fill="bottom">the bottom half</button>
<button type="button" data-fill="right">the right half</button>
<button type="button" data-fill="all">all</button>
<button type="button" data-fill="nothing">nothing</button>
<button type="button" data-fill="swap">what is known</button>
</div>
<div class="px-tools" role="group" aria-label="Image">
<button type="button" data-fill="blank">Start blank</button>
<label class="px-file">Your picture<input type="file" accept="image/*" data-most="MOST"></label>
<span class="px-editor-told" role="alert"></span>
</div>
</div>
"""
