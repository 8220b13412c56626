"""What `precision="bf16"` costs: the KL divergence of its distribution q from the float32 model's p.

    python benchmarks/precision.py [--model mnist-seed] [--n 500] [--device cpu]

Over images x of p two means estimate KL(p || q), of which the second has a far smaller variance:

    log p(x) - log q(x),      sum_k KL(p(x_k | x_1 .. x_{k-1}) || q(x_k | x_1 .. x_{k-1}))

with the conditional divergences summed over all levels, in float64. Both are given in nats with their standard errors,
and beside them the sub-pixels and images in which samples of p and q from the same uniforms differ. A sub-pixel that
differs changes what later ones are drawn from, so that is no measure of q; the divergence is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

import pixelcnn
from pixelcnn.arithmetic.precision import exact_products
from pixelcnn.devices import device_of
from pixelcnn.progress import progress_bar


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    model: str = "mnist-seed"
    """A shipped model's name or a model's folder."""
    n: int = 500
    """Images."""
    seed: int = 0
    """Which."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""


def log_probs(model: pixelcnn.AutoregressiveModel, params: Tensor) -> Tensor:
    """Log-probability of every level, float64 (levels, N, C, H, W)."""
    shape = params.shape[:-1]
    levels = [torch.full(shape, k, dtype=torch.uint8, device=params.device) for k in range(model.levels)]
    return torch.stack([model.likelihood.log_prob(params.double(), level) for level in levels])


@torch.inference_mode()
def main(options: Options) -> None:
    model = pixelcnn.load(options.model).to(device_of(options.device))
    images = model.sample(options.n, seed=options.seed, progress=True)
    plain, conditional = [], []
    with progress_bar("scoring", options.n, "img", show=True) as bar:
        for part in torch.split(images, model.slice_size):
            with exact_products(None, model.device):
                p = log_probs(model, model(part))
            q = log_probs(model, model(part, precision="bf16"))
            plain.append((p - q).gather(0, part[None].long())[0].flatten(1).sum(1).cpu())
            conditional.append((p.exp() * (p - q)).sum(0).flatten(1).sum(1).cpu())
            bar.update(len(part))
    print(f"KL(float32 || bf16) of {options.model!r} on {options.n} images drawn in float32, {model.device}:")
    for name, values in (("log p(x) - log q(x)", plain), ("conditional", conditional)):
        each = torch.cat(values)
        mean, error = each.mean().item(), each.std().item() / math.sqrt(len(each))
        print(f"  {name:20} {mean:.3e} +- {error:.1e} nats per image, {mean / model.subpixels:.2e} per sub-pixel")
    others = model.sample(options.n, seed=options.seed, precision="bf16", progress=True)
    different = (images != others).flatten(1)
    share, among = different.any(1).double().mean().item(), different.double().mean().item()
    print(f"same uniforms: {share:.1%} of images and {among:.2%} of sub-pixels differ")


if __name__ == "__main__":
    main(tyro.cli(Options))
