"""What a model's draws say about an energy, against sums over all images."""

import dataclasses
import math

import pytest
import torch

import pixelcnn
from pixelcnn.energies import Ising, every_image, magnetisation

BETA, N = 0.3, 5000


@pytest.fixture(scope="module")
def model():
    return pixelcnn.PixelCNN((1, 2, 3), filters=6, blocks=1, generator=torch.Generator().manual_seed(3)).eval()


@pytest.fixture(scope="module")
def estimate(model):
    return pixelcnn.reweight(model, Ising(), BETA, N, seed=5, observables={"m2": lambda x: magnetisation(x) ** 2})


def test_every_estimate_follows_from_the_draws(model, estimate):
    images = model.sample(N, seed=5)
    log_q = model.log_prob(images).double().detach()
    energies = Ising()(images)
    weights = (-BETA * energies - log_q).exp()
    share = weights / weights.sum()
    expected = {
        "variational_free_energy": ((energies + log_q / BETA).mean(), 0),
        "variational_free_energy_error": ((energies + log_q / BETA).std() / math.sqrt(N), 0),
        "log_z": (weights.mean().log(), 0),
        "log_z_error": (weights.std() / math.sqrt(N) / weights.mean(), 0),
        "free_energy": (-weights.mean().log() / BETA, 0),
        "energy": ((share * energies).sum(), 0),
        "ess": (weights.sum() ** 2 / weights.square().sum() / N, 0),
        "heat_capacity": (BETA**2 * ((share * energies**2).sum() - (share * energies).sum() ** 2), 0),
    }
    for name, (value, _) in expected.items():
        assert getattr(estimate, name) == pytest.approx(value.item(), rel=1e-5), name
    assert (estimate.beta, estimate.n, estimate.sites) == (BETA, N, 6)


def test_reweighted_averages_are_those_of_the_exact_distribution(estimate):
    """5 standard errors each: chance of a false alarm 6e-7."""
    images = next(every_image((1, 2, 3), 2))
    energies = Ising()(images)
    exact = torch.softmax(-BETA * energies, 0)
    log_z = torch.logsumexp(-BETA * energies, 0).item()
    energy = (exact * energies).sum().item()
    assert abs(estimate.log_z - log_z) < 5 * estimate.log_z_error
    assert abs(estimate.energy - energy) < 5 * estimate.energy_error
    mean, error = estimate.observables["m2"]
    assert abs(mean - (exact * magnetisation(images) ** 2).sum().item()) < 5 * error
    entropy = -(exact * exact.log()).sum().item()
    assert estimate.entropy == pytest.approx(entropy, abs=5 * (BETA * estimate.energy_error + estimate.log_z_error))
    assert estimate.variational_free_energy > -log_z / BETA


def test_infinite_temperature_is_a_temperature(model):
    found = pixelcnn.reweight(model, Ising(), 0, 2000)
    assert found.beta == 0
    assert found.free_energy == found.variational_free_energy == -math.inf
    assert abs(found.log_z - 6 * math.log(2)) < 5 * found.log_z_error
    assert found.entropy == found.log_z
    assert found.heat_capacity == 0


def test_wrong_arguments(model):
    for changed, named in (
        ({"beta": -1}, "beta must be at least 0 and finite, got -1"),
        ({"beta": math.inf}, "beta must be at least 0 and finite, got inf"),
        ({"n": 1}, "n must be an integer of at least 2, got 1"),
        ({"energy": lambda images: images}, "energy must return one number per image"),
        ({"observables": {"energy": magnetisation}}, "observables must have names other than"),
        ({"observables": {"m": lambda images: math.pi}}, "m must return one number per image, .* got float"),
    ):
        with pytest.raises(ValueError, match=named):
            pixelcnn.reweight(**{"model": model, "energy": Ising(), "beta": 0.3, "n": 10, **changed})
    assert dataclasses.is_dataclass(pixelcnn.EnergyEstimate)
