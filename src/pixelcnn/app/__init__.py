"""The web page (extra `app`): its tabs over loaded models, as Gradio blocks.

`pixelcnn serve` and `apps/space/app.py` run it by `pixelcnn.app.server`. A job on the page is a module of
`pixelcnn.app.tabs`. Nothing is fetched from elsewhere, nothing is counted or reported, and no visitor's file is kept.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served, load_models
from pixelcnn.app.tabs import TABS, Tab

if TYPE_CHECKING:
    import gradio

__all__ = ["TABS", "Limits", "Served", "Tab", "load_models", "page", "require_gradio"]


def require_gradio() -> None:
    """Whether the page can be built here.

    Raises:
        ValueError: If gradio is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("gradio is not installed: pip install 'pixelcnn[app]'")


def page(models: Sequence[Served], limits: Limits, tabs: Sequence[Tab] = TABS) -> gradio.Blocks:
    """Builds the page.

    Args:
        models: What the tabs work with; the first one is chosen at first.
        limits: What a visitor may ask for.
        tabs: In their order.

    Raises:
        ValueError: If there is no model, or gradio is not installed.
    """
    require_gradio()
    if not models:
        raise ValueError("the page needs at least one model, got none")
    import gradio as gr

    with gr.Blocks(title="pixelcnn", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        gr.HTML(_HEADING)
        with gr.Tabs():
            for tab in tabs:
                with gr.Tab(tab.TITLE, id=tab.TITLE.lower()):
                    tab.build(models, limits)
    blocks.queue(max_size=limits.queue, default_concurrency_limit=limits.concurrency, api_open=False)
    # What was drawn and is not fetched waits in memory, for so many visitors at most; Gradio's own limit is 2,000.
    waiting = type(blocks._queue.pending_messages_per_session)
    blocks._queue.pending_messages_per_session = waiting(4 * (limits.queue + limits.concurrency))
    return blocks


_HEADING = (
    '<header class="px-title"><h1>pixelcnn</h1><p>Exact-likelihood autoregressive models of images: every picture is '
    "drawn pixel by pixel, each given the ones before it.</p></header>"
)
