"""The sampling engines by name, the faster first; each is the module of `pixelcnn.sampling` that has its name."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["ENGINES", "Engine"]

Engine = Literal["fast", "native", "graph", "eager", "reference"]
"""`fast` stands for the first of the others that can draw from a model on its device."""
ENGINES: tuple[str, ...] = get_args(Engine)[1:]
