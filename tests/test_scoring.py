"""Scores by their definitions, classes by Bayes' rule, tables and maps."""

import csv
import io
import json
import math
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.config import DataConfig
from pixelcnn.evaluation import bootstrap_interval, evaluate
from pixelcnn.images import surprise_map, surprise_of, to_pil
from pixelcnn.models import OrderEnsemble
from pixelcnn.scoring import Scores, compressed_bits, score

DIMS = 30 * math.log(2)


def small(**options):
    return pixelcnn.GatedPixelCNN((1, 6, 5), levels=3, filters=6, layers=2, **options).eval()


def levels(n, top=3):
    return torch.randint(top, (n, 1, 6, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@torch.no_grad()
def test_scores_are_what_they_say():
    model, background, images, reference = small(), small(), levels(70), levels(9).flip(2)
    log_prob = model.log_prob(images).double()
    bits = -log_prob / DIMS
    found = score(model, images)
    torch.testing.assert_close(found.log_prob, log_prob)
    torch.testing.assert_close(found.bits_per_dim, bits)
    assert torch.equal(found.score, found.bits_per_dim)
    ratio = score(model, images, method="ratio", background=background).score
    torch.testing.assert_close(ratio, bits + background.log_prob(images).double() / DIMS)
    complexity = score(model, images, method="complexity").score
    torch.testing.assert_close(complexity, bits - compressed_bits(images, 3) / 30)
    typical = (-model.log_prob(reference).double() / DIMS).mean()
    each = score(model, images, method="typicality", reference=reference).score
    torch.testing.assert_close(each, (bits - typical).abs())
    batches = score(model, images, method="typicality", reference=reference, batch=32).score
    expected = [(part.mean() - typical).abs() for part in bits.split(32)]
    torch.testing.assert_close(batches, torch.stack(expected).repeat_interleave(torch.tensor([32, 32, 6])))


def test_the_best_compressor_counts():
    images = torch.stack([torch.zeros(1, 28, 28), torch.ones(1, 28, 28)]).to(torch.uint8)
    sizes = []
    for image in images:
        deflated = len(zlib.compress(np.packbits(image.numpy()).tobytes(), 9))
        buffers = [io.BytesIO(), io.BytesIO()]
        to_pil(image, 2).convert("1").save(buffers[0], "PNG", optimize=True)
        to_pil(image, 2).save(buffers[1], "WEBP", lossless=True, quality=100, method=4)
        sizes.append(8 * min(deflated, *(buffer.tell() for buffer in buffers)))
    assert compressed_bits(images, 2).tolist() == sizes
    noise = torch.randint(256, (1, 2, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert compressed_bits(noise, 256) >= 8 * noise.numel()  # two channels: DEFLATE alone
    for channels in (1, 3):  # of 12 bits, of which 8-bit pictures would lose four
        noise = torch.randint(2**12, (1, channels, 28, 28), generator=torch.Generator().manual_seed(0))
        assert compressed_bits(noise, 2**12) >= 12 * noise.numel()


def test_scores_that_are_nearly_equal_are_shown_in_few_bars(monkeypatch):
    values = 1 + 1e-3 * torch.linspace(0, 1, 100, dtype=torch.float64)
    values[0] = 5.0
    shown = []
    monkeypatch.setattr("pixelcnn.scoring.figure_png", shown.append)
    Scores(log_prob=values, bits_per_dim=values, score=values)._repr_png_()
    assert len(shown[0].axes[0].patches) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of likelihood, ratio, complexity, typicality, got 'magic'"),
        ({"method": "ratio"}, "background must be given for the score 'ratio'"),
        ({"reference": levels(1)}, "reference must be left out for the score 'likelihood'"),
        ({"method": "typicality", "reference": levels(0)}, "reference images must hold at least one image, got 0"),
        ({"method": "typicality", "reference": levels(1).mT}, r"reference images must have shape \(N, 1, 6, 5\), got"),
        ({"method": "typicality", "reference": levels(1), "batch": 0}, "batch must be an integer of at least 1"),
        ({"batch": 2}, "batch must be 1 unless the score is typicality, got 2"),
        ({"method": "ratio", "background": pixelcnn.PixelCNN((3, 6, 5), filters=6, blocks=0)}, r"shape \(N, 3, 6, 5\)"),
        (
            {"method": "ratio", "background": pixelcnn.PixelCNN((1, 6, 5), levels=256, filters=4, blocks=0)},
            r"background must be for images of shape \(N, 1, 6, 5\) and 3 levels, as the model is, got one for "
            r"images of shape \(N, 1, 6, 5\) and 256 levels",
        ),
        ({"images": levels(0)}, "images must hold at least one image, got 0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        score(small(), **({"images": levels(2)} | options))


@torch.no_grad()
def test_classes_by_bayes_rule():
    model, images = small(num_classes=4).double(), levels(20)
    likelihoods = torch.stack([model.log_prob(images, torch.full((20,), k)) for k in range(4)], 1).exp()
    torch.testing.assert_close(model.classify(images).exp(), likelihoods / likelihoods.sum(1, keepdim=True))
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    joint = likelihoods * prior
    torch.testing.assert_close(model.classify(images, 7 * prior).exp(), joint / joint.sum(1, keepdim=True))
    assert torch.equal(model.classify(images, [1, 2, 3, 4]), model.classify(images, [1.0, 2.0, 3.0, 4.0]))
    half, counts = small(num_classes=4).bfloat16(), torch.tensor([1000.0, 1010, 1020, 1030])
    expected = (half.classify(images) + counts.log()).log_softmax(1)
    torch.testing.assert_close(half.classify(images, counts), expected)
    for wrong in (torch.ones(3), torch.ones(4).bool(), [1.0] * 3):
        with pytest.raises(ValueError, match=r"prior must hold numbers, \(4,\), got tensor.*$"):
            model.classify(images, wrong)
    with pytest.raises(ValueError, match="prior must be positive and finite"):
        model.classify(images, torch.tensor([1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="classify needs a class-conditional model"):
        small().classify(images)


def test_the_interval_is_the_bootstraps():
    """Of normal values mean +- 1.96 standard errors; 0.21 is three errors of a 2.5 % quantile of 1,000."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap_interval(values)
    error = values.std().item() / 20
    assert abs((low - values.mean().item()) / error + 1.96) < 0.25
    assert abs((high - values.mean().item()) / error - 1.96) < 0.25
    assert bootstrap_interval(values) == (low, high)
    assert all(map(math.isnan, bootstrap_interval(values[:1])))
    many = torch.randn(120_001, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap_interval(many)  # in groups
    assert abs((high - low) / (2 * 1.96 * many.std().item() / 120_001**0.5) - 1) < 0.2


@torch.no_grad()
def test_evaluation_by_class():
    model, images, labels = small(num_classes=3), levels(50), torch.arange(50) % 2
    found = evaluate(model, images, labels)
    assert sorted(found.by_class) == [0, 1]
    part = found.by_class[1]
    assert part.images == 25
    assert part.nats_per_image == pytest.approx(-model.log_prob(images, labels)[labels == 1].mean().item())
    assert found.interval[0] < found.nats_per_image < found.interval[1]
    assert found.images_per_second > 0
    assert evaluate(model, images).by_class == {}


@pytest.fixture
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small(num_classes=3).save_pretrained("model")
    small().save_pretrained("plain")
    np.savez("data.npz", images=levels(12).numpy(), labels=np.arange(12) % 3)


@pytest.mark.usefixtures("_files")
@torch.no_grad()
def test_the_table_and_the_maps(capsys):
    options = ["--score", "ratio", "--background", "plain", "--classify", "--maps", "maps", "--images", "10"]
    assert main(["score", "model", "data.npz", *options, "--out", "deep/scores.csv"]) == 0
    model, images = pixelcnn.load("model"), levels(12)[:10]
    found = score(model, images, method="ratio", background=pixelcnn.load("plain"))
    with open("deep/scores.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == [str(k) for k in range(10)]
    for name, values in (("log_prob", found.log_prob), ("bits_per_dim", found.bits_per_dim), ("ratio", found.score)):
        assert [float(line[name]) for line in lines] == pytest.approx(values.tolist(), abs=1e-6)
    posterior = model.classify(images).exp()
    assert [int(line["class"]) for line in lines] == posterior.argmax(1).tolist()
    assert [float(line["probability"]) for line in lines] == pytest.approx(posterior.amax(1).tolist(), abs=1e-5)
    out = capsys.readouterr().out
    assert f"10 images of data.npz under model: {found.bits_per_dim.mean():.5f} bits/dim" in out
    with Image.open("maps/00009.png") as picture:
        assert picture.size == (720, 340)
    assert main(["score", "model", "data.npz", "--labels"]) == 0
    with open("scores.csv") as file:
        given = [float(line["log_prob"]) for line in csv.DictReader(file)]
    expected = model.log_prob(levels(12), torch.arange(12) % 3)
    assert given == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.usefixtures("_files")
def test_a_split_is_scored_by_the_shares_of_training():
    assert main(["score", "model", "data.npz:test", "--test", "0.5", "--out", "part.csv"]) == 0
    with open("part.csv") as file:
        found = [line["image"] for line in csv.DictReader(file)]
    data = pixelcnn.datasets.open_data("data.npz:test", 3, config=DataConfig(test=0.5))
    assert found == data.names()
    assert 0 < len(found) < 12


@pytest.mark.usefixtures("_files")
@torch.no_grad()
def test_classes_given_a_map():
    small(num_classes=3, condition_channels=1).save_pretrained("given")
    maps = np.random.default_rng(0).random((12, 1, 3, 5), np.float32) * 100
    np.save("maps.npy", maps)
    assert main(["score", "given", "data.npz", "--classify", "--condition", "maps.npy"]) == 0
    with open("scores.csv") as file:
        found = [float(line["probability"]) for line in csv.DictReader(file)]
    model, images = pixelcnn.load("given"), levels(12)
    each = [model.log_prob(images, torch.full((12,), k), condition=maps) for k in range(3)]
    expected = torch.stack(each, 1).softmax(1).amax(1)
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    assert (expected - model.classify(images).exp().amax(1)).abs().max() > 1e-4


@pytest.mark.usefixtures("_files")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_no_table_takes_are_escaped(monkeypatch, capsys):
    """Bytes that are not UTF-8 and line breaks, of a picture's name and of its class."""
    for k, name in enumerate([b"d\n\xff/ok.png", b"d\n\xff/a\xfe.png", b"e/\xc3\xa9.png"]):
        path = Path(os.fsdecode(b"photos/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 5), 80 * k, np.uint8)).save(path)
    pixelcnn.GatedPixelCNN((1, 6, 5), 4, filters=4, layers=2, num_classes=2).save_pretrained("two")
    posteriors = torch.eye(2)[[0, 0, 1]]  # or one class may be the more probable one of all
    monkeypatch.setattr("pixelcnn.cli.options.class_posteriors", lambda *_: posteriors)
    assert main(["score", "two", "photos", "--classify"]) == 0
    with open("scores.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == ["d\\n\\xff/a\\xfe.png", "d\\n\\xff/ok.png", "e/é.png"]
    assert [line["class"] for line in lines] == ["d\\n\\xff", "d\\n\\xff", "e"]
    assert main(["evaluate", "two", "photos"]) == 0
    assert "  class d\\n\\xff " in capsys.readouterr().out
    assert main(["complete", "two", "photos", "--keep-rows", "3", "-n", "1"]) == 0
    assert "image d\\n\\xff/a\\xfe.png: effective" in capsys.readouterr().out


@torch.no_grad()
def test_a_map_is_in_bits():
    model, image = pixelcnn.PixelCNN((3, 4, 4), levels=4, filters=6, blocks=1), torch.zeros(3, 4, 4, dtype=torch.uint8)
    log_probs = model.log_prob_map(image[None])[0]
    assert surprise_of(log_probs).shape == (4, 4)
    assert surprise_of(log_probs).sum().item() == pytest.approx(-model.log_prob(image[None]).item() / math.log(2))
    pictures = [surprise_map(image, log_probs, 4, "no $x^$ formula", most) for most in (None, 1.0)]
    assert pictures[0] != pictures[1]
    assert surprise_map(image, log_probs * 0, 4).startswith(b"\x89PNG")  # nothing surprises


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "data.npz", "--score", "ratio"], "--background must be given for --score ratio"),
        (["model", "data.npz", "--background", "plain"], "--background must be left out for --score likelihood"),
        (["model", "data.npz", "--score", "typicality"], "--reference must be given for --score typicality"),
        (
            ["plain", "data.npz", "--score", "ratio", "--background", "mnist-gray"],
            "background must be for images of shape (N, 1, 6, 5) and 3 levels",
        ),
        (["plain", "data.npz", "--classify"], "--classify needs classes, and plain has none"),
        (["plain", "data.npz", "--labels"], "--labels needs classes, and plain has none"),
        (["model", "data.npz", "--images", "0"], "--images must be at least 1, got 0"),
        (["model", "nothing"], "unknown data 'nothing'"),
        (["model", "mnist:test", "--labels"], "--labels needs the model's 3 classes, and mnist:test has 10"),
        (["model", "data.npz", "--batch", "3"], "batch must be 1 unless the score is typicality"),
    ],
)
def test_wrong_input(arguments, message, capsys, tmp_path):
    assert main(["score", *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"pixelcnn: {message}")
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.usefixtures("_files")
def test_what_cannot_be_written_is_told_before_the_work(capsys):
    """A table or maps in place of the data, and maps of a mixture, which has none."""
    both = small()
    OrderEnsemble([both, both], ["right-down", "left-up"]).save_pretrained("mixture")
    Path("photos").mkdir()
    Image.new("L", (5, 6)).save("photos/00000.png")
    before = Path("photos/00000.png").read_bytes(), Path("data.npz").read_bytes()
    for arguments, said in (
        (["model", "data.npz", "--out", "data.npz"], "--out must not be data.npz, which is read"),
        (["model", "data.npz:test", "--test", "0.5", "--out", "data.npz"], "--out must not be data.npz, which is read"),
        (["model", "photos", "--maps", "photos"], "--maps must lie outside photos, whose files are read, got 'photos'"),
        (["model", "photos:test", "--maps", "photos/maps"], "--maps must lie outside photos, whose files are read"),
        (["mixture", "data.npz", "--maps", "maps"], "--maps must be left out, got maps: mixture is a mixture"),
    ):
        assert main(["score", *arguments]) == 2
        assert capsys.readouterr().err.startswith(f"pixelcnn: {said}")
    assert (Path("photos/00000.png").read_bytes(), Path("data.npz").read_bytes()) == before
    assert not Path("maps").exists()
    assert not Path("scores.csv").exists()


@pytest.mark.usefixtures("_files")
def test_evaluate_as_json(capsys):
    assert main(["evaluate", "model", "data.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    result = evaluate(pixelcnn.load("model"), levels(12), torch.arange(12) % 3)
    assert found["model"] == "model"
    assert found["data"] == "data.npz"
    assert found["images"] == 12
    assert found["nats_per_image"] == pytest.approx(result.nats_per_image)
    assert found["interval"] == pytest.approx(list(result.interval))
    assert found["by_class"]["2"]["nats_per_image"] == pytest.approx(result.by_class[2].nats_per_image)
    assert main(["evaluate", "model", "data.npz", "--json", "--images", "1"]) == 0
    single = json.loads(capsys.readouterr().out)
    assert single["standard_error"] is None
    assert single["interval"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.usefixtures("_files")
def test_json_has_no_letters_that_no_text_has(capsys):
    """Names that are not UTF-8 are half surrogates in Python, which strict readers of JSON refuse."""
    name = os.fsdecode(b"m\xff")
    os.rename("model", name)
    assert main(["evaluate", name, "data.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "m\\xff"


def test_scores_are_compared_as_objects():
    """Tensors have no truth value."""
    first, second = (Scores(log_prob=torch.ones(2), bits_per_dim=torch.ones(2), score=torch.ones(2)) for _ in range(2))
    assert first != second
    assert second in [first, second]
