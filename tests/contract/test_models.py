"""Every model through the invariants of an exact, causal, normalised image model; test_model_draws.py draws from it."""

import pytest
import torch
from every_model import CASES, EVERY, TINY, WITH_ATTENTION, build, every_image, labels_for, raster

from pixelcnn.likelihoods import LogisticMixture
from pixelcnn.models import MODELS
from pixelcnn.models.base import load


@pytest.mark.parametrize(("name", "shape", "levels"), CASES)
def test_jacobian_is_exactly_causal(name, shape, levels):
    model = build(name, shape, levels)
    generator = torch.Generator().manual_seed(2)
    images = (torch.rand(1, *shape, generator=generator) * (levels - 1)).double().requires_grad_()
    params = raster(model(images, labels_for(model, 1))[0])
    projected = (params * torch.randn(params.shape[-1], generator=generator, dtype=torch.float64)).sum(-1)
    seen = []
    for k in range(len(projected)):
        (gradient,) = torch.autograd.grad(projected[k], images, retain_graph=True)
        gradient = raster(gradient[0])
        assert gradient[k:].eq(0).all(), f"sub-pixel {k} depends on itself or a later one"
        seen.append(gradient[:k].ne(0).sum().item())
    assert seen[0] == 0
    blind = seen.count(0)  # the first, and a few whose ReLUs are all off
    assert blind <= 1 + len(seen) // 10, "most sub-pixels see no earlier one: the test above proves nothing"


@pytest.mark.parametrize("name", WITH_ATTENTION)
@pytest.mark.parametrize("shape", [(1, 9, 11), (3, 6, 7)])
def test_attention_sees_every_earlier_pixel(name, shape):
    """The last pixel does, all channels, where the same network without attention sees less."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(1, *shape, generator=generator).double().requires_grad_()

    def seen(name):
        params = build(name, shape, 2)(images)[0, 0, -1, -1].sum()
        (gradient,) = torch.autograd.grad(params, images)
        return gradient[0].ne(0).flatten(1)

    with_attention, without = seen(name), seen(name.split()[0])
    assert with_attention[:, :-1].all()
    assert not with_attention[:, -1].any()
    assert not without[:, :-1].all()


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_without_attention_blocks_it_is_the_network_that_it_was(name):
    """The weights that both have begin with the same values."""
    with_attention, without = (
        MODELS[name.split()[0]](
            (3, 4, 4), 3, **(EVERY[name] | {"attention": blocks}), generator=torch.Generator().manual_seed(0)
        ).state_dict()
        for blocks in (2, 0)
    )
    assert all(torch.equal(with_attention[key], tensor) for key, tensor in without.items())
    assert {key.split(".")[0] for key in with_attention.keys() - without.keys()} == {"attention"}


@pytest.mark.parametrize(("name", "shape", "levels"), TINY)
def test_probabilities_sum_to_one(name, shape, levels):
    model = build(name, shape, levels)
    images = every_image(shape, levels)
    conditions = [None] if labels_for(model, 1) is None else [None, 0, 3]
    totals = set()
    for label in conditions:
        labels = None if label is None else torch.full((len(images),), label)
        log_prob = model.log_prob(images, labels)
        assert abs(torch.logsumexp(log_prob, dim=0).exp().item() - 1) < 1e-9
        totals.add(log_prob[0].item())
    assert len(totals) == len(conditions), "each class has its own distribution"


@pytest.mark.parametrize(("name", "shape", "levels"), CASES)
def test_log_prob_map_sums_to_log_prob(name, shape, levels, monkeypatch):
    model = build(name, shape, levels, torch.float32)
    images = model.sample(5, seed=3)
    labels = labels_for(model, 5)
    log_prob, log_prob_map = model.log_prob(images, labels), model.log_prob_map(images, labels)
    assert log_prob.shape == (5,)
    assert log_prob.dtype == torch.float32
    assert log_prob_map.shape == images.shape
    assert (log_prob_map <= 0).all()
    torch.testing.assert_close(log_prob_map.sum((1, 2, 3)), log_prob)
    assert build(name, shape, levels).log_prob(images).dtype == torch.float64
    monkeypatch.setattr(type(model), "slice_size", 2)
    with torch.no_grad():  # in slices
        torch.testing.assert_close(model.log_prob(images, labels), log_prob.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "shape", "levels"), CASES)
def test_log_prob_is_what_forward_says(name, shape, levels):
    model = build(name, shape, levels)
    images, labels = model.sample(4, seed=4), labels_for(model, 4)
    params = model(images, labels)
    assert params.shape == (4, *shape, model.likelihood.params)
    if isinstance(model.likelihood, LogisticMixture):
        below = model.likelihood.cdf(params)
        ends = torch.zeros_like(below[..., :1])
        probs = torch.cat([ends, below, ends + 1], -1).diff(dim=-1)
        distribution = torch.distributions.Categorical(probs=probs)
    else:
        logits = torch.cat([torch.zeros_like(params), params], -1) if levels == 2 else params
        distribution = torch.distributions.Categorical(logits=logits)
    expected = distribution.log_prob(images.long())
    torch.testing.assert_close(model.log_prob_map(images, labels).exp(), expected.exp(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "shape", "levels"), CASES[::5])
def test_a_saved_model_is_the_same(name, shape, levels, dtype, tmp_path):
    model = build(name, shape, levels, dtype)
    model.save_pretrained(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not loaded.training
    for (key, tensor), (loaded_key, loaded_tensor) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert key == loaded_key
        assert torch.equal(tensor, loaded_tensor)
        assert tensor.dtype == loaded_tensor.dtype
    assert torch.equal(loaded.sample(2, seed=0), model.sample(2, seed=0))


@pytest.mark.parametrize("name", EVERY)
def test_gradients_reach_every_unmasked_weight_and_no_masked_one(name):
    model = build(name, (3, 5, 6), 4)
    images = model.sample(16, seed=1)
    model.log_prob(images, labels_for(model, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.ne(0).any() for p in model.parameters()), "nothing is left untrained"
    for layer in model.masked_layers:
        assert layer.weight.grad[layer.mask == 0].eq(0).all()
        # some ReLUs are off, and most taps of a coarse context lie outside of so small an image
        assert layer.weight.grad[layer.mask == 1].ne(0).float().mean() > (0.5 if layer.stride == 1 else 0.05)
        assert layer.bias.grad.ne(0).any()


@pytest.mark.parametrize("name", EVERY)
def test_masked_weights_do_not_matter(name):
    """Weights saved by the Keras example can hold masked entries that are not zero."""
    model = build(name, (3, 4, 4), 3)
    images = model.sample(3, seed=1)
    before = model.log_prob(images)
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.weight[layer.mask == 0] = 100.0
    assert torch.equal(model.log_prob(images), before)
    assert torch.equal(model.sample(3, seed=1), images)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 4, 5, dtype=torch.uint8), r"images must have shape \(N, 3, 4, 4\), got \(2, 1, 4, 5\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"images must have shape \(N, 3, 4, 4\), got \(3, 4, 4\)"),
        ("images", "images must be .* got str"),
        (torch.zeros(2, 3, 4, 4), "images must be of dtype torch.uint8, got torch.float32"),
        (torch.full((2, 3, 4, 4), 3, dtype=torch.uint8), r"images must hold levels 0\.\.2, got 3"),
    ],
)
def test_wrong_images(name, images, message):
    model = build(name, (3, 4, 4), 3, torch.float32)
    for method in (model.log_prob, model.log_prob_map):
        with pytest.raises(ValueError, match=message):
            method(images)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 4]), r"labels must be in 0\.\.3, got 0\.\.4"),
        (torch.tensor([0, -2]), r"labels must be in 0\.\.3, got -2\.\.0"),
        (torch.tensor([0]), r"labels must be torch\.int64 of shape \(2,\), got torch\.int64 \(1,\)"),
        (torch.tensor([0.0, 1.0]), r"labels must be torch\.int64 of shape \(2,\), got torch\.float32 \(2,\)"),
        (["0", "1"], "labels must be .* got list"),
    ],
)
def test_wrong_labels(name, labels, message):
    model = build(name, (1, 3, 3), 2)
    if labels_for(model, 1) is None:
        message = "labels must be None"
    images = model.sample(2, seed=0)
    for method in (model, model.log_prob, model.log_prob_map):
        with pytest.raises(ValueError, match=message):
            method(images, labels)
    for method in (model.sample, model.sample_steps):
        with pytest.raises(ValueError, match=message):
            method(2, labels)
