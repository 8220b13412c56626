"""Training from an energy: the gradient, what comes out, stopping and resuming, wrong input."""

import dataclasses
import json
import math
import os
import signal

import pytest
import torch

import pixelcnn
from pixelcnn.config import EnergyConfig
from pixelcnn.energies import (
    Ising,
    SherringtonKirkpatrick,
    enumerated_log_z,
    every_image,
    kaufman_log_z,
    magnetisation,
)
from pixelcnn.training import History, Interrupted
from pixelcnn.training.checkpoint import load_newest
from pixelcnn.training.energy import EnergyStepper
from pixelcnn.training.gradient import parts_of
from pixelcnn.training.watch import LossWatch

FIT = {"beta": 0.4, "steps": 7, "batch_size": 32, "n": 100, "progress": False, "report_steps": 3}


def tiny(dtype=torch.float32, **options):
    generator = torch.Generator().manual_seed(0)
    cls = pixelcnn.GatedPixelCNN if options else pixelcnn.PixelCNN
    depth = {"layers": 2} if options else {"blocks": 1}
    return cls((1, 3, 3), filters=8, generator=generator, **depth, **options).to(dtype)


def tiny_of_inference():
    with torch.inference_mode():
        return tiny()


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_gradient_is_the_definition():
    model = tiny(torch.float64)
    config = EnergyConfig(beta=(0.4, 0.4), steps=10, batch_size=50, anneal=0.0)
    stepper = EnergyStepper(model, Ising(), config)
    images = model.sample(50, seed=0, first=2**61)
    log_q = model.log_prob(images)
    reduced = 0.4 * Ising()(images) + log_q.detach()
    baseline = (reduced.sum() - reduced) / 49
    expected = torch.autograd.grad(((reduced - baseline) * log_q).mean() / 9, list(model.parameters()))
    result = stepper.step(0.0)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
    assert result.loss == pytest.approx(reduced.mean().item() / 9)
    assert result.energy == pytest.approx(Ising()(images).mean().item() / 9)
    assert result.entropy == pytest.approx(-log_q.mean().item() / 9)
    assert result.deviation == pytest.approx(reduced.std().item())
    assert parts_of(model, 50, 1) == [(0, 50)]


def test_every_step_draws_new_images_at_temperatures_that_rise():
    seen = []

    def energy(images):
        seen.append(images.clone())
        return Ising()(images)

    config = EnergyConfig(beta=(0.0, 0.8), steps=10, batch_size=40, anneal=0.5)
    stepper = EnergyStepper(tiny(condition_dim=1), energy, config)
    for _ in range(2):
        stepper.step(1e-3)
    assert len(seen[1:]) == 2
    assert not torch.equal(seen[1], seen[2])
    first, last = stepper.betas(0), stepper.betas(7)
    assert (first < 0.8 / 5).all()
    low, high = last.unique()  # one temperature in each half of the range, for 20 images each
    assert 0 <= low < 0.4 <= high < 0.8
    assert torch.equal(last, torch.cat([low.expand(20), high.expand(20)]))
    assert not torch.equal(last, stepper.betas(8))


def test_a_model_learns_a_lattice_and_loses_no_mode():
    """Free boundaries and a small field, against enumeration; chance of a false alarm 6e-7 each."""
    energy = Ising(field=0.05, boundary="free")
    model = tiny()
    estimate = pixelcnn.fit_energy(
        model, energy, beta=0.5, steps=200, batch_size=64, learning_rate=0.02, n=4000, progress=False,
        observables={"magnetisation": magnetisation},
    )  # fmt: skip
    exact = enumerated_log_z(energy, (1, 3, 3), 2, 0.5)
    assert abs(estimate.log_z - exact) < 5 * estimate.log_z_error
    assert 0 < exact - -0.5 * estimate.variational_free_energy < 0.02 * exact
    assert estimate.ess > 0.9
    images = next(every_image((1, 3, 3), 2))
    share = torch.softmax(-0.5 * energy(images), 0)
    mean, error = estimate.observables["magnetisation"]
    assert abs(mean - (share * magnetisation(images)).sum().item()) < 5 * error
    assert not model.training


def test_one_model_knows_a_range_of_temperatures_from_zero_on():
    model = tiny(condition_dim=1)
    options = {**FIT, "steps": 60, "batch_size": 64, "learning_rate": 0.02}
    estimate = pixelcnn.fit_energy(model, Ising(), **{**options, "beta": (0.0, 0.3)})
    assert estimate.beta == 0.3
    for beta, exact in ((0.0, 9 * math.log(2)), (0.3, kaufman_log_z(3, 3, 0.3))):
        found = pixelcnn.reweight(model, Ising(), beta, 1000)
        assert abs(found.log_z - exact) < 5 * found.log_z_error  # 6e-7
    assert not torch.equal(
        model.log_prob(model.sample(1, seed=0), [[0.0]]), model.log_prob(model.sample(1, seed=0), [[0.3]])
    )


def test_a_model_that_is_right_at_every_temperature_has_not_diverged(monkeypatch):
    """A single temperature per step moves the loss by more than half of what there is to lose."""
    images = next(every_image((1, 3, 3), 2))
    energies, generator, right = Ising()(images), torch.Generator().manual_seed(0), [True]

    def exact_draws(_, betas, *args, **options):
        log_p = torch.log_softmax(-betas * energies * right[0], 1)
        chosen = torch.multinomial(log_p.exp(), 1, generator=generator)
        return images[chosen[:, 0]], log_p.gather(1, chosen)[:, 0]

    model, watch = tiny(condition_dim=1), LossWatch()
    config = EnergyConfig(beta=(0.0, 1.0), steps=1100, batch_size=16, anneal=0.0)
    stepper = EnergyStepper(model, Ising(), config)
    monkeypatch.setattr(model, "sample", exact_draws)
    monkeypatch.setattr(stepper, "_add_gradient", lambda *_: None)
    monkeypatch.setattr(stepper, "update", lambda _: torch.zeros(()))

    def most_off(steps):
        off = []
        for _ in range(steps):
            result = stepper.step(0.0)
            watch.see(result.excess, 2, result.spread)
            off.append(watch.steps_off)
        return max(off)

    assert most_off(1100) < 20
    right[0] = False  # all is lost
    assert most_off(550) >= 500


@pytest.mark.parametrize("options", [{}, {"ema": 0.9, "optimizer": "muon", "precision": "bf16"}])
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path, options):
    whole, stopped, calls = tiny(), tiny(), []

    def energy(images):
        calls.append(len(images))
        if len(calls) == 5:  # the probes, then steps 1 to 4
            os.kill(os.getpid(), signal.SIGTERM)
        return Ising()(images)

    expected = pixelcnn.fit_energy(whole, Ising(), out=tmp_path / "a", **FIT, **options)
    with pytest.raises(Interrupted, match="stopped at step 4; the same call resumes it") as interrupted:
        pixelcnn.fit_energy(stopped, energy, out=tmp_path / "b", **FIT, **options)
    assert interrupted.value.exit_code == 143
    again = tiny()
    found = pixelcnn.fit_energy(again, Ising(), out=tmp_path / "b", **FIT, **options)
    assert found == expected
    assert torch.equal(weights_of(again), weights_of(whole))
    for name in ("metrics.jsonl", "config.json", "model/model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert all(line["loss"] == pytest.approx(line["beta"] * line["energy"] - line["entropy"]) for line in lines[1:])
    assert torch.equal(pixelcnn.load(tmp_path / "a").sample(5, seed=0), whole.sample(5, seed=0))
    assert "From an energy, without data, at beta = 0.4: 7 steps" in (tmp_path / "a/model/README.md").read_text()
    assert (tmp_path / "a" / "curves.png").exists()
    upper, _ = History.read(tmp_path / "a").plot().axes
    assert [curve.get_ydata().tolist() for curve in upper.lines] == [
        [line[name] for line in lines] for name in ("loss", "deviation")
    ]
    # repeated, it is finished
    assert pixelcnn.fit_energy(tiny(), Ising(), out=tmp_path / "a", **FIT, **options) == expected


def test_another_run_is_refused(tmp_path):
    pixelcnn.fit_energy(tiny(), Ising(), out=tmp_path, **FIT)
    for energy, changed, named in (
        (Ising(field=0.1), {}, "a run with another energy"),
        (lambda images: (1 + 1e-4) * Ising()(images), {}, "a run with another energy"),
        (Ising(), {"steps": 8}, "steps = 7, not 8"),
        (Ising(), {"beta": 0.5}, r"beta = \(0\.4, 0\.4\), not \(0\.5, 0\.5\)"),
    ):
        with pytest.raises(ValueError, match=named):
            pixelcnn.fit_energy(tiny(), energy, out=tmp_path, **{**FIT, **changed})
    with pytest.raises(ValueError, match="a run with model = "):
        pixelcnn.fit_energy(pixelcnn.PixelCNN((1, 3, 3), filters=4), Ising(), out=tmp_path, **FIT)
    with pytest.raises(ValueError, match="already holds a run"):
        pixelcnn.fit_energy(tiny(), Ising(), out=tmp_path, resume="off", **FIT)
    with pytest.raises(ValueError, match=r"resume must be left out .* got '.*step"):
        pixelcnn.fit_energy(tiny(), Ising(), resume=tmp_path / "checkpoints" / "step-000000007", **FIT)


def test_energies_may_be_rounded_otherwise_when_a_run_is_resumed(tmp_path):
    """As on another machine, whose products have other bits."""
    energy = SherringtonKirkpatrick(tiny().subpixels)
    first = pixelcnn.fit_energy(tiny(), energy, out=tmp_path, **FIT)
    again = pixelcnn.fit_energy(tiny(), lambda images: energy(images).float(), out=tmp_path, **FIT)
    assert again.log_z == pytest.approx(first.log_z, rel=1e-6)


def test_a_run_that_is_lost_says_what_to_do_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("pixelcnn.training.watch._PATIENCE", 10)

    def energy(images):  # of one sign at first, then of the other
        calls.append(1)
        return Ising()(images) * (1 if len(calls) < 25 else -8)

    calls = []
    options = {**FIT, "steps": 200, "learning_rate": 0.02, "anneal": 0.0, "checkpoint_seconds": 0}
    named = r"has diverged by step \d+: .*learning rate under 0\.02.*last good checkpoint is .*step-000000"
    with pytest.raises(ValueError, match=named):
        pixelcnn.fit_energy(tiny(), energy, out=tmp_path, **options)
    state, _ = load_newest(tmp_path / "checkpoints")
    assert state.watch.steps_off
    model = tiny()
    with torch.no_grad():
        model.output.bias.fill_(3e38)
        model.output.weight.fill_(3e38)
    with pytest.raises(ValueError, match="the loss is no longer finite at step 0; start a new run"):
        pixelcnn.fit_energy(model, Ising(), **FIT)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"beta": -0.1}, "beta must be a number of at least 0.* got .*-0.1"),
        ({"beta": "hot"}, "beta must be a number, got 'hot'"),
        ({"beta": (0.1, 0.2)}, r"beta must be one number for a model without condition_dim=1, got \(0\.1, 0\.2\)"),
        ({"batch_size": 1}, "batch_size must be an integer of at least 2, got 1"),
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"anneal": 1.5}, "anneal must be in 0..1, got 1.5"),
        ({"n": 1}, "n must be an integer of at least 2, got 1"),
        ({"observables": {"energy": Ising()}}, "observables must have names other than .* got 'energy'"),
        ({"model": tiny().requires_grad_(False)}, "model must have a parameter that requires a gradient"),
        ({"model": tiny_of_inference()}, "model must be made outside of torch.inference_mode"),
        ({"energy": lambda images: images.sum()}, r"energy must return one number per image, .*shape \(256,\).*got"),
        ({"energy": lambda images: Ising()(images) / 0}, "energy must be finite, got -inf for image 0 of 256"),
        ({"model": tiny(num_classes=3)}, "model must be unconditional, .* got one with num_classes=3"),
        ({"model": tiny(condition_channels=1)}, "model must be unconditional, .* got one with a map"),
        ({"model": tiny(condition_dim=2)}, "model must be unconditional, .* got one with condition_dim=2"),
    ],
)
def test_wrong_arguments(changed, named, tmp_path):
    options = {"model": tiny(), "energy": Ising(), **FIT, **changed}
    with pytest.raises(ValueError, match=named):
        pixelcnn.fit_energy(**options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_script_has_set_changes_nothing():
    first, second = (pixelcnn.Symmetrised(tiny(), ("flip", "dihedral")) for _ in range(2))
    options = {**FIT, "steps": 2}
    expected = pixelcnn.fit_energy(first, Ising(field=0.1), **options)
    with torch.device("meta"), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert pixelcnn.fit_energy(second, Ising(field=0.1), **options) == expected


def test_the_configuration_is_checked():
    config = EnergyConfig(beta=(0.1, 0.2), steps=1, batch_size=2)
    for beta in ((0.2, 0.1), (0.1, math.inf), (0.1,), "ab"):
        with pytest.raises(ValueError, match="beta must be "):
            dataclasses.replace(config, beta=beta)
