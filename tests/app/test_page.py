"""The page as Gradio has it: its tabs, its one public function, its limits and errors; no browser is needed."""

import asyncio
import json
import re
from types import SimpleNamespace

import gradio as gr
import pytest

from contents import built, handlers
from pixelcnn.app import TABS, Limits, theme


@pytest.fixture(scope="module")
def blocks(served):
    return built(served, Limits(images=9, queue=3, concurrency=2))


def test_a_tab_is_a_title_and_a_function(served):
    given = []

    def build(backend):
        given.append((list(backend.models.values()), backend.limits))
        gr.Markdown("a third job")

    blocks = built(served, Limits(), tabs=(*TABS, SimpleNamespace(TITLE="Third", build=build)))
    assert given == [(served, Limits())]
    tabs = [block.label for block in blocks.blocks.values() if isinstance(block, gr.Tab)]
    assert tabs == ["Draw", "Complete", "Score", "Compress", "Explain", "Third"]
    with pytest.raises(ValueError, match="the page needs at least one model, got none"):
        built([], Limits())


def test_limits_reach_gradio(blocks):
    queue = blocks._queue
    assert queue.max_size == 3
    assert queue.pending_messages_per_session.max_size == 20
    working = [event for event in blocks.fns.values() if event.queue]
    # Draw, Complete, Score and Enter in their fields, New seed, Another digit, a picture; Compress, Decode and Decode
    assert len(working) == 11
    assert {event.concurrency_id for event in working} == {"work"}
    assert {event.concurrency_limit for event in working} == {"default"}
    assert queue.default_concurrency_limit == 2
    (slider,) = [b for b in blocks.blocks.values() if isinstance(b, gr.Slider) and b.label == "Images"]
    assert (slider.maximum, slider.value) == (9, 9)
    assert blocks.analytics_enabled is False


def test_only_drawing_is_public(blocks):
    assert list(blocks.get_api_info()["named_endpoints"]) == ["/draw"]


def test_nothing_is_fetched_from_elsewhere(blocks):
    config = json.dumps(blocks.get_config_file())
    assert "https://fonts" not in config
    assert theme()._stylesheets == []
    style = theme()._get_theme_css()
    assert not re.findall(r"url\(['\"]?https?:", style)


def shown(blocks, *arguments):
    """Everything that a request would see."""
    draw = handlers(blocks, "draw")["on_draw"]

    async def collect():
        return [pair async for pair in draw(*arguments)]

    return asyncio.run(collect())


def test_draw(blocks):
    *_, (picture, said) = shown(blocks, "mnist-seed", "any", 4, 1.0, 3.0, 2, False)
    assert "4 images drawn by mnist-seed, seed 2" in picture
    assert "136" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist-seed", "any", 10, 1.0, 1.0, 0, False), "the number of images must be in 1..9, got 10"),
        (("mnist-seed", "any", 2.5, 1.0, 1.0, 0, False), "the number of images must be a whole number, got 2.5"),
        (("mnist-seed", "any", 4, 1.0, 1.0, None, False), "the seed must be a whole number, got None"),
        (("mnist-seed", "any", 4, 1.0, 1.0, -3, False), "the seed must be in 0..9007199254740991, got -3"),
        (("mnist-seed", "any", 4, -1.0, 1.0, 0, False), "temperature must be positive and finite, got -1.0"),
        (("mnist-seed", "all, in columns", 4, 1.0, 1.0, 0, False), "the class must be one of any, got all, in columns"),
    ],
)
def test_errors_are_messages(blocks, arguments, message):
    with pytest.raises(gr.Error) as caught:
        shown(blocks, *arguments)
    assert caught.value.message == message
    assert caught.value.print_exception is False


def test_numbers_reach_the_pages_own_checks(blocks):
    """Gradio's messages about limits do not name the field, and each is a traceback on standard error."""
    fields = [block for block in blocks.blocks.values() if isinstance(block, gr.Number)]
    assert {field.label for field in fields} == {"Seed", "Test image", "First test image"}
    for field in fields:
        assert [field.preprocess(number) for number in (-1, 1.5, 10**20)] == [-1, 1.5, 10**20]


def test_the_controls_follow_the_model(blocks, served):
    conditional = served[1].name
    on_model, on_class = (handlers(blocks, "draw")[name] for name in ("on_model", "on_class"))
    label, images, guidance, size, file = on_model(conditional, 12)
    assert [sent for _, sent in label["choices"]] == ["any", "all, in columns", "0", "1", "2", "3", "4"]
    assert label["visible"]
    assert (images["maximum"], images["value"]) == (9, 9)
    assert guidance["visible"] is False
    assert (size["visible"], file["visible"]) == (False, "hidden")
    assert on_class(conditional, "3")["visible"] is True
    assert on_class(conditional, "any") == {"visible": False, "value": 1.0, "__type__": "update"}
    assert on_class("mnist-seed", "any")["visible"] is False
    assert on_model("mnist-seed", 4)[0]["visible"] is False


def test_what_a_visitor_finds_was_drawn_before(blocks, served, monkeypatch):
    first = [block for block in blocks.blocks.values() if isinstance(block, gr.HTML)]
    assert any("9 images drawn by mnist-seed, seed 0" in block.value for block in first)
    monkeypatch.setattr("pixelcnn.app.tabs.draw._FIRST_SECONDS", 0.0)
    slow = built(served, Limits())
    assert any("Press Draw." in block.value for block in slow.blocks.values() if isinstance(block, gr.HTML))
