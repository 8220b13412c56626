"""The tab Score without a browser: what it says of an image, and what it refuses."""

import asyncio
import base64
import io
import math
import re
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.app.served import Served
from pixelcnn.app.tabs.score import Reference, digit, picture, scored
from pixelcnn.datasets.mnist import mnist
from pixelcnn.models import OrderEnsemble
from pixelcnn.scoring import score

MOST = 100_000


def address(image, kind="PNG", **options):
    """A picture as a browser sends it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return sent(buffer.getvalue())


def sent(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def huge(width, height):
    """A PNG of this size by its header, in some bytes."""

    def chunk(name, content):
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return sent(b"\x89PNG\r\n\x1a\n" + parts)


def words(text):
    return re.sub(r"<[^>]*>", " ", text)


def test_the_numbers_are_the_packages_own(served):
    image = digit(served[0], 17)
    assert torch.equal(image, mnist("test", 2)[0][17])
    text = scored(served[0], image, None, "test image 17", Reference())
    found = score(served[0].model, image[None], method="complexity")
    nats = -found.log_prob.item()
    assert f"<strong>{nats / math.log(2):.1f} bits</strong>" in text
    for value in (f"{nats:.2f}", f"{found.bits_per_dim.item():.4f}", f"{found.score.item():+.4f}"):
        assert f"<td>{value}</td>" in text
    (content,) = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    with Image.open(io.BytesIO(base64.b64decode(content))) as shown:
        assert shown.size == (720, 340)
    assert "Bayes" not in text


def test_an_image_is_compared_with_others(served, monkeypatch):
    reference = Reference()
    assert reference.share_below(served[1], 100.0) is None  # its images are not of MNIST's shape
    images = mnist("test", 2)[0][::39][:256]
    bits = -score(served[0].model, images).log_prob / math.log(2)
    middle = bits.median().item() + 1e-6
    assert reference.share_below(served[0], middle) == (bits < middle).double().mean().item() == 0.5
    monkeypatch.setattr("pixelcnn.app.tabs.score.score", None)  # it is not computed again
    assert reference.share_below(served[0], 0.0) == 0.0
    assert reference.share_below(served[0], 1e9) == 1.0


def test_classes(served):
    image = torch.randint(4, (1, 12, 10), generator=torch.Generator().manual_seed(1)).byte()
    text = scored(served[1], image, None, "", Reference())
    posterior = served[1].model.classify(image[None])[0].exp()
    for k in range(5):
        assert re.search(rf"\b{k} +{100 * posterior[k]:.1f}%", words(text))
    assert "MNIST" not in text
    given = scored(served[1], image, 3, "", Reference())
    nats = -score(served[1].model, image[None], torch.tensor([3])).log_prob.item()
    assert f"{nats / math.log(2):.1f} bits , given class 3" in words(given)


def test_an_ensemble_has_no_map():
    member = pixelcnn.PixelCNN((1, 6, 6), filters=4, blocks=1)
    both = Served(name="both", model=OrderEnsemble([member, member], ["right-down", "left-up"]), card="", losses={})
    text = scored(both, torch.ones(1, 6, 6, dtype=torch.uint8), None, "", Reference())
    assert "bits/dim" in text
    assert "map of surprise" not in text


def test_names_cannot_bring_markup(served):
    evil = Served(name='"><script>alert(1)</script>', model=served[1].model, card="", losses={})
    assert "<script" not in scored(evil, torch.zeros(1, 12, 10, dtype=torch.uint8), None, "", Reference())


def test_pictures_get_the_models_size_and_levels(served):
    grey = np.zeros((28, 28), np.uint8)
    grey[5:9, 3:20] = 255
    assert np.array_equal(picture(served[0], address(Image.fromarray(grey)), "a file", MOST)[0], grey // 255)
    colour = Image.new("RGBA", (300, 200), (255, 255, 255, 255))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        assert (picture(served[1], address(colour, kind, **options), "a file", MOST) == 3).all()
    small = picture(served[1], address(Image.new("L", (1, 1), 130), "GIF"), "a file", MOST)
    assert small.shape == (1, 12, 10)
    assert (small == 2).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "choose a file first"),
        ("", "choose a file first"),
        (sent(b"GIF89a"), "this is no picture that can be read: PNG, JPEG, WebP, TIFF or GIF"),
        (sent(b"%PDF-1.4"), "this is no picture that can be read: PNG, JPEG, WebP, TIFF or GIF"),
        ("data:image/png;base64,*", "this is no picture that can be read: PNG, JPEG, WebP, TIFF or GIF"),
        ("/etc/hostname", "this is no picture that can be read: PNG, JPEG, WebP, TIFF or GIF"),
        (sent(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "this is no picture that can be read: PNG, JPEG, WebP"),
        (huge(5000, 4000), "the picture is too large: it may have 16,777,216 pixels"),
        (huge(12_000, 12_000), "the picture is too large: it may have 16,777,216 pixels"),
        (huge(60_000, 60_000), "the picture is too large: it may have 16,777,216 pixels"),
        ("large:3000000", "the picture is too large: it may have 100 kB"),
        (sent(bytes(MOST + 3)), "the picture is too large: it may have 100 kB"),
    ],
    ids=["none", "empty", "cut", "pdf", "no base64", "path", "svg", "pixels", "warning", "bomb", "large", "long"],
)
def test_what_is_no_picture(served, content, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        picture(served[0], content, "a file", MOST)


def test_a_truncated_picture_is_refused(served):
    whole = base64.b64decode(address(Image.effect_noise((64, 64), 50)).partition(",")[2])
    with pytest.raises(ValueError, match="this is no picture that can be read"):
        picture(served[0], sent(whole[: len(whole) // 2]), "a file", MOST)


def test_other_channels_are_refused():
    two = Served(name="two", model=pixelcnn.PixelCNN((2, 6, 6), filters=4, blocks=1), card="", losses={})
    with pytest.raises(ValueError, match="the images of two have 2 channels, and pictures have 1 or 3"):
        picture(two, address(Image.new("L", (6, 6))), "a file", MOST)


def function(served, name):
    """A function of the page's tab by its name."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    from pixelcnn.app import Limits, page

    async def build():  # elsewhere Gradio makes event loops and does not close them
        return page(served, Limits())

    events = asyncio.run(build()).fns.values()
    return next(
        e.fn for e in events if e.fn is not None and e.fn.__module__.endswith(".score") and e.fn.__name__ == name
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist", "3", "a digit of MNIST", 0, None, None), "the class must be one of any, got 3"),
        (
            ("mnist", "any", "a digit of MNIST", None, None, None),
            "the number in the test set must be in 0..9999, got None",
        ),
        (("mnist", "any", "a digit of MNIST", 1e4, None, None), "the number in the test set must be in 0..9999"),
        (("mnist", "any", "a digit of MNIST", 0.5, None, None), "the number in the test set must be in 0..9999"),
        (("mnist", "any", "a file", 0, None, "data:"), "choose a file first"),
        (("mnist", "any", "drawn by hand", 0, "data:", None), "draw an image first"),
    ],
)
def test_errors_are_messages(served, arguments, message):
    on_score = function(served, "on_score")
    import gradio as gr

    with pytest.raises(gr.Error, match=re.escape(message)) as caught:
        asyncio.run(on_score(*arguments))
    assert caught.value.print_exception is False


def test_the_controls_follow_the_model(served):
    on_model = function(served, "on_model")
    label, kind, *shown = on_model(served[1].name, "a digit of MNIST")
    assert label["choices"] == ["any", "0", "1", "2", "3", "4"]
    assert (kind["choices"], kind["value"]) == (["a file", "drawn by hand"], "a file")
    assert [part["visible"] for part in shown] == ["hidden", True, "hidden"]
    label, kind, *shown = on_model("mnist", "drawn by hand")
    assert label["visible"] is False
    assert (len(kind["choices"]), kind["value"]) == (3, "drawn by hand")
    assert [part["visible"] for part in shown] == ["hidden", "hidden", True]
