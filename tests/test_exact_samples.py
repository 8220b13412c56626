"""Exact samples: those of one forward pass per sub-pixel, in every engine, batch and number of threads, to the bit."""

import hashlib

import pytest
import torch

import pixelcnn
from pixelcnn.exact import prepare
from pixelcnn.frequencies import TOTAL_BITS
from pixelcnn.models.ensemble import OrderEnsemble
from pixelcnn.randomness import uniforms
from pixelcnn.shards import write_shards
from twins import MODELS, built, inputs

GOLDEN = {"mnist": "d48c4545253b59ed", "mnist-gray": "cae84bda9781ce14", "mnist-seed": "5f9e85b6722260de"}
ENGINES = ("native", "eager", "reference", "fast")


@pytest.mark.parametrize("name", MODELS)
def test_samples_are_those_of_one_forward_a_subpixel(name):
    model = built(name)
    prepared = prepare(model)
    c, h, w = model.image_shape
    _, labels = inputs(prepared.model, 3)
    u = uniforms(7, 2, 3, h * w * c, torch.device("cpu")).view(3, h, w, c)
    expected = torch.zeros(3, c, h, w, dtype=torch.uint8)
    for i in range(h):
        for j in range(w):
            for k in range(c):
                cumulative = prepared.cumulative(expected, labels)[:, k, i, j]
                goal = (u[:, i, j, k] * 2**TOTAL_BITS).floor().long()
                expected[:, k, i, j] = (cumulative[:, 1:-1] <= goal.unsqueeze(1)).sum(1).to(torch.uint8)
    for engine in ENGINES:
        assert torch.equal(model.sample(3, labels, seed=7, first=2, engine=engine, exact=True), expected), engine
    *_, grown = model.sample_steps(3, labels, seed=7, first=2, exact=True)
    assert torch.equal(grown, expected)
    chunks = model.sample_stream(3, labels, seed=7, first=2, exact=True, chunk=2)
    assert torch.equal(torch.cat(list(chunks)), expected)


@pytest.mark.parametrize("name", MODELS)
def test_engines_draw_the_same_of_many(name):
    model = built(name)
    _, labels = inputs(prepare(model).model, 40)
    native = model.sample(40, labels, engine="native", exact=True, seed=0)
    assert torch.equal(native, model.sample(40, labels, engine="eager", exact=True, seed=0))


@pytest.mark.parametrize("engine", ENGINES)
def test_batch_and_threads_do_not_matter(engine):
    model = built("attention")
    expected = model.sample(6, seed=1, engine=engine, exact=True)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            parts = [model.sample(n, seed=1, first=k, engine=engine, exact=True) for k, n in ((0, 1), (1, 3), (4, 2))]
            assert torch.equal(torch.cat(parts), expected)
    finally:
        torch.set_num_threads(threads)


def test_an_ensembles_samples_are_those_of_its_parts():
    member = built("pixelcnn")
    model = OrderEnsemble([member, member], ["right-down", "left-up"])
    drawn = model.sample(12, seed=2, exact=True)
    assert torch.equal(drawn, model.sample(12, seed=2, engine="reference", exact=True))
    assert torch.equal(drawn[5:9], model.sample(4, seed=2, first=5, exact=True))


def test_they_are_next_to_the_models_own_samples():
    """The same uniform numbers: nearly every digit is the same."""
    model = pixelcnn.load("mnist")
    same = (model.sample(16, seed=3, exact=True) == model.sample(16, seed=3)).flatten(1).all(1)
    assert same.float().mean() > 0.5


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_samples(name):
    """What the first version drew, on one machine; every other one must draw the same."""
    images = pixelcnn.load(name).sample(4, seed=11, exact=True)
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == GOLDEN[name]


def test_weights_that_change_change_the_samples():
    model = built("pixelcnn")
    before = model.sample(5, exact=True, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-1)
    assert not torch.equal(model.sample(5, exact=True, seed=0), before)


def test_wrong_arguments_are_refused(monkeypatch):
    model = built("gated")
    with pytest.raises(ValueError, match="seed must be"):
        model.sample(1, seed=-1, exact=True)
    with pytest.raises(ValueError, match="labels"):
        model.sample(2, torch.tensor([0, 9]), exact=True, seed=0)
    for wrong in ({"temperature": 0.5}, {"guidance": 2.0}):
        with pytest.raises(ValueError, match="exact samples are of the model's own distribution"):
            model.sample(2, torch.tensor([0, 1]), exact=True, **wrong)
    with pytest.raises(ValueError, match="engine 'graph' cannot run this model here"):
        model.sample(2, engine="graph", exact=True, seed=0)
    monkeypatch.setattr("pixelcnn.sampling.native.why_not", lambda *_: "no compiler")
    with pytest.raises(ValueError, match="engine 'native' cannot run this model here: no compiler"):
        model.sample(2, engine="native", exact=True, seed=0)
    assert len(model.sample(2, exact=True, seed=0)) == 2


def test_shards_remember_that_they_are_exact(tmp_path, monkeypatch):
    model = built("pixelcnn")
    assert write_shards(model, 5, tmp_path / "a", exact=True) == 5
    monkeypatch.setattr("pixelcnn.sampling.native.why_not", lambda *_: "no compiler")
    assert write_shards(model, 9, tmp_path / "a", exact=True, shard_size=10_000) == 9  # another engine: no warning
    with pytest.raises(ValueError, match="holds samples with exact = True, not False"):
        write_shards(model, 9, tmp_path / "a")
