"""Models that the page's tests share, and the page in a real browser."""

import shutil
import signal

import pytest
import torch

import pixelcnn
from pixelcnn.app import load_models
from running import running
from visiting import DESKTOP


def made(folder):
    """A small conditional model, untrained, of 4 levels and 5 classes, as a folder named `classes`."""
    model = pixelcnn.GatedPixelCNN(
        (1, 12, 10), levels=4, filters=8, layers=3, num_classes=5, generator=torch.Generator().manual_seed(0)
    )
    model.save_pretrained(folder / "classes")
    return str(folder / "classes")


def made_slow(folder):
    """A model that draws 64 images in some seconds, as a folder named `slow`."""
    model = pixelcnn.GatedPixelCNN(
        (1, 48, 48), levels=4, filters=16, layers=4, attention=1, generator=torch.Generator().manual_seed(0)
    )
    model.save_pretrained(folder / "slow")


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The shipped model and the conditional one, loaded."""
    return load_models(["mnist-seed", made(tmp_path_factory.mktemp("models"))], torch.device("cpu"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    made(folder)
    made_slow(folder)
    with running("mnist-seed", "classes", "slow", cwd=folder) as server:
        yield server
        assert server.stop(signal.SIGTERM) == (0, "")


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("chromium is not on the PATH: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        sync_api.expect.set_options(timeout=20_000)  # machines may be slow, or busy
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(server, chromium):
    """Opens the page; at the end nothing may have failed, gone elsewhere or been complained about."""
    contexts, complaints = [], []

    def complain(*words):
        complaints.append(" ".join(map(str, words)))

    def failed(request):
        if not (request.failure == "net::ERR_ABORTED" and "/queue/data" in request.url):  # a stream that was closed
            complain("failed", request.url, request.failure)

    def requested(request):
        if not request.url.startswith((server.address, "data:", "blob:")):
            complain("elsewhere", request.url)

    def open_page(size=DESKTOP, scheme="light", **options):
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, accept_downloads=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda said: complain(said.type, said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complain("uncaught", error))
        page.on("requestfailed", failed)
        page.on("request", requested)
        page.on("response", lambda got: complain(got.status, got.url) if got.status >= 400 else None)
        page.goto(server.address)
        page.get_by_role("button", name="Draw", exact=True).wait_for()
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
