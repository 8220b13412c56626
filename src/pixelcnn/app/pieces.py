"""What the tabs share: pieces of HTML, and numbers as controls send them."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

__all__ = ["data_address", "file_name", "png", "status", "whole"]


def status(words: str, beside: str = "") -> str:
    """What a tab says of its work, read out when it changes; HTML, with more HTML beside it."""
    return f'<div class="px-status"><p role="status">{words}</p>{beside}</div>'


def png(picture: Image.Image, **options: Any) -> str:
    """A picture as a data address: nothing is written to a disk or fetched. Options are Pillow's."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", **options)
    return data_address(buffer.getvalue())


def data_address(content: bytes, kind: str = "image/png") -> str:
    """A file's content as a data address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def file_name(name: str) -> str:
    """A name without what file systems and addresses do not like."""
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name).strip("-")
    return kept or "images"


def whole(value: object, name: str) -> int:
    """A control's number.

    Raises:
        ValueError: If it is missing or not whole.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise ValueError(f"the {name} must be a whole number, got {value}")
    return int(value)
