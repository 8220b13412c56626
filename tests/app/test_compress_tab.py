"""The tab Compress without a browser: sizes by other means, what comes back, what is refused."""

import asyncio
import base64
import io
import json
import math
import re
import sys
import zlib

import pytest
import torch
from PIL import Image

import pixelcnn
from contents import built, file, handlers, pictures, sent, words
from pixelcnn.app import compressing
from pixelcnn.app.compressing import compressed, decompressed, max_images
from pixelcnn.app.served import Limits, Served
from pixelcnn.app.tabs.compress import browser_copy, decoded_html, stream_html
from pixelcnn.codec import StreamError, decompress_with_labels, joined
from pixelcnn.datasets.mnist import mnist
from pixelcnn.files import values_digest
from pixelcnn.images import to_pil
from pixelcnn.models import OrderEnsemble

LIMITS = Limits()
DIGITS, DRAWN, FILES = "digits of MNIST", "draws of the model", "files"


def stream_of(text):
    """What the link keeps."""
    (content,) = re.findall(r'href="data:application/octet-stream;base64,([A-Za-z0-9+/=]+)"', text)
    return base64.b64decode(content)


def test_the_stream_is_the_packages_own(served):
    images = mnist("test", 2)[0][:5]
    found = compressed(served[0], images, None, LIMITS)
    assert found.data == pixelcnn.compress(served[0].model, images)
    assert found.overhead == 56 + 8
    text = stream_html(served[0], found)
    assert stream_of(text) == found.data
    assert 'download="mnist-seed-5.pxcn"' in text
    assert f"5 images in {len(found.data)} bytes" in words(text)
    assert f"64 of the {len(found.data)} bytes are header and checksums" in text
    each = f"this stream {len(found.data)} {len(found.data) / 5:.1f} {len(found.data) * 8 / 5 / 784:.3f}"
    assert f"{each} {5 * 98 / len(found.data):.1f} ×" in words(text)
    assert f"without its header {len(found.data) - 64} " in words(text)


def test_what_the_stream_is_beside(served):
    images = mnist("test", 2)[0][:5]
    found = compressed(served[0], images, None, LIMITS).others
    bits = -served[0].model.log_prob(images).double().sum().item() / math.log(2)
    assert found["model's likelihood"] == pytest.approx(bits / 8, rel=1e-5)
    assert found["raw, 1 bit per value"] == 5 * 98
    black_and_white = [to_pil(image, 2).convert("1") for image in images]
    assert found["PNG, one file each"] == sum(len(file(each, "PNG", optimize=True)) for each in black_and_white)
    mosaic = Image.new("1", (3 * 28, 2 * 28))
    for k, each in enumerate(black_and_white):
        mosaic.paste(each, (k % 3 * 28, k // 3 * 28))
    assert found["PNG, one mosaic"] == len(file(mosaic, "PNG", optimize=True))
    assert list(found) == [
        "model's likelihood",
        "JPEG XL, one mosaic",
        "JPEG XL, one file each",
        "PNG, one mosaic",
        "PNG, one file each",
        "raw, 1 bit per value",
    ]


def test_jpeg_xl_is_lossless(served):
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed: pip install 'pixelcnn[app]'")
    images = mnist("test", 2)[0][:2]
    found = compressed(served[0], images, None, LIMITS).others
    mosaic = Image.new("L", (56, 28))
    for k in range(2):
        mosaic.paste(to_pil(images[k], 2), (28 * k, 0))
    buffer = io.BytesIO()
    mosaic.save(buffer, "JXL", lossless=True, effort=10, num_threads=1)
    assert found["JPEG XL, one mosaic"] == buffer.tell()
    with Image.open(buffer) as back:
        assert back.tobytes() == mosaic.tobytes()


def test_without_the_plug_in_there_is_no_row(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)  # as if it were not installed
    compressing._has_jpeg_xl.cache_clear()
    try:
        found = compressed(served[0], mnist("test", 2)[0][:1], None, LIMITS)
    finally:
        compressing._has_jpeg_xl.cache_clear()
    assert list(found.others) == ["model's likelihood", "PNG", "raw, 1 bit per value"]


@pytest.mark.parametrize(
    ("shape", "levels", "depth"), [((1, 9, 7), 4, 2), ((1, 9, 7), 256, 8), ((3, 5, 6), 8, 3), ((2, 4, 4), 16, 4)]
)
def test_every_kind_of_image(shape, levels, depth):
    model = pixelcnn.PixelCNN(shape, levels=levels, filters=6, blocks=1, generator=torch.Generator().manual_seed(1))
    own = Served(name="own", model=model, card="", losses={})
    images = torch.randint(levels, (7, *shape), generator=torch.Generator().manual_seed(2)).byte()
    found = compressed(own, images, None, LIMITS)
    assert torch.equal(decompressed([own], found.data, LIMITS).images, images)
    by_name = found.others
    assert by_name[f"raw, {depth} bits per value"] == math.ceil(images.numel() * depth / 8)
    assert ("PNG, one mosaic" in by_name) == (shape[0] != 2)
    assert "ratio" in stream_html(own, found)


def test_few_greys_stay_what_they_are(monkeypatch):
    """PNG with less than a byte a pixel holds the same picture as with one, for every number of levels."""
    saved = []
    save = Image.Image.save

    def keeping(self, *arguments, **options):
        saved.append(self.convert("L").tobytes())
        save(self, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", keeping)
    for levels in range(3, 17):
        saved.clear()
        picture = to_pil(torch.arange(levels, dtype=torch.uint8).view(1, 1, levels), levels)
        compressing._png_size(picture, levels)
        assert len(saved) == 2
        assert saved[0] == saved[1] == picture.tobytes()
    noise = torch.randint(4, (1, 100, 100), generator=torch.Generator().manual_seed(2)).byte()
    assert compressing._png_size(to_pil(noise, 4), 4) < 100 * 100 * 2 / 8 + 250


def test_classes_are_in_the_stream(served):
    images = torch.randint(4, (6, 1, 12, 10), generator=torch.Generator().manual_seed(1)).byte()
    labels = served[1].model.classify(images).argmax(1)
    found = compressed(served[1], images, labels, LIMITS)
    back, classes = decompress_with_labels(served[1].model, found.data)
    assert torch.equal(back, images)
    assert torch.equal(classes, labels)
    bits = -served[1].model.log_prob(images, labels).double().sum().item() / math.log(2) + 6 * math.log2(5)
    assert found.others["model's likelihood, with classes"] == pytest.approx(bits / 8, rel=1e-5)
    again = decompressed(served, found.data, LIMITS)
    assert again.served is served[1]
    assert f"classes {', '.join(map(str, labels.tolist()))}" in words(decoded_html(again, None))


def test_what_comes_back(served):
    images = mnist("test", 2)[0][:3]
    found = compressed(served[0], images, None, LIMITS)
    again = decompressed(served, found.data, LIMITS)
    assert torch.equal(again.images, images)
    text = decoded_html(again, values_digest(images))
    assert "equal to the original: yes" in words(text)
    assert "model mnist-seed" in words(text)
    assert values_digest(images) in text
    before, after = pictures(stream_html(served[0], found)), pictures(text)
    assert before[0].tobytes() == after[0].tobytes()
    assert "equal to the original: no" in words(decoded_html(again, values_digest(images[:2])))
    assert "they match the digest in the stream" in words(decoded_html(again, None))


def test_names_cannot_bring_markup(served):
    evil = Served(name='"><script>alert(1)</script>', model=served[1].model, card="", losses={})
    found = compressed(evil, torch.zeros(1, 1, 12, 10, dtype=torch.uint8), None, LIMITS)
    assert "<script" not in stream_html(evil, found) + decoded_html(decompressed([evil], found.data, LIMITS), None)


def test_models_are_prepared_once(served, monkeypatch):
    first = served[0].prepared
    monkeypatch.setattr("pixelcnn.app.served.prepare", None)
    assert served[0].prepared is first


def test_few_enough_to_be_sent_back(served):
    assert max_images(served[0], LIMITS) == 64
    large = Served(name="large", model=pixelcnn.PixelCNN((3, 64, 64), filters=6, blocks=1), card="", losses={})
    assert max_images(large, LIMITS) == 2**17 // (3 * 64 * 64) == 10
    huge = Served(name="huge", model=pixelcnn.PixelCNN((1, 400, 400), filters=4, blocks=1), card="", losses={})
    assert max_images(huge, LIMITS) == 1


def patched(data, offset, content):
    """A stream with another header, whose checksum is right."""
    header = data[:offset] + content + data[offset + len(content) : 52]
    return header + zlib.crc32(header).to_bytes(4, "little") + data[56:]


def test_wrong_streams(served):
    images = mnist("test", 2)[0]
    data = pixelcnn.compress(served[0].prepared, images[:20])
    middle = len(data) // 2 + 30
    other = pixelcnn.PixelCNN((1, 28, 28), filters=4, blocks=1)
    foreign = pixelcnn.compress(other, images[:1])
    cases = [
        (b"", "this is no pixelcnn stream: it does not begin with PXCN"),
        (b"\x89PNG\r\n\x1a\n", "this is no pixelcnn stream: it does not begin with PXCN"),
        (data[:-1], "the stream ends within chunk 0 of 1"),
        (data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], "chunk 0 is damaged"),
        (data[:30] + bytes([data[30] ^ 1]) + data[31:], "the header is damaged"),
        (foreign, f"the stream is of a model that is not served here: it needs {foreign[6:22].hex()}"),
        (joined([data, data]), "the file joins 2 streams, and this page decodes one: use pixelcnn decompress"),
        (
            pixelcnn.compress(served[0].model.resized((6, 5)), torch.zeros(1, 1, 6, 5, dtype=torch.uint8)),
            "the stream's images are 6 x 5, and those of mnist-seed here 28 x 28: use pixelcnn decompress",
        ),
        (patched(data, 30, (10_000).to_bytes(8, "little")), "the stream ends before chunk 1 of 8"),
        (
            patched(data, 30, (1000).to_bytes(8, "little")),
            "the stream has 1,000 images, and this page decodes at most 64: use pixelcnn decompress",
        ),
        (patched(data, 30, (19).to_bytes(8, "little")), "chunk 0 is damaged"),
        (patched(data, 44, bytes(8)), "the images are not those that were compressed"),
    ]
    for content, message in cases:
        with pytest.raises(StreamError, match=f"^{re.escape(message)}"):
            decompressed(served, content, LIMITS)
    data = pixelcnn.compress(served[0].prepared, images[:10])
    with pytest.raises(
        StreamError, match="the stream has groups of 10 images, which need more memory than this page may use"
    ):
        decompressed(served, data, Limits(memory=2**25))


def test_all_images_that_a_page_draws_can_be_decoded(served):
    """What this page compresses at most, it decodes, for it has the memory."""
    for each in served:
        most = max_images(each, LIMITS)
        images = torch.zeros(most, *each.model.image_shape, dtype=torch.uint8)
        data = pixelcnn.compress(each.prepared, images)
        assert torch.equal(decompressed(served, data, LIMITS).images, images)


@pytest.fixture(scope="module")
def functions(served):
    """Functions of the page's tab by their names."""
    return handlers(built(served, LIMITS), "compress")


@pytest.mark.parametrize("kind", [DIGITS, DRAWN, FILES])
def test_images_from_everywhere(functions, served, kind):
    files = f"{sent(file(Image.new('L', (40, 30), 255)))} {sent(file(Image.new('L', (5, 9))))}"
    text, stream = asyncio.run(functions["on_compress"]("mnist-seed", "any", kind, 9_999, 3, 2, files))
    test = mnist("test", 2)[0]
    wanted = {
        DIGITS: torch.stack([test[9_999], test[0]]),
        DRAWN: served[0].model.sample(2, seed=3),
        FILES: torch.stack([torch.ones(1, 28, 28), torch.zeros(1, 28, 28)]).byte(),
    }[kind]
    assert torch.equal(pixelcnn.decompress(served[0].model, stream_of(text)), wanted)
    assert stream == f"{values_digest(wanted)} {base64.b64encode(stream_of(text)).decode()}"
    assert "equal to the original: yes" in words(asyncio.run(functions["on_again"](stream)))
    assert "2 images decoded in" in words(asyncio.run(functions["on_decode"](sent(stream_of(text)))))


@pytest.mark.parametrize(("label", "given"), [("any", None), ("the most probable", None), ("3", torch.full((4,), 3))])
def test_classes_that_are_asked_for(functions, served, label, given):
    name = served[1].name
    text, _ = asyncio.run(functions["on_compress"](name, label, DRAWN, 0, 3, 4, None))
    images, labels = decompress_with_labels(served[1].model, stream_of(text))
    assert torch.equal(images, served[1].model.sample(4, labels=given, seed=3))
    if label == "any":
        assert labels is None
    else:
        assert torch.equal(labels, served[1].model.classify(images).argmax(1) if given is None else given)


def test_photographs_in_their_own_size():
    import gradio as gr

    model = pixelcnn.PhotoPixelCNN(filters=4, blocks=1, mixtures=2)
    photo = Served(name="photo", model=model.eval(), card="", losses={})
    blocks = built([photo], Limits(coded=700))
    assert "made smaller if they have more than 700 pixels" in json.dumps(blocks.get_config_file())
    functions = handlers(blocks, "compress")

    def compress(*sizes):
        files = sent(*(file(Image.effect_noise(size, 30).convert("RGB")) for size in sizes))
        return asyncio.run(functions["on_compress"]("photo", "any", FILES, 0, 0, 1, files))

    text, stream = compress((30, 21), (30, 21))
    again = words(asyncio.run(functions["on_again"](stream)))
    assert "equal to the original: yes" in again
    assert "2 of 3 × 21 × 30" in again
    text, _ = compress((300, 100))
    assert "1 of 3 × 15 × 45" in words(asyncio.run(functions["on_decode"](sent(stream_of(text)))))
    with pytest.raises(gr.Error, match="must have one size"):
        compress((30, 21), (21, 30))
    with pytest.raises(ValueError, match=r"^the number of images of 210 x 210 pixels must be in 1\.\.1, got 2$"):
        compressed(photo, torch.zeros(2, 3, 210, 210, dtype=torch.uint8), None, LIMITS)
    larger = pixelcnn.compress(model.resized((40, 40)), torch.zeros(1, 3, 40, 40, dtype=torch.uint8))
    with pytest.raises(
        gr.Error, match="images have 1,600 pixels, and this page decodes at most 700: use pixelcnn decompress"
    ):
        asyncio.run(functions["on_decode"](sent(larger)))


def test_the_most_probable_class_of_a_picture_in_its_own_size():
    model = pixelcnn.GatedPixelCNN((3, 8, 8), levels=4, filters=6, layers=2, num_classes=3)
    colour = Served(name="colour", model=model, card="", losses={})
    functions = handlers(built([colour], LIMITS), "compress")
    files = sent(file(Image.effect_noise((12, 9), 30).convert("RGB")))
    text, _ = asyncio.run(functions["on_compress"]("colour", "the most probable", FILES, 0, 0, 1, files))
    resized = model.resized((9, 12))
    images, labels = decompress_with_labels(resized, stream_of(text))
    assert torch.equal(labels, resized.classify(images).argmax(1))


NO_PICTURE = sent(b"no picture")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist-seed", "3", DIGITS, 0, 0, 1, None), "the class must be one of any, got 3"),
        (
            ("mnist-seed", "any", "elsewhere", 0, 0, 1, None),
            "the source of images must be one of digits of MNIST, draws of the model",
        ),
        (
            ("mnist-seed", "any", DIGITS, None, 0, 1, None),
            "the number of the test image must be a whole number, got None",
        ),
        (
            ("mnist-seed", "any", DIGITS, 10_000, 0, 1, None),
            "the number of the test image must be in 0..9999, got 10000",
        ),
        (("mnist-seed", "any", DIGITS, 0, 0, 65, None), "the number of images must be in 1..64, got 65"),
        (("mnist-seed", "any", DIGITS, 0, 0, 0, None), "the number of images must be in 1..64, got 0"),
        (("mnist-seed", "any", DIGITS, 0, 0, 2.5, None), "the number of images must be a whole number, got 2.5"),
        (("mnist-seed", "any", DRAWN, 0, None, 1, None), "the seed must be a whole number, got None"),
        (("mnist-seed", "any", DRAWN, 0, -1, 1, None), "the seed must be in 0..9007199254740991, got -1"),
        (("mnist-seed", "any", FILES, 0, 0, 1, None), "choose a file first"),
        (("mnist-seed", "any", FILES, 0, 0, 1, "large:900000"), "files may have at most 688 kB in total"),
        (("mnist-seed", "any", FILES, 0, 0, 1, NO_PICTURE), "the file cannot be read as a picture"),
        (
            ("mnist-seed", "any", FILES, 0, 0, 1, f"{sent(file(Image.new('L', (9, 9))))} {NO_PICTURE}"),
            "picture 2 of 2: the file cannot be read as a picture",
        ),
        (
            ("mnist-seed", "any", FILES, 0, 0, 1, " ".join([NO_PICTURE] * 65)),
            "the number of images must be in 1..64, got 65",
        ),
    ],
)
def test_errors_are_messages(functions, arguments, message):
    import gradio as gr

    with pytest.raises(gr.Error, match=f"^{re.escape(repr(message)[:-1])}") as caught:
        asyncio.run(functions["on_compress"](*arguments))
    assert caught.value.print_exception is False


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("on_again", None, "compress images first"),
        ("on_again", "", "compress images first"),
        ("on_again", {"a": 1}, "compress images first"),
        (
            "on_again",
            "large",
            "the stream is too large to be sent back: download it, and use pixelcnn decompress",
        ),
        ("on_again", "0" * 64 + " A", "the stream is damaged: it is not in base64"),
        ("on_again", "0" * 64 + " AAAA", "this is no pixelcnn stream: it does not begin with PXCN"),
        ("on_decode", None, "choose a file first"),
        ("on_decode", "large:1000000", "files may have at most 688 kB in total"),
        ("on_decode", NO_PICTURE, "this is no pixelcnn stream: it does not begin with PXCN"),
    ],
)
def test_errors_of_decoding_are_messages(functions, name, argument, message):
    import gradio as gr

    with pytest.raises(gr.Error) as caught:
        asyncio.run(functions[name](argument))
    assert caught.value.message == message
    assert caught.value.print_exception is False


def test_a_model_that_cannot_be_prepared_is_a_message():
    member = pixelcnn.PixelCNN((1, 6, 6), filters=4, blocks=1)
    both = Served(name="both", model=OrderEnsemble([member, member], ["right-down", "left-up"]), card="", losses={})
    one = Served(name="one", model=member, card="", losses={})
    images = torch.zeros(2, 1, 6, 6, dtype=torch.uint8)
    with pytest.raises(ValueError, match="a model of class OrderEnsemble is a mixture"):
        compressed(both, images, None, LIMITS)
    data = compressed(one, images, None, LIMITS).data
    assert decompressed([both, one], data, LIMITS).served is one  # it is passed over


def test_the_controls_follow_the_model(functions, served):
    label, kind, *shown_parts = functions["on_model"](served[1].name, DIGITS, 40)
    assert [sent for _, sent in label["choices"]] == ["any", "the most probable", "0", "1", "2", "3", "4"]
    assert (kind["choices"], kind["value"]) == ([DRAWN, FILES], DRAWN)
    assert [part["visible"] for part in shown_parts] == ["hidden", True, True, "hidden"]
    label, kind, *shown_parts = functions["on_model"]("mnist-seed", FILES, 40)
    assert label["visible"] is False
    assert (len(kind["choices"]), kind["value"]) == (3, FILES)
    assert [part["visible"] for part in shown_parts] == ["hidden", "hidden", "hidden", True]
    assert (shown_parts[2]["maximum"], shown_parts[2]["value"]) == (64, 40)


def test_what_the_browser_keeps_is_small(served):
    """Even where every sub-pixel is the rarest, the largest stream of a page fits into a message."""
    worst = max_images(served[0], LIMITS) * served[0].model.subpixels * 3 + 128
    assert worst * 4 / 3 < LIMITS.body - 2**16
    found = compressed(served[0], torch.ones(1, 1, 28, 28, dtype=torch.uint8), None, LIMITS)
    assert re.fullmatch(r"[0-9a-f]{64} [A-Za-z0-9+/=]+", browser_copy(found, LIMITS))
    assert browser_copy(found, Limits(body=2**16 + len(found.data))) == "large"  # in base64 it is longer
