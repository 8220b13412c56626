"""Parts that the tabs share: models, limits and threads to compute with; controls and their checks; HTML.

A tab turns plain functions into event handlers by `Backend.task` and `Backend.stream`, and registers them with the
options `WORK`; functions that only change controls it registers as they are, with `QUICK`. Pictures and streams travel
within the HTML, as data URLs: nothing is written to a disk or fetched.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import html
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from PIL import Image

from pixelcnn.app.served import TEST_IMAGES, Limits, Served
from pixelcnn.images import encoded

__all__ = [
    "ANY",
    "QUICK",
    "WORK",
    "Backend",
    "asset",
    "bar",
    "check_choice",
    "choice",
    "class_choices",
    "class_of",
    "count",
    "data_url",
    "download",
    "first_status",
    "img",
    "new_choices",
    "progress",
    "seed_number",
    "seed_of",
    "status",
    "table",
    "test_image_number",
    "test_image_of",
    "up_to",
    "visible",
    "whole",
]

P = ParamSpec("P")
T = TypeVar("T")

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Options of an event that only changes controls."""
WORK: dict[str, Any] = {
    "concurrency_id": "work",
    "show_progress": "minimal",
    "trigger_mode": "once",
    "api_visibility": "private",
}
"""Options of an event that computes: the events of all tabs wait in one queue and share one limit."""
ANY = "any"
"""The choice of any class."""


class Backend:
    """What the tabs compute with: the served models, the limits, and a few threads.

    Args:
        models: At least one; the first is the one chosen at first.
        limits: What a visitor may ask for.
    """

    def __init__(self, models: Sequence[Served], limits: Limits) -> None:
        self.models = {served.name: served for served in models}
        self.first = models[0]
        self.limits = limits
        self._threads = ThreadPoolExecutor(limits.concurrency, "app")  # few, for each keeps memory for its next job

    def served(self, name: str) -> Served:
        """The model of this name.

        Raises:
            ValueError: If there is none.
        """
        check_choice("model", name, list(self.models))
        return self.models[name]

    def task(self, job: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
        """An event handler that runs a job on one of the threads; a ValueError becomes a message to the visitor."""

        @functools.wraps(job)
        async def event(*args: P.args, **kwargs: P.kwargs) -> T:
            with _errors_as_messages():
                call = functools.partial(job, *args, **kwargs)
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)

        return event

    def stream(self, job: Callable[P, Iterator[T]]) -> Callable[P, AsyncIterator[T]]:
        """The same for a generator, whose values reach the page one by one."""

        @functools.wraps(job)
        async def event(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
            with _errors_as_messages():
                values, loop = job(*args, **kwargs), asyncio.get_running_loop()
                while (value := await loop.run_in_executor(self._threads, next, values, None)) is not None:
                    yield value

        return event


@contextlib.contextmanager
def _errors_as_messages() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from None


# Controls.


def choice(label: str, choices: Sequence[str], served: Served | None = None, **options: Any) -> Any:
    """A list to choose from, at first the first; hidden while there is only one choice.

    Of a model's `class_choices` the names are shown, and the numbers sent.
    """
    shown = _named(choices, served)
    return gr.Dropdown(shown, value=choices[0], label=label, filterable=False, visible=len(choices) > 1, **options)


def new_choices(choices: Sequence[str], served: Served | None = None) -> Any:
    """The update of a `choice` to other choices."""
    return gr.update(choices=_named(choices, served), value=choices[0], visible=len(choices) > 1)


def _named(choices: Sequence[str], served: Served | None) -> list[tuple[str, str]]:
    """Each choice as it is shown, and as it is sent."""
    return [(served.class_name(int(each)) if served and each.isdecimal() else each, each) for each in choices]


def class_choices(served: Served, *others: str) -> list[str]:
    """The classes of a model to choose from: any, others, and each one by its number."""
    return [ANY, *others, *map(str, range(served.classes))] if served.classes else [ANY]


def up_to(most: int, value: float) -> Any:
    """The update of a slider to another maximum."""
    return gr.update(maximum=most, value=min(int(value), most))


def seed_number(**options: Any) -> Any:
    """The field of a seed; Gradio's own messages about limits would not name the field, so `seed_of` has them."""
    return gr.Number(0, label="Seed", **options)


def test_image_number(label: str, **options: Any) -> Any:
    """The field of an image's number in MNIST's test set, which `test_image_of` checks."""
    return gr.Number(0, label=label, **options)


def visible(shown: bool) -> bool | str:
    """Gradio's `visible` of a component that stays in the page, and keeps its value, while it is hidden."""
    return True if shown else "hidden"


def asset(name: str, **replaced: int) -> str:
    """A JavaScript or HTML file of this folder, with names replaced by numbers."""
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    for word, number in replaced.items():
        text = text.replace(word, str(number))
    return text


# Checks of what the controls send: a visitor may send anything.


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"the {name} must be one of {', '.join(choices)}, got {value}")


def class_of(served: Served, value: str) -> int | None:
    """The class that was chosen from `class_choices(served)`, None for any.

    Raises:
        ValueError: If there is no such choice.
    """
    check_choice("class", value, class_choices(served))
    return None if value == ANY else int(value)


def whole(name: str, value: object, low: int | None = None, high: int | None = None) -> int:
    """A control's number, a float without a fraction.

    Raises:
        ValueError: If it is missing, not whole, or not in low..high where these are given.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise ValueError(f"the {name} must be a whole number, got {value}")
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f"the {name} must be in {low}..{high}, got {int(value)}")
    return int(value)


def seed_of(value: object) -> int:
    """The number in a field of a seed.

    Raises:
        ValueError: If it is missing, not whole, negative, or so large that a browser may have rounded it.
    """
    return whole("seed", value, 0, 2**53 - 1)


def test_image_of(value: object) -> int:
    """The number in a field of a test image.

    Raises:
        ValueError: If there is no such image.
    """
    return whole("number of the test image", value, 0, TEST_IMAGES - 1)


# HTML. Texts are escaped where they may hold a model's name, which is anything.


def status(words: str, beside: str = "") -> str:
    """What a tab says about its work, read out by screen readers when it changes; both arguments are HTML."""
    return f'<div class="px-status"><p role="status">{words}</p>{beside}</div>'


def first_status(words: str) -> str:
    """The `status` where later a picture stands above it: in the place of a second element from the first, for screen
    readers read out what changes within an element, not an element that is new.
    """
    return f"<div></div>{status(words)}"


def progress(step: int, steps: int) -> str:
    """The `status` of work that is under way, which is not read out: it changes ten times a second."""
    return status(f'<span aria-hidden="true">step {step} of {steps}</span>', bar(step / steps))


def count(n: int, noun: str) -> str:
    """A number of things, as in "1 image" and "2 images"."""
    return f"{n} {noun}{'s' * (n != 1)}"


def bar(share: float, kind: str = "") -> str:
    """A bar of which a share of 0 to 1 is filled."""
    return f'<div class="px-bar{kind}" aria-hidden="true"><div style="width:{100 * share:.1f}%"></div></div>'


def data_url(content: bytes, kind: str = "image/png") -> str:
    """A file's content as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def img(picture: Image.Image | bytes, alt: str) -> str:
    """A picture, or the content of a PNG, as an element; `alt` is text."""
    size = "" if isinstance(picture, bytes) else f' width="{picture.width}" height="{picture.height}"'
    content = picture if isinstance(picture, bytes) else encoded(picture)
    return f'<img src="{data_url(content)}" alt="{html.escape(alt)}"{size}>'


def download(words: str, served: Served, suffix: str, content: bytes, kind: str = "image/png") -> str:
    """A link that saves a file of this content and media type, named after the model."""
    # The name without what file systems and addresses do not like:
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in served.name).strip("-")
    file = html.escape(f"{name or 'images'}{suffix}")
    return f'<a class="px-keep" href="{data_url(content, kind)}" download="{file}">{words}</a>'


def table(rows: Iterable[str], head: Sequence[str] = (), kind: str = "", name: str = "") -> str:
    """A table of `<tr>` elements in a frame that scrolls sideways; with a name it can be reached by keyboard."""
    region = f' tabindex="0" role="region" aria-label="{name}"' if name else ""
    heads = "".join(f'<th scope="col">{html.escape(each)}</th>' for each in head)
    first = f"<thead><tr>{heads}</tr></thead>" if head else ""
    return f'<div class="px-table{kind}"{region}><table>{first}<tbody>{"".join(rows)}</tbody></table></div>'
