"""The steps that the host only counts are the stepper's, as far as that goes without a GPU."""

import dataclasses

import pytest
import torch

import pixelcnn
from pixelcnn.config import GatedPixelCNNConfig, PixelCNNPlusPlusConfig
from pixelcnn.models import model_of
from pixelcnn.training import resident
from pixelcnn.training.batches import Batches
from pixelcnn.training.resident import ResidentStepper
from pixelcnn.training.step import Stepper
from pixelcnn.training.steppers import steps_of
from tiny import TINY, stepper_of, stripes, tiny_model

RECIPES = {
    "plain": {},
    "all": {"clip_norm": 0.05, "weight_decay": 0.1, "dropout": 0.3, "shift": 2, "accumulate": 3, "ema": 0.9},
    "classes": {"model": GatedPixelCNNConfig(image_shape=(1, 6, 7), filters=4, layers=2, num_classes=3)},
    "muon": {
        "model": GatedPixelCNNConfig(image_shape=(1, 6, 7), filters=8, layers=2, num_classes=3),
        **{"optimizer": "muon", "clip_norm": 0.05, "weight_decay": 0.1, "ema": 0.9},
    },
}


def both(recipe, dtype, n=21, compiled=False):
    """The two steppers on equal models, and their batches: 21 images in batches of 8."""
    config = dataclasses.replace(TINY, ema=None) if "ema" not in recipe else TINY
    config = dataclasses.replace(config, **recipe)
    labels = torch.arange(n) % 3 if getattr(config.model, "num_classes", None) else None
    for kind in (Stepper, ResidentStepper):
        model = model_of(config.model, generator=torch.Generator().manual_seed(0)).to(dtype)
        batches = Batches(config, model, stripes(n), labels)
        if kind is ResidentStepper:
            yield ResidentStepper(model, config, batches, bf16=False, compiled=compiled), batches
        else:
            yield Stepper(model, config), batches


def train(stepper, batches, rates=lambda step: 1e-2 / (1 + step)):
    """Two epochs, the first in two parts."""
    told = []
    for epoch, done, stop in ((0, 0, 2), (0, 2, 3), (1, 0, 3)):
        told += steps_of(stepper, batches, epoch, done, stop, rates)
    return told


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-4)])
def test_both_take_the_same_steps(recipe, dtype, tolerance):
    """In float64 too: Adam divides by small numbers, so float32 alone would prove little."""
    (one, batches), (other, other_batches) = both(RECIPES[recipe], dtype)
    told, other_told = train(one, batches), train(other, other_batches)
    assert one.steps == other.steps == len(told) == 6
    for a, b in zip(told, other_told, strict=True):
        assert b.nats == pytest.approx(a.nats, rel=tolerance)
        assert b.gradient_norm == pytest.approx(a.gradient_norm, rel=tolerance)
    tensors, other_tensors = one.tensors(), other.tensors()
    assert set(tensors) == set(other_tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(other_tensors[name], tensor, rtol=tolerance, atol=tolerance * 1e-2)
    moved = model_of(other.model.config, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert not torch.equal(moved.output.weight, other.model.output.weight)


@pytest.mark.parametrize("recipe", ["all", "muon"])
def test_a_checkpoint_of_one_is_the_others(recipe):
    (one, batches), (other, other_batches) = both(RECIPES[recipe], torch.float64)
    train(one, batches)
    other.restore({name: tensor.clone() for name, tensor in one.tensors().items()}, one.steps)
    for a, b in zip(train(one, batches), train(other, other_batches), strict=True):
        assert b.nats == pytest.approx(a.nats, rel=1e-7)
    with pytest.raises(ValueError, match="do not fit the run"):
        other.restore({}, 3)


def test_rehearsing_a_capture_changes_nothing(monkeypatch):
    """In place of a graph that is replayed, the work again, after rehearsals; and nothing is compiled."""

    def repeated(work, rehearse, _rehearsals, _device):
        rehearse()
        rehearse()
        return work

    monkeypatch.setattr(resident, "cuda_graph", repeated)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    ((_, _), (plain, batches)) = both(RECIPES["all"], torch.float64)
    ((_, _), (captured, same)) = both(RECIPES["all"], torch.float64, compiled=True)
    assert train(plain, batches) == train(captured, same)
    for name, tensor in plain.tensors().items():
        assert torch.equal(captured.tensors()[name], tensor)


def test_what_bursts_tell_is_complete(monkeypatch):
    monkeypatch.setattr(resident, "_BURST", 2)
    monkeypatch.setattr(resident, "_BURST_SECONDS", 3600)  # on a machine as slow as may be
    (_, _), (stepper, batches) = both({}, torch.float64)
    seen = [(stepper.steps, result.nats) for result in stepper.run(0, 0, 3, lambda _: 1e-3)]
    assert [steps for steps, _ in seen] == [1, 3, 3]  # the first alone, to be timed
    (_, _), (again, batches) = both({}, torch.float64)
    monkeypatch.setattr(resident, "_BURST", 50)
    assert [result.nats for result in steps_of(again, batches, 0, 0, 3, lambda _: 1e-3)] == [nats for _, nats in seen]


def test_the_model_is_an_ordinary_one_afterwards(tmp_path):
    (_, _), (stepper, batches) = both({}, torch.float32)
    train(stepper, batches)
    stepper.model.save_pretrained(tmp_path / "model")
    loaded = pixelcnn.load(tmp_path / "model")
    assert torch.equal(loaded.sample(5, seed=0), stepper.model.sample(5, seed=0))
    assert loaded.log_prob(stripes(4)).tolist() == stepper.model.log_prob(stripes(4)).tolist()


def test_bf16_is_autocast_and_learns_the_same():
    """Weights, moments and likelihood stay float32; the first losses agree to bfloat16's three digits."""
    config = dataclasses.replace(TINY, ema=None)
    model, plain = tiny_model(), tiny_model()
    batches = Batches(config, model, stripes(21))
    stepper = ResidentStepper(model, config, batches, bf16=True, compiled=False)
    exact = stepper_of(plain, None)
    told, right = train(stepper, batches), train(exact, Batches(config, plain, stripes(21)))
    assert {tensor.dtype for tensor in stepper.tensors().values()} == {torch.float32}
    assert [r.nats for r in told] == pytest.approx([r.nats for r in right], rel=1e-2)
    assert [r.nats for r in told] != [r.nats for r in right]


def test_bf16_of_a_mixture_over_colours_is_finite():
    """Its channels' means are computed from likelihoods, which bfloat16 would not bear."""
    config = dataclasses.replace(
        TINY, model=PixelCNNPlusPlusConfig(image_shape=(3, 6, 5), filters=6, blocks=1), ema=None
    )
    images = torch.randint(0, 256, (12, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    norms = []
    for bf16 in (False, True):
        model = model_of(config.model, generator=torch.Generator().manual_seed(0))
        norms.append([stepper_of(model, None, bf16=bf16).step(images, 1e-3).gradient_norm for _ in range(2)])
    assert norms[1] == pytest.approx(norms[0], rel=0.05)
