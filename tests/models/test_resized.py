"""Models of another size with the same weights: the same as those built for that size, in every method."""

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.exact import prepare
from pixelcnn.scoring import score

FAMILIES = {
    "pixelcnn": (pixelcnn.PixelCNN, {"filters": 4, "blocks": 1}),
    "gated": (pixelcnn.GatedPixelCNN, {"filters": 4, "layers": 2}),
    "context": (pixelcnn.GatedPixelCNN, {"filters": 4, "layers": 2, "context": (3, 2), "context_places": False}),
    "plusplus": (pixelcnn.PixelCNNPlusPlus, {"filters": 4, "blocks": 1, "mixtures": 2}),
    "photo": (pixelcnn.PhotoPixelCNN, {"filters": 4, "blocks": 1, "mixtures": 2}),
    "photo map": (pixelcnn.PhotoPixelCNN, {"filters": 4, "blocks": 1, "mixtures": 2, "condition_channels": 1}),
    "map": (pixelcnn.GatedPixelCNN, {"filters": 4, "layers": 2, "condition_channels": 1}),
}


@pytest.mark.parametrize(
    ("before", "size"), [((6, 6), (8, 5)), pytest.param((32, 32), (64, 48), marks=pytest.mark.long)]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_as_if_built_for_that_size(name, before, size):
    family, options = FAMILIES[name]
    model = family((1, *before), levels=3, **options).eval()
    built = family((1, *size), levels=3, **options).eval()
    built.load_state_dict(model.state_dict())
    resized = model.resized(size)
    assert (resized.image_shape, model.image_shape) == ((1, *size), (1, *before))
    sides = (4, 5) if size == (8, 5) else (16, 12)
    given = {"condition": torch.rand(2, 1, *sides)} if "map" in name else {}
    images = built.sample(2, seed=1, **given)
    for engine in ("fast", "eager", "reference"):
        assert torch.equal(resized.sample(2, seed=1, engine=engine, **given), images)
    assert torch.equal(resized.log_prob(images, **given), built.log_prob(images, **given))
    assert prepare(model).resized(size).identity == prepare(built).identity
    if not given:
        assert pixelcnn.compress(resized, images) == (data := pixelcnn.compress(built, images))
        assert torch.equal(pixelcnn.decompress(prepare(model).resized(size), data), images)


def test_the_weights_are_shared():
    model = pixelcnn.PixelCNN((1, 6, 6), filters=4, blocks=1)
    resized, images = model.resized((4, 5)), torch.zeros(1, 1, 4, 5, dtype=torch.uint8)
    before = resized.log_prob(images).item()
    with torch.no_grad():
        model.output.bias.add_(1)
    assert resized.log_prob(images).item() != before


@pytest.mark.parametrize(
    ("options", "size", "named"),
    [
        ({"places": True}, (8, 5), r"size must be \(6, 6\), got \(8, 5\).*places"),
        ({"attention": 1}, (8, 5), r"size must be \(6, 6\), got \(8, 5\).*attention"),
        ({"context": (2,)}, (8, 5), r"size must be \(6, 6\), got \(8, 5\).*contexts"),
        ({}, (0, 5), r"size.*integers of at least 1, got \(0, 5\)"),
        ({}, 5, "size must be a height and a width.*got 5"),
        ({}, (2.0, 5), r"size.*got \(2.0, 5\)"),
    ],
)
def test_sizes_that_a_network_is_not_good_for(options, size, named):
    model = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2, **options)
    with pytest.raises(ValueError, match=named):
        model.resized(size)


def test_its_own_size_is_always_allowed():
    model = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2, places=True)
    assert model.resized((6, 6)).image_shape == model.image_shape


def test_evaluation_and_scores_follow_the_images():
    model = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2)
    resized = model.resized((4, 9))
    images = resized.sample(3)
    for found, expected in (
        (pixelcnn.evaluate(model, images), pixelcnn.evaluate(resized, images)),
        (pixelcnn.evaluate(model, images.numpy()), pixelcnn.evaluate(resized, images)),
    ):
        assert (found.nats_per_image, found.bits_per_dim) == (expected.nats_per_image, expected.bits_per_dim)
    assert torch.equal(score(model, images).score, score(resized, images).score)
    with pytest.raises(ValueError, match=r"\(N, 1, 6, 6\), got \(3, 1, 4, 9\)"):
        pixelcnn.evaluate(pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2, places=True), images)


def test_a_folder_of_ten_sizes_comes_back(tmp_path, monkeypatch, capsys):
    """A model that was trained on 32 x 32 compresses pictures of ten odd sizes, and they come back to the bit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    (tmp_path / "odd").mkdir()
    np.save("square.npy", generator.integers(0, 256, (40, 3, 32, 32), dtype=np.uint8))
    sizes = [(1, 1), (1, 41), (37, 1), (33, 31), (7, 64), (64, 7), (48, 64), (50, 3), (29, 29), (32, 32)]
    pictures = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    for k, values in enumerate(pictures):
        Image.fromarray(values).save(f"odd/{k}.png")
    network = ["--model", "gated", "--layers", "2", "--filters", "6", "--kernel-size", "3", "--first-kernel", "3"]
    network += ["--no-places", "--context", "--steps", "3", "--batch-size", "4", "--sample-images", "0"]
    assert main(["train", "square.npy", *network, "--out", "run", "--device", "cpu"]) == 0, capsys.readouterr().err
    assert main(["compress", "run", "odd", "--out", "odd.pxcn"]) == 0
    assert "10 images of 10 sizes" in capsys.readouterr().out
    assert main(["decompress", "run", "odd.pxcn", "--out", "again"]) == 0
    for k, values in enumerate(pictures):
        with Image.open(f"again/{k}.png") as picture:
            assert np.array_equal(np.asarray(picture), values)
