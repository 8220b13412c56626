"""What the browser tests do with the page."""

import re

DESKTOP, PHONE = (1280, 900), (390, 844)


def choose(page, label, option):
    """Chooses from a list on the tab that is open."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option, exact=True).locator("visible=true").click()


def fits(page):
    """Whether nothing reaches beyond the page's width."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def is_dark(page):
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) < 200


def reach(page, role, name, key="Tab"):
    """Presses a key until the element that has the focus is the one that is meant."""
    target = page.get_by_role(role, name=name, exact=True).locator("visible=true")
    for _ in range(40):
        page.keyboard.press(key)
        if target.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"{name} cannot be reached by {key}")
