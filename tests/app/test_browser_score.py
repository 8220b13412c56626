"""The tab Score in a real browser: a digit, a file, a drawing by mouse."""

import re

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")

from PIL import Image
from playwright.sync_api import expect

from visiting import DESKTOP, PHONE, choose, fits

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_a_digit_and_a_drawing(visit, size, scheme):
    page = visit(size, scheme)
    page.get_by_role("tab", name="Score").click()
    go = page.get_by_role("button", name="Score", exact=True)
    bits = page.locator(".px-status p", has_text=re.compile(r"^[\d.]+ bits"))
    go.click()
    expect(bits).to_have_text(re.compile(r"^[\d.]+ bits, more than \d+% of 256 MNIST test images$"))
    expect(page.get_by_alt_text("the image as mnist-seed sees it, and its map of surprise")).to_be_visible()
    assert fits(page)
    before = bits.inner_text()
    page.get_by_role("button", name="Another digit").click()
    expect(bits).not_to_have_text(before)

    page.get_by_label("drawn by hand").check()
    go.click()
    expect(page.get_by_text("draw an image first")).to_be_visible()
    canvas = page.get_by_role("img", name="drawing area")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    before = bits.inner_text()
    page.mouse.move(box["x"] + 140, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 220, steps=8)
    page.mouse.up()
    white = "c => c.getContext('2d').getImageData(140, 140, 1, 1).data[0]"
    assert canvas.evaluate(white) == 255
    go.click()
    expect(bits).not_to_have_text(before)
    assert canvas.evaluate(white) == 255  # it stays to be drawn on
    assert float(bits.inner_text().split()[0]) < 120  # a stroke is simple
    assert fits(page)
    page.get_by_role("button", name="Clear").click()
    assert canvas.evaluate(white) == 0


def test_a_file_and_classes(visit, tmp_path):
    page = visit(PHONE)
    page.get_by_role("tab", name="Score").click()
    go = page.get_by_role("button", name="Score", exact=True)
    bits = page.locator(".px-status p", has_text=re.compile(r"^[\d.]+ bits"))
    page.get_by_label("a file").check()
    Image.effect_noise((50, 40), 120).save(tmp_path / "noise.png")
    chooser = page.get_by_label("Picture")
    chooser.set_input_files(tmp_path / "noise.png")
    go.click()
    expect(bits).to_contain_text("more than 100% of")
    assert fits(page)
    (tmp_path / "none.png").write_bytes(b"no picture")
    chooser.set_input_files(tmp_path / "none.png")
    go.click()
    expect(page.get_by_text("the file cannot be read as a picture")).to_be_visible()
    (tmp_path / "large.png").write_bytes(bytes(2_000_000))
    chooser.set_input_files(tmp_path / "large.png")
    go.click()
    expect(page.get_by_text("files may have at most 688 kB in total")).to_be_visible()

    choose(page, "Model", "classes")
    expect(page.get_by_label("a digit of MNIST")).to_be_hidden()
    chooser.set_input_files(tmp_path / "noise.png")
    go.click()
    heading = page.get_by_role("heading", name="Class, by Bayes' rule")
    expect(heading).to_be_visible()
    assert heading.evaluate("heading => getComputedStyle(heading).marginTop") == "20px"
    assert page.locator(".px-classes th").first.evaluate("cell => getComputedStyle(cell).borderBottomWidth") == "0px"
    choose(page, "Class", "2")
    go.click()
    expect(bits).to_have_text(re.compile(r"^[\d.]+ bits, given class 2$"))
    assert fits(page)
