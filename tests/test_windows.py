"""Windows of large images: what matters to unknown pixels, all of it, and the same distribution as the whole image."""

import itertools
import time

import pytest
import torch

import pixelcnn
from pixelcnn import windows
from pixelcnn.exact import prepare

MODELS = {
    "pixelcnn": (pixelcnn.PixelCNN, {"filters": 4, "blocks": 1}),
    "gated": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "first_kernel": 5, "num_classes": 2}),
    "plusplus": (pixelcnn.PixelCNNPlusPlus, {"filters": 4, "blocks": 1, "mixtures": 2}),
    "photo": (
        pixelcnn.PhotoPixelCNN,
        {"filters": 4, "blocks": 1, "mixtures": 2, "first_kernel": 3, "linear_kernel": 3},
    ),
}


def made(name, shape=(1, 30, 40), levels=2):
    family, options = MODELS[name]
    generator = torch.Generator().manual_seed(0)
    model = family(shape, levels=levels, **options, generator=generator).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


@pytest.fixture
def _always(monkeypatch):
    monkeypatch.setattr(windows, "_LARGE", 0)
    monkeypatch.setattr(windows, "_WORTH", 1.0)


@pytest.mark.parametrize("where", [(14, 20), (0, 0), (29, 39), (3, 38)])
@pytest.mark.parametrize("name", MODELS)
def test_it_has_all_that_matters(name, where):
    model = made(name, levels=3)
    unknown = torch.zeros(30, 40, dtype=torch.bool)
    unknown[where] = unknown[where[0], max(0, where[1] - 2)] = True
    window = windows.window_of(model, unknown)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(3, (2, 1, 30, 40), dtype=torch.uint8, generator=generator)
    filled = torch.where(unknown, images[1:], images[:1])
    before, after = model.log_prob_map(torch.cat([images[:1], filled]))
    changed = (before != after)[0]
    touched = torch.zeros(30, 40, dtype=torch.bool)
    touched[window.touched_rows, window.touched_columns] = True
    assert not (changed & ~touched).any()
    part = images[:1, :, window.rows, window.columns]
    alone = torch.full((30, 40), torch.nan, dtype=torch.float64)
    alone[window.rows, window.columns] = model.resized(part.shape[2:]).log_prob_map(part)[0, 0]
    assert torch.allclose(alone[touched], before[0][touched], atol=1e-12)


@pytest.mark.usefixtures("_always")
@pytest.mark.parametrize("exact", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MODELS)
def test_the_distribution_is_that_of_the_whole_image(name, exact):
    model = made(name, (1, 9, 11))
    images = model.sample(2, seed=1)
    known = torch.ones(2, 1, 9, 11, dtype=torch.bool)
    known[0, 0, 3, 4] = known[0, 0, 4, 6] = known[1, 0, 7, 0] = known[1, 0, 6, 2] = False
    labels = torch.tensor([1, 0]) if model.num_classes else None
    model = prepare(model) if exact else model
    found = model.complete(images, known, n=2000, particles=4000, labels=labels, seed=5)
    assert found.images.shape == (2, 2000, 1, 9, 11)
    for k in range(2):
        fills = torch.stack([images[k]] * 4)
        for fill, levels in zip(fills, itertools.product((0, 1), repeat=2), strict=True):
            fill[~known[k]] = torch.tensor(levels, dtype=torch.uint8)
        with torch.no_grad():
            log_probs = model.log_prob(fills, None if labels is None else labels[k].expand(4))
        counts = torch.stack([(found.images[k] == fill).flatten(1).all(1).sum() for fill in fills])
        assert counts.sum() == 2000
        assert torch.allclose(counts / 2000, log_probs.softmax(0).to(counts.device, torch.float), atol=0.06)
        assert found.log_evidence[k].item() == pytest.approx(log_probs.logsumexp(0).item(), abs=0.1)


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_a_large_image_takes_no_longer_than_its_window():
    model = made("photo", (3, 400, 500), levels=256).float()
    image = torch.randint(256, (1, 3, 400, 500), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    known = torch.ones(400, 500, dtype=torch.bool)
    known[200:203, 250:254] = False
    seen = []
    walked = pixelcnn.PhotoPixelCNN.resized
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixelcnn.PhotoPixelCNN, "resized", lambda m, size: seen.append(tuple(size)) or walked(m, size))
        found = model.complete(image, known, n=2, particles=64, seed=0)
    assert torch.equal(found.images[0, 0][:, known], image[0][:, known])
    height, width = seen[-1]
    assert height < 30
    assert width < 40


def test_networks_that_see_everything_have_no_window():
    unknown = torch.zeros(30, 40, dtype=torch.bool)
    unknown[3, 3] = True
    for options in ({"context": (2,), "context_places": False}, {"places": True}, {"attention": 1}):
        model = pixelcnn.GatedPixelCNN((1, 30, 40), filters=4, layers=2, **options)
        assert windows.window_of(model, unknown) is None


@pytest.mark.usefixtures("_always")
def test_the_time_limit_is_of_all_images(monkeypatch):
    """By a clock that goes on by a second each time that it is looked at, once per step: it ends during the third."""
    model, ticks = made("pixelcnn", (1, 9, 11)), itertools.count(time.monotonic())
    monkeypatch.setattr("pixelcnn.completion.time.monotonic", lambda: next(ticks))
    known = torch.ones(9, 11, dtype=torch.bool)
    known[4, 5] = False
    images = torch.zeros(3, 1, 9, 11, dtype=torch.uint8)
    options = {"particles": 8, "seed": 0, "engine": "eager"}
    began = next(ticks)
    model.complete(images[:1], known, **options)
    taken = next(ticks) - began
    with pytest.raises(ValueError, match="given up after"):
        model.complete(images, known, **options, seconds=3 * taken)


@pytest.mark.usefixtures("_always")
def test_messages_name_the_image():
    model = made("pixelcnn", (1, 9, 11))
    known = torch.ones(2, 1, 9, 11, dtype=torch.bool)
    known[0, 0, 8, 10] = False  # the last, so that the draws are exact
    known[1, 0, :6, :9] = False
    images = torch.zeros(2, 1, 9, 11, dtype=torch.uint8)
    with pytest.warns(UserWarning, match=r"fell below 4 for 1 of 1 images \(the first: 1\)"):
        model.complete(images, known, particles=4, seed=0)
    with pytest.raises(ValueError, match="images must be at least one, got 0"):
        model.complete(images[:0], known[:0], seed=0)
