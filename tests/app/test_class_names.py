"""Every tab with a model whose classes have names: these are shown, and the numbers are sent."""

import asyncio

import gradio as gr
import pytest
import torch

import pixelcnn
from contents import built, handlers, words
from pixelcnn.app.compressing import compressed, decompressed
from pixelcnn.app.drawing import Request, draw
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.tabs.compress import decoded_html
from pixelcnn.app.tabs.draw import snapshot_html
from pixelcnn.app.tabs.score import score_html

LIMITS = Limits()
NAMES = ("china", "a <b>flower</b>", "2 cats & more")
ESCAPED = "a &lt;b&gt;flower&lt;/b&gt;"


@pytest.fixture(scope="module")
def served():
    model = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2, num_classes=3)
    model.class_names = NAMES
    return Served(name="named", model=model, card="", losses={})


@pytest.mark.parametrize(
    ("tab", "arguments", "others"),
    [
        ("draw", (16,), ["all, in columns"]),
        ("complete", (16,), []),
        ("score", ("a file",), []),
        ("compress", ("files", 16), ["the most probable"]),
    ],
)
def test_classes_are_chosen_by_name(served, tab, arguments, others):
    blocks = built([served], LIMITS)
    expected = [*((each, each) for each in ("any", *others)), *((name, str(k)) for k, name in enumerate(NAMES))]
    updates = handlers(blocks, tab)["on_model"]("named", *arguments)
    assert expected in [update.get("choices") for update in updates if isinstance(update, dict)]
    assert expected in [block.choices for block in blocks.blocks.values() if isinstance(block, gr.Dropdown)]


def test_what_is_chosen_is_the_number(served):
    on_draw = handlers(built([served], LIMITS), "draw")["on_draw"]

    async def last(label):
        *_, (picture, _) = [pair async for pair in on_draw("named", label, 3, 1.0, 1.0, 5, False)]
        return picture

    request = Request(images=3, classes=(1,), seed=5)
    *_, snapshot = draw(served, request, LIMITS)
    assert asyncio.run(last("1")) == snapshot_html(served, request, snapshot)[0]


def test_classes_are_shown_by_name(served):
    request = Request(images=3, classes=(0, 1, 2))
    *_, last = draw(served, request, LIMITS)
    assert (
        f"<span>china</span><span>{ESCAPED}</span><span>2 cats &amp; more</span>"
        in snapshot_html(served, request, last)[0]
    )
    image = last.canvas[0]
    given = score_html(served, image, 1, "")
    assert f", given class {ESCAPED}" in given
    assert f'<th scope="row">{ESCAPED}</th>' in given
    assert "<b>" not in given
    stream = compressed(served, last.canvas, torch.tensor([0, 1, 1]), LIMITS)
    decoded = decoded_html(decompressed([served], stream.data, LIMITS), None)
    assert f"classes china, {ESCAPED}, {ESCAPED}" in words(decoded)
