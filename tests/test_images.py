"""Images shown as one picture."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.images import completion_panel, exact_picture, grid, save_gif, save_png, surprise_of, to_pil
from pixelcnn.scoring import score


def test_images_are_shown_as_a_grid():
    images = torch.arange(2 * 3 * 12, dtype=torch.uint8).view(6, 1, 3, 4) % 5
    shown = np.asarray(pixelcnn.show(images))
    assert np.array_equal(shown, np.asarray(grid(images, 5)))
    assert np.array_equal(shown, np.asarray(pixelcnn.show(images.numpy().astype(np.int64), 5)))
    assert shown.max() == 255
    assert np.asarray(pixelcnn.show(images, levels=9)).max() < 255
    by_image = pixelcnn.show(images.view(2, 3, 1, 3, 4))
    assert by_image.size == pixelcnn.show(images, columns=3).size
    assert by_image.size[0] > by_image.size[1]
    assert pixelcnn.show(images[0]).size == (60, 46)
    assert pixelcnn.show(images[:3].view(1, 3, 3, 4)).mode == "RGB"


def test_images_of_wide_types_are_shown():
    images = np.arange(12).reshape(1, 3, 4) * 30
    assert np.array_equal(pixelcnn.show(images.astype(np.uint16)), pixelcnn.show(images))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"columns": -1}, "columns.*-1"), ({"columns": 0}, "columns.*0"), ({"side": 0.5}, "side.*0.5")],
)
def test_wrong_grids(options, named):
    with pytest.raises(ValueError, match=named):
        pixelcnn.show(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), **options)


def test_what_is_no_image_is_not_shown():
    for images, named in (
        (torch.zeros(3, 4), r"images .*\(3, 4\)"),
        (torch.zeros(0, 1, 3, 4, dtype=torch.uint8), r"images .*\(0, 1, 3, 4\)"),
        (torch.rand(1, 3, 4), "images .*float32"),
        (-torch.ones(1, 3, 4, dtype=torch.int32), "images .*-1"),
    ):
        with pytest.raises(ValueError, match=named):
            pixelcnn.show(images)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: to_pil(torch.zeros(3, 4), 2), r"image .*\(3, 4\)"),
        (lambda: to_pil(torch.rand(1, 3, 4), 2), "image .*float32"),
        (lambda: to_pil(torch.full((1, 3, 4), 300), 256), r"image .* 0\.\.255, got 300"),
        (lambda: to_pil(torch.full((1, 3, 4), 2), 2), r"image .* 0\.\.1, got 2"),
        (
            lambda: exact_picture(torch.zeros(2, 3, 4, dtype=torch.uint8), 2),
            "2 levels must have 1 or 3 channels, got 2",
        ),
        (lambda: exact_picture(torch.zeros(3, 3, 4, dtype=torch.uint8), 500), "500 levels must have 1 channels, got 3"),
        (lambda: exact_picture(torch.zeros(1, 3, dtype=torch.uint8), 500), r"image .*\(1, 3\)"),
        (lambda: grid(torch.zeros(0, 1, 3, 4, dtype=torch.uint8), 2), r"images .*\(0, 1, 3, 4\)"),
        (lambda: grid(torch.zeros(2, 1, 3, 4, dtype=torch.uint8), 2, columns=-1), "columns .*-1"),
        (lambda: save_gif([], "none.gif"), "frames .* none"),
        (lambda: surprise_of(torch.zeros(3, 4)), r"log_prob_map .*\(3, 4\)"),
    ],
)
def test_what_is_no_image_has_no_picture(wrong, named):
    with pytest.raises(ValueError, match=named):
        wrong()


def test_a_panel_takes_a_mask_as_complete_does():
    images = torch.arange(12, dtype=torch.uint8).view(2, 1, 2, 3) % 4
    draws = images[:, None].expand(-1, 3, -1, -1, -1)
    known = torch.tensor([[True, False, True], [False, True, True]])
    expected = completion_panel(images, known.expand(images.shape), draws, 4).tobytes()
    assert completion_panel(images, known, draws, 4).tobytes() == expected
    assert completion_panel(images, known[None], draws, 4).tobytes() == expected
    for wrong, named in (((images, known[:, :2], draws), "known .*broadcastable"), ((images, known, images), "draws ")):
        with pytest.raises(ValueError, match=named):
            completion_panel(*wrong, 4)


def test_pictures_are_saved_by_a_path_or_its_name(tmp_path):
    picture = to_pil(torch.eye(3, dtype=torch.uint8)[None], 2)
    save_png(picture, f"{tmp_path}/one.png")
    save_gif([picture, picture], str(tmp_path / "two.gif"))
    with Image.open(tmp_path / "one.png") as read:
        assert read.tobytes() == picture.tobytes()
    assert (tmp_path / "two.gif").read_bytes().startswith(b"GIF")


def test_results_show_themselves():
    """As a picture or a table in a notebook, elsewhere in a line."""
    model = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=2, num_classes=2)
    model.class_names = ("<b>", "flower")
    assert repr(model) == "GatedPixelCNN(image_shape=(1, 4, 4), levels=2, num_classes=2, filters=4, layers=2)"
    table = model._repr_html_()
    assert f"{sum(p.numel() for p in model.parameters()):,} in torch.float32" in table
    assert "&lt;b&gt;, flower" in table
    images = model.sample(12, seed=0)
    completion = model.complete(images, torch.eye(4).bool(), n=9, particles=16, seed=0)
    scores = score(model, images)
    evaluation = pixelcnn.evaluate(model, images)
    assert repr(completion).startswith("Completion of 12 images, 9 draws of each, effective sample size at least ")
    assert repr(scores).startswith("Scores of 12 images, ")
    assert repr(evaluation).startswith(f"Evaluation of 12 images: {evaluation.nats_per_image:.4f} +- ")
    for picture, size in ((completion, (8 * 58 + 2, 8 * 58 + 2)), (scores, (600, 300))):
        with Image.open(io.BytesIO(picture._repr_png_())) as shown:
            assert shown.size == size
