"""The front on the grid is what whole images are, to the bit; samples do not depend on how they are drawn."""

import pytest
import torch

import pixelcnn
from pixelcnn.exact.frequencies import TOTAL_BITS
from pixelcnn.exact.prepared import prepare
from pixelcnn.exact.walk import sample_exactly, walk
from pixelcnn.randomness import uniforms
from twins import MODELS, built, inputs


@pytest.mark.parametrize("name", MODELS)
def test_the_walk_sees_what_whole_images_say(name):
    prepared = prepare(built(name))
    images, labels = inputs(prepared.model, 5)
    expected = prepared.cumulative(images, labels)  # (N, C, H, W, levels + 1)
    given = images.flatten(2).long()
    seen = torch.zeros_like(expected.flatten(2, 3))

    def choose(channel, pixels, cumulative):
        seen[:, channel, pixels] = cumulative.transpose(0, 1)
        return given[:, channel, pixels].t()

    made = torch.zeros_like(images)
    for _ in walk(prepared, made, prepared.model.condition_of(labels, 5), choose):
        pass
    assert torch.equal(made, images)
    assert torch.equal(seen.view_as(expected), expected)


@pytest.mark.parametrize("engine", ["native", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_samples_are_those_of_one_forward_a_subpixel(name, engine):
    prepared = prepare(built(name))
    c, h, w = prepared.model.image_shape
    _, labels = inputs(prepared.model, 3)
    u = uniforms(7, 2, 3, h * w * c, torch.device("cpu")).view(3, h, w, c)
    expected = torch.zeros(3, c, h, w, dtype=torch.uint8)
    for i in range(h):
        for j in range(w):
            for k in range(c):
                cumulative = prepared.cumulative(expected, labels)[:, k, i, j]
                goal = (u[:, i, j, k] * 2**TOTAL_BITS).floor().long()
                expected[:, k, i, j] = (cumulative[:, 1:-1] <= goal.unsqueeze(1)).sum(1).to(torch.uint8)
    assert torch.equal(sample_exactly(prepared, 3, labels, seed=7, first=2, engine=engine), expected)


@pytest.mark.parametrize("name", MODELS)
def test_engines_draw_the_same_of_many(name):
    prepared = prepare(built(name))
    _, labels = inputs(prepared.model, 40)
    native = sample_exactly(prepared, 40, labels, engine="native")
    assert torch.equal(native, sample_exactly(prepared, 40, labels, engine="eager"))


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_batch_and_threads_do_not_matter(engine):
    prepared = prepare(built("attention"))
    expected = sample_exactly(prepared, 6, seed=1, engine=engine)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            parts = [sample_exactly(prepared, n, seed=1, first=k, engine=engine) for k, n in ((0, 1), (1, 3), (4, 2))]
            assert torch.equal(torch.cat(parts), expected)
    finally:
        torch.set_num_threads(threads)


def test_they_are_next_to_the_models_own_samples():
    """The same uniform numbers: nearly every digit is the same."""
    model = pixelcnn.load("mnist")
    same = (sample_exactly(prepare(model), 16, seed=3) == model.sample(16, seed=3)).flatten(1).all(1)
    assert same.float().mean() > 0.5


def test_wrong_arguments_are_refused(monkeypatch):
    prepared = prepare(built("gated"))
    with pytest.raises(ValueError, match="seed must be"):
        sample_exactly(prepared, 1, seed=-1)
    with pytest.raises(ValueError, match="labels"):
        sample_exactly(prepared, 2, labels=torch.tensor([0, 9]))
    monkeypatch.setattr("pixelcnn.exact.walk.why_not_native", lambda _: "no compiler")
    with pytest.raises(ValueError, match="engine 'native' cannot run this model here: no compiler"):
        sample_exactly(prepared, 2, engine="native")
    assert len(sample_exactly(prepared, 2)) == 2
