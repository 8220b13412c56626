"""The web page (extra `app`): tabs that draw, complete, score, compress and explain, as Gradio blocks.

`pixelcnn serve` and `apps/space/app.py` run it by `pixelcnn.app.server`. Each tab is a module of `pixelcnn.app.tabs`.
Nothing is fetched from elsewhere, nothing is counted or reported, and no visitor's file is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from pixelcnn.app.parts import Backend
from pixelcnn.app.served import Limits, Served, load_models
from pixelcnn.app.tabs import TABS, Tab

__all__ = ["TABS", "Limits", "Served", "load_models", "page", "theme"]


def page(models: Sequence[Served], limits: Limits, tabs: Sequence[Tab] = TABS) -> gr.Blocks:
    """Builds the page.

    Args:
        models: What the tabs work with; the first one is chosen at first.
        limits: What a visitor may ask for.
        tabs: In their order.

    Raises:
        ValueError: If there is no model.
    """
    if not models:
        raise ValueError("the page needs at least one model, got none")
    backend = Backend(models, limits)
    with gr.Blocks(title="pixelcnn", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        gr.HTML(_HEADING)
        with gr.Tabs():
            for tab in tabs:
                with gr.Tab(tab.TITLE, id=tab.TITLE.lower()):
                    tab.build(backend)
    blocks.queue(max_size=limits.queue, default_concurrency_limit=limits.concurrency, api_open=False)
    # Results that nobody has fetched yet stay in memory, for this many visitors at most; Gradio's own limit is 2,000.
    pending = type(blocks._queue.pending_messages_per_session)
    blocks._queue.pending_messages_per_session = pending(4 * (limits.queue + limits.concurrency))
    return blocks


def theme() -> gr.themes.Base:
    """The fonts and colours of Gradio's own components; `style.css` has the rest. The fonts are the system's."""
    return gr.themes.Soft(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "DejaVu Sans", "sans-serif"],
        font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"],
    ).set(
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_hover_dark="*neutral_700",
        input_border_width="1px",
        input_border_color="*neutral_300",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        color_accent="*primary_700",
    )


_HEADING = (
    '<header class="px-title"><h1>pixelcnn</h1><p>Autoregressive models of images with exact likelihoods: every '
    "picture is drawn pixel by pixel, each pixel given those before it.</p></header>"
)
