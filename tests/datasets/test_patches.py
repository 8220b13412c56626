"""Patches: where they lie, that each epoch draws others, that runs resume to the same bits, and what is refused."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.config import DataConfig, GatedPixelCNNConfig, PixelCNNConfig, TrainConfig
from pixelcnn.datasets import Patches, open_data, open_training, shrunk
from pixelcnn.datasets.split import side_of

SIZES = [(9, 11), (30, 8), (8, 8), (17, 25), (12, 40), (21, 9), (8, 19), (33, 16)]


@pytest.fixture(autouse=True)
def _photos(tmp_path, monkeypatch):
    """Pictures whose levels say where a pixel lies: its row in red, its column in green, the picture in blue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for k in range(len(SIZES)):
        Image.fromarray(picture(k)).save(tmp_path / "photos" / f"{k}.png")


def picture(k):
    height, width = SIZES[k]
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, k)], -1).astype(np.uint8)


def opened(**options):
    return open_training(
        "photos", "clean", None, DataConfig(**{"patch": 8, "held_out": 0.4, **options}), progress=False
    )


def where(patches):
    """Picture, row and column of each patch, which must be one piece of a picture."""
    found = []
    for patch in patches.tolist():
        k, top, left = patch[2][0][0], patch[0][0][0], patch[1][0][0]
        assert np.array_equal(np.array(patch).transpose(1, 2, 0), picture(k)[top : top + 8, left : left + 8])
        found.append((k, top, left))
    return found


def test_they_are_pieces_of_whole_pictures_that_are_held_out():
    data = opened()
    training, validation = data.training, data.validation
    sides = [side_of(picture(k).transpose(2, 0, 1), 0.4) for k in range(len(SIZES))]
    assert 0 < sum(sides) < len(SIZES)
    counts = [(h // 8) * (w // 8) for h, w in SIZES]
    assert len(training) == sum(n for n, side in zip(counts, sides, strict=True) if side == 0)
    assert training.shape == (len(training), 3, 8, 8)
    assert data.image_shape == (3, 8, 8)
    everywhere = torch.arange(len(training))
    drawn = [where(training.drawn(everywhere, 0, epoch)) for epoch in range(2)]
    assert {k for k, *_ in drawn[0]} == {k for k, side in enumerate(sides) if side == 0}
    assert [k for k, *_ in drawn[0]] == training.picture.tolist()
    assert drawn[0] != drawn[1]
    assert where(training.drawn(everywhere[3:5], 0, 1)) == drawn[1][3:5]
    assert where(training.drawn(everywhere, 1, 0)) != drawn[0]
    tiles = where(validation)
    assert tiles == [
        (k, 8 * i, 8 * j) for k, (h, w) in enumerate(SIZES) if sides[k] for i in range(h // 8) for j in range(w // 8)
    ]
    assert [int(name.removesuffix(".png")) for name in data.validation_names()] == [k for k, *_ in tiles]
    assert opened().training.digest == training.digest != opened(patch=7).training.digest


def test_every_position_is_equally_probable():
    """In the first picture with several rows and columns of them; a false alarm has a probability of about 1e-9."""
    training = opened().training
    shown = next(k for k in training.picture.tolist() if min(SIZES[k]) > 8)
    first = int((training.picture == shown).nonzero()[0])
    found = [where(training.drawn(torch.tensor([first]), 0, epoch))[0][1:] for epoch in range(6000)]
    rows, columns = SIZES[shown][0] - 7, SIZES[shown][1] - 7
    expected = len(found) / (rows * columns)
    counts = [found.count((i, j)) for i in range(rows) for j in range(columns)]
    assert sum(counts) == len(found)
    assert max(abs(count - expected) for count in counts) < 6.5 * math.sqrt(expected)


def test_validation_is_spread_where_there_is_much(monkeypatch):
    everything = opened().validation
    monkeypatch.setattr("pixelcnn.datasets.patches._VALIDATION_BYTES", 3 * 3 * 64)
    data = opened()
    step = -(-len(everything) // 3)
    assert torch.equal(data.validation, everything[::step])
    assert len(data.validation_names()) == len(data.validation)


def test_classes_are_folders():
    for k in range(len(SIZES)):
        folder = "ab"[k % 2]
        Path("classes", folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(k)).save(f"classes/{folder}/{k}.png")
    data = open_training("classes", "clean", None, DataConfig(patch=8, held_out=0.4), progress=False)
    assert data.classes == ("a", "b")
    assert data.training_labels.tolist() == [k % 2 for k in data.training.picture.tolist() for k in [names(data, k)]]
    assert data.validation_labels.tolist() == [k % 2 for k, *_ in where(data.validation)]


def names(data, k):
    return int(data.training.store.names[k].split("/")[1].removesuffix(".png"))


def test_a_run_that_stops_ends_in_the_same_bits(tmp_path):
    data = opened()
    config = TrainConfig(
        model=PixelCNNConfig(image_shape=(3, 8, 8), levels=256, filters=6, blocks=1),
        epochs=2, batch_size=4, flip=True, sample_images=0, device="cpu", checkpoint_seconds=0.0,
    )  # fmt: skip

    def stop(step, _):
        if step == 7:
            raise RuntimeError

    whole = pixelcnn.train(config, data.training, data.validation, tmp_path / "whole", progress=False)
    with pytest.raises(RuntimeError):
        pixelcnn.train(config, data.training, data.validation, tmp_path / "cut", progress=False, on_step=stop)
    cut = pixelcnn.train(config, data.training, data.validation, tmp_path / "cut", progress=False)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, cut.state_dict()[name]), name
    with pytest.raises(ValueError, match="holds a run with training = "):
        pixelcnn.train(config, opened(held_out=0.3).training, data.validation, tmp_path / "cut", progress=False)
    with pytest.raises(ValueError, match="validation must be given beside patches"):
        pixelcnn.train(config, data.training, None, tmp_path / "x", progress=False)
    with pytest.raises(ValueError, match="validation must be images that stay the same"):
        pixelcnn.train(config, data.training, data.training, tmp_path / "x", progress=False)


def test_flips():
    """Half of the images are mirrored, others in each epoch."""
    from pixelcnn.models import model_of
    from pixelcnn.training.batches import Batches

    model = PixelCNNConfig(image_shape=(1, 2, 3), levels=8, filters=4, blocks=0)
    images = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3).repeat(200, 1, 1, 1)
    batches = Batches(TrainConfig(model=model, flip=True), model_of(model), images)
    found = []
    for epoch in range(2):
        drawn = batches.take(torch.arange(200), epoch).images
        mirrored = (drawn[:, 0, 0, 0] == 2).tolist()
        assert all(torch.equal(x, images[0].flip(2) if m else images[0]) for x, m in zip(drawn, mirrored, strict=True))
        assert 60 < sum(mirrored) < 140  # 5.6 standard deviations
        found.append(mirrored)
    assert found[0] != found[1]


def test_patches_bring_their_own_small_pictures():
    from pixelcnn.models import model_of
    from pixelcnn.training.batches import Batches

    network = ["--model", "gated", "--filters", "6", "--layers", "1", "--no-places", "--context", "--flip"]
    options = ["--patch", "8", "--held-out", "0.4", "--steps", "3", "--batch-size", "2", "--sample-images", "2"]
    command = ["train", "photos", *network, *options, "--condition", "shrink:4", "--out", "run", "--device", "cpu"]
    assert main(command) == 0
    model = pixelcnn.load("run")
    assert model.config.condition_channels == 3
    data = open_training("photos", "clean", None, DataConfig(patch=8, held_out=0.4), progress=False)
    config = TrainConfig(model=model.config, flip=True, label_dropout=0)
    batch = Batches(config, model_of(model.config), data.training.shrunk_by(4)).take(torch.arange(5), 1)
    expected = model.condition_of(None, 5, shrunk(batch.images, 4, 256))
    assert torch.equal(batch.condition, expected)
    assert len(batch.images.unique(dim=0)) == 5
    with pytest.raises(ValueError, match="training_condition must be given"):
        pixelcnn.train(config, data.training, data.validation, "other")
    with pytest.raises(ValueError, match="must be a multiple, got 8"):
        data.training.shrunk_by(3)


def test_what_patches_are_given_must_fit_all_of_them(tmp_path):
    data = opened()
    patches, count = data.training.shrunk_by(4), len(data.training)
    by_class = {"filters": 6, "layers": 1, "condition_channels": 3, "num_classes": 2}
    config = TrainConfig(model=GatedPixelCNNConfig(image_shape=(3, 8, 8), levels=256, **by_class))
    none = Patches(patches.store, [], 8, 4)
    binary = TrainConfig(model=PixelCNNConfig(image_shape=(3, 8, 8)), binarise=True)
    for config_, training, given, said in (
        (config, patches, {"training_labels": [0] * (count - 1) + [2]}, r"training labels must be in 0\.\.1, got .*2"),
        (config, patches, {"training_labels": [0, 1]}, rf"training labels must be .*\({count},\)"),
        (config, patches, {"training_condition": patches.tiles()}, "training_condition must be left out"),
        (config, none, {"training_labels": []}, "training must hold at least one image"),
        (binary, data.training, {}, "binarise must be False for patches"),
    ):
        with pytest.raises(ValueError, match=said):
            pixelcnn.train(config_, training, data.validation, tmp_path / "no", **given)


@pytest.mark.filterwarnings("default")
def test_the_command(capsys):
    Image.new("RGB", (7, 50)).save("photos/small.png")
    network = ["--model", "gated", "--filters", "6", "--layers", "1", "--no-places", "--context"]
    options = [
        "--patch",
        "8",
        "--held-out",
        "0.4",
        "--flip",
        "--steps",
        "3",
        "--batch-size",
        "2",
        "--sample-images",
        "0",
    ]
    assert main(["train", "photos", *network, *options, "--out", "run", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert "1 picture was skipped: small.png: it is 50 x 7, smaller than a patch" in said
    assert "drawn anew in each epoch; for validation" in said
    assert json.loads(Path("run/config.json").read_text(encoding="utf-8"))["train"]["flip"] is True
    assert main(["score", "run", "photos", "--crop", "none"]) == 0
    assert "9 images of photos" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["mnist", "--patch", "8"], "patch must be left out for mnist"),
        (["photos", "--patch", "8", "--size", "8"], "patch must be None beside a size"),
        (["photos", "--patch", "0"], "patch must be an integer in 1..65536, got 0"),
        (["photos", "--patch", "99"], "none of the 8 pictures of photos can be used; the first is 0.png: it is 9 x 11"),
        (["photos", "--patch", "30", "--strict"], "0.png of photos cannot be used: it is 9 x 11, smaller than a patch"),
        (["photos", "--patch", "8", "--held-out", "1e-6"], "photos has no validation pictures"),
        (["array.npy", "--patch", "2"], "patch is for folders of pictures"),
        (["photos", "--patch", "8", "--layout", "nhw"], "layout must be left out for photos"),
        (["photos", "--patch", "8", "--held-out", "0.4", "--condition", "shrink:3"], "multiples, got 8 x 8"),
        (["photos", "--patch", "8", "--held-out", "0.4", "--condition", "photos"], "beside --patch must be shrink:S"),
        (
            ["array.npy", "--flip", "--model", "gated", "--condition", "shrink:2", "--held-out", "0.5"],
            "flip must be False",
        ),
    ],
)
def test_what_is_refused(options, named, capsys):
    np.save("array.npy", np.random.default_rng(0).integers(0, 3, (20, 4, 4), dtype=np.uint8))
    assert main(["train", *options, "--steps", "1", "--out", "run", "--device", "cpu"]) == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


def test_they_are_for_training():
    with pytest.raises(ValueError, match="patch must be None outside training, got 8"):
        open_data("photos", 256, config=DataConfig(patch=8))


def test_a_damaged_store_is_made_anew(tmp_path):
    digest = opened().training.digest
    (path,) = (tmp_path / "cache").rglob("values.bin")
    path.write_bytes(path.read_bytes()[:-1])
    assert isinstance(opened().training, Patches)
    assert opened().training.digest == digest


def test_a_folder_that_changes_meanwhile(tmp_path, monkeypatch):
    def late(*arguments):
        Image.new("RGB", (9, 9)).save("photos/late.png")
        return side_of(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("pixelcnn.datasets.patches.side_of", late)
        with pytest.raises(ValueError, match="photos changed while it was read; try again"):
            opened()
    assert not list((tmp_path / "cache" / "pixelcnn" / "data").iterdir())
    assert len(opened().training.store.names) == len(SIZES) + 1


def test_a_store_that_cannot_be_made(monkeypatch):
    Path("afile").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", "afile")
    with pytest.raises(OSError, match="so the images cannot be cached; XDG_CACHE_HOME chooses another place"):
        opened()


def test_a_store_that_another_process_makes_meanwhile(tmp_path, monkeypatch):
    """The first to finish gives it its name, and the other uses it."""
    folder = tmp_path / "cache" / "pixelcnn" / "data"
    first = []

    def overtaken(*arguments):
        monkeypatch.setattr("pixelcnn.datasets.patches.side_of", side_of)
        opened()
        first.extend((path, path.stat().st_ino) for path in folder.glob("pictures-*"))
        return side_of(*arguments)

    monkeypatch.setattr("pixelcnn.datasets.patches.side_of", overtaken)
    opened()
    assert [(path, path.stat().st_ino) for path in folder.iterdir()] == first


def test_what_is_left_out_is_told():
    """Files, frames and black pictures, as of images of one size; and a folder has a name, however it is written."""
    Path("dark").mkdir()
    os.chdir("dark")
    for k in range(20):
        Image.fromarray(np.random.default_rng(k).integers(0, 20, (9, 9), dtype=np.uint8)).save(f"{k}.png")
    frames = [Image.new("L", (9, 9), value) for value in (0, 200, 100)]
    frames[0].convert("RGB").save("moving.gif", save_all=True, append_images=frames[1:])
    Path("x.heic").touch()
    with pytest.warns(UserWarning, match=r"^dark: ") as found:
        data = open_training(".", "clean", None, DataConfig(patch=8, held_out=0.4), progress=False)
    said = [str(each.message) for each in found]
    assert said[0] == "dark: left out by their endings: 1 .heic"
    assert said[1].startswith("dark: 1 picture has several frames or pages, of which the first is taken: 2 are left")
    assert said[2].startswith("dark: the images are nearly black: all their levels are in 0..19")
    assert data.description.startswith("dark (")
