"""Pieces of HTML that the tabs share."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

__all__ = ["data_address", "file_name", "png", "status"]


def status(words: str, beside: str = "") -> str:
    """What a tab says of its work, read out when it changes; HTML, with more HTML beside it."""
    return f'<div class="px-status"><p role="status">{words}</p>{beside}</div>'


def png(picture: Image.Image, **options: Any) -> str:
    """A picture as a data address: nothing is written to a disk or fetched. Options are Pillow's."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", **options)
    return data_address(buffer.getvalue())


def data_address(content: bytes) -> str:
    """A PNG file's content as a data address."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def file_name(name: str) -> str:
    """A name without what file systems and addresses do not like."""
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name).strip("-")
    return kept or "images"
