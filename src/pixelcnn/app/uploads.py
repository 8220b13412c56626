"""Files of visitors: what chooses them, what the browser sends of them, and pictures as images for a model.

The browser reads files itself and sends them within the request, as data addresses; they are read in memory and never
written to a disk here.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re

import torch
from PIL import Image
from torch import Tensor

from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.config import DataConfig
from pixelcnn.datasets.pictures import to_levels

__all__ = ["PICTURES", "READABLE", "as_image", "chooser", "in_base64", "most_bytes", "received"]

PICTURES = ".png,.jpg,.jpeg,.webp,.tif,.tiff,.gif"
READABLE = "PNG, JPEG, WebP, TIFF and GIF"
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF")  # fewer decoders for what strangers send

_DATA = re.compile(r"data:[^,]{0,100};base64,")
_BESIDE = 2**17  # bytes of a message for all but a file


def most_bytes(limits: Limits) -> int:
    """Bytes of the files of one message, which holds them in base64."""
    return max(1, (limits.body - _BESIDE) * 3 // 4)


def chooser(label: str, accept: str, note: str, limits: Limits, *, several: bool = False) -> dict[str, str]:
    """What makes of `gradio.HTML` a choice of files; its value is what `received` takes.

    Args:
        label: Of the field.
        accept: Suffixes, with commas between them.
        note: HTML that stands below.
        limits: Bounds the files' bytes.
        several: Whether more than one can be chosen.
    """
    field = f'<input type="file" accept="{accept}"{" multiple" * several}>'
    return {
        "html_template": f'<label class="px-upload">{label} {field}</label><p>{note}</p>',
        "js_on_load": _READ.replace("MOST", str(most_bytes(limits))),
    }


def received(sent: object, limits: Limits) -> list[bytes]:
    """The contents of the files that were chosen, at least one.

    Args:
        sent: Their data addresses with spaces between them, or "large:" and their bytes.
        limits: Bounds their bytes.

    Raises:
        ValueError: If there is none, or they are too large or damaged.
    """
    if not isinstance(sent, str) or not sent:
        raise ValueError("choose a file first")
    addresses, most = sent.split(" "), most_bytes(limits)
    heads = [_DATA.match(address) for address in addresses]
    content = [address[head.end() if head else 0 :] for address, head in zip(addresses, heads, strict=True)]
    if sent.startswith("large:") or sum(map(len, content)) > 4 * (math.ceil(most / 3) + len(content)):
        raise ValueError(f"files may have {most // 1000} kB, all together")
    if not all(heads):
        raise ValueError("the file is damaged: it is not in base64")
    return [in_base64(each, "the file") for each in content]


def in_base64(text: object, name: str) -> bytes:
    """What the text says.

    Raises:
        ValueError: If it is missing or not in base64; says the name.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} is missing")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is damaged: it is not in base64") from None


def as_image(served: Served, content: bytes, limits: Limits) -> Tensor:
    """A picture as an image for the model, scaled until it covers it and cropped to the centre.

    Args:
        served: The model.
        content: The file.
        limits: Bounds the picture's pixels.

    Returns:
        uint8 levels (C, H, W).

    Raises:
        ValueError: If it is not a picture, or too large a one.
    """
    c, h, w = served.model.image_shape
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > limits.pixels:  # only the header has been read
                raise _TooLargeError
            channels = 1 if c == 1 else 3
            levels = to_levels(picture, channels, served.model.levels, DataConfig(size=(h, w)))[0]
    except (_TooLargeError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"the picture may have {limits.pixels:,} pixels") from None
    except Exception:  # damaged files may raise anything
        raise ValueError(f"the file cannot be read as a picture: {READABLE} can be") from None
    if levels.shape != (c, h, w):
        raise ValueError(f"{served.name} reads images of {c} channels, which no picture has")
    return torch.from_numpy(levels.copy())


class _TooLargeError(Exception):
    pass


_READ = """
const input = element.querySelector("input");
const read = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = failed;
  reader.readAsDataURL(file);
});
let latest = 0;
input.addEventListener("change", async () => {
  const files = Array.from(input.files), number = ++latest;
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  if (!files.length) { props.value = null; return; }
  if (bytes > MOST) { props.value = "large:" + bytes; return; }
  const addresses = await Promise.all(files.map(read)).catch(() => []);
  if (number === latest) props.value = addresses.join(" ");
});
"""
