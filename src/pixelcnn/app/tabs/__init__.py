"""The tabs of the page, one module each: a title, and a function that builds the tab where it is called.

A new job joins by a module with these two names and a place in `TABS`; no tab knows another. Gradio is imported when a
tab is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.app.tabs import complete, compress, draw, explain, score

__all__ = ["TABS", "Tab"]


class Tab(Protocol):
    """What a module of this package offers."""

    TITLE: str
    """On the tab, and in small letters its name in addresses."""

    def build(self, models: Sequence[Served], limits: Limits) -> None:
        """Adds the tab's components and events to the Gradio blocks that are being built.

        Args:
            models: At least one.
            limits: What a visitor may ask for. Every event that works for longer than a glance has
                `concurrency_id="work"`, so that all tabs share one limit.
        """
        ...


TABS: tuple[Tab, ...] = (draw, complete, score, compress, explain)
