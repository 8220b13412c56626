"""The models inside the package: what their cards say is true, and what they draw is of the class asked for."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from classifier import Classifier
from pixelcnn.images import encoded
from pixelcnn.models.folder import shipped_models

FOLDER = Path(pixelcnn.__file__).parent / "pretrained"


def test_they_are_small():
    assert shipped_models() == ["mnist", "mnist-gray", "mnist-seed", "photos"]
    assert sum(path.stat().st_size for path in FOLDER.glob("*/*")) < 6 * 2**20


@pytest.mark.parametrize("name", ["mnist", "mnist-gray", "mnist-seed"])
def test_the_card_is_right(name):
    """The official test set's mean in the card, which was measured on all 10,000, against 200 of them."""
    model, card = pixelcnn.load(name), (FOLDER / name / "README.md").read_text()
    assert json.loads((FOLDER / name / "config.json").read_text())["levels"] == model.levels
    assert f'pixelcnn.load("{name}")' in card
    stated = re.search(r"10,000 images of mnist:test.*\n\s+nats/image\s+([\d.]+) \+- ([\d.]+)", card)
    images, labels = pixelcnn.datasets.mnist("test", model.levels)
    result = pixelcnn.evaluate(
        model, images[::50], labels[::50] if getattr(model.config, "num_classes", None) else None
    )
    assert abs(result.nats_per_image - float(stated[1])) < 5 * result.standard_error


def test_photos_makes_a_photograph_smaller_than_other_formats_do():
    model = pixelcnn.load("photos")
    assert sum(parameter.numel() for parameter in model.parameters()) <= 250_000
    with Image.open(Path(__file__).parents[2] / "docs" / "images" / "chelsea.png") as picture:
        image = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
        sizes = [len(encoded(picture, "PNG", optimize=True)), len(encoded(picture, "WEBP", lossless=True, method=6))]
    model = model.fitting(image)
    data = pixelcnn.compress(model, image)
    assert torch.equal(pixelcnn.decompress(model, data), image)
    assert len(data) < 0.95 * min(sizes)


@pytest.mark.slow
def test_samples_are_of_their_class():
    """A classifier that has 99 % of the test set right agrees with the class asked for, with guidance; without less."""
    labels = torch.arange(1000) % 10
    model, judge = pixelcnn.load("mnist"), Classifier.trained()
    guided = judge.classes(model.sample(1000, labels, guidance=1.5, seed=0)) == labels
    assert guided.float().mean().item() >= 0.98
    plain = judge.classes(model.sample(1000, labels, seed=0)) == labels
    assert 0.9 < plain.float().mean().item() < guided.float().mean().item()
    by_chance = judge.classes(pixelcnn.load("mnist-seed").sample(100, seed=0)) == labels[:100]
    assert by_chance.float().mean().item() < 0.3
