"""What a model's draws say about an energy: free energy, and averages reweighted to the exact distribution.

A model q approximates p(x) = exp(-beta E(x)) / Z. With draws x_1 .. x_n of q and R(x) = beta E(x) + log q(x), the
variational free energy

    F_q = mean of R / beta  >=  F = -ln Z / beta

is a bound. The weights w_i = exp(-R(x_i)) have mean Z without bias, and averages over p are averages over the draws
weighted by w. How well that works is told by the effective sample size (sum w)^2 / sum w^2, here as a share of n. It
cannot tell of states that q never draws.

References:
    | Solving Statistical Mechanics Using Variational Autoregressive Networks (Wu, Wang, Zhang, 2019),
      https://arxiv.org/abs/1809.10606
    | Asymptotically unbiased estimation of physical observables with neural samplers (Nicoli et al., 2020),
      https://arxiv.org/abs/1910.13496
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelcnn.arguments import integer
from pixelcnn.density import checked_model
from pixelcnn.energies import Energy, energies_of
from pixelcnn.energies.references import checked_beta
from pixelcnn.models import AutoregressiveModel
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import check_seed

__all__ = ["EnergyEstimate", "beta_labels", "checked_draws", "reweight"]

_CHUNK = 1024
_OWN = "energy", "log_q"  # what is averaged without being asked for


@dataclass(frozen=True, kw_only=True)
class EnergyEstimate:
    """Estimates at one inverse temperature, of a whole lattice; errors are standard errors, infinite at beta = 0 for
    the free energies, which are -inf there.
    """

    beta: float
    """The inverse temperature."""
    n: int
    """Number of draws."""
    sites: int
    """Number of sub-pixels of an image, to divide by for values per site."""
    variational_free_energy: float
    """F_q, an upper bound on the free energy in expectation, in units of the energy."""
    variational_free_energy_error: float
    """Its standard error."""
    log_z: float
    """Estimate of ln Z in nats, from weights whose mean is Z without bias."""
    log_z_error: float
    """Its standard error."""
    free_energy: float
    """-log_z / beta, in units of the energy."""
    free_energy_error: float
    """Its standard error."""
    energy: float
    """Reweighted mean energy."""
    energy_error: float
    """Its standard error."""
    entropy: float
    """Reweighted entropy in nats: beta * energy + log_z."""
    heat_capacity: float
    """beta^2 times the reweighted variance of the energy."""
    ess: float
    """Effective sample size as a share of the draws, in 0..1: 1 for a model that is exactly right."""
    observables: dict[str, tuple[float, float]]
    """Reweighted mean and standard error of each observable, by name."""


@torch.no_grad()
def reweight(
    model: AutoregressiveModel,
    energy: Energy,
    beta: float,
    n: int = 10_000,
    *,
    seed: int = 0,
    observables: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    progress: bool = False,
) -> EnergyEstimate:
    """Estimates free energy, energy, entropy and heat capacity from draws of a trained model.

    Args:
        model: Any model that is conditional on neither classes nor a map. If it has a `condition_dim`, that must be 1,
            and beta is the condition: a vector of one number, of which 0 is infinite temperature.
        energy: A function of images, uint8 levels (N, C, H, W) on the model's device, to (N,), finite.
        beta: Inverse temperature, at least 0 and finite.
        n: Number of draws, at least 2. They are drawn and forgotten in chunks.
        seed: 0..2**63-1: the images `model.sample(n, seed=seed)`.
        observables: Functions like `energy` by name, such as {"magnetisation": pixelcnn.energies.magnetisation}, whose
            averages are wanted; "energy" and "log_q" are names of others.
        progress: Show a progress bar on standard error.

    Raises:
        ValueError: If an argument is out of range, a function returns something else, or a weight is not finite.

    Examples:
        >>> import pixelcnn
        >>> model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1)
        >>> estimate = pixelcnn.reweight(model, pixelcnn.energies.Ising(), beta=0.2, n=2000)
        >>> exact = pixelcnn.energies.kaufman_log_z(4, 4, 0.2)
        >>> abs(estimate.log_z - exact) < 5 * estimate.log_z_error
        True
    """
    model = checked_model(model)
    beta, n, seed = checked_beta(beta), checked_draws(n, observables), check_seed(seed)
    found: dict[str, list[Tensor]] = {name: [] for name in (*_OWN, *(observables or {}))}
    with progress_bar(f"drawing {n}", n, "img", show=progress) as bar:
        for start in range(0, n, _CHUNK):
            count = min(_CHUNK, n - start)
            labels = beta_labels(model, torch.full((count,), beta, dtype=torch.float64, device="cpu"))
            images, log_q = model.sample(count, labels, seed, first=start, with_log_prob=True)
            found["log_q"].append(log_q.double().cpu())
            found["energy"].append(energies_of(energy, images).cpu())
            for name, function in (observables or {}).items():
                found[name].append(energies_of(function, images, name).cpu())
            bar.update(count)
    columns = {name: torch.cat(parts) for name, parts in found.items()}
    return _estimate(beta, model.subpixels, columns.pop("energy"), columns.pop("log_q"), columns)


def checked_draws(n: int, observables: Mapping[str, Callable[[Tensor], Tensor]] | None) -> int:
    """The number of draws of `reweight`.

    Raises:
        ValueError: If it is too small, or an observable has the name of what is averaged anyway.
    """
    if taken := [name for name in observables or {} if name in _OWN]:
        raise ValueError(f"observables must have names other than 'energy' and 'log_q', got {taken[0]!r}")
    return integer("n", n, 2)


def beta_labels(model: AutoregressiveModel, betas: Tensor) -> Tensor | None:
    """The labels of images at inverse temperatures, float64 (N,): (N, 1), or None for an unconditional model.

    Raises:
        ValueError: If the model is conditional on something else.
    """
    classes, size, channels = model.num_classes, model.condition_dim, model.conditions.channels
    if classes is not None or size not in (None, 1) or channels:
        has = f"condition_dim={size}" if size else "a map" if channels else f"num_classes={classes}"
        raise ValueError(f"model must be unconditional, or have condition_dim=1 for beta, got one with {has}")
    return None if size is None else betas[:, None]


def _estimate(
    beta: float, sites: int, energies: Tensor, log_q: Tensor, observables: dict[str, Tensor]
) -> EnergyEstimate:
    n = len(energies)
    reduced = beta * energies + log_q
    log_z = torch.logsumexp(-reduced, 0).item() - math.log(n)
    weights = torch.softmax(-reduced, 0)  # sum to 1

    def mean(values: Tensor) -> tuple[float, float]:
        center = (weights * values).sum()
        return center.item(), (weights * (values - center)).square().sum().sqrt().item()

    energy, energy_error = mean(energies)
    log_z_error = ((n * weights).std() / math.sqrt(n)).item()
    inverse = 1 / beta if beta else math.inf
    return EnergyEstimate(
        beta=beta,
        n=n,
        sites=sites,
        variational_free_energy=reduced.mean().item() * inverse,
        variational_free_energy_error=(reduced.std() / math.sqrt(n)).item() * inverse if beta else math.inf,
        log_z=log_z,
        log_z_error=log_z_error,
        free_energy=-log_z * inverse,
        free_energy_error=log_z_error * inverse if beta else math.inf,
        energy=energy,
        energy_error=energy_error,
        entropy=beta * energy + log_z,
        heat_capacity=beta**2 * mean((energies - energy).square())[0],
        ess=1 / (n * weights.square().sum().item()),
        observables={name: mean(values) for name, values in observables.items()},
    )
