"""The page in a real browser, by clicks and by keyboard (`make test-browser`).

Chromium is the system's: `chromium` on the PATH.
"""

import re

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")

import numpy as np
from PIL import Image
from playwright.sync_api import expect

import pixelcnn
from visiting import DESKTOP, PHONE, choose, fits, is_dark, reach

pytestmark = pytest.mark.browser

DRAWN = re.compile(r"\d+ images? in \d+\.\d\d s, \d+ exact steps")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_tab_by_clicks(visit, tmp_path, size, scheme):
    page = visit(size, scheme)
    assert is_dark(page) == (scheme == "dark")
    expect(page.get_by_alt_text("16 images drawn by mnist-seed, seed 0")).to_be_visible()  # drawn before anybody came
    page.get_by_label("Seed", exact=True).fill("21")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_alt_text("16 images drawn by mnist-seed, seed 21", exact=True)).to_be_visible()
    expect(page.get_by_text(DRAWN)).to_have_text(re.compile(r"16 images in .* s, 136 exact steps instead of 784"))
    assert fits(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download PNG").click()
    assert download.value.suggested_filename == "mnist-seed-21.png"
    download.value.save_as(tmp_path / "kept.png")
    images = pixelcnn.load("mnist-seed").sample(16, seed=21)
    with Image.open(tmp_path / "kept.png") as kept:
        factor = (kept.size[0] - 10) // (4 * 28)
        shown = np.asarray(kept.convert("L"))
    assert np.array_equal(shown[2 : 2 + 28 * factor : factor, 2 : 2 + 28 * factor : factor] // 255, images[0, 0])

    expect(page.get_by_label("Class", exact=True)).to_be_hidden()
    choose(page, "Model", "classes")
    choose(page, "Class", "all, in columns")
    expect(page.get_by_text("above 1 exaggerates the class")).to_be_visible()
    page.get_by_role("spinbutton", name="number input for Images").fill("10")
    page.get_by_role("spinbutton", name="number input for Guidance").fill("3")
    page.get_by_role("button", name="New seed").click()
    expect(page.get_by_alt_text(re.compile(r"10 images drawn by classes, seed \d+$"))).to_be_visible()
    assert page.locator(".px-heads span").all_inner_texts() == ["0", "1", "2", "3", "4"]
    seed = page.get_by_label("Seed", exact=True).input_value()
    expect(page.get_by_alt_text(f"10 images drawn by classes, seed {seed}")).to_be_visible()
    assert fits(page)

    page.get_by_role("tab", name="Explain").click()
    for heading in ("What a pixel sees", "How it is drawn", "Masks", "How it was trained", "Layers", "Card"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(page.get_by_role("img", name="loss by epoch")).to_be_visible()
    expect(page.get_by_role("cell", name="532,673")).to_be_visible()
    expect(page.get_by_role("heading", name="On the official test set")).to_be_visible()
    assert fits(page)
    choose(page, "Model", "classes")
    expect(page.get_by_text("5 classes")).to_be_visible()
    expect(page.get_by_text("no table of losses")).to_be_visible()
    assert fits(page)


def test_by_keyboard_alone(visit):
    page = visit(PHONE)

    reach(page, "slider", "range slider for Images")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    reach(page, "button", "Draw", "Shift+Tab")
    page.keyboard.press("Enter")
    # Until this drawing is finished: a later one would share the picture with it.
    expect(page.get_by_alt_text("12 images drawn by mnist-seed, seed 0", exact=True)).to_be_visible()
    expect(page.get_by_text(DRAWN)).to_be_visible()
    reach(page, "spinbutton", "Seed")
    page.keyboard.press("Control+A")
    page.keyboard.type("77")
    page.keyboard.press("Enter")
    expect(page.get_by_alt_text("12 images drawn by mnist-seed, seed 77", exact=True)).to_be_visible()
    reach(page, "tab", "Explain", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What a pixel sees")).to_be_visible()


def test_errors_are_shown(visit):
    page = visit()
    page.get_by_label("Seed", exact=True).fill("")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_text("the seed must be a whole number, got None")).to_be_visible()


def test_a_drawing_can_be_stopped(visit):
    page = visit()
    choose(page, "Model", "slow")
    page.get_by_role("spinbutton", name="number input for Images").fill("64")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_text(re.compile(r"step \d+ of \d+"))).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    page.wait_for_timeout(3000)
    expect(page.get_by_text("Stopped.")).to_be_visible()
    choose(page, "Model", "mnist-seed")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_text(DRAWN)).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Stop").click()  # there is nothing to stop
    page.wait_for_timeout(1000)
    expect(page.get_by_text(DRAWN)).to_be_visible()
    expect(page.get_by_role("link", name="Download PNG")).to_be_visible()


def test_waiting_is_shown(visit):
    page, held = visit(), []
    page.route("**/queue/join**", lambda route: held.append(route))  # noqa: PLW0108 - it takes no built-in function
    page.get_by_role("button", name="Draw", exact=True).click()
    waiting = page.locator("[data-testid=status-tracker] .progress-text").locator("visible=true")
    expect(waiting).to_have_text(re.compile(r"\d\.\ds"))
    assert waiting.evaluate("text => getComputedStyle(text.parentElement).overflow") == "visible"
    held[0].continue_()
    expect(waiting).to_have_count(0)
    expect(page.get_by_text(DRAWN)).to_be_visible()


@pytest.mark.parametrize("tab", ["Complete", "Score", "Compress"])
def test_results_are_read_out(visit, tab):
    """Screen readers announce what changes in an element of role status, not an element that is new."""
    page = visit()
    page.get_by_role("tab", name=tab).click()
    status = page.locator(".px-status p").locator("visible=true")
    buttons = [tab, *(["Decode what was compressed"] if tab == "Compress" else [])]
    for k, name in enumerate(buttons):
        before = status.nth(k).inner_text()
        status.nth(k).evaluate("element => { element.was = true }")
        page.get_by_role("button", name=name, exact=True).click()
        expect(status.nth(k)).not_to_have_text(before)
        assert status.nth(k).evaluate("element => element.was && element.role === 'status'")


def test_motion_is_left_out_where_it_is_unwelcome(visit):
    still = visit(reduced_motion="reduce").locator(".px-picture img")
    moving = visit(reduced_motion="no-preference").locator(".px-picture img")
    shown = [image.evaluate("image => image.currentSrc === image.src") for image in (still, moving)]
    assert shown == [True, False]
