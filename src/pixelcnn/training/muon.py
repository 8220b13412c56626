"""Muon: momentum whose direction is made orthogonal, for the weights of hidden convolutions.

Of a matrix of weights, outputs x (inputs * taps), Adam bounds the change of each entry and Muon that of the whole:
every singular value of the momentum is replaced by one, so rare directions move as far as frequent ones. On MNIST it
comes as far as Adam with half of the images (docs/decisions.md).

    m <- momentum m + (1 - momentum) gradient
    w <- w - rate * 0.2 sqrt(max(rows, columns)) * orthogonalised((1 - momentum) gradient + momentum m)

The factor gives a change the root mean square that Adam's has, so both take the same learning rate. What is no such
matrix, or has fewer than eight inputs or outputs, Adam trains: biases, the convolutions that read the image, the last.

PyTorch's `torch.optim.Muon` takes matrices only and multiplies in bfloat16, which is slow on a processor without it.

References:
    | Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024),
      https://kellerjordan.github.io/posts/muon/
    | Muon is Scalable for LLM Training (Liu et al., 2025), https://arxiv.org/abs/2502.16982
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["MUON_MOMENTUM", "directions", "is_muons"]

MUON_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the odd polynomial that takes singular values in 0..1 to about 1
_ITERATIONS = 5
_LEAST = 8  # inputs and outputs


def is_muons(weight: Tensor) -> bool:
    """Whether Muon trains a parameter of that shape."""
    return weight.dim() == 4 and min(weight.shape[:2]) >= _LEAST


def directions(gradients: Sequence[Tensor], momenta: Sequence[Tensor]) -> list[Tensor]:
    """Moves the momenta on and returns what the weights, times the learning rate, are to be reduced by.

    Args:
        gradients: Of weights (out, in, height, width).
        momenta: Of the same shapes; changed in place.
    """
    torch._foreach_lerp_(list(momenta), list(gradients), 1 - MUON_MOMENTUM)
    ahead = torch._foreach_lerp(list(gradients), list(momenta), MUON_MOMENTUM)
    same: dict[torch.Size, list[int]] = {}
    for k, matrix in enumerate(ahead):
        same.setdefault(matrix.flatten(1).shape, []).append(k)
    found = list(ahead)
    for (rows, columns), places in same.items():
        scale = 0.2 * math.sqrt(max(rows, columns))
        orthogonal = scale * _orthogonalised(torch.stack([ahead[k].flatten(1) for k in places]))
        for k, matrix in zip(places, orthogonal, strict=True):
            found[k] = matrix.view_as(ahead[k])
    return found


def _orthogonalised(x: Tensor) -> Tensor:
    """Matrices (N, rows, columns) with singular values near 1, by Newton and Schulz's iteration; zeros stay zeros."""
    a, b, c = _COEFFICIENTS
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(_ITERATIONS):
        squares = x @ x.mT
        x = a * x + (b * squares + c * squares @ squares) @ x
    return x.mT if tall else x
