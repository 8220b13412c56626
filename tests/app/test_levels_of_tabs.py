"""Every tab with a model of more than 256 levels."""

import torch

import pixelcnn
from contents import built, handlers, words
from pixelcnn.app.compressing import compressed, decompressed
from pixelcnn.app.drawing import Request, draw
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.tabs.complete import complete, from_editor, result_html, to_editor
from pixelcnn.app.tabs.compress import decoded_html, stream_html
from pixelcnn.app.tabs.draw import snapshot_html
from pixelcnn.app.tabs.explain import model_html
from pixelcnn.app.tabs.score import score_html
from pixelcnn.images import encoded, exact_picture

LIMITS = Limits()


def test_grids_of_mnists_size_need_not_be_digits():
    model = pixelcnn.PixelCNN((1, 28, 28), levels=512, filters=4, blocks=0)
    assert not Served(name="codes", model=model, card="", losses={}).has_digits


def test_every_tab_takes_many_levels():
    model = pixelcnn.GatedPixelCNN((1, 6, 6), levels=700, embedding=4, filters=6, layers=2)
    served = Served(name="codes", model=model, card="", losses={})
    *_, last = draw(served, Request(images=4), LIMITS)
    images = last.canvas
    assert images.dtype == torch.int32
    assert images.max() > 255
    assert "4 images drawn by codes" in snapshot_html(served, Request(images=4), last)[0]

    edited = from_editor(served, to_editor(served, images[0]))
    assert torch.equal(edited.image, images[0])
    result = complete(served, edited, 2, 32, None, 0, LIMITS)
    assert torch.equal(result.draws[:, edited.known], images[0][edited.known].expand(2, -1))
    assert result_html(served, edited, result, 0)

    assert "bits" in words(score_html(served, images[0], None, "a grid"))
    stream = compressed(served, images, None, LIMITS)
    assert stream_html(served, stream)
    files = [
        encoded(exact_picture(image, 700), optimize=True) for image in images
    ]  # of 16 bits, so that nothing is lost
    assert stream.others["PNG, one file each"] == sum(map(len, files))
    assert not any(name.startswith("JPEG XL") for name in stream.others)
    again = decompressed([served], stream.data, LIMITS)
    assert torch.equal(again.images, images)
    assert decoded_html(again, None)
    assert model_html(served)


def test_what_has_eight_bits_is_not_offered():
    """A drawing by hand has 8 bits, with which no image of more than 256 levels can be made."""
    model = pixelcnn.PixelCNN((1, 6, 6), levels=700, filters=4, blocks=1)
    codes = Served(name="codes", model=model, card="", losses={})
    _, kind, *_ = handlers(built([codes], LIMITS), "score")["on_model"]("codes", "drawn by hand")
    assert (kind["choices"], kind["value"]) == (["a file"], "a file")
