"""Fonts and colours of the page. Fonts are the system's: none is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio

__all__ = ["theme"]


def theme() -> gradio.themes.Base:
    """The theme; `style.css` has what it does not say."""
    import gradio as gr

    return gr.themes.Soft(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "DejaVu Sans", "sans-serif"],
        font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"],
    )
