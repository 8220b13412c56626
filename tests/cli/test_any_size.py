"""`pixelcnn evaluate` and `score` of pictures in their own sizes."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.config import DataConfig
from pixelcnn.datasets import open_data

SIZES = [(6, 5), (6, 5), (9, 4), (2, 12), (6, 5)]


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixelcnn.GatedPixelCNN((1, 4, 4), levels=256, filters=4, layers=2, num_classes=2).save_pretrained("classes")
    pixelcnn.GatedPixelCNN((1, 4, 4), levels=256, filters=4, layers=2, condition_channels=1).save_pretrained("given")
    pixelcnn.GatedPixelCNN((1, 4, 4), levels=256, filters=4, layers=2, places=True).save_pretrained("placed")
    for k in range(len(SIZES)):
        for folder in (tmp_path / "photos" / "ab"[k % 2], tmp_path / "flat"):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(k)).save(folder / f"{k}.png")
    np.save("wide.npy", np.zeros((3, 5, 8), np.uint8))


def picture(k):
    return np.random.default_rng(k).integers(0, 256, SIZES[k], dtype=np.uint8)


def nats(model, k, **given):
    image = torch.from_numpy(picture(k))[None, None]
    return -model.resized(SIZES[k]).log_prob(image, **given).item()


def test_evaluate(capsys):
    model = pixelcnn.load("classes")
    assert main(["evaluate", "classes", "photos", "--crop", "none", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    each = [nats(model, k, labels=torch.tensor([k % 2])) for k in range(5)]
    assert found["images"] == 5
    assert found["nats_per_image"] == pytest.approx(np.mean(each), rel=1e-5)
    assert found["nats_per_subpixel"] == pytest.approx(sum(each) / sum(h * w for h, w in SIZES), rel=1e-5)
    assert found["by_class"]["b"]["nats_per_image"] == pytest.approx((each[1] + each[3]) / 2, rel=1e-5)
    assert (
        main(["evaluate", "classes", "photos", "--crop", "none", "--json", "--images", "2", "--classes", "none"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["nats_per_image"] == pytest.approx(
        (nats(model, 0) + nats(model, 2)) / 2, rel=1e-5
    )


def test_score(capsys):
    model = pixelcnn.load("classes")
    assert main(["score", "classes", "flat", "--crop", "none", "--classify", "--maps", "maps"]) == 0
    with open("scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"{k}.png" for k in range(5)]
    assert [float(row["log_prob"]) for row in rows] == pytest.approx([-nats(model, k) for k in range(5)], rel=1e-5)
    with Image.open("maps/00004.png") as surprise:
        assert surprise.width > 0
    assert main(["score", "classes", "flat/2.png", "--crop", "none"]) == 0
    assert "1 images of flat/2.png" in capsys.readouterr().out
    assert main(["score", "classes", "wide.npy", "--crop", "none", "--images", "2"]) == 0
    assert "2 images of wide.npy" in capsys.readouterr().out


def test_given_small_pictures(capsys):
    model = pixelcnn.load("given")
    image = torch.from_numpy(picture(0))[None, None]
    for source, spec in (("flat/0.png", "shrink:1"), ("flat/1.png", "shrink:4")):
        assert main(["score", "given", source, "--crop", "none", "--condition", spec]) == 2
    assert "condition shrink:S needs" in capsys.readouterr().err
    Image.new("L", (5, 3), 255).save("flat/x.png")
    folder = Path("maps")
    folder.mkdir()
    Image.new("L", (5, 3), 255).save(folder / "0.png")
    assert main(["score", "given", "flat/0.png", "--crop", "none", "--condition", "maps"]) == 0
    with open("scores.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    expected = model.resized((6, 5)).log_prob(image, condition=torch.ones(1, 1, 3, 5)).item()
    assert float(row["log_prob"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["evaluate", "placed", "flat"], "--crop none.*placed is for 4 x 4"),
        (["score", "classes", "flat", "--score", "typicality", "--reference", "flat"], "typicality.*--crop none"),
        (["score", "classes", "none.png"], "none.png"),
        (["score", "classes", "text.png"], "text.png cannot be read as a picture"),
        (["evaluate", "classes", "empty"], "empty"),
        (["evaluate", "classes", "flat", "--layout", "nhw"], "layout.*flat"),
    ],
)
def test_wrong_input(command, named, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    assert main([*command, "--crop", "none"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert re.search(named, lines[-1]), lines
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "bar"),
    [
        (["score", "classes", "large.png", "--crop", "none"], "in stripes"),
        (["compress", "classes", "large.png", "--no-verify"], "compressing 1"),
    ],
)
def test_a_large_picture_shows_progress_and_ctrl_c_ends_it(command, bar, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (2100, 2100), dtype=np.uint8)).save("large.png")
    before = set(tmp_path.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "pixelcnn", *command],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        said = b""
        while bar.encode() not in said and (part := process.stderr.read1()):
            said += part
        assert bar.encode() in said, said
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert (process.returncode, time.monotonic() - started < 20) == (130, True)
    finally:
        process.kill()
        process.communicate()
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "cache"}


@pytest.mark.parametrize("crop", ["centre", "none"])
@pytest.mark.filterwarnings("default")
def test_options_and_remarks_are_those_of_images_of_one_size(crop, capsys):
    """A share that is held out, a bit depth, frames and files that are left out."""
    np.save("many.npy", np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8))
    command = ["evaluate", "classes", "--classes", "none", "--json", "--crop", crop]
    assert main([*command, "many.npy:validation", "--held-out", "0.5"]) == 0
    held_out = open_data("many.npy:validation", 256, config=DataConfig(held_out=0.5)).images
    assert json.loads(capsys.readouterr().out)["images"] == len(held_out) > 15
    assert main([*command, "many.npy", "--bit-depth", "12"]) == 2
    assert "bit_depth must be left out for many" in capsys.readouterr().err
    frames = [Image.new("L", (4, 4), value) for value in (0, 200, 100)]
    frames[0].save("flat/9.gif", save_all=True, append_images=frames[1:])
    Path("flat/x.heic").touch()
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save("flat/deep.png")
    assert main([*command, "flat"]) == 0
    said = capsys.readouterr().err
    assert "warning: flat: left out by their endings: 1 .heic\n" in said
    assert "warning: flat: 1 picture has several frames or pages, of which the first is taken: 2 are left out" in said
    assert "warning: flat: pictures stored with 16 bits are read as 10 bits" in said
