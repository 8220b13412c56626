"""Muon: momentum made orthogonal before each update, for the weights of hidden convolutions.

A convolution's weights are a matrix, outputs x (inputs * taps). Adam bounds the change of each entry, Muon that of the
whole matrix: every singular value of the momentum is replaced by one, so rare directions move as far as frequent ones.
On MNIST it needs half as many images as Adam (docs/decisions.md).

    m <- momentum m + (1 - momentum) gradient
    w <- w - rate * 0.2 sqrt(max(rows, columns)) * orthogonalised((1 - momentum) gradient + momentum m)

The factor gives a change the root mean square of Adam's, so both take the same learning rate. Adam trains what is not
such a matrix or has fewer than eight inputs or outputs: biases, the convolutions that read the image, and the last one.

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
_MIN_WIDTH = 8  # inputs and outputs


def is_muons(weight: Tensor) -> bool:
    """Whether Muon trains a parameter of that shape."""
    return weight.dim() == 4 and min(weight.shape[:2]) >= _MIN_WIDTH


def directions(gradients: Sequence[Tensor], momenta: Sequence[Tensor]) -> list[Tensor]:
    """Updates the momenta and returns the directions of the step: the weights lose these, times the learning rate.

    Args:
        gradients: The gradients of weights (out, in, height, width).
        momenta: The momenta, of the same shapes; changed in place.
    """
    torch._foreach_lerp_(list(momenta), list(gradients), 1 - MUON_MOMENTUM)
    ahead = torch._foreach_lerp(list(gradients), list(momenta), MUON_MOMENTUM)
    same: dict[torch.Size, list[int]] = {}
    for k, matrix in enumerate(ahead):
        same.setdefault(matrix.flatten(1).shape, []).append(k)
    found = list(ahead)
    for (rows, columns), indices in same.items():
        scale = 0.2 * math.sqrt(max(rows, columns))
        orthogonal = scale * _orthogonalised(torch.stack([ahead[k].flatten(1) for k in indices]))
        for k, matrix in zip(indices, orthogonal, strict=True):
            found[k] = matrix.view_as(ahead[k])
    return found


def _orthogonalised(x: Tensor) -> Tensor:
    """Matrices (N, rows, columns) with singular values near 1, by the Newton-Schulz iteration; zeros stay zeros."""
    a, b, c = _COEFFICIENTS
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(_ITERATIONS):
        squares = x @ x.mT
        x = a * x + (b * squares + c * squares @ squares) @ x
    return x.mT if tall else x
