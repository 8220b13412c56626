"""The network that `pixelcnn train` takes for data of each kind, if none is named."""

import numpy as np
import pytest
from PIL import Image

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.cli.train import Train


@pytest.mark.parametrize(
    ("options", "family", "embedding"),
    [
        ("mnist", "gated", 0),
        ("mnist --levels 256", "gated", 12),
        ("mnist --levels 256 --model plusplus", "plusplus", 0),
        ("mnist --preset seed --levels 256", "pixelcnn", 0),
        ("codes.npy", "gated", 0),
        ("codes.npy --levels 512", "gated", 12),
        ("photos", "plusplus", 0),
        ("photos --levels 4", "gated", 12),
        ("photos --patch 32", "photo", 0),
        ("photos --patch 32 --conditional", "plusplus", 0),
        ("photos --model gated", "gated", 12),
        ("photos --preset seed", "pixelcnn", 0),
        ("hf:somebody/pictures", "plusplus", 0),
        ("cifar-10-binary.tar.gz --conditional", "plusplus", 0),
        ("cifar-10.tgz", "plusplus", 0),
        ("cifar-10.tar", "plusplus", 0),
        ("photos --out mnist", "plusplus", 0),
        ("photos --condition maps.npy", "plusplus", 0),
        ("photos --condition=labels:maps.npy", "plusplus", 0),
        ("codes.npy --condition photos", "gated", 0),
        ("codes.npy --init photos", "gated", 0),
        ("photos --init mnist", "plusplus", 0),
        ("mnist --preset=seed --preset fast", "gated", 0),
        ("mnist --preset fast --preset=seed", "pixelcnn", 0),
        ("--help", "gated", 0),
    ],
)
def test_the_network_suits_the_data(options, family, embedding, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    model = Train.with_preset(["train", *options.split()]).config.model
    assert (model.family, model.embedding) == (family, embedding)


def test_fine_tuning_is_given_what_the_model_is_conditional_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.save("codes.npy", np.random.default_rng(0).integers(0, 2, (40, 4, 4), dtype=np.uint8))
    pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=1, condition_channels=1).save_pretrained("mapped")
    pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=0).save_pretrained("plain")
    for options, said in (
        (["--init", "mapped"], "--init mapped is conditional on a vector or a map; give --condition"),
        (["--init", "plain", "--condition", "shrink:2"], "--condition must be left out, got shrink:2: plain is not"),
    ):
        assert main(["train", "codes.npy", *options]) == 2
        assert f"pixelcnn: {said}" in capsys.readouterr().err
    given = ["--init", "mapped", "--condition", "shrink:2", "--preset", "seed", "--steps", "1", "--sample-images", "0"]
    assert main(["train", "codes.npy", *given, "--out", "run"]) == 0  # whatever the preset's own family


@pytest.mark.usefixtures("without_curves")
def test_a_folder_of_pictures_needs_no_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for k in range(12):
        Image.linear_gradient("L").rotate(30 * k).resize((8, 8)).convert("RGB").save(tmp_path / "photos" / f"{k}.png")
    short = ["--steps", "2", "--batch-size", "2", "--sample-images", "0", "--filters", "6", "--held-out", "0.3"]
    assert main(["train", "photos", *short, "--out", "run"]) == 0
    assert isinstance(pixelcnn.load("run"), pixelcnn.PixelCNNPlusPlus)
    assert main(["train", "photos", "--init", "run", *short[:6], "--held-out", "0.3", "--out", "more"]) == 0
