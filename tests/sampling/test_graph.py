"""The graph engine as far as it goes without a GPU: static buffers, and what is kept for how long."""

import gc

import pytest
import torch

import pixelcnn
from pixelcnn.models.summary import summary
from pixelcnn.sampling import Draw, blank
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.graph import Capture, GraphSampler, _size, why_not_graph
from pixelcnn.sampling.weight_cache import WeightKeyedCache


def small(dtype=torch.float32):
    return pixelcnn.PixelCNN(
        (2, 5, 6), levels=3, filters=8, blocks=1, generator=torch.Generator().manual_seed(0)
    ).to(dtype)  # fmt: skip


@pytest.fixture
def repeated(monkeypatch):
    """In place of a graph that is replayed, the work again, after it has run once as if to be captured."""
    monkeypatch.setattr("pixelcnn.sampling.graph.cuda_graph", lambda work, rehearse, *_: rehearse() or work)


def plusplus(dtype=torch.float32):
    """Values ahead of the pixels, conditions, and channels that the network does not part."""
    generator = torch.Generator().manual_seed(0)
    return pixelcnn.PixelCNNPlusPlus(
        (2, 5, 6), levels=5, filters=6, blocks=1, mixtures=2, num_classes=3, generator=generator
    ).to(dtype)  # fmt: skip


def gated(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return pixelcnn.GatedPixelCNN(
        (2, 5, 6), levels=3, filters=8, layers=3, num_classes=3, generator=generator
    ).to(dtype)  # fmt: skip


def attentive(dtype=torch.float32):
    """Keys and values that are kept, of which each step of a capture reads so many."""
    generator = torch.Generator().manual_seed(0)
    return pixelcnn.GatedPixelCNN(
        (2, 5, 6), levels=3, filters=8, layers=3, attention=2, num_classes=3, generator=generator
    ).to(dtype)  # fmt: skip


def drawn(model, draw):
    sampler, images = GraphSampler(model, draw), blank(model, draw.n)
    assert sum(sampler.run(images, draw)) == sampler.steps
    return images


@pytest.mark.usefixtures("repeated")
@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("build", [small, gated, plusplus, attentive])
def test_a_capture_draws_what_the_eager_engine_draws(build, precision):
    """One after the other into the same buffers, fewer images than captured, another temperature."""
    model = build()
    capture = Capture(model, 8, precision=precision)
    for n, seed, first, temperature in ((8, 4, 0, 1.0), (5, 4, 8, 1.0), (1, 2, 3, 2.0), (8, 4, 0, 1.0)):
        images = torch.zeros(n, 2, 5, 6, dtype=torch.uint8)
        capture.draw(model, images, Draw(n, None, seed, temperature, first))
        expected = torch.zeros(8, 2, 5, 6, dtype=torch.uint8)
        whole = Draw(8, None, seed, temperature, first, precision=precision)
        for _ in EagerSampler(model, whole).run(expected, whole):
            pass
        assert torch.equal(images, expected[:n])


@pytest.mark.usefixtures("repeated")
@pytest.mark.parametrize(("build", "guidances"), [(gated, (1.0, 2.5)), (plusplus, (1.0,)), (attentive, (1.0, 2.5))])
def test_labels_and_guidance_are_not_captured(build, guidances):
    """One capture for all labels; a second for all values of guidance but 1."""
    model = build(torch.float64)
    for guidance in guidances:
        capture = Capture(model, 8, conditional=True, guided=guidance != 1)
        drawn = []
        for n, shift, strength in ((8, 0, guidance), (5, 1, guidance), (8, 0, guidance * guidance)):
            labels = (torch.arange(n) + shift) % 3
            images = torch.zeros(n, 2, 5, 6, dtype=torch.uint8)
            capture.draw(model, images, Draw(n, labels, 4, guidance=strength))
            assert torch.equal(images, model.sample(n, labels, seed=4, guidance=strength, engine="reference"))
            drawn.append(images)
        assert not torch.equal(drawn[0][:5], drawn[1])
        assert torch.equal(drawn[0], drawn[2]) == (guidance == 1)


@pytest.mark.usefixtures("repeated")
def test_a_sampler_draws_by_the_capture_for_the_next_size(monkeypatch):
    made = []

    def capture(model, n, *others):
        made.append((n, *others))
        return Capture(model, n, *others)

    monkeypatch.setattr("pixelcnn.sampling.graph.Capture", capture)
    model = gated(torch.float64)
    expected = model.sample(7, seed=4, engine="reference")
    for n in (7, 5, 8):
        assert torch.equal(drawn(model, Draw(n, seed=4))[:7], expected[:n])
    assert made == [(8, False, False, None)]
    labels = torch.tensor([0, 2, 1, 1, -1, 2])
    for guidance in (1.0, 3.0, 2.0):
        found = drawn(model, Draw(6, labels, 4, guidance=guidance))
        assert torch.equal(found, model.sample(6, labels, seed=4, guidance=guidance, engine="reference"))
    assert made[1:] == [(8, True, False, None), (8, True, True, None)]


def test_sizes():
    assert [_size(n) for n in (1, 2, 3, 5, 64, 65, 128, 129)] == [1, 2, 4, 8, 64, 128, 128, 192]
    batch = GraphSampler.batch(pixelcnn.load("mnist"))
    assert _size(batch) == batch >= 64


def test_without_a_gpu_it_is_refused():
    assert why_not_graph(small()) == "the model is on cpu"
    with pytest.raises(ValueError, match="engine 'graph' cannot run this model here: the model is on cpu"):
        small().sample(1, engine="graph", seed=0)


def test_what_is_kept_goes_with_the_weights():
    kept, model, made = WeightKeyedCache(size=2), small(), []

    def get(key):
        return kept.get(model, key, lambda: made.append(key) or object())

    a = get("a")
    assert get("a") is a
    get("b")
    assert get("a") is a, "used last"
    get("c")
    assert get("a") is a
    get("b")
    assert made == ["a", "b", "c", "b"], "two are kept"
    model.output.bias.data += 1  # goes past the tensor's version counter
    assert get("a") is not a
    before = get("a")
    model.double()
    assert get("a") is not before


def test_what_is_kept_goes_with_the_model():
    kept, model = WeightKeyedCache(size=2), small()
    kept.get(model, "a", object)
    assert len(kept._results) == 1
    del model
    gc.collect()
    assert len(kept._results) == 0


def test_a_capture_does_not_keep_the_model(monkeypatch):
    monkeypatch.setattr("pixelcnn.sampling.graph.cuda_graph", lambda *_: lambda: None)
    kept = WeightKeyedCache(size=2)

    def keep(model, conditional):
        kept.get(model, "a", lambda: Capture(model, 2, conditional, conditional))
        assert len(kept._results) == 1

    for build in (small, gated, plusplus, attentive):
        keep(build(), build is not small)
        gc.collect()
        assert len(kept._results) == 0


def test_the_summary_names_it_where_it_draws(monkeypatch):
    assert "engine: graph" not in summary(small())
    monkeypatch.setattr("pixelcnn.models.summary.why_not_graph", lambda _: None)  # as on a GPU
    assert summary(small()).endswith("engine: graph, replayed by the GPU")
