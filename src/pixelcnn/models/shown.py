"""How a model shows itself: in one line, and in a notebook as a table.

Its layers are in `pixelcnn info`, and in `named_modules` as of any module.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

from pixelcnn.density import DensityModel

__all__ = ["in_a_line", "in_a_table"]

_MAX_CHARACTERS = 60  # of an option that is shown


def in_a_line(model: DensityModel) -> str:
    """The call that builds the model, with the options that are not the default."""
    options = {"image_shape": model.image_shape, "levels": model.levels} | _options(model)
    return f"{type(model).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items())})"


def in_a_table(model: DensityModel, class_names: Sequence[str] | None) -> str:
    """A table in HTML: the images, the size of the network, the options that are not the default, and the classes."""
    c, h, w = model.image_shape
    rows = {
        "images": f"{c} x {h} x {w} of {model.levels} levels",
        "likelihood": type(model.likelihood).__name__,
        "parameters": f"{sum(p.numel() for p in model.parameters()):,} in {model.dtype} on {model.device}",
        **_options(model),
    }
    if class_names is not None:
        rows["classes"] = ", ".join(class_names)
    cells = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table><caption>{type(model).__name__}</caption>{cells}</table>"


def _options(model: DensityModel) -> dict[str, Any]:
    """The fields of the configuration that are not the default, and short."""
    fields = ((field, getattr(model.config, field.name)) for field in dataclasses.fields(model.config))
    return {
        field.name: value
        for field, value in fields
        if field.name not in ("image_shape", "levels") and value != field.default and len(repr(value)) < _MAX_CHARACTERS
    }
