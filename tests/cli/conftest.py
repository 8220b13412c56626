"""Models in folders, and a working folder, for the tests of commands."""

import pytest
import torch

import pixelcnn
from stored import SHAPE


@pytest.fixture
def model(tmp_path):
    """A small untrained model of three levels in a folder."""
    built = pixelcnn.PixelCNN((1, 6, 5), levels=3, filters=6, blocks=1, generator=torch.Generator().manual_seed(0))
    built.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of an untrained model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    for name, model in {
        "binary": pixelcnn.PixelCNN((1, *SHAPE), filters=4, blocks=1),
        "gray": pixelcnn.PixelCNN((1, *SHAPE), 256, filters=4, blocks=1),
        "colour": pixelcnn.PixelCNNPlusPlus((3, *SHAPE), filters=6, blocks=1, mixtures=2),
        "classes": pixelcnn.GatedPixelCNN((1, *SHAPE), 4, filters=4, layers=2, num_classes=3),
        "two": pixelcnn.PixelCNN((2, *SHAPE), 4, filters=4, blocks=1),
        "placed": pixelcnn.GatedPixelCNN((1, *SHAPE), filters=4, layers=2, places=True),
    }.items():
        model.save_pretrained(folder / name)
    return folder
