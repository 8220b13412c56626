"""The tabs of the page, one module each: a new tab is a module of this package with what `Tab` says.

No tab imports another; what they share is in `pixelcnn.app.parts`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from pixelcnn.app.parts import Backend

__all__ = ["TABS", "Tab"]


class Tab(Protocol):
    """What a module of this package offers."""

    TITLE: str
    """On the tab; in lower case, its id."""
    ORDER: int
    """Tabs stand from the lowest to the highest."""

    def build(self, backend: Backend) -> None:
        """Adds the tab's components and events to the Gradio blocks that are being built.

        Args:
            backend: The models and what they compute with. Every event that takes noticeable time has the options
                `parts.WORK`, so that all tabs share one limit.
        """
        ...


def _tabs() -> tuple[Tab, ...]:
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return tuple(sorted((cast(Tab, module) for module in modules), key=lambda tab: tab.ORDER))


TABS = _tabs()
