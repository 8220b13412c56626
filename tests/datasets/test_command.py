"""The commands on one's own images, of the shape that the presets have."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from made import noise, opened, pictures
from pixelcnn.cli import main
from pixelcnn.datasets import open_data

TINY = [
    "--model",
    "pixelcnn",
    "--filters",
    "4",
    "--blocks",
    "0",
    "--levels",
    "4",
    "--epochs",
    "1",
    "--batch-size",
    "16",
]


def record(run):
    return json.loads(Path(run, "config.json").read_text())


def test_a_folder(capsys):
    pictures("photos", 60, (28, 28))
    assert main(["train", "./photos", *TINY]) == 0
    captured = capsys.readouterr()
    assert "reading photos" in captured.err
    summary = f"{opened('photos', 4).summary}\n"
    assert captured.err.index("reading photos") < captured.err.index(summary) < captured.err.index("epoch 1/1")
    assert "the model is in trained/photos-quick/model" in captured.out
    assert record("trained/photos-quick")["data"] == opened("photos", 4).description
    assert "photos" in Path("trained/photos-quick/model/README.md").read_text()
    assert main(["train", "./photos", *TINY]) == 0
    assert "has finished its 1 epochs" in capsys.readouterr().err
    assert main(["evaluate", "trained/photos-quick", "photos:validation"]) == 0
    model = pixelcnn.load("trained/photos-quick")
    held_out = opened("photos", 4).validation
    nats = -model.log_prob(held_out).double().mean().item()
    printed = capsys.readouterr().out
    assert f"on {len(held_out)} images of photos:validation" in printed
    assert f"nats/image      {nats:.3f}" in printed


def test_images_added_make_another_run(capsys):
    pictures("photos", 60, (28, 28))
    assert main(["train", "photos", *TINY]) == 0
    pictures("photos", 3, (28, 28), first=60)
    assert main(["train", "photos", *TINY]) == 2
    assert "trained/photos-quick holds a run with data = 'photos (" in capsys.readouterr().err


@pytest.fixture
def trained(monkeypatch):
    """What would be trained: configurations, and what is told before."""
    asked = []

    def train(config, *_, summary, **__):
        asked.append((config, summary))

    monkeypatch.setattr("pixelcnn.training.train", train)
    return asked


@pytest.mark.filterwarnings("default")
def test_what_is_told_before_the_training(trained, capsys):
    for k in range(20):
        pictures(f"photos/{'ab'[k % 2]}", 1, (28, 28), first=k)
    Path("photos/a/x.heic").touch()
    Image.fromarray(np.full((28, 28), 300, np.uint16)).save("photos/b/deep.png")
    assert main(["train", "photos", *TINY]) == 0
    said = capsys.readouterr().err
    assert "pixelcnn: warning: photos: left out by their endings: 1 .heic\n" in said
    assert "pixelcnn: warning: photos: pictures stored with 16 bits are read as 9 bits, 0..511" in said
    assert trained[0][1].endswith(
        "; 1 x 28 x 28 (channels, height, width); levels 0..3 of 4, 1 images of one level throughout; 2 classes"
    )


def test_data_without_a_name(capsys):
    """An empty text, as of a shell's empty variable, is not the folder in which one is."""
    pictures(".", 5, (6, 5))
    pixelcnn.PixelCNN((1, 6, 5), levels=3, filters=6, blocks=1).save_pretrained("model")
    for command in (["train"], ["evaluate", "model"], ["score", "model"], ["complete", "model", "--keep-rows", "2"]):
        assert main([*command, ""]) == 2
        assert capsys.readouterr().err.startswith("pixelcnn: unknown data ''; known: mnist")
    assert main(["compress", "model", ""]) == 2
    assert capsys.readouterr().err == "pixelcnn: IN must be files, folders or data, got an empty name\n"
    assert main(["sample", ""]) == 2
    assert "no model ''" in capsys.readouterr().err
    before = sorted(os.listdir())
    for command, option in (
        (["train", "mnist", "--steps", "1", "--out", ""], "--out"),
        (["train", "mnist", "--steps", "1", "--out="], "--out"),
        (["train", "mnist", "--resume", ""], "--resume"),
        (["sample", "model", "--out", ""], "--out"),
        (["score", "model", "0.png", "--maps", ""], "--maps"),
        (["convert-keras", "", "out"], "FILE"),
        (["export-onnx", "model", ""], "OUT"),
    ):
        assert main(command) == 2
        expected = f"pixelcnn: {option} must not be empty\n"
        assert capsys.readouterr().err == expected
    assert sorted(os.listdir()) == before


def test_the_models_shape_says_what_the_axes_of_its_draws_are(trained, capsys):
    model = pixelcnn.PixelCNN((8, 4, 4), levels=3, filters=16, blocks=1)
    model.save_pretrained("model")
    shard = "images-000000000.npy"  # as `sample` writes it
    np.save(shard, noise(20, 8, 4, 4, top=3))
    assert main(["evaluate", "model", shard, "--json"]) == 0
    nats = json.loads(capsys.readouterr().out)["nats_per_image"]
    assert nats == pytest.approx(-model.log_prob(torch.from_numpy(np.load(shard))).mean().item())
    np.save("last.npy", np.load(shard).transpose(0, 2, 3, 1))
    assert main(["evaluate", "model", "last.npy", "--json"]) == 0  # it is (8, 4, 4) in one way only
    assert json.loads(capsys.readouterr().out)["nats_per_image"] == pytest.approx(nats)
    assert main(["score", "model", shard]) == 0
    assert main(["train", shard, "--epochs", "1"]) == 2
    assert "20 images of 8 channels and 4 x 4 pixels (--layout nchw)" in capsys.readouterr().err.splitlines()[-1]
    assert main(["train", shard, "--layout", "nchw", "--held-out", "0.5"]) == 0
    assert trained[0][0].model.image_shape == (8, 4, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_folder_whose_name_is_not_utf_8():
    """It is in a model's card, which is written after all the work."""
    name = os.fsdecode(b"ph\xffotos")
    pictures(name, 20)
    data = opened(name, held_out=0.3)
    for text in (data.description, data.summary):
        assert text.encode().startswith(b"ph\\xffotos")


@pytest.mark.parametrize("name", ["codes.npy", "codes.npz"])
def test_an_array(name, capsys):
    values = noise(60, 28, 28, top=4)
    np.save(name, values) if name.endswith("npy") else np.savez(name, values)
    assert main(["train", name, *TINY, "--out", "run"]) == 0
    assert main(["evaluate", "run", name]) == 0
    assert f"run on 60 images of {name}" in capsys.readouterr().out


def test_pictures_are_brought_to_the_models_kind(capsys):
    pixelcnn.PixelCNN((1, 6, 5), levels=3, filters=6, blocks=1).save_pretrained("model")
    pictures("photos/class", 7, (40, 30, 3))
    assert main(["evaluate", "model", "photos"]) == 0
    assert "model on 7 images of photos\n" in capsys.readouterr().out
    assert main(["evaluate", "model", "photos", "--crop", "patches", "--images", "9"]) == 0
    assert "model on 9 images of photos\n" in capsys.readouterr().out
    assert main(["evaluate", "model", "photos", "--crop", "patches"]) == 0
    assert f"model on {7 * 6 * 6} images of photos\n" in capsys.readouterr().out
    assert main(["evaluate", "model", "photos:test"]) == 2
    assert "photos has no test images: test = 0 leaves none of its 7" in capsys.readouterr().err


def test_what_a_model_draws_can_be_read_again():
    """Levels survive as pictures and as arrays."""
    model = pixelcnn.PixelCNN((1, 6, 5), levels=3, filters=6, blocks=1, generator=torch.Generator().manual_seed(0))
    model.save_pretrained("model")
    assert main(["sample", "model", "-n", "20", "--separate", "--out", "drawn"]) == 0
    assert main(["sample", "model", "-n", "20", "--out", "shards"]) == 0
    images = model.sample(20, seed=0)
    data = open_data("drawn", 3, progress=False)
    assert torch.equal(data.images[np.argsort(data.names())], images)
    assert torch.equal(open_data("shards/images-000000000.npy", 3, progress=False).images, images)


def test_classes_of_colour_patches(capsys):
    """Shape, levels and classes come from the data; the model then draws of a class, and is measured given classes."""
    for k, name in enumerate(("cats", "dogs", "eels")):
        pictures(f"pets/{name}", 4, (12, 17, 3), first=10 * k)
    options = ["--size", "5", "--crop", "patches", "--filters", "6", "--epochs", "1", "--sample-images", "6"]
    train = ["train", "pets", *options, "--model", "gated", "--layers", "2", "--conditional", "--out", "run"]
    assert main(train) == 0
    model = pixelcnn.load("run")
    assert (model.image_shape, model.levels, model.config.num_classes) == ((3, 5, 5), 256, 3)
    data = opened("pets", size=5, crop="patches")
    assert record("run")["training"].startswith(f"{len(data.training)} labelled images, SHA-256")
    loss = json.loads(Path("run/metrics.jsonl").read_text())["validation_loss_ema"]
    given = pixelcnn.evaluate(model, data.validation, data.validation_labels)
    assert loss == given.nats_per_subpixel
    assert loss != pixelcnn.evaluate(model, data.validation).nats_per_subpixel
    assert "40% of the labels dropped" in Path("run/model/README.md").read_text()
    assert main(["sample", "run", "--label", "2", "-n", "2"]) == 0
    capsys.readouterr()

    assert main(["train", "pets", *options, "--model", "pixelcnn", "--conditional", "--out", "other"]) == 2
    assert "--conditional needs a family with classes: --model gated" in capsys.readouterr().err
    np.save("codes.npy", noise(30, 5, 5, top=7))
    plain = ["train", "codes.npy", "--model", "plusplus", "--filters", "4", "--blocks", "0", "--epochs", "1"]
    assert main([*plain, "--conditional", "--out", "other"]) == 2
    assert "--conditional needs classes, and codes.npy has none" in capsys.readouterr().err
    assert main([*plain, "--out", "codes"]) == 0
    assert pixelcnn.load("codes").levels == 7
    assert main([*plain, "--levels", "5", "--out", "other"]) == 2
    assert "levels" in capsys.readouterr().err
    assert not Path("other").exists()
