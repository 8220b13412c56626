"""The baseline of training from an energy: NetKet's cached autoregressive network on the Ising model, by REINFORCE.

    echo 3 | .venv-netket/bin/python benchmarks/netket/ising.py --batch 500

A worker of `benchmarks/energies.py`: once ready it prints a line of JSON about itself, and then answers each line of
standard input, a number of steps, by the time they took, that of as many draws alone, and the variational free energy
per spin of the last step.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import jax
import jax.numpy as jnp
import netket as nk
import optax


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--beta", type=float, default=0.44068679350977147)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    options = parser.parse_args()
    size, beta, sites = options.size, options.beta, options.size**2

    hilbert = nk.hilbert.Spin(s=0.5, N=sites)
    model = nk.models.FastARNNConv2D(
        hilbert=hilbert, layers=options.layers, features=options.features, kernel_size=(3, 5), param_dtype=jnp.float32
    )
    state = nk.vqs.MCState(nk.sampler.ARDirectSampler(hilbert), model, n_samples=options.batch, seed=0)
    optimizer = optax.adam(options.learning_rate)
    moments = optimizer.init(state.parameters)

    @jax.jit
    def update(parameters, moments, model_state, spins):
        def log_q(parameters):
            return 2 * jnp.real(model.apply({"params": parameters, **model_state}, spins))

        lattice = spins.reshape(-1, size, size)
        energy = -(lattice * (jnp.roll(lattice, 1, 1) + jnp.roll(lattice, 1, 2))).sum((1, 2))
        reduced = beta * energy + log_q(parameters)
        weights = jax.lax.stop_gradient(reduced - reduced.mean())
        gradient = jax.grad(lambda p: (weights * log_q(p)).mean() / sites)(parameters)
        updates, moments = optimizer.update(gradient, moments, parameters)
        return optax.apply_updates(parameters, updates), moments, reduced.mean() / beta / sites

    def draw():
        state.reset()
        return jax.block_until_ready(state.sample()).reshape(-1, sites)

    def seconds(steps: int) -> tuple[float, float, float]:
        nonlocal moments
        drawing, value = 0.0, jnp.nan
        start = time.perf_counter()
        for _ in range(steps):
            before = time.perf_counter()
            spins = draw()
            drawing += time.perf_counter() - before
            state.parameters, moments, value = update(state.parameters, moments, state.model_state, spins)
        value = float(value)  # waits for it
        return time.perf_counter() - start, drawing, value

    prepared, _, _ = seconds(2)  # compiles
    about = {
        "about": f"NetKet {nk.__version__} on JAX {jax.__version__}",
        "parameters": int(nk.jax.tree_size(state.parameters)),
        "step_seconds": seconds(2)[0] / 2,
        "prepare_seconds": prepared,
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        took, drawing, value = seconds(int(line))
        print(json.dumps({"seconds": took, "drawing_seconds": drawing, "free_energy": value}), flush=True)


if __name__ == "__main__":
    main()
