"""The command line: what it prints and writes, and one line with exit code 2 for wrong input."""

import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn import cli
from pixelcnn.cli import main
from pixelcnn.images import grid
from streams import threads

pytestmark = pytest.mark.usefixtures("_elsewhere")


def test_help_and_version(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("train", "sample", "evaluate", "info", "bench", "push", "serve"))
    assert main(["train", "--help"]) == 0
    assert "--learning-rate" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pixelcnn {pixelcnn.__version__}\n"


def completions(script, *words):
    """What bash offers for the last of the words."""
    asked = f'{script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tyro_pixelcnn\n'
    asked += '(( ${#COMPREPLY[@]} )) && printf "%s\\0" "${COMPREPLY[@]}"; complete -p pixelcnn'
    *offered, registered = subprocess.run(
        ["bash", "-c", asked, "bash", "pixelcnn", *words], capture_output=True, text=True, check=True
    ).stdout.split("\0")
    assert registered == "complete -F _tyro_pixelcnn pixelcnn\n"
    return [word for word in offered if word]


def test_shell_completion(capsys):
    for shell in ("bash", "zsh", "fish"):
        assert main(["--tyro-print-completion", shell]) == 0
        printed = capsys.readouterr().out
        assert all(word in printed for word in ("pixelcnn", "evaluate", "push", "--temperature"))
        (spec,) = (line for line in printed.splitlines() if "COMPLETION_SPEC = " in line)
        assert "\\n" not in spec
    for shell in ("dos", "tcsh"):
        assert main(["--tyro-print-completion", shell]) == 2
        assert f"must be followed by bash or zsh or fish, got '{shell}'\n" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_in_bash(capsys):
    main(["--tyro-print-completion", "bash"])
    script = capsys.readouterr().out
    assert completions(script, "train", "mnist", "--pre") == ["--preset", "--precision"]
    assert completions(script, "ev") == ["evaluate"]
    assert completions(script, "train", "mnist", "--preset", "f") == ["fast"]
    for command in ("train", "sample", "evaluate", "score", "complete", "bench", "push", "convert-keras", "serve"):
        offered = completions(script, command, "-")
        assert "--help" in offered
        assert all(re.fullmatch(r"--?[a-z][a-z-]*", word) for word in offered), offered
        assert completions(script, command, "tra") == []
    Path("trained").mkdir()
    assert completions(script, "sample", "mnist", "--out", "tra") == ["trained"]


def test_a_presets_values_are_the_defaults(capsys):
    main(["train", "mnist", "--preset", "seed", "--help"])
    assert "Passes over the training images. (default: 50)" in capsys.readouterr().out
    main(["train", "mnist", "--preset", "best", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "such runs are identical bit for bit. (default: 180)" in shown
    assert "Scales of coarse causal contexts" in shown
    main(["train", "mnist", "--preset", "best", "--epochs", "3", "--help"])
    assert "identical bit for bit. (default: None)" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_sample_grid(model, capsys):
    assert main(["sample", model, "-n", "6", "--seed", "3"]) == 0
    assert "6 images of seed 3 in" in capsys.readouterr().out
    picture = np.asarray(Image.open("samples.png"))
    images = pixelcnn.load(model).sample(6, seed=3)
    factor = 10  # 6 rows are magnified to at least 56 pixels
    for k in range(6):
        y, x = 2 + k // 3 * (6 * factor + 2), 2 + k % 3 * (5 * factor + 2)
        cell = picture[y : y + 6 * factor : factor, x : x + 5 * factor : factor]
        assert np.array_equal(cell, np.array([0, 128, 255])[images[k, 0].numpy()])


def test_sample_a_class(tmp_path, capsys):
    built = pixelcnn.GatedPixelCNN((1, 6, 5), levels=3, filters=6, layers=2, num_classes=4)
    built.save_pretrained(tmp_path / "gated")
    name = str(tmp_path / "gated")
    assert main(["sample", name, "-n", "3", "--label", "2", "--guidance", "1.5", "--separate", "--out", "two"]) == 0
    images = built.sample(3, torch.tensor([2, 2, 2]), guidance=1.5, seed=0)
    for k in range(3):
        assert np.array_equal(np.asarray(Image.open(f"two/{k:05d}.png")), np.array([0, 128, 255])[images[k, 0].numpy()])
    assert main(["sample", name, "--label", "3", "--steps"]) == 0
    capsys.readouterr()
    assert main(["sample", name, "-n", "8", "--label", "all", "--out", "classes.png"]) == 0
    in_turn = built.sample(8, torch.tensor([0, 1, 2, 3] * 2), seed=0)
    assert np.array_equal(np.asarray(Image.open("classes.png")), np.asarray(grid(in_turn, 3, columns=4)))
    assert main(["sample", name, "-n", "3", "--first", "3", "--label", "1", "3", "--separate", "--out", "turns"]) == 0
    image = built.sample(1, torch.tensor([3]), first=3, seed=0)[0, 0]
    assert np.array_equal(np.asarray(Image.open("turns/00003.png")), np.array([0, 128, 255])[image.numpy()])
    capsys.readouterr()
    assert main(["sample", name, "--label", "1", "4"]) == 2
    assert capsys.readouterr().err == "pixelcnn: --label must be in 0..3, got 4\n"
    assert main(["sample", name, "--label"]) == 2
    assert capsys.readouterr().err == "pixelcnn: --label must be followed by classes, or all, got none\n"
    assert main(["sample", name, "--guidance", "2"]) == 2
    assert capsys.readouterr().err == "pixelcnn: guidance must be 1 without labels or a condition, got 2.0\n"


def test_bench(model, capsys):
    assert main(["bench", model, "--batches", "1", "3", "--seconds", "0.01", "--out", "deep/bench.json"]) == 0
    printed = capsys.readouterr().out
    assert "6 x 5 x 1, 3 levels; 25 steps" in printed
    report = json.loads(Path("deep/bench.json").read_text())
    for n, row in zip((1, 3), report["rows"], strict=True):
        assert row["n"] == n
        assert 0 < row["fastest"] <= row["seconds"] <= row["slowest"]
        assert row["fastest"] < row["reference_seconds"] < 60
        expected = 2e-9 * n * report["multiply_adds_per_image"] / row["seconds"]
        assert row["gflops"] == pytest.approx(expected)
    assert main(["bench", model, "--batches", "2", "--seconds", "0.01", "--no-reference", "--engine", "eager"]) == 0
    printed = capsys.readouterr().out
    assert "of the eager engine" in printed
    assert "ratio" not in printed
    assert main(["bench", model, "--batches", "1", "--seconds", "0.01", "--no-reference", "--engine", "reference"]) == 0
    assert "30 steps of the reference engine" in capsys.readouterr().out


def test_sample_separate(model):
    assert main(["sample", model, "-n", "3", "--separate", "--out", "deep/folder"]) == 0
    assert sorted(os.listdir("deep/folder")) == ["00000.png", "00001.png", "00002.png"]
    images = pixelcnn.load(model).sample(3, seed=0)
    for k in range(3):
        found = np.asarray(Image.open(f"deep/folder/{k:05d}.png"))
        assert np.array_equal(found, np.array([0, 128, 255])[images[k, 0].numpy()])


@pytest.mark.parametrize(("channels", "levels"), [(2, 4), (3, 512)])
def test_sample_separate_writes_whole_images_only(channels, levels, capsys):
    pixelcnn.GatedPixelCNN((channels, 3, 3), levels, filters=6, layers=1).save_pretrained("codes")
    assert main(["sample", "codes", "-n", "1", "--separate", "--out", "folder"]) == 2
    said = capsys.readouterr().err
    assert f"for {levels} levels, and codes has {channels}: leave it out, and let --out name a folder" in said
    assert not os.path.exists("folder")


def test_sample_shards(model, capsys):
    command = ["sample", model, "-n", "25", "--seed", "3", "--shard-size", "10", "--out", "deep/run-2"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("25 images of seed 3 in ")
    assert captured.out.endswith(" s, 25 in all: deep/run-2\n")
    assert "25/25" in captured.err
    shards = [np.load(f"deep/run-2/images-{k:09d}.npy", allow_pickle=False) for k in (0, 10, 20)]
    assert [len(shard) for shard in shards] == [10, 10, 5]
    assert np.array_equal(np.concatenate(shards), pixelcnn.load(model).sample(25, seed=3).numpy())
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("0 images of seed 3 in ")
    Path("v1.0").mkdir()  # what exists as a folder may have an ending
    assert main(["sample", model, "--out", "v1.0"]) == 0
    assert sorted(os.listdir("v1.0")) == ["images-000000000.npy", "samples.json"]


def test_numbers_that_no_memory_could_hold_are_left_to_the_shards(model, monkeypatch, capsys):
    monkeypatch.setattr("pixelcnn.shards.write_shards", lambda _model, n, _folder, **_: n)
    assert main(["sample", model, "-n", str(2**62), "--out", "many"]) == 0
    assert capsys.readouterr().out.startswith(f"{2**62} images of seed 0 in ")


def test_sample_first(model):
    main(["sample", model, "-n", "7", "--separate", "--out", "all"])
    main(["sample", model, "-n", "3", "--first", "4", "--separate", "--out", "late"])
    assert sorted(os.listdir("late")) == ["00004.png", "00005.png", "00006.png"]
    for name in os.listdir("late"):
        assert Path("late", name).read_bytes() == Path("all", name).read_bytes()
    main(["sample", model, "-n", "1", "--first", "4", "--out", "grid.png"])
    main(["sample", model, "-n", "1", "--first", "4", "--steps", "--out", "steps.gif"])
    with Image.open("late/00004.png") as one, Image.open("grid.png") as grid, Image.open("steps.gif") as steps:
        shown = np.asarray(grid)[2:-2:10, 2:-2:10]
        assert np.array_equal(shown, np.asarray(one))
        steps.seek(steps.n_frames - 1)
        assert np.abs(np.asarray(steps.convert("L")).astype(int) - np.asarray(grid)).max() <= 1
    main(["sample", model, "-n", "3", "--first", "4", "--out", "late-shards"])
    assert len(np.load("late-shards/images-000000004.npy")) == 3


def test_sample_steps(model, capsys):
    assert main(["sample", model, "-n", "4", "--steps"]) == 0
    assert "sampling 4: " in capsys.readouterr().err  # the bar
    assert main(["sample", model, "-n", "4"]) == 0
    with Image.open("samples.gif") as animation, Image.open("samples.png") as final:
        assert animation.n_frames == 25  # 4 * 5 + 5 steps
        animation.seek(24)
        assert np.abs(np.asarray(animation.convert("L")).astype(int) - np.asarray(final)).max() <= 1
    assert main(["sample", model, "-n", "4", "--steps", "--out", "strip.png"]) == 0
    with Image.open("strip.png") as strip:
        assert strip.size == (12 * 52 + 2, 4 * 62 + 2)  # 12 moments of 4 images


def test_engines_write_the_same_file(model):
    main(["sample", model, "--out", "fast.png"])
    main(["sample", model, "--out", "reference.png", "--engine", "reference"])
    assert Path("fast.png").read_bytes() == Path("reference.png").read_bytes()


def test_threads(model):
    with threads(2):
        assert main(["sample", model, "-n", "1"]) == 0
        assert torch.get_num_threads() == 2
        assert main(["sample", model, "-n", "1", "--threads", "1"]) == 0
        assert torch.get_num_threads() == 1


def test_every_command_that_takes_a_device_takes_threads():
    fields = {name: {field.name for field in dataclasses.fields(kind)} for name, kind in cli._commands().items()}
    computing = {name for name, each in fields.items() if each & {"device", "config"}}
    assert {name for name, each in fields.items() if "threads" in each} == computing
    assert {"train", "sample", "evaluate", "score", "complete", "compress", "decompress", "serve"} <= computing


def test_evaluate(tmp_path, capsys):
    model = pixelcnn.PixelCNN(filters=4, blocks=1, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "untrained")
    assert main(["evaluate", str(tmp_path / "untrained"), "mnist:validation", "--images", "200"]) == 0
    out = capsys.readouterr().out
    nats = -model.log_prob(pixelcnn.datasets.mnist("validation")[0][:200]).double()
    error = nats.std().item() / 200**0.5
    assert f"nats/image      {nats.mean():.3f} +- {error:.3f} (standard error)" in out
    assert f"nats/sub-pixel  {nats.mean() / 784:.5f}" in out
    assert f"bits/dim        {nats.mean() / 784 / np.log(2):.5f}" in out


def test_long_names_of_classes_stand_apart_from_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=1, num_classes=2)
    model.save_pretrained(tmp_path / "classes")
    for k, name in enumerate(("background-noise", "x")):
        Path("photos", name).mkdir(parents=True)
        Image.new("L", (4, 4), 255 * k).save(f"photos/{name}/0.png")
    assert main(["evaluate", str(tmp_path / "classes"), "photos"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  class ")]
    assert [line[1] for line in lines] == ["background-noise", "x"]
    assert all(re.fullmatch(r"[0-9.]+", line[2]) for line in lines)


def test_what_json_does_not_have_is_null():
    from pixelcnn.cli.evaluate import _values
    from pixelcnn.evaluation import Evaluation

    inf, nan = float("inf"), float("nan")
    found = Evaluation(
        images=2, nats_per_image=inf, standard_error=nan, interval=(1.0, inf), nats_per_subpixel=inf, bits_per_dim=inf,
        images_per_second=1.0,
    )  # fmt: skip
    values = json.loads(json.dumps(_values(found, None), allow_nan=False))
    assert [values[name] for name in ("nats_per_image", "standard_error", "interval", "images")] == [None] * 3 + [2]


def test_train_sample_evaluate(capsys, monkeypatch):
    """The whole way, on a few images."""
    from pixelcnn.datasets import sources

    few = {f"{p}{split}": (slice(0, 64)) for p in ("", "seed-") for split in ("train", "validation", "test")}
    whole = sources.mnist
    monkeypatch.setattr(sources, "mnist", lambda split, levels: tuple(t[few[split]] for t in whole(split, levels)))
    options = ["--model", "pixelcnn", "--filters", "4", "--blocks", "1", "--epochs", "2", "--batch-size", "16"]
    options += ["--levels", "4"]
    assert main(["train", "mnist", *options]) == 0
    captured = capsys.readouterr()
    assert "the model is in trained/mnist-quick/model" in captured.out
    assert "epoch 2/2" in captured.err
    assert "nats/image" in captured.err
    record = json.loads(Path("trained/mnist-quick/config.json").read_text())
    assert record["data"] == "mnist"
    model = {"type": "PixelCNNConfig", "image_shape": [1, 28, 28], "levels": 4, "filters": 4, "blocks": 1}
    assert record["train"]["model"] == model | {"embedding": 0}
    assert main(["train", "mnist", *options]) == 0
    assert "has finished its 2 epochs" in capsys.readouterr().err
    assert main(["sample", "trained/mnist-quick", "-n", "2"]) == 0
    assert main(["evaluate", "trained/mnist-quick", "mnist"]) == 0
    assert "on 64 images of mnist" in capsys.readouterr().out

    timed = ["train", "mnist", "--filters", "4", "--layers", "2", "--kernel-size", "3", "--out", "g"]
    assert main([*timed, "--minutes", "0.02"]) == 0
    captured = capsys.readouterr()
    assert "epoch 1/" in captured.err
    record = json.loads(Path("g/config.json").read_text())["train"]
    assert (record["steps"], record["minutes"], record["model"]["type"]) == (None, 0.02, "GatedPixelCNNConfig")
    assert (record["model"]["layers"], record["model"]["places"], record["model"]["context"]) == (2, True, [4, 2])
    assert main([*timed, "--minutes", "0.02"]) == 0
    assert "has finished its" in capsys.readouterr().err
    assert main([*timed, "--minutes", "5"]) == 2
    assert "holds a run with minutes = 0.02, not 5.0" in capsys.readouterr().err
    assert main([*timed, "--minutes", "5", "--steps", "3"]) == 2
    assert "minutes must be None for a run of 3 steps, got 5.0" in capsys.readouterr().err
    assert main([*timed[:-1], "h", "--steps", "3"]) == 0  # instead of the preset's minute
    assert json.loads(Path("h/config.json").read_text())["train"]["minutes"] is None


WRONG = [
    (["train", "mnist", "--preset", "slow"], "invalid choice 'slow' for argument '--preset'"),
    (["train", "mnist", "--epochs", "many"], "--epochs"),
    (["train", "mnist", "--epochs", "0"], "epochs must be an integer of at least 1, got 0"),
    (["train", "mnist", "--schedule", "linear"], "invalid choice 'linear' for argument '--schedule'"),
    (["train", "mnist", "--accumulate", "0"], "accumulate must be an integer of at least 1, got 0"),
    (["train", "mnist", "--accumulate", "17"], "accumulate must be at most the batch size of 8, got 17"),
    (["train", "mnist", "--clip-norm", "0"], "clip_norm must be positive, got 0.0"),
    (["train", "mnist", "--weight-decay", "-1"], "weight_decay must be at least 0 and, times the learning rate"),
    (["train", "mnist", "--dropout", "1"], "dropout must be in 0..0.99, got 1.0"),
    (["train", "mnist", "--shift", "28"], "shift must be less than the images' 28 rows and 28 columns, got 28"),
    (["train", "mnist", "--finish", "first"], "invalid choice 'first' for argument '--finish'"),
    (["train", "mnist", "--keep-last", "1"], "keep_last must be an integer of at least 2, got 1"),
    (["train", "mnist", "--tensorboard"], "tensorboard is not installed: pip install 'pixelcnn[tensorboard]'"),
    (["train", "mnist", "--levels", "1"], "levels must be in 2..65536, got 1"),
    (["train", "mnist", "--device", "tpu"], "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
    (["train", "mnist", "--device", "cuda:99"], "device 'cuda:99' is not there"),
    (["train", "cifar"], "unknown data 'cifar'; known: mnist"),
    (["train", "mnist:test"], "takes its splits from --protocol"),
    (["train", "mnist", "--filters", "2000000"], "filters must be an integer in 1..65536, got 2000000"),
    (["train"], "DATA"),
    (["train", "mnist", "--out", "/proc/run"], "/proc/run"),
    (["train", "mnist", "--resume", "elsewhere"], "elsewhere is not a checkpoint"),
    (
        ["sample", "nothing"],
        "no model 'nothing': neither a shipped model (mnist, mnist-gray, mnist-seed, photos) nor a folder",
    ),
    (["sample", "MODEL", "-n", "0"], "n must be an integer in 1..2**63-1, got 0"),
    (["sample", "MODEL", "-n", "0", "--out", "sub/dir/x.png"], "n must be an integer in 1..2**63-1, got 0"),
    (["sample", "MODEL", "-n", "99999999999999999999"], "n must be an integer in 1..2**63-1, got 99999"),
    (["sample", "MODEL", "-n", "1000000000000000", "--out", "grid.png"], "not enough memory for 30,000,"),
    (["sample", "MODEL", "-n", "10001"], "--out must be given for more than 10000 images, got -n 10001: a folder for"),
    (["sample", "MODEL", "--first", "-1"], "first must be an integer in 0..2**62, got -1"),
    (["sample", "MODEL", "-n", "x"], "invalid literal for int() with base 10: 'x'"),
    (["sample", "MODEL", "--seed", "-1"], "seed must be an integer in 0..2**63-1, got -1"),
    (["sample", "MODEL", "--label", "11"], "--label must be left out, got 11"),
    (["sample", "MODEL", "--temperature", "0"], "temperature must be positive and finite, got 0.0"),
    (
        ["sample", "MODEL", "--out", "grid.jpg"],
        "--out must end in .png, for a grid, or have no ending, for a folder of",
    ),
    (["sample", "MODEL", "--out", "new", "--shard-size", "0"], "shard_size must be an integer of at least 1, got 0"),
    (["sample", "MODEL", "--out", "x.png", "--shard-size", "9"], "--shard-size is for shards: let --out name a folder"),
    (["sample", "MODEL", "--out", "x", "--separate", "--shard-size", "9"], "--shard-size is for shards"),
    (["sample", "MODEL", "--out", "."], ". exists and holds other things than samples; choose another folder"),
    (["sample", "MODEL", "--out", "afile"], "afile"),
    (["sample", "MODEL", "--out", "afile/shards"], "afile"),
    (["sample", "MODEL", "--out", "/proc/shards"], "/proc/shards"),
    (["sample", "MODEL", "--steps", "--out", "growing.mp4"], "--out must end in .gif or .png, got 'growing.mp4'"),
    (["sample", "MODEL", "--steps", "--engine", "reference"], "--steps draws with the fast engine only"),
    (["sample", "MODEL", "--steps", "--separate"], "--separate and --steps exclude each other"),
    (["sample", "MODEL", "--out", "/proc/samples.png"], "/proc"),
    (["sample", "MODEL", "--out", "afile/samples.png"], "afile"),
    (["sample", "MODEL", "--threads", "0"], "--threads must be an integer in 1..1024, got 0"),
    (["train", "mnist", "--threads", "1025"], "--threads must be an integer in 1..1024, got 1025"),
    (["sample", "MODEL", "--engine", "warp"], "invalid choice 'warp' for argument '--engine'"),
    (["sample", "TRUNCATED"], "model.safetensors is damaged"),
    (["sample", "FLIPPED"], "model.safetensors is damaged: its content does not match its checksum"),
    (["sample", "UNKNOWN"], "unknown field 'colour' for PixelCNNConfig"),
    (["compress", "MODEL", "mnist"], "mnist has images of (1, 28, 28), and the model (1, 6, 5)"),
    (["evaluate", "MODEL", "mnist:tset"], "split must be one of train, validation, test"),
    (["evaluate", "MODEL", "nowhere"], "unknown data 'nowhere'"),
    (["evaluate", "MODEL", "mnist", "--images", "0"], "--images must be at least 1, got 0"),
    (["bench", "MODEL", "--batches", "0"], "--batches must be numbers of at least 1, got 0"),
    (["bench", "MODEL", "--seconds", "0"], "--seconds must be in 0..3600 and not 0, got 0.0"),
    (["bench", "MODEL", "--out", "afile/bench.json"], "afile"),
    (["info", "."], ". is not a model's folder: it has no config.json"),
    (["info", "afile"], "afile: this is no pixelcnn stream"),
    (["paint"], "paint"),
    (["sample", "MODEL", "--out", "-"], "--out must be a path, got '-': standard output is /dev/stdout"),
    (["export-onnx", "MODEL", "-"], "OUT must be a path, got '-'"),
    (["sample", "MODEL", "--size", "99999999999999999999x1"], "--size must be a height and a width in 1..65536, as in"),
    (["sample", "MODEL", "--size", "65537x1"], "--size must be a height and a width in 1..65536, as in"),
    (["decompress", "MODEL"], "FILE must be a stream that pixelcnn compress wrote, got"),
    (
        ["decompress", "/dev/null"],
        "FILE must be a stream that pixelcnn compress wrote, got '/dev/null': that is a pipe",
    ),
    (["train", "mnist", "--epochs", "2", "--steps", "3"], "--epochs must be left out beside --steps and --minutes"),
    (["train", "mnist", "--epochs=2", "--minutes=3"], "--epochs must be left out beside --steps and --minutes"),
    (["train", ".", "--out", "run"], "--out must lie outside ., whose files are read, got 'run'"),
    (["train", "."], "--out must lie outside ., whose files are read, got 'trained/"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model and damaged copies of it, by the names that stand for their folders in WRONG."""
    base = tmp_path_factory.mktemp("folders")
    folders = {name: base / name for name in ("MODEL", "TRUNCATED", "FLIPPED", "UNKNOWN")}
    for folder in folders.values():
        pixelcnn.PixelCNN((1, 6, 5), levels=3, filters=6, blocks=1).save_pretrained(folder)
    weights = (base / "FLIPPED" / "model.safetensors").read_bytes()
    (base / "FLIPPED" / "model.safetensors").write_bytes(weights[:-5] + bytes([weights[-5] ^ 4]) + weights[-4:])
    (base / "TRUNCATED" / "model.safetensors").write_bytes(weights[:-100])
    config = (base / "UNKNOWN" / "config.json").read_text()
    (base / "UNKNOWN" / "config.json").write_text(config.replace("{", '{"colour": true,', 1))
    return {name: str(folder) for name, folder in folders.items()}


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, folders, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
    Path("afile").touch()
    before = set(Path().rglob("*"))

    assert main([folders.get(a, a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pixelcnn: ")
    assert message in captured.err
    assert captured.err.index("\n") == len(captured.err) - 1
    assert set(Path().rglob("*")) == before


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_wrong_options_are_told_without_frames(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["sample", "mnist", "-n", "1.5"]) == 2
    stream.flush()
    (line,) = stream.buffer.getvalue().decode().splitlines()
    assert line.startswith("pixelcnn: Error parsing -n/--n: invalid literal for int() with base 10: '1.5'; ")
    assert "---" not in line


def test_no_traceback_from_a_real_process():
    done = subprocess.run(
        [sys.executable, "-m", "pixelcnn", "sample", "nothing"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_ctrl_c_says_so(monkeypatch, model, capsys):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pixelcnn.sampling.sample", interrupt)
    assert main(["sample", model]) == 130
    assert capsys.readouterr().err == "pixelcnn: stopped\n"


def test_help_does_not_import_torch():
    code = "import sys; from pixelcnn.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
