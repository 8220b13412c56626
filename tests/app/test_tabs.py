"""What the tabs show, called without a browser: pictures to the pixel, tables and figures of every family."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import pixelcnn
from contents import pictures
from pixelcnn.app.drawing import Request, draw
from pixelcnn.app.figures import curve, field_figure, front_figure, mask_figures
from pixelcnn.app.parts import whole
from pixelcnn.app.served import Limits, Served, _losses_of_card, _losses_of_run
from pixelcnn.app.tabs.draw import snapshot_html
from pixelcnn.app.tabs.explain import model_html
from pixelcnn.models import OrderEnsemble
from pixelcnn.models.summary import receptive_field
from pixelcnn.sampling.wavefront import Wavefront

LIMITS = Limits()


def figures(text):
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def kinds(svg):
    """By the figure's classes, how many cells."""
    return {path.get("class").removeprefix("px-"): path.get("d").count("M") for path in svg.iter("path")}


def test_the_picture_shows_the_images(served):
    request = Request(images=5, seed=3, classes=tuple(range(5)))
    *_, last = draw(served[1], request, LIMITS)
    moving, still = pictures(snapshot_html(served[1], request, last, replay=True)[0])
    factor = 11  # 12 rows are magnified to at least 640 / 5 pixels
    shown = np.asarray(still.convert("L"))
    for k in range(5):
        x = 2 + k * (10 * factor + 2)
        cell = shown[2 : 2 + 12 * factor : factor, x : x + 10 * factor : factor]
        assert np.array_equal(cell, np.array([0, 85, 170, 255])[last.canvas[k, 0].numpy()])
    assert moving.n_frames > 5
    moving.seek(moving.n_frames - 1)
    assert np.array_equal(np.asarray(moving.convert("L")), shown)
    assert moving.info["loop"] == 1  # once, and it stays at its end
    (kept,) = pictures(snapshot_html(served[1], request, last)[1])
    assert np.array_equal(np.asarray(kept.convert("L")), shown)
    assert len(pictures(snapshot_html(served[1], request, last)[0])) == 1


def test_what_is_said_beside_the_picture(served):
    request = Request(images=1, seed=4)
    first, *_, last = draw(served[0], request, Limits(frames=10**9))
    growing = snapshot_html(served[0], request, first)[1]
    assert '<p role="status"><span aria-hidden="true">step 1 of 136</span></p>' in growing  # not read out at each step
    assert "download" not in growing
    said = snapshot_html(served[0], request, last)[1]
    assert re.search(
        r"<strong>1 image</strong> in <strong>\d+\.\d\d s</strong>, <strong>136</strong> exact steps instead of 784",
        said,
    )
    assert 'download="mnist-seed-4.png"' in said
    assert 'alt="1 image drawn by mnist-seed, seed 4"' in snapshot_html(served[0], request, last)[0]


def test_steps_are_compared_with_pixels():
    """As on the tab Explain, whatever the number of channels; an ensemble repeats its steps every few images."""
    colour = pixelcnn.PixelCNN((3, 12, 24), levels=4, filters=6, blocks=1)
    member = pixelcnn.GatedPixelCNN((1, 12, 24), filters=4, layers=2)
    ensemble = OrderEnsemble([member, member], ["right-down", "left-up"])
    for model, instead in ((colour, True), (ensemble, False)):
        each = Served(name="each", model=model, card="", losses={})
        *_, last = draw(each, Request(images=1), LIMITS)
        said = snapshot_html(each, Request(images=1), last)[1]
        assert (f"{last.steps}</strong> exact steps instead of 288" in said) == instead
        assert f"{last.steps} exact steps instead of 288" in model_html(each)


def test_names_cannot_bring_markup(served):
    evil = Served(name='"><script>alert(1)</script>', model=served[1].model, card="", losses={})
    request = Request(images=1)
    *_, last = draw(evil, request, LIMITS)
    text = "".join(snapshot_html(evil, request, last)) + model_html(evil)
    assert "<script" not in text


def test_the_shipped_model_explained(served):
    text = model_html(served[0])
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr.*?</tr>", text)]
    assert ["input", "7×7", "A", "1 → 128", "ReLU", "128×28×28", "6,400"] in cells
    assert ["blocks.4", "", "", "", "", "", "98,624"] in cells
    assert cells.count(["masked", "3×3", "B", "128 → 64", "ReLU", "64×28×28", "73,792"]) == 5
    assert cells[-1] == ["total, including masked weights", "", "", "", "", "", "532,673"]
    assert "136 exact steps instead of 784" in text
    field, front, first_mask, _, third_mask, losses = figures(text)
    assert kinds(field)["own"] == 1
    assert kinds(field)["seen"] == int(receptive_field(served[0].model).sum())
    assert sum(kinds(front).values()) == 784
    assert kinds(front)["own"] == 7  # 67 = 4 i + j: rows 10 to 16
    assert kinds(first_mask) == {"seen": 24, "own-unseen": 1, "unseen": 24}
    assert kinds(third_mask) == {"seen": 4, "own": 1, "unseen": 4}
    assert len(list(losses.iter("circle"))) == 2 * 13


def test_every_family_can_be_explained():
    gated = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=3, attention=1, num_classes=3)
    plus = pixelcnn.PixelCNNPlusPlus((3, 6, 5), levels=16, filters=8, blocks=1)
    colour = pixelcnn.PixelCNN((3, 6, 5), levels=4, filters=6, blocks=1)
    member = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2)
    ensemble = OrderEnsemble([member, pixelcnn.PixelCNN((1, 6, 6), filters=4)], ["right-down", "left-up"])
    for model in (gated, plus, colour, ensemble):
        text = model_html(Served(name="model", model=model, card="", losses={}))
        parameters = sum(p.numel() for p in model.parameters())
        assert f"{parameters:,} parameters" in text
        assert len(figures(text)) >= 3
        assert ("Attention" in text) == (model is gated)
        assert "no table of losses" in text
        (said, *_) = re.findall(r"depends on (\d+) pixels", text)
        assert int(said) == kinds(figures(text)[0])["seen"]  # the pixel itself is not one of them
    assert text.count("of network 1") == 4  # what it sees, how it is drawn, its masks and its layers
    part = [kinds(figures(figure)[0]) for _, figure in mask_figures(colour)]
    assert part
    assert all(found.get("part") for found in part)  # of the own pixel, some channels


def test_a_coarse_view_is_explained():
    model = pixelcnn.GatedPixelCNN((1, 8, 8), filters=4, layers=2, context=(4, 2))
    text = model_html(Served(name="model", model=model, card="", losses={}))
    assert "It also sees rows further above, coarsely, at 1/4 and 1/2 of the resolution." in text
    assert "coarsely or not seen" in text


def test_a_window_above_shows_where_the_pixel_is():
    model = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2)
    found = {caption: kinds(figures(figure)[0]) for caption, figure in mask_figures(model)}
    assert found["3×7, mask A: 1 layer"] == {"seen": 21, "own-unseen": 1}


def test_a_large_image_shows_its_corner():
    front = figures(front_figure(Wavefront(height=200, width=100, slope=4)))[0]
    assert sum(kinds(front).values()) == 32 * 32
    model = pixelcnn.PixelCNN((1, 40, 8), filters=4, blocks=1)
    assert "the upper left corner of 32 × 8 pixels" in model_html(Served(name="model", model=model, card="", losses={}))
    assert kinds(figures(front_figure(Wavefront(height=1, width=1, slope=0)))[0]) == {"own": 1}
    assert kinds(figures(field_figure(pixelcnn.PixelCNN((1, 1, 1), filters=4, blocks=1)))[0])["own"] == 1


@pytest.mark.parametrize(
    "losses",
    [
        {"training": [(1, 0.5)]},
        {"training": [(1, 0.5), (2, 0.5)]},
        {"training": [(k, 5.0 / k) for k in range(1, 51)], "validation": [(k, -0.02 * k) for k in range(1, 51)]},
        {"training": [(1, 2000.0), (2, 30.0)]},
        {"training": [(1, 0.0650)], "validation": [(1, 0.0659)]},
    ],
    ids=["one epoch", "no change", "many", "large", "close"],
)
def test_curves_stay_inside_their_frame(losses):
    svg = figures(curve(losses))[0]
    lines = [path.get("d") for group in svg.iter("g") for path in group.iter("path")]
    assert len(lines) == len(losses)
    for line in lines:
        for point in line[1:].split("L"):
            x, y = map(float, point.split())
            assert 30 <= x <= 360
            assert 9 <= y <= 190
    numbers = [text for text in svg.iter("text") if text.get("text-anchor") == "end"]
    assert len(numbers) >= 2
    assert all(float(number.get("x")) >= 7.7 * len(number.text) for number in numbers)  # as wide as DejaVu Sans is


def test_losses_that_are_not_finite_are_left_out(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"epoch": 1, "train_loss": NaN, "validation_loss": 0.3}\n')
    assert (losses := _losses_of_run(metrics)) == {"validation": [(1, 0.3)]}
    assert "<circle" in curve(losses)
    head = "| epoch | step | training | validation |\n|---|---|---|---|\n"
    assert _losses_of_card(f"{head}| 1 | 10 | nan | 0.3 |\n| 2 | 20 | 1e999 | inf |\n") == losses


def test_numbers_of_any_size_are_refused():
    with pytest.raises(ValueError, match=r"the number of images must be in 1\.\.4, got 1000"):
        whole("number of images", 10**400, 1, 4)


def test_seeds_make_file_names(served):
    odd = Served(name="../runs/my model", model=served[1].model, card="", losses={})
    request = Request(images=1, seed=7)
    *_, last = draw(odd, request, LIMITS)
    assert 'download="runs-my-model-7.png"' in snapshot_html(odd, request, last)[1]
