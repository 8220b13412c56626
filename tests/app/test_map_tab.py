"""Drawing on the page by a model that is conditional on a map."""

import asyncio

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from contents import built, file, handlers, sent
from pixelcnn.app.drawing import Request, draw
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.uploads import as_map

LIMITS = Limits()


@pytest.fixture(scope="module")
def served():
    generator = torch.Generator().manual_seed(0)
    model = pixelcnn.GatedPixelCNN((1, 8, 12), filters=8, layers=2, condition_channels=1, generator=generator)
    return Served(name="finer", model=model, card="", losses={})


@pytest.fixture(scope="module")
def on_draw(served):
    """What the page does when it is to draw."""
    return handlers(built([served], LIMITS), "draw")["on_draw"]


def shown(on_draw, *arguments):
    async def collect():
        return [pair async for pair in on_draw(*arguments)]

    return asyncio.run(collect())


def test_a_picture_becomes_a_map_of_the_size_asked_for(served):
    assert served.map_scales == [4, 2, 1]
    picture = Image.fromarray(np.repeat(np.arange(0, 240, 20, dtype=np.uint8)[None], 8, 0))
    known = as_map(served, file(picture), 4, LIMITS)
    assert known.shape == (1, 2, 3)
    assert known.dtype == torch.uint8
    assert known[0, 0].tolist() == sorted(known[0, 0].tolist())
    *_, last = draw(served, Request(images=3, map=known, seed=5), LIMITS)
    assert torch.equal(last.canvas, served.model.sample(3, condition=known.expand(3, -1, -1, -1), seed=5))


def test_the_tab_takes_the_picture_or_none(on_draw):
    picture = sent(file(Image.new("L", (30, 20), 200)))
    for size, chosen in (("2 x 3", picture), ("8 x 12", picture), ("2 x 3", None)):
        *_, (_, said) = shown(on_draw, "finer", "any", 4, 1.0, 1.0, 2, False, size, chosen)
        assert "4 images" in said


def test_what_is_no_size_or_no_picture_is_refused(on_draw):
    for size, chosen, message in (
        ("3 x 3", sent(file(Image.new("L", (9, 9)))), "the size of the map must be one of 2 x 3, 4 x 6, 8 x 12"),
        ("2 x 3", sent(b"no picture"), "the file cannot be read as a picture"),
    ):
        with pytest.raises(gr.Error) as caught:
            shown(on_draw, "finer", "any", 4, 1.0, 1.0, 2, False, size, chosen)
        assert message in caught.value.message


def test_models_without_a_map_of_numbers_have_no_sizes():
    for options in ({}, {"condition_levels": 3}, {"condition_channels": 2}):
        model = pixelcnn.GatedPixelCNN((1, 8, 8), filters=8, layers=2, **options)
        assert Served(name="m", model=model, card="", losses={}).map_scales == []
