"""Visitors' files: the field that chooses them, what the browser sends, and pictures as images for a model.

The browser reads the files itself and sends them within the request, as data URLs. Here they are read in memory and
never written to a disk.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re

import torch
from PIL import ExifTags, Image
from torch import Tensor

from pixelcnn.app.parts import asset
from pixelcnn.app.served import Limits, Served
from pixelcnn.config import DataConfig
from pixelcnn.datasets.pictures import mended, to_levels

__all__ = ["as_image", "as_map", "from_base64", "max_bytes", "picture_field", "received", "upload_field"]

_SUFFIXES = ".png,.jpg,.jpeg,.webp,.tif,.tiff,.gif"
_READABLE = "PNG, JPEG, WebP, TIFF or GIF"
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF")  # fewer decoders for what strangers send

_DATA_URL = re.compile(r"data:[^,]{0,100};base64,")


def max_bytes(limits: Limits, reserve: int = 3 * 2**15) -> int:
    """How many bytes the files of one message may have in total.

    The message holds them in base64, four letters for three bytes, and has room for `reserve` more bytes of this kind.
    """
    return max(1, limits.body * 3 // 4 - reserve)


def upload_field(label: str, suffixes: str, note: str, limits: Limits, *, several: bool = False) -> dict[str, str]:
    """Arguments that make `gradio.HTML` a field to choose files, with a note below; its value is for `received`."""
    field = f'<input type="file" accept="{suffixes}"{" multiple" * several}>'
    return {
        "html_template": f'<label class="px-upload">{label} {field}</label><p>{note}</p>',
        "js_on_load": asset("upload.js", MAX_BYTES=max_bytes(limits)),
    }


def picture_field(
    label: str,
    limits: Limits,
    *,
    several: bool = False,
    size: str = "scaled and cropped to the size of the model's images",
) -> dict[str, str]:
    """The `upload_field` of pictures."""
    note = f"{_READABLE}, {size}."
    return upload_field(label, _SUFFIXES, note, limits, several=several)


def received(sent: object, limits: Limits) -> list[bytes]:
    """The contents of the files that were chosen, at least one.

    Args:
        sent: The value of an `upload_field`: data URLs separated by spaces, "large:" and the files' size, or
            "unreadable:" if the browser could not read them.
        limits: Bounds their bytes.

    Raises:
        ValueError: If there is none, or they are too large or damaged.
    """
    if not isinstance(sent, str) or not sent:
        raise ValueError("choose a file first")
    if sent.startswith("unreadable:"):
        raise ValueError("the browser could not read the file: choose it again")
    urls, most = sent.split(" "), max_bytes(limits)
    heads = [_DATA_URL.match(url) for url in urls]
    contents = [url[head.end() if head else 0 :] for url, head in zip(urls, heads, strict=True)]
    if sent.startswith("large:") or sum(map(len, contents)) > 4 * (math.ceil(most / 3) + len(contents)):
        raise ValueError(f"files may have at most {most // 1000} kB in total")
    if not all(heads):
        raise ValueError("the file is damaged: it is not in base64")
    return [from_base64("file", content) for content in contents]


def from_base64(name: str, text: object) -> bytes:
    """Decodes base64.

    Raises:
        ValueError: If it is no text or not in base64; names what it should have been.
    """
    if not isinstance(text, str):
        raise ValueError(f"the {name} is missing")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the {name} is damaged: it is not in base64") from None


def as_image(served: Served, content: bytes, limits: Limits, *, own_size: bool = False) -> Tensor:
    """A picture as an image for the model, scaled until it covers it and cropped to the centre.

    Args:
        served: The model.
        content: The file.
        limits: Bounds the picture's pixels.
        own_size: For a model of any size: keep the picture's, or make it smaller if it has more than `limits.coded`
            pixels.

    Returns:
        Levels (C, H, W).

    Raises:
        ValueError: If it is not a picture, too large a one, or of a kind that does not suit the model.
    """
    c, h, w = served.model.image_shape
    levels = _levels_of(content, 1 if c == 1 else 3, served.model.levels, None if own_size else (h, w), limits)
    if len(levels) != c:
        raise ValueError(f"{served.name} takes images of {c} channels, which no picture has")
    return levels


def as_map(served: Served, content: bytes, scale: int, limits: Limits) -> Tensor:
    """A picture as a map that the model's images are conditioned on, scaled and cropped as by `as_image`.

    Args:
        served: A model that has `map_scales`.
        content: The file.
        scale: How many times the map's sides go into the image's, of `Served.map_scales`.
        limits: Bounds the picture's pixels.

    Returns:
        uint8 grey values or colours (D, H / scale, W / scale), which stand for 0..1.

    Raises:
        ValueError: If it is not a picture, or too large a one.
    """
    _, h, w = served.model.image_shape
    return _levels_of(content, served.model.conditions.numbers, 256, (h // scale, w // scale), limits)


def _levels_of(content: bytes, channels: int, levels: int, size: tuple[int, int] | None, limits: Limits) -> Tensor:
    """A picture of one or three channels as levels of a size, by default its own, (channels, H, W)."""
    try:
        with mended(Image.open(io.BytesIO(content), formats=_FORMATS)) as picture:
            width, height = picture.size
            if width * height > limits.pixels:  # only the header has been read
                raise Image.DecompressionBombError
            found = to_levels(picture, channels, levels, DataConfig(size=size or _own_size(picture, limits.coded)))[0]
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"the picture may have at most {limits.pixels:,} pixels") from None
    except Exception as error:  # damaged files may raise anything
        if isinstance(error, ValueError) and _is_picture(content):
            raise ValueError(f"the picture cannot be used: {error}") from None
        raise ValueError(f"the file cannot be read as a picture: choose {_READABLE}") from None
    return torch.from_numpy(found.copy())


def _is_picture(content: bytes) -> bool:
    """Whether a file of few enough pixels can be read, so that what was wrong is that it does not suit the model."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            picture.load()
    except Exception:  # as above
        return False
    return True


def _own_size(picture: Image.Image, most: int) -> tuple[int, int]:
    """Height and width of a picture, upright, made smaller if it has more than so many pixels."""
    width, height = picture.size  # of TIFF files upright already
    if picture.format != "TIFF" and picture.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8):
        width, height = height, width
    scale = min(1.0, math.sqrt(most / (width * height)))
    height = max(1, min(int(height * scale), most))
    return height, max(1, min(int(width * scale), most // height))  # a side of 1 may not be smaller
