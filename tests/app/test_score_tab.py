"""The tab Score without a browser: what it says of an image, and what it refuses."""

import asyncio
import math
import re

import pytest
import torch

import pixelcnn
from contents import built, handlers, pictures, words
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.tabs.score import score_html, share_below
from pixelcnn.datasets.mnist import mnist
from pixelcnn.models import OrderEnsemble
from pixelcnn.scoring import score


def test_the_numbers_are_the_packages_own(served):
    image = served[0].digits(17)[0]
    assert torch.equal(image, mnist("test", 2)[0][17])
    text = score_html(served[0], image, None, "test image 17")
    found = score(served[0].model, image[None], method="complexity")
    nats = -found.log_prob.item()
    assert f"<strong>{nats / math.log(2):.1f} bits</strong>" in text
    for value in (f"{nats:.2f}", f"{found.bits_per_dim.item():.4f}", f"{found.score.item():+.4f}"):
        assert f"<td>{value}</td>" in text
    (shown,) = pictures(text)
    assert shown.size == (720, 340)
    assert "Bayes" not in text


def test_an_image_is_compared_with_others(served, monkeypatch):
    assert share_below(served[1], 100.0) is None  # its images are not of MNIST's shape
    images = mnist("test", 2)[0][::39][:256]
    bits = -score(served[0].model, images).log_prob / math.log(2)
    middle = bits.median().item() + 1e-6
    assert share_below(served[0], middle) == (bits < middle).double().mean().item() == 0.5
    monkeypatch.setattr("pixelcnn.app.tabs.score.score", None)  # it is not computed again
    assert share_below(served[0], 0.0) == 0.0
    assert share_below(served[0], 1e9) == 1.0


def test_classes(served):
    image = torch.randint(4, (1, 12, 10), generator=torch.Generator().manual_seed(1)).byte()
    text = score_html(served[1], image, None, "")
    posterior = served[1].model.classify(image[None])[0].exp()
    for k in range(5):
        assert re.search(rf"\b{k} +{100 * posterior[k]:.1f}%", words(text))
    assert "MNIST" not in text
    given = score_html(served[1], image, 3, "")
    nats = -score(served[1].model, image[None], torch.tensor([3])).log_prob.item()
    assert f"{nats / math.log(2):.1f} bits , given class 3" in words(given)


def test_an_ensemble_has_no_map():
    member = pixelcnn.PixelCNN((1, 6, 6), filters=4, blocks=1)
    both = Served(name="both", model=OrderEnsemble([member, member], ["right-down", "left-up"]), card="", losses={})
    text = score_html(both, torch.ones(1, 6, 6, dtype=torch.uint8), None, "")
    assert "bits/dim" in text
    assert "map of surprise" not in text


def test_names_cannot_bring_markup(served):
    evil = Served(name='"><script>alert(1)</script>', model=served[1].model, card="", losses={})
    assert "<script" not in score_html(evil, torch.zeros(1, 12, 10, dtype=torch.uint8), None, "")


@pytest.fixture(scope="module")
def functions(served):
    """Functions of the page's tab by their names."""
    return handlers(built(served, Limits()), "score")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "any", "a digit of MNIST", 0, None, None), "the model must be one of mnist-seed, "),
        ((["mnist-seed"], "any", "a digit of MNIST", 0, None, None), "the model must be one of mnist-seed, "),
        (("mnist-seed", "3", "a digit of MNIST", 0, None, None), "the class must be one of any, got 3"),
        (
            ("mnist-seed", "any", "a digit of MNIST", None, None, None),
            "the number of the test image must be a whole number, got None",
        ),
        (("mnist-seed", "any", "a digit of MNIST", 1e4, None, None), "the number of the test image must be in 0..9999"),
        (
            ("mnist-seed", "any", "a digit of MNIST", 0.5, None, None),
            "the number of the test image must be a whole number",
        ),
        (("mnist-seed", "any", "a file", 0, None, "data:"), "choose a file first"),
        (("mnist-seed", "any", "a file", 0, "data:;base64,AAAA", None), "the file cannot be read as a picture"),
        (("mnist-seed", "any", "drawn by hand", 0, "data:", None), "draw an image first"),
    ],
)
def test_errors_are_messages(functions, arguments, message):
    import gradio as gr

    with pytest.raises(gr.Error, match=re.escape(message)) as caught:
        asyncio.run(functions["on_score"](*arguments))
    assert caught.value.print_exception is False


def test_the_controls_follow_the_model(functions, served):
    on_model = functions["on_model"]
    label, kind, *shown = on_model(served[1].name, "a digit of MNIST")
    assert [sent for _, sent in label["choices"]] == ["any", "0", "1", "2", "3", "4"]
    assert (kind["choices"], kind["value"]) == (["a file", "drawn by hand"], "a file")
    assert [part["visible"] for part in shown] == ["hidden", True, "hidden"]
    label, kind, *shown = on_model("mnist-seed", "drawn by hand")
    assert label["visible"] is False
    assert (len(kind["choices"]), kind["value"]) == (3, "drawn by hand")
    assert [part["visible"] for part in shown] == ["hidden", "hidden", True]
