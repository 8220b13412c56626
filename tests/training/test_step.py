"""The arithmetic of one step: the gradient in parts, its limit, Adam, weight decay, the average."""

import dataclasses
import math

import pytest
import torch

import pixelcnn
from streams import threads
from tiny import TINY, run, stepper_of, stripes, tiny_model


def flat_gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_slices_give_the_gradient_of_the_whole_batch(monkeypatch):
    def gradients(slice_size):
        monkeypatch.setattr(pixelcnn.PixelCNN, "slice_size", slice_size)
        model = tiny_model().double()
        total = stepper_of(model, None).step(stripes(10), 1e-3).nats
        return total, flat_gradient(model)

    whole, whole_gradient = gradients(10)
    sliced, sliced_gradient = gradients(3)
    assert sliced == pytest.approx(whole, rel=1e-12)
    torch.testing.assert_close(sliced_gradient, whole_gradient)


@pytest.mark.parametrize("threads", [2, 3])
def test_cores_side_by_side_give_the_gradient_of_the_whole_batch(threads, monkeypatch):
    """Each with its own slices; the same bits again, and the caller's number of threads afterwards."""
    usual = torch.get_num_threads()
    monkeypatch.setattr(pixelcnn.PixelCNN, "slice_size", 2)
    try:
        results = []
        for count in (1, threads, threads):
            torch.set_num_threads(count)
            model = tiny_model().double()
            stepper = stepper_of(model, 0.9, dropout=0.3, clip_norm=0.05)
            nats = [stepper.step(stripes(11, t), 1e-2).nats for t in range(3)]
            assert torch.get_num_threads() == count
            results.append((nats, flat_gradient(model)))
    finally:
        torch.set_num_threads(usual)
    assert results[1][0] == results[2][0] == pytest.approx(results[0][0], rel=1e-9)
    assert torch.equal(results[1][1], results[2][1])
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("family", ["gated", "plusplus"])
def test_cores_side_by_side_take_the_step_of_one(family):
    """Some convolutions return gradients with other strides than their weights', which fused Adam does not look at."""
    usual, trained = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            generator = torch.Generator().manual_seed(0)
            options = {"filters": 4, "context": (2,), "places": True, "generator": generator}
            if family == "gated":
                model = pixelcnn.GatedPixelCNN((1, 6, 7), layers=3, **options).double()
            else:
                model = pixelcnn.PixelCNNPlusPlus((1, 6, 7), blocks=1, levels=2, **options).double()
            stepper = stepper_of(model, None)
            for t in range(3):
                stepper.step(stripes(11, t), 1e-2)
            trained.append(stepper.tensors())
    finally:
        torch.set_num_threads(usual)
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("parts", [2, 3, 10])
def test_accumulating_gives_the_step_of_the_whole_batch(parts, dropout):
    """With dropout too: what is dropped goes by the image's place in the batch, not in the part."""
    models = [tiny_model().double() for _ in range(2)]
    for model, accumulate in zip(models, (1, parts), strict=True):
        stepper = stepper_of(model, None, accumulate=accumulate, dropout=dropout)
        for t in range(3):
            stepper.step(stripes(10, t), 1e-2)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-12)


def test_no_part_is_larger_than_asked_for(monkeypatch):
    sizes = []
    whole = pixelcnn.PixelCNN.unchecked_log_prob_map

    def noting(self, images, condition, **options):
        sizes.append(len(images))
        return whole(self, images, condition, **options)

    monkeypatch.setattr(pixelcnn.PixelCNN, "unchecked_log_prob_map", noting)
    stepper_of(tiny_model(), None, accumulate=3).step(stripes(10), 1e-3)
    assert max(sizes) <= 4
    assert sum(sizes) == 10


def test_adam_is_keras_adam():
    """Keras: m and v as in Adam; update lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)."""
    model = tiny_model().double()
    stepper = stepper_of(model, ema=None)
    m = v = 0.0
    expected = model.input.weight.detach().clone()
    for t in range(1, 6):
        stepper.step(stripes(10, t), 1e-3)
        g = model.input.weight.grad
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected -= 1e-3 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v.sqrt() + 1e-7)
        torch.testing.assert_close(model.input.weight.detach(), expected, rtol=1e-10, atol=1e-12)


def test_without_options_a_step_is_plain_adam_to_the_bit():
    """The recipe of the presets `seed` and `quick`, written out: options that are off change nothing at all."""
    with threads(1):  # several sum the gradient of each thread's images
        model, plain = tiny_model(), tiny_model()
        stepper = stepper_of(model, ema=None)
        adam = torch.optim.Adam(plain.parameters(), fused=True)
        for t in range(1, 12):
            images = stripes(10, t)
            adam.zero_grad()
            nats = -plain.log_prob_map(images).sum()
            (nats / images.numel()).backward()
            adam.param_groups[0]["lr"] = 1e-2 / t
            adam.param_groups[0]["eps"] = 1e-7 / math.sqrt(1 - 0.999**t)
            adam.step()
            assert stepper.step(images, 1e-2 / t).nats == nats.item()
            for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
                assert torch.equal(found, expected)


def test_a_long_gradient_is_scaled_to_the_limit():
    norms = {}
    for limit in (None, 1e9, 0.01):
        model = tiny_model().double()
        told = stepper_of(model, None, clip_norm=limit).step(stripes(10), 1e-3).gradient_norm
        norms[limit] = flat_gradient(model)
        assert told == pytest.approx(norms[None].norm().item(), rel=1e-12)  # before it is limited
    assert torch.equal(norms[1e9], norms[None])
    assert norms[0.01].norm().item() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(norms[0.01] / norms[0.01].norm(), norms[None] / norms[None].norm())


def test_weight_decay_is_adamw_on_weights_alone():
    model, plain = tiny_model().double(), tiny_model().double()
    stepper = stepper_of(model, None, weight_decay=0.1)
    groups = [
        {"params": [p for p in plain.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in plain.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=1e-2)
    for t in range(1, 6):
        stepper.step(stripes(10, t), 1e-2)
        adam.zero_grad()
        (-plain.log_prob_map(stripes(10, t)).mean()).backward()
        for group in adam.param_groups:
            group["eps"] = 1e-7 / math.sqrt(1 - 0.999**t)
        adam.step()
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_average_follows_its_definition():
    model = tiny_model()
    stepper = stepper_of(model, ema=0.5)
    average = model.output.bias.detach().clone()
    for t in range(1, 12):
        stepper.step(stripes(10, t), 1e-2)
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * model.output.bias.detach()
    torch.testing.assert_close(stepper.averaged["output.bias"], average)


def test_the_average_replaces_weights_and_nothing_else():
    model = tiny_model()
    model.register_buffer("constant", torch.ones(2))
    stepper = stepper_of(model, ema=0.5)
    stepper.step(stripes(10), 1e-2)
    trained = model.output.bias.detach().clone()
    with stepper.averaged_weights():
        assert torch.equal(model.output.bias, stepper.averaged["output.bias"])
    assert torch.equal(model.output.bias, trained)
    stepper.take_average()
    assert torch.equal(model.output.bias, stepper.averaged["output.bias"])


@pytest.mark.parametrize("count", [1, 2])
def test_frozen_weights_stay(count):
    model = tiny_model()
    frozen, *others = model.parameters()
    frozen.requires_grad_(False)
    before = [p.detach().clone() for p in (frozen, *others)]
    with threads(count):
        stepper_of(model, weight_decay=0.1).step(stripes(10), 1e-2)
    assert torch.equal(frozen, before[0])
    assert not any(map(torch.equal, others, before[1:]))


def test_restoring_refuses_other_tensors():
    stepper = stepper_of(tiny_model(), None)
    good = {name: t.clone() for name, t in stepper.tensors().items()}
    with pytest.raises(ValueError, match=r"do not fit the run: 'model\.output\.bias'"):
        stepper.restore({k: v for k, v in good.items() if k != "model.output.bias"}, 1)
    with pytest.raises(
        ValueError, match=r"'model\.output\.bias' must be torch.float32 \(1,\), got torch.float32 \(2,\)"
    ):
        stepper.restore({**good, "model.output.bias": torch.zeros(2)}, 1)


def test_every_option_reaches_the_step(tmp_path):
    """A run of each differs from the plain run: none is parsed and forgotten."""
    short = dataclasses.replace(TINY, epochs=1)
    plain = run(tmp_path / "plain", short).output.weight
    for name, value in (
        ("clip_norm", 1e-3),
        ("weight_decay", 10.0),
        ("dropout", 0.5),
        ("shift", 1),
        ("schedule", "one-cycle"),
        ("warmup_steps", 5),
        ("ema", None),
    ):
        changed = run(tmp_path / name, dataclasses.replace(short, **{name: value})).output.weight
        assert not torch.equal(changed, plain), name


FAMILIES = {
    "pixelcnn": lambda: pixelcnn.PixelCNN((1, 6, 7), levels=256, filters=4, blocks=1),
    "gated": lambda: pixelcnn.GatedPixelCNN((1, 6, 7), levels=256, filters=4, layers=2),
    "plusplus": lambda: pixelcnn.PixelCNNPlusPlus((1, 6, 7), filters=4, blocks=1, mixtures=2),
    "wide": lambda: pixelcnn.PixelCNNPlusPlus((1, 6, 7), filters=4, blocks=1, mixtures=1),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_black_and_white_of_256_levels_is_learnt(family):
    """A mixture's best scale for it is infinite; where training would bring it after some hundred steps, it begins."""
    model = FAMILIES[family]()
    if family == "wide":
        with torch.no_grad():
            model.output.bias.copy_(torch.tensor([0.0, 0.1, 102.0]))
    images = 255 * stripes(8)
    stepper = stepper_of(model, None)
    results = [stepper.step(images, 0.05 if family == "wide" else 0.01) for _ in range(30)]
    assert all(math.isfinite(value) for result in results for value in result)
    most = math.log(2) if family == "wide" else results[0].nats / images.numel() / 2
    assert results[-1].nats / images.numel() <= most + 0.01
