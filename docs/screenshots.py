"""The documentation's pictures of the page: `python docs/screenshots.py` writes docs/images/app-*.png.

The page is served with the model `mnist` and visited in Chromium, `chromium` on the PATH, as its tests do (`pip install
-e '.[dev]'`). A minute.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent / "images"
DESKTOP, PHONE = (1280, 900), (390, 844)


def choose(page: Any, label: str, option: str) -> None:
    """Chooses from a list on the tab that is open."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option, exact=True).locator("visible=true").click()


def draw(page: Any) -> None:
    """Digits of every class, with guidance."""
    choose(page, "Class", "all, in columns")
    page.get_by_role("spinbutton", name="number input for Images").fill("50")
    page.get_by_role("spinbutton", name="number input for Guidance").fill("1.5")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("50 images in").wait_for()


def press(page: Any, tab: str, awaited: str) -> None:
    """Opens a tab and presses its button, of the same name: what it does with the test image that it begins with."""
    page.get_by_role("tab", name=tab).click()
    page.get_by_role("button", name=tab, exact=True).click()
    page.get_by_text(awaited).first.wait_for()


def complete(page: Any) -> None:
    """The hidden middle of a four."""
    press(page, "Complete", "effective sample size")


def compress(page: Any) -> None:
    """Some test images."""
    press(page, "Compress", "per value")


def score(page: Any) -> None:
    """A test image."""
    press(page, "Score", "complexity score")


def explain(page: Any) -> None:
    """The model."""
    page.get_by_role("tab", name="Explain").click()
    page.get_by_role("heading", name="What a pixel sees", exact=True).wait_for()


PICTURES = [
    (draw, DESKTOP, "light"), (draw, PHONE, "dark"), (complete, DESKTOP, "light"), (compress, DESKTOP, "light"),
    (score, DESKTOP, "light"), (explain, DESKTOP, "light"),
]  # fmt: skip


def main() -> None:
    """Takes them all."""
    command = [sys.executable, "-m", "pixelcnn", "serve", "mnist", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for take, size, scheme in PICTURES:
                view: Any = {"width": size[0], "height": size[1]}
                page = browser.new_page(viewport=view, color_scheme=scheme)  # type: ignore[arg-type]
                page.goto(found[0])
                take(page)
                page.wait_for_timeout(6000)  # until the images have grown again
                page.evaluate("window.scrollTo(0, 0)")
                kind = "desktop" if size == DESKTOP else "phone"
                page.screenshot(path=FOLDER / f"app-{take.__name__}-{kind}-{scheme}.png", full_page=take is draw)
            browser.close()
    finally:
        server.kill()


if __name__ == "__main__":
    main()
