"""What the tests read from the page: its event handlers, pictures and words; and files as a browser sends them."""

import asyncio
import base64
import io
import re

from PIL import Image


def built(*arguments, **options):
    """The page, built while an event loop runs: elsewhere Gradio makes event loops and does not close them."""
    from pixelcnn.app import page

    async def build():
        return page(*arguments, **options)

    return asyncio.run(build())


def handlers(blocks, tab):
    """The functions of a tab's events by their names."""
    functions = [event.fn for event in blocks.fns.values() if event.fn is not None]
    return {fn.__name__: fn for fn in functions if fn.__module__ == f"pixelcnn.app.tabs.{tab}"}


def pictures(text):
    """The PNGs in a piece of HTML."""
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    return [Image.open(io.BytesIO(base64.b64decode(content))) for content in found]


def words(text):
    """A piece of HTML without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


def file(picture, kind="PNG", **options):
    """The content of a picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def sent(*contents):
    """Files as the browser sends them."""
    return " ".join("data:image/png;base64," + base64.b64encode(content).decode() for content in contents)
