"""The tab Complete without a browser: the editor's string and wrong ones, visitors' pictures, limits, what is shown."""

import asyncio
import base64
import json
import re
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from contents import built, file, handlers, pictures
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.tabs import complete as tab
from pixelcnn.app.tabs.complete import complete, from_editor, result_html, to_editor
from pixelcnn.app.uploads import as_image, from_base64
from pixelcnn.models import OrderEnsemble

LIMITS = Limits()
NO_FIT = "the editor's image does not fit mnist-seed: choose another model, and then this one again"


def read_picture(served, content, limits):
    """A visitor's picture, as the tab reads it."""
    return as_image(served, from_base64("file", content), limits)


def file64(picture, kind="PNG", **options):
    """A picture's file as the editor sends it."""
    return base64.b64encode(file(picture, kind, **options)).decode()


def hiding(served, image, rows):
    """The editor's string after all but some rows have been revealed."""
    said = json.loads(to_editor(served, image))
    _, h, w = said["shape"]
    return json.dumps({**said, "hidden": "".join("01"[y in rows] for y in range(h) for _ in range(w))})


def test_the_editor_keeps_an_image(served):
    image = served[0].digits(4)[0]
    assert torch.equal(image, pixelcnn.datasets.mnist("test")[0][4])
    assert torch.equal(served[0].digits(10_004)[0], image)
    given = from_editor(served[0], to_editor(served[0], image))
    assert torch.equal(given.image, image)
    assert [y for y in range(28) if not given.known[0, y].any()] == list(range(10, 18))
    given = from_editor(served[0], hiding(served[0], image, range(3)))
    assert [y for y in range(28) if not given.known[0, y].any()] == [0, 1, 2]
    assert given.known[0, 3:].all()
    assert not from_editor(served[1], to_editor(served[1])).image.any()
    assert [each.has_digits for each in served] == [True, False]


def test_colour_images_keep_their_order_of_channels():
    model = pixelcnn.PixelCNN((3, 1, 5), levels=4, filters=6, blocks=1)
    served = Served(name="colour", model=model, card="", losses={})
    image = torch.arange(15, dtype=torch.uint8).reshape(3, 1, 5) % 4
    given = from_editor(served, to_editor(served, image))
    assert torch.equal(given.image, image)
    assert not given.known.any()  # the only row is the middle one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "the editor has no image: reload the page"),
        ({"shape": [1, 12, 10]}, NO_FIT),
        ({"levels": 256}, NO_FIT),
        ({"hidden": "1" * 783}, "the mask must be 28 x 28 pixels, each known or hidden"),
        ({"hidden": "2" * 784}, "the mask must be 28 x 28 pixels, each known or hidden"),
        ({"hidden": [1] * 784}, "the mask must be 28 x 28 pixels, each known or hidden"),
        ({"hidden": "0" * 784}, "nothing is hidden: paint over the part that is to be completed"),
        ({"image": "A"}, "the editor's image is damaged: it is not in base64"),
        ({"image": "é" * 8}, "the editor's image is damaged: it is not in base64"),
        ({"image": None}, "the editor's image is missing"),
        ({"image": "AAAA"}, "the image must be 1 x 28 x 28 numbers below 2"),
        ({"image": ""}, "the image must be 1 x 28 x 28 numbers below 2"),
        ({"image": base64.b64encode(b"\2" * 784).decode()}, "the image must be 1 x 28 x 28 numbers below 2"),
    ],
)
def test_wrong_strings(served, changes, message):
    said = json.loads(to_editor(served[0]))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_editor(served[0], None if changes is None else json.dumps({**said, **changes}))


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, 3])
def test_what_is_no_string_of_the_editor(served, text):
    with pytest.raises(ValueError, match=r"^the editor has no image: reload the page$"):
        from_editor(served[0], text)


def test_pictures_of_visitors(served):
    white = read_picture(served[0], file64(Image.new("RGB", (90, 50), "white")), LIMITS)
    assert white.shape == (1, 28, 28)
    assert (white == 1).all()
    grey = read_picture(served[1], file64(Image.new("L", (10, 12), 130), "WEBP", lossless=True), LIMITS)
    assert torch.equal(grey, torch.full((1, 12, 10), 2, dtype=torch.uint8))
    rows = Image.fromarray(np.repeat(np.arange(12, dtype=np.uint8)[:, None] * 20, 10, axis=1))
    assert read_picture(served[1], file64(rows), LIMITS)[0, :, 0].tolist() == [k * 20 * 4 // 256 for k in range(12)]


def bomb():
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""
    header = bytearray(file(Image.new("L", (1, 1))))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    return base64.b64encode(header).decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the file is missing"),
        ({"a": 1}, "the file is missing"),
        ("!", "the file is damaged: it is not in base64"),
        ("", "the file cannot be read as a picture: choose PNG, JPEG, WebP, TIFF or GIF"),
        (
            base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(),
            "the file cannot be read as a picture: choose PNG, JPEG, WebP, TIFF or GIF",
        ),
        (
            file64(Image.new("L", (64, 64), 7), "BMP"),
            "the file cannot be read as a picture: choose PNG, JPEG, WebP, TIFF or GIF",
        ),
        (
            file64(Image.effect_noise((64, 64), 90))[:2000],
            "the file cannot be read as a picture: choose PNG, JPEG, WebP, TIFF or GIF",
        ),
        (bomb(), "the picture may have at most 16,777,216 pixels"),
        (file64(Image.new("1", (8192, 2049))), "the picture may have at most 16,777,216 pixels"),
    ],
    ids=["none", "no text", "no base64", "empty", "svg", "bmp", "cut", "bomb", "large"],
)
def test_wrong_pictures(served, content, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_picture(served[0], content, LIMITS)


def test_completions_are_those_of_the_library(served):
    image = served[0].digits(4)[0]
    given = from_editor(served[0], to_editor(served[0], image))
    found = complete(served[0], given, 3, 64, None, 5, LIMITS)
    same = served[0].model.complete(image[None], given.known[None], 3, 64, seed=5)
    assert torch.equal(found.draws, same.images[0])
    assert torch.equal(found.draws[:, given.known], image[given.known].expand(3, -1))
    assert (found.completion.ess, found.completion.log_evidence) == (same.ess, same.log_evidence)
    assert not found.exact
    assert not found.few
    conditional = from_editor(served[1], hiding(served[1], None, range(6, 12)))
    by_class = [complete(served[1], conditional, 2, 4, label, 0, LIMITS).completion.log_evidence for label in (0, 1)]
    assert by_class[0] != by_class[1]


def test_few_and_alike(served):
    given = from_editor(served[0], to_editor(served[0], served[0].digits(4)[0]))
    with pytest.warns(UserWarning, match="the effective sample size fell below 4"):
        found = complete(served[0], given, 2, 4, None, 0, LIMITS)
    assert found.few
    said = result_html(served[0], given, found, 0)[1]
    assert "few and alike" in said
    assert 'role="alert"' in said  # read out although it is new
    exact = from_editor(served[0], hiding(served[0], served[0].digits(4)[0], range(20, 28)))
    found = complete(served[0], exact, 2, 4, None, 0, LIMITS)
    assert (found.exact, found.few, found.completion.ess) == (True, False, 2.0)
    said = result_html(served[0], exact, found, 0)[1]
    assert "exact and independent" in said
    assert "few and alike" not in said


def test_a_mixture_is_exact_in_any_of_its_orders():
    member = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2)
    model = OrderEnsemble([member, member], ["right-down", "left-up"])
    served = Served(name="mixture", model=model, card="", losses={})
    for rows, exact in (((0, 1), True), ((4, 5), True), ((2, 3), False)):
        given = from_editor(served, hiding(served, None, rows))
        found = complete(served, given, 2, 64, None, 0, LIMITS)
        assert found.exact == exact
        assert "under one part of the mixture" in result_html(served, given, found, 0)[1]  # and not under all of it


@pytest.mark.parametrize(
    ("n", "particles", "label", "message"),
    [
        (2, 0, None, "the number of particles must be in 1..120, got 0"),
        (2, 121, None, "the number of particles must be in 1..120, got 121"),
        (0, 9, None, "the number of completions must be in 1..9, the number of particles, got 0"),
        (10, 9, None, "the number of completions must be in 1..9, the number of particles, got 10"),
        (2, 9, 0, "labels must be None: the model is unconditional and has no classes"),
    ],
)
def test_limits(served, n, particles, label, message):
    given = from_editor(served[0], to_editor(served[0]))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        complete(served[0], given, n, particles, label, 0, LIMITS)


def test_completions_are_given_up(served):
    quick = Limits(seconds=1e-3)
    member = pixelcnn.GatedPixelCNN((1, 12, 10), filters=4, layers=2)
    mixture = Served(name="mixture", model=OrderEnsemble([member], ["right-down"]), card="", losses={})
    for each in (*served, mixture):
        given = from_editor(each, to_editor(each))
        with pytest.raises(ValueError, match=r"^given up after 0\.001 s: ask for fewer particles$"):
            complete(each, given, 2, 64, None, 0, quick)


def test_particles_are_bounded_by_memory_and_by_number(served):
    assert Limits(memory=1).particles_of(served[0]) == 1
    assert Limits(particles=7).particles_of(served[0]) == 7
    assert Limits().particles_of(served[1]) == 256
    with pytest.raises(ValueError, match=r"particles must be an integer in 1\.\.1024, got 0"):
        Limits(particles=0)


def test_what_is_shown(served):
    given = from_editor(served[0], to_editor(served[0], served[0].digits(4)[0]))
    found = complete(served[0], given, 3, 64, None, 0, LIMITS)
    text = result_html(served[0], given, found, 0)[0]
    known, *draws, mean, deviation = pictures(text)
    assert known.getpixel((0, 14)) == (214, 120, 60)
    assert len(draws) == 3
    for draw, picture in zip(found.draws, draws, strict=True):
        assert np.array_equal(np.asarray(picture) // 255, draw[0].numpy())
    assert np.array_equal(np.asarray(mean), np.rint(found.draws[:, 0].double().mean(0).numpy() * 255))
    assert not np.asarray(deviation)[given.known[0].numpy()].any()
    (panel,) = pictures(result_html(served[0], given, found, 0)[1])
    assert panel.width > 6 * 112
    assert (
        f"effective sample size <strong>{found.completion.ess.item():.1f}</strong> of 64"
        in result_html(served[0], given, found, 0)[1]
    )
    evil = Served(name='"><script>alert(1)</script>', model=served[0].model, card="", losses={})
    assert "<script" not in "".join(result_html(evil, given, found, 0))
    single = complete(served[0], given, 1, 64, None, 0, LIMITS)
    assert len(pictures(result_html(served[0], given, single, 0)[0])) == 2


def test_images_that_do_not_fit_into_a_message_are_said_to():
    import gradio as gr

    limits = Limits(body=4096 + 1100)
    for shape, most in (((1, 12, 25), 300), ((3, 11, 11), 122)):
        fits, larger = (
            Served(
                name=f"<i>{rows}</i>",
                model=pixelcnn.PixelCNN((shape[0], rows, shape[2]), filters=6, blocks=1),
                card="",
                losses={},
            )
            for rows in (shape[1], shape[1] + 1)
        )
        assert len(to_editor(fits)) < limits.body - 3800  # there is room for the rest of the message
        events = handlers(built([fits, larger], limits, tabs=(tab,)), "complete")
        note, editor, *_ = events["on_model"](fits.name, 1)
        assert (note["visible"], editor["visible"], bool(editor["value"])) == (False, True, True)
        note, editor, *_ = events["on_model"](larger.name, 1)
        assert (note["visible"], editor["visible"], editor["value"]) == (True, "hidden", "")
        assert "<i>" not in note["value"]
        said = f"completes at most {most} pixels of {shape[0]} channel"
        assert said in note["value"]
        assert "use pixelcnn complete" in note["value"]
        with pytest.raises(gr.Error, match=said):
            asyncio.run(events["on_complete"](larger.name, "", "any", 1, 1, 0))
        first = built([larger], limits, tabs=(tab,)).blocks.values()
        assert [block.visible for block in first if isinstance(block, gr.HTML) and said in str(block.value)] == [True]


def test_the_tab_turns_errors_into_messages(served):
    import gradio as gr

    events = handlers(built(served, LIMITS, tabs=(tab,)), "complete")
    text = to_editor(served[0], served[0].digits(4)[0])
    picture, said = asyncio.run(events["on_complete"]("mnist-seed", text, "any", 2, 40, 1))
    assert 'aria-label="2 completions by mnist-seed, seed 1"' in picture
    assert "log p(known)" in said
    for arguments, message in (
        (("mnist-seed", text, "any", 2.5, 40, 1), "the number of completions must be a whole number, got 2.5"),
        (("mnist-seed", text, "any", 2, None, 1), "the number of particles must be a whole number, got None"),
        (("mnist-seed", text, "any", 2, 40, None), "the seed must be a whole number, got None"),
        (("mnist-seed", text, "any", 2, 40, float("inf")), "the seed must be a whole number, got inf"),
        (("mnist-seed", text, "3", 2, 40, 1), "the class must be one of any, got 3"),
        (("mnist-seed", "?", "any", 2, 40, 1), "the editor has no image: reload the page"),
    ):
        with pytest.raises(gr.Error) as caught:
            asyncio.run(events["on_complete"](*arguments))
        assert caught.value.message == message
        assert caught.value.print_exception is False
    white = gr.EventData(None, {"content": file64(Image.new("L", (28, 28), 255))})
    assert from_editor(served[0], asyncio.run(events["on_upload"]("mnist-seed", white))).image.all()
    for data in ({}, None):
        with pytest.raises(gr.Error, match="the file is missing"):
            asyncio.run(events["on_upload"]("mnist-seed", gr.EventData(None, data)))
    note, editor, another, label, n, particles = events["on_model"](served[1].name, 300)
    assert (note["visible"], editor["visible"]) == (False, True)
    assert not from_editor(served[1], editor["value"]).image.any()
    assert (another["visible"], label["visible"], n["value"]) == (False, True, 8)
    assert (particles["maximum"], particles["value"]) == (256, 256)
    assert from_editor(served[0], events["on_digit"]("mnist-seed")).image.any()
