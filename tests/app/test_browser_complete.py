"""The tab Complete in a real browser: by mouse, by finger's width, by keyboard, and with pictures of one's own."""

import base64
import io
import re

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")

from PIL import Image
from playwright.sync_api import expect

from visiting import DESKTOP, PHONE, choose, fits, is_dark

pytestmark = pytest.mark.browser

DONE = re.compile(r"8 completions in \d+\.\d\d s, effective sample size \d+\.\d of 120 particles; log p\(known\) -\d+")
WHITE, BLACK = [255, 255, 255, 255], [0, 0, 0, 255]


def opened(visit, *arguments, **options):
    page = visit(*arguments, **options)
    page.get_by_role("tab", name="Complete").click()
    expect(page.locator(".px-editor canvas")).to_be_visible()
    return page


def fill(page, name):
    page.get_by_role("group", name="What is hidden").get_by_role("button", name=name, exact=True).click()


def pixel(page, x, y):
    """The colour that the editor shows for a pixel of an image of 28 x 28."""
    return page.locator(".px-editor canvas").evaluate(
        """(canvas, [x, y]) => Array.from(canvas.getContext("2d").getImageData(
            (x + 0.5) * canvas.width / 28, (y + 0.5) * canvas.height / 28, 1, 1).data)""",
        [x, y],
    )


def stroke(page, start, end):
    """Draws a line from pixel to pixel."""
    canvas = page.locator(".px-editor canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()

    def at(x, y):
        return box["x"] + (x + 0.5) * box["width"] / 28, box["y"] + (y + 0.5) * box["height"] / 28

    page.mouse.move(*at(*start))
    page.mouse.down()
    page.mouse.move(*at(*end), steps=4)
    page.mouse.up()


def complete(page, seed, message=DONE, model="mnist-seed"):
    """Completes with a seed that nothing on the page has yet."""
    page.get_by_label("Seed", exact=True).locator("visible=true").fill(str(seed))
    page.get_by_role("button", name="Complete", exact=True).click()
    expect(page.get_by_role("group", name=f"8 completions by {model}, seed {seed}", exact=True)).to_be_visible()
    expect(page.get_by_text(message).locator("visible=true")).to_be_visible()


def known(page):
    """The picture of what was known, as it was sent."""
    source = page.get_by_alt_text("known", exact=True).get_attribute("src")
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"])
def test_by_clicks(visit, size, scheme):
    page = opened(visit, size, scheme)
    assert is_dark(page) == (scheme == "dark")
    page.get_by_role("button", name="Complete", exact=True).click()
    expect(page.get_by_role("group", name="8 completions by mnist-seed, seed 0", exact=True)).to_be_visible()
    expect(page.get_by_text(DONE)).to_be_visible()
    expect(page.get_by_alt_text(re.compile(r"draw \d"))).to_have_count(8)
    assert fits(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download PNG").click()
    assert download.value.suggested_filename == "mnist-seed-completed-0.png"

    fill(page, "nothing")
    page.get_by_role("button", name="Complete", exact=True).click()
    expect(page.get_by_text("nothing is hidden: paint over the part that is to be completed")).to_be_visible()
    stroke(page, (5, 20), (22, 20))
    assert pixel(page, 2, 20) == BLACK
    assert pixel(page, 14, 20) not in (BLACK, WHITE)
    complete(page, 3)
    painted = known(page)
    hidden = [(x, y) for y in range(28) for x in range(28) if painted.getpixel((x, y)) == (214, 120, 60)]
    assert {y for _, y in hidden} == {19, 20, 21}
    assert {x for x, y in hidden if y == 20} == set(range(4, 24))
    fill(page, "what is known")
    complete(page, 4, re.compile(r"8 completions in \d+\.\d\d s, effective sample size"))
    swapped = known(page)
    assert [at for at in hidden if swapped.getpixel(at) == (214, 120, 60)] == []
    assert swapped.getpixel((2, 20)) == (214, 120, 60)

    fill(page, "the bottom half")
    canvas = page.locator(".px-editor canvas")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("button", name="Another digit").click()
    page.wait_for_function("before => document.querySelector('.px-editor canvas').toDataURL() !== before", arg=before)
    complete(page, 5, re.compile(r"8 completions in \d+\.\d\d s, exact and independent"))  # the same pixels are hidden
    choose(page, "Model", "classes")
    expect(page.get_by_role("button", name="Another digit")).to_be_hidden()
    choose(page, "Class", "3")
    fill(page, "all")
    complete(page, 6, re.compile(r"8 completions in \d+\.\d\d s, exact"), model="classes")
    assert fits(page)


def test_what_is_painted_is_known(visit):
    page = opened(visit)
    page.get_by_role("button", name="Start blank").click()
    stroke(page, (9, 6), (18, 6))
    page.get_by_role("button", name="Black", exact=True).click()
    stroke(page, (14, 24), (14, 24))
    assert pixel(page, 14, 6) == WHITE
    assert pixel(page, 14, 24) == BLACK
    complete(page, 7)
    shown = known(page)
    assert [shown.getpixel(at) for at in ((14, 6), (14, 24), (14, 15))] == [(255,) * 3, (0,) * 3, (214, 120, 60)]
    page.get_by_role("button", name="Reveal", exact=True).click()
    stroke(page, (3, 15), (24, 15))
    assert pixel(page, 14, 15) == BLACK


def test_by_keyboard(visit):
    page = opened(visit)
    fill(page, "nothing")
    page.locator(".px-editor input[type=range]").fill("1")
    page.locator(".px-editor canvas").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    page.keyboard.press("Tab")
    complete(page, 7)
    shown = known(page)
    assert [shown.getpixel(at) == (214, 120, 60) for at in ((14, 13), (13, 13), (15, 13), (14, 14))] == [
        True,
        True,
        False,
        False,
    ]


def picture(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return {"name": "own.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def test_pictures_of_ones_own(visit):
    page = opened(visit)
    field = page.get_by_label("Your picture")
    field.set_input_files(picture(Image.new("RGB", (64, 40), "white")))
    page.wait_for_function(
        "document.querySelector('.px-editor canvas').getContext('2d').getImageData(8, 8, 1, 1).data[0] === 255"
    )
    assert pixel(page, 20, 25) == WHITE
    field.set_input_files({"name": "own.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_text("the file cannot be read as a picture")).to_be_visible()
    field.set_input_files({"name": "own.png", "mimeType": "image/png", "buffer": b"0" * 2**20})
    expect(page.get_by_text("The file may have at most 782336 bytes; it has 1048576.")).to_be_visible()
    field.set_input_files({"name": "own.png", "mimeType": "image/png", "buffer": b"0" * 782_336})
    expect(page.get_by_text("the file cannot be read as a picture").last).to_be_visible()
    assert pixel(page, 20, 25) == WHITE
