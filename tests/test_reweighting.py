"""What a model's draws say about an energy, against sums over all images."""

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
    log_z, log_z_error = weights.mean().log(), weights.std() / math.sqrt(N) / weights.mean()

    def mean_and_error(values):
        mean = (share * values).sum()
        return mean, (share**2 * (values - mean) ** 2).sum().sqrt()

    energy, energy_error = mean_and_error(energies)
    expected = {
        "variational_free_energy": (energies + log_q / BETA).mean(),
        "variational_free_energy_error": (energies + log_q / BETA).std() / math.sqrt(N),
        "log_z": log_z,
        "log_z_error": log_z_error,
        "free_energy": -log_z / BETA,
        "free_energy_error": log_z_error / BETA,
        "energy": energy,
        "energy_error": energy_error,
        "entropy": BETA * energy + log_z,
        "ess": weights.sum() ** 2 / weights.square().sum() / N,
        "heat_capacity": BETA**2 * ((share * energies**2).sum() - energy**2),
    }
    for name, value in expected.items():
        assert getattr(estimate, name) == pytest.approx(value.item(), rel=1e-5), name
    squares = tuple(value.item() for value in mean_and_error(magnetisation(images) ** 2))
    assert estimate.observables["m2"] == pytest.approx(squares, rel=1e-5)
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
