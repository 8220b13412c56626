"""The tabs of the page, one module each: a new tab is a module with a title and `build`, and an entry in `TABS`.

No tab imports another; what they share is in `pixelcnn.app.parts`. Gradio is imported only when a tab is built.
"""

from __future__ import annotations

from typing import Protocol

from pixelcnn.app.parts import Backend
from pixelcnn.app.tabs import complete, compress, draw, explain, score

__all__ = ["TABS", "Tab"]


class Tab(Protocol):
    """What a module of this package offers."""

    TITLE: str
    """On the tab; in lower case, its id."""

    def build(self, backend: Backend) -> None:
        """Adds the tab's components and events to the Gradio blocks that are being built.

        Args:
            backend: The models and what they compute with. Every event that takes noticeable time has the options
                `parts.WORK`, so that all tabs share one limit.
        """
        ...


TABS: tuple[Tab, ...] = (draw, complete, score, compress, explain)
