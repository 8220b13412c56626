"""Visitors' files as the browser sends them: pictures become images, and anything else is refused."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from contents import file, sent
from made import png
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.uploads import as_image, max_bytes, picture_field, received

LIMITS = Limits()
SMALL = Limits(body=2**17 + 136_000)  # 102,000 bytes of files


def huge(width, height):
    """A PNG of this size by its header, in some bytes."""
    return png(width, height, 8, 0, bytes(100))


def test_files_arrive():
    assert received(sent(b"one"), LIMITS) == [b"one"]
    assert received(sent(b"one", b"", bytes(200_000)), LIMITS) == [b"one", b"", bytes(200_000)]
    assert received(sent(bytes(max_bytes(SMALL))), SMALL) == [bytes(102_000)]
    assert len(sent(bytes(max_bytes(LIMITS)))) < LIMITS.body - 2**16  # there is room for the rest of the message
    assert str(max_bytes(SMALL)) in picture_field("Picture", SMALL)["js_on_load"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "choose a file first"),
        ("", "choose a file first"),
        (["data:;base64,"], "choose a file first"),
        ("data:image/png;base64,*", "the file is damaged: it is not in base64"),
        ("data:image/png;base64,AAAA data:image/png;base64,A", "the file is damaged: it is not in base64"),
        ("/etc/hostname", "the file is damaged: it is not in base64"),
        ("data:image/png;base64,AAAA ", "the file is damaged: it is not in base64"),
        ("unreadable:", "the browser could not read the file: choose it again"),
        ("large:3000000", "files may have at most 102 kB in total"),
        (sent(bytes(103_000)), "files may have at most 102 kB in total"),
        (sent(bytes(52_000), bytes(52_000)), "files may have at most 102 kB in total"),
        ("x" * 200_000, "files may have at most 102 kB in total"),
    ],
    ids=[
        "none",
        "empty",
        "no text",
        "no base64",
        "second",
        "path",
        "end",
        "unreadable",
        "large",
        "long",
        "together",
        "no file",
    ],
)
def test_what_is_no_file(content, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        received(content, SMALL)


def test_pictures_get_the_models_size_and_levels(served):
    grey = np.zeros((28, 28), np.uint8)
    grey[5:9, 3:20] = 255
    assert np.array_equal(as_image(served[0], file(Image.fromarray(grey)), LIMITS)[0], grey // 255)
    colour = Image.new("RGBA", (300, 200), (255, 255, 255, 255))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        assert (as_image(served[1], file(colour, kind, **options), LIMITS) == 3).all()
    small = as_image(served[1], file(Image.new("L", (1, 1), 130), "GIF"), LIMITS)
    assert torch.equal(small, torch.full((1, 12, 10), 2, dtype=torch.uint8))


def test_turned_pictures_keep_their_own_size():
    """Pillow gives the size of TIFF files as it is upright, and that of others as they are stored."""
    served = Served(name="any", model=pixelcnn.PixelCNN((1, 6, 6), 256, filters=4, blocks=1), card="", losses={})
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (4, 9), dtype=np.uint8)
    for kind in ("PNG", "TIFF"):
        content = file(Image.fromarray(pixels), kind, exif=exif)
        assert np.array_equal(as_image(served, content, LIMITS, own_size=True)[0], np.rot90(pixels, -1))


def test_a_line_of_pixels_is_made_smaller_too():
    model = pixelcnn.PhotoPixelCNN(filters=4, blocks=1, mixtures=2)
    photo = Served(name="photo", model=model, card="", losses={})
    for size, smaller in (((9000, 1), (1, 700)), ((1, 9000), (700, 1)), ((9000, 5), (1, 700)), ((300, 100), (15, 45))):
        image = as_image(photo, file(Image.new("RGB", size)), Limits(coded=700), own_size=True)
        assert image.shape[1:] == smaller


UNREADABLE = "the file cannot be read as a picture: choose PNG, JPEG, WebP, TIFF or GIF"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", UNREADABLE),
        (b"GIF89a", UNREADABLE),
        (b"%PDF-1.4", UNREADABLE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UNREADABLE),
        (file(Image.new("L", (64, 64), 7), "BMP"), UNREADABLE),
        (file(Image.effect_noise((64, 64), 50))[:2000], UNREADABLE),
        (huge(5000, 4000), "the picture may have at most 16,777,216 pixels"),
        (huge(12_000, 12_000), "the picture may have at most 16,777,216 pixels"),
        (huge(60_000, 60_000), "the picture may have at most 16,777,216 pixels"),
    ],
    ids=["empty", "head", "pdf", "svg", "bmp", "cut", "pixels", "warning", "bomb"],
)
def test_what_is_no_picture(served, content, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        as_image(served[0], content, LIMITS)


def test_pictures_that_do_not_suit_the_model_are_said_to(served):
    model = pixelcnn.PixelCNN((1, 6, 6), levels=700, filters=4, blocks=0)
    deep = Served(name="deep", model=model, card="", losses={})
    for each, content, message in (
        (deep, file(Image.new("L", (9, 9), 7)), "its values have at most 8 bits, and 700 levels need more"),
        (served[0], file(Image.new("F", (9, 9)), "TIFF"), "its pixels have 32 bits"),
    ):
        with pytest.raises(ValueError, match=f"^the picture cannot be used: {re.escape(message)}"):
            as_image(each, content, LIMITS)
    with pytest.raises(ValueError, match=f"^{re.escape(UNREADABLE)}$"):
        as_image(deep, b"no picture", LIMITS)


def test_other_channels_are_refused():
    two = Served(name="two", model=pixelcnn.PixelCNN((2, 6, 6), filters=4, blocks=1), card="", losses={})
    with pytest.raises(ValueError, match="two takes images of 2 channels, which no picture has"):
        as_image(two, file(Image.new("L", (6, 6))), LIMITS)
