"""The tab Compress in a real browser: digits, draws and files into a stream, kept, and back."""

import io
import re

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")

import torch
from PIL import Image
from playwright.sync_api import expect

import pixelcnn
from pixelcnn.codec import decompress_with_labels
from pixelcnn.images import to_pil
from visiting import DESKTOP, PHONE, choose, fits, is_dark, reach

pytestmark = pytest.mark.browser

SIZES = [(DESKTOP, "light"), (PHONE, "dark")]


def opened(visit, *arguments, **options):
    page = visit(*arguments, **options)
    page.get_by_role("tab", name="Compress").click()
    expect(page.get_by_text("Choose images, and press Compress.")).to_be_visible()
    return page


def compress(page, message):
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page.locator(".px-status p", has_text=re.compile(message))).to_be_visible()


def downloaded(page, name):
    with page.expect_download() as download:
        page.get_by_role("link", name="Download stream").click()
    assert download.value.suggested_filename == name
    return download.value.path().read_bytes()


def picture(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"name": "own.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def stream(content):
    return {"name": "own.pxcn", "mimeType": "application/octet-stream", "buffer": content}


@pytest.mark.parametrize(("size", "scheme"), SIZES, ids=["desktop-light", "phone-dark"])
def test_digits_and_back(visit, size, scheme):
    page = opened(visit, size, scheme)
    assert is_dark(page) == (scheme == "dark")
    compress(page, r"^16 images in \d+ bytes, \d\.\d times smaller than raw, in \d+\.\d\d s$")
    expect(page.get_by_alt_text("16 images to compress")).to_be_visible()
    data = downloaded(page, "mnist-seed-16.pxcn")
    images = pixelcnn.datasets.mnist("test")[0][:16]
    assert torch.equal(pixelcnn.decompress(pixelcnn.load("mnist-seed"), data), images)
    table = page.get_by_role("region", name="bytes")
    row = table.get_by_role("row", name="this stream")
    assert row.get_by_role("cell").all_inner_texts()[0] == str(len(data))
    for name in (
        "model's likelihood",
        "JPEG XL, one mosaic",
        "JPEG XL, one file each",
        "PNG, one mosaic",
        "PNG, one file each",
    ):
        expect(table.get_by_role("rowheader", name=name)).to_be_visible()
    assert fits(page)
    page.get_by_role("button", name="Decode what was compressed").click()
    expect(page.get_by_text("equal to the original: yes")).to_be_visible()
    expect(page.get_by_alt_text("16 images decoded by mnist-seed")).to_be_visible()
    expect(page.get_by_role("cell", name="mnist-seed", exact=True)).to_have_css("text-align", "left")
    assert fits(page)

    page.get_by_label("First test image").fill("77")
    page.get_by_role("spinbutton", name="number input for How many").fill("1")
    compress(page, r"^1 image in \d+ bytes")
    expect(page.get_by_text(re.compile(r"^64 of the \d+ bytes are header and checksums"))).to_be_visible()
    one = downloaded(page, "mnist-seed-1.pxcn")
    assert torch.equal(pixelcnn.decompress(pixelcnn.load("mnist-seed"), one), pixelcnn.datasets.mnist("test")[0][77:78])
    expect(page.get_by_alt_text("16 images decoded by mnist-seed")).to_be_visible()  # until it is decoded as well
    page.get_by_role("button", name="Decode what was compressed").click()
    expect(page.get_by_alt_text("1 image decoded by mnist-seed")).to_be_visible()
    assert fits(page)


@pytest.mark.parametrize(("size", "scheme"), SIZES, ids=["desktop-light", "phone-dark"])
def test_files_and_streams_of_ones_own(visit, size, scheme):
    page = opened(visit, size, scheme)
    page.get_by_role("button", name="Decode what was compressed").click()
    expect(page.get_by_text("compress images first")).to_be_visible()
    expect(page.get_by_label("Pictures")).to_be_hidden()
    page.get_by_label("files", exact=True).check()
    expect(page.get_by_label("First test image")).to_be_hidden()
    images = pixelcnn.datasets.mnist("test")[0][[3, 5, 8]]
    page.get_by_label("Pictures").set_input_files([picture(to_pil(image, 2)) for image in images])
    compress(page, r"^3 images in \d+ bytes")
    data = downloaded(page, "mnist-seed-3.pxcn")
    assert torch.equal(pixelcnn.decompress(pixelcnn.load("mnist-seed"), data), images)
    assert fits(page)
    white = picture(Image.new("RGB", (64, 40), "white"))
    page.get_by_label("Pictures").set_input_files([white, {**white, "buffer": b"no picture"}])
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page.get_by_text("picture 2 of 2: the file cannot be read as a picture")).to_be_visible()
    page.get_by_label("Pictures").set_input_files([{**white, "buffer": bytes(400_000)}] * 2)
    page.get_by_role("button", name="Compress", exact=True).click()
    expect(page.get_by_text("files may have at most 688 kB in total")).to_be_visible()

    def decode(content, message):
        page.get_by_label("Stream").set_input_files(stream(content))
        page.get_by_role("button", name="Decode the file").click()
        expect(page.get_by_text(message)).to_be_visible()

    decode(data, re.compile(r"^3 images decoded in .* they match the digest in the stream$"))
    expect(page.get_by_alt_text("3 images decoded by mnist-seed")).to_be_visible()
    assert fits(page)
    decode(data[:70] + bytes([data[70] ^ 4]) + data[71:], "chunk 0 is damaged")
    decode(data[:-3], "the stream ends within chunk 0 of 1")
    decode(white["buffer"], "this is no pixelcnn stream: it does not begin with PXCN")
    foreign = pixelcnn.compress(pixelcnn.PixelCNN((1, 5, 5), filters=4, blocks=1), torch.zeros(1, 1, 5, 5).byte())
    decode(foreign, f"the stream is of a model that is not served here: it needs {foreign[6:22].hex()}")
    many = pixelcnn.compress(pixelcnn.load("mnist-seed"), images.repeat(30, 1, 1, 1))
    decode(many, "the stream has 90 images, and this page decodes at most 64: use pixelcnn decompress")


def test_draws_and_classes(visit):
    page = opened(visit, PHONE)
    choose(page, "Model", "classes")
    expect(page.get_by_label("digits of MNIST")).to_be_hidden()
    page.get_by_label("Seed", exact=True).locator("visible=true").fill("5")
    page.get_by_role("spinbutton", name="number input for How many").fill("4")
    choose(page, "Class", "the most probable")
    compress(page, r"^4 images in \d+ bytes")
    data = downloaded(page, "classes-4.pxcn")
    model = pixelcnn.GatedPixelCNN(
        (1, 12, 10), levels=4, filters=8, layers=3, num_classes=5, generator=torch.Generator().manual_seed(0)
    )  # as `conftest.made` makes it
    images, labels = decompress_with_labels(model, data)
    assert torch.equal(images, model.sample(4, seed=5))
    assert torch.equal(labels, model.classify(images).argmax(1))
    choose(page, "Model", "mnist-seed")  # which does not matter: the stream says whose it is
    page.get_by_role("button", name="Decode what was compressed").click()
    expect(page.get_by_alt_text("4 images decoded by classes")).to_be_visible()
    expect(page.get_by_role("cell", name=", ".join(map(str, labels.tolist())), exact=True)).to_be_visible()
    expect(page.get_by_text("equal to the original: yes")).to_be_visible()
    assert fits(page)


def test_by_keyboard_alone(visit):
    page = opened(visit)

    reach(page, "button", "Compress")
    reach(page, "radio", "draws of the model")
    page.keyboard.press(" ")
    reach(page, "spinbutton", "Seed")
    page.keyboard.press("Control+A")
    page.keyboard.type("9")
    reach(page, "slider", "range slider for How many")
    for _ in range(14):
        page.keyboard.press("ArrowLeft")
    reach(page, "button", "Compress", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"^2 images in \d+ bytes"))).to_be_visible()
    data = downloaded(page, "mnist-seed-2.pxcn")
    model = pixelcnn.load("mnist-seed")
    assert torch.equal(pixelcnn.decompress(model, data), model.sample(2, seed=9))
    reach(page, "button", "Decode what was compressed")
    page.keyboard.press(" ")
    expect(page.get_by_text("equal to the original: yes")).to_be_visible()
