"""Models that the page's tests share."""

import pytest
import torch

import pixelcnn
from pixelcnn.app import load_models


def made(folder):
    """A small conditional model, untrained, of 4 levels and 5 classes, as a folder named `classes`."""
    model = pixelcnn.GatedPixelCNN(
        (1, 12, 10), levels=4, filters=8, layers=3, num_classes=5, generator=torch.Generator().manual_seed(0)
    )
    model.save_pretrained(folder / "classes")
    return str(folder / "classes")


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The shipped model and the conditional one, loaded."""
    return load_models(["mnist", made(tmp_path_factory.mktemp("models"))], torch.device("cpu"))
