"""Real Keras, 3 and 2: what it saves is converted, and what is exported it loads, at two sizes of the network.

`make test-keras` makes .venv-keras and runs this; another environment can be named by PIXELCNN_KERAS_PYTHON.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn.cli import main

ROOT = Path(__file__).parent.parent.parent
PYTHON = os.environ.get("PIXELCNN_KERAS_PYTHON", str(ROOT / ".venv-keras" / "bin" / "python"))
SIZES = {"small": (6, 3, 9, 8), "example": (128, 5, 28, 28)}  # filters, blocks, height, width

pytestmark = pytest.mark.keras


def keras(script, *arguments):
    command = [PYTHON, str(ROOT / "benchmarks" / "keras" / script), *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=SIZES)
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    filters, blocks, height, width = SIZES[request.param]
    network = ["--filters", filters, "--blocks", blocks]
    keras("save.py", folder, *network, "--size", height, width, "--steps", 3, "--images", 3, "--keras2")
    return folder, network, (height, width)


@pytest.mark.parametrize("name", [
    "keras3.weights.h5", "keras3.keras", "keras3.h5", "keras3-export", "keras3-saved",
    "keras2.weights.h5", "keras2.keras", "keras2.h5", "keras2.weights-only.h5", "keras2-saved",
])  # fmt: skip
def test_converted(name, saved, tmp_path):
    folder, _, size = saved
    options = ["--size", *map(str, size)] if "weights" in name else []
    assert main(["convert-keras", str(folder / name), str(tmp_path / "model"), *options]) == 0
    model = pixelcnn.load(tmp_path / "model")
    probabilities = torch.sigmoid(model(torch.from_numpy(np.load(folder / "images.npy"))))[..., 0]
    expected = np.load(folder / f"{name[:6]}.npy")
    assert expected.std() > 1e-3
    np.testing.assert_allclose(probabilities.detach().numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [[], ["--keras2"]])
def test_exported(options, saved, tmp_path):
    folder, network, size = saved
    model = pixelcnn.PixelCNN((1, *size), filters=network[1], blocks=network[3])
    for layer in model.masked_layers:
        torch.nn.init.normal_(layer.bias, std=0.1)
    model.save_pretrained(tmp_path / "model")
    file = tmp_path / "exported.weights.h5"
    assert main(["export-keras", str(tmp_path / "model"), str(file)]) == 0
    keras("load.py", file, folder / "images.npy", tmp_path / "found.npy", *network, *options)
    expected = torch.sigmoid(model(torch.from_numpy(np.load(folder / "images.npy"))))[..., 0]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected.detach().numpy(), rtol=0, atol=1e-5)
