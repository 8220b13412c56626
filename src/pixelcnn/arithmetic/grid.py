"""Numbers that float64 multiplies and adds without rounding, and the few functions that networks need of them.

Floating-point sums depend on their order, and exponentials on who wrote the library, so a decoder on another machine
drifts from its encoder. Here all is a multiple of a power of two: weights of 2^-14, activations of 2^-12 and below 2^10
in size. Products and their sums are multiples of 2^-26, and below 2^27 they are float64 numbers: exact, whatever the
order, batch, number of threads, fused or not. What is left is rounded to the grid by operations that IEEE 754 defines
to the bit: scaling by powers of two, rounding half to even, one division.

Exponentials come from two small tables in integers:

    e(t) = head[i // 64] * tail[i % 64]   at t = i / 4096      (exact), rounded to a multiple of 2^-28

whose bits are chosen so that e never rises; everything else is made of e: sigmoid, tanh, the exponential linear unit.
`tables_digest` is part of a stream's format.

All functions take and return float64 tensors of any shape, on any device.
"""

from __future__ import annotations

import functools
import hashlib

import torch
from torch import Tensor

__all__ = [
    "ACTIVATION_BITS",
    "EXP_BITS",
    "LIMIT",
    "SIGMOID_BITS",
    "WEIGHT_BITS",
    "clamped",
    "elu",
    "exp_negative",
    "rounded",
    "sigmoid",
    "tables",
    "tables_digest",
    "tanh",
]

WEIGHT_BITS = 14
"""Weights and biases are multiples of 2^-14."""
ACTIVATION_BITS = 12
"""Activations are multiples of 2^-12."""
LIMIT = 2.0**10
"""What a layer computes is held between -LIMIT and LIMIT."""
EXP_BITS = 28
"""Exponentials are multiples of 2^-28."""
SIGMOID_BITS = 24
"""Sigmoids and hyperbolic tangents are multiples of 2^-24."""

_PER_HEAD = 64  # places of `tail`
_HEAD_BITS, _TAIL_BITS = 33, 19  # their product has 52 bits; with these e never rises, which a test tries in full
_FURTHEST = 32  # e is 0 there


def rounded(x: Tensor, bits: int = ACTIVATION_BITS) -> Tensor:
    """The nearest multiples of 2^-bits, ties to even; x must be below 2^(53 - bits)."""
    return torch.round(x * 2.0**bits) * 2.0**-bits


def clamped(x: Tensor) -> Tensor:
    """Activations: rounded to their grid, and held within the limit."""
    return rounded(x).clamp_(-LIMIT, LIMIT)


def exp_negative(t: Tensor) -> Tensor:
    """exp(-t) for t >= 0 on the activations' grid: multiples of 2^-28 in [0, 1]."""
    head, tail = _tables_on(t.device)
    place = (t * 2.0**ACTIVATION_BITS).clamp(max=_FURTHEST * 2.0**ACTIVATION_BITS - 1).long()
    return rounded(head[place // _PER_HEAD] * tail[place % _PER_HEAD], EXP_BITS)


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function of x on the activations' grid: multiples of 2^-24; that of -x is 1 less that of x."""
    upper = rounded(1 / (1 + exp_negative(x.abs())), SIGMOID_BITS)
    return torch.where(x < 0, 1 - upper, upper)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent of x on the activations' grid: multiples of 2^-24; odd."""
    e = exp_negative(2 * x.abs())
    return torch.sign(x) * rounded((1 - e) / (1 + e), SIGMOID_BITS)


def elu(x: Tensor) -> Tensor:
    """X where it is positive, else exp(x) - 1: on the activations' grid, as x is."""
    return torch.where(x > 0, x, rounded(exp_negative(x.abs()) - 1))


def tables() -> tuple[Tensor, Tensor]:
    """The two tables of exponentials, float64 (2048,) and (64,), on the CPU; always the same tensors."""
    return _tables_on(torch.device("cpu"))


def tables_digest() -> str:
    """SHA-256 of the tables' integers, little-endian int64, `head` before `tail`: hexadecimal."""
    numbers = [*_powers(_PER_HEAD, _heads(), _HEAD_BITS), *_powers(1, _PER_HEAD, _TAIL_BITS)]
    return hashlib.sha256(b"".join(number.to_bytes(8, "little") for number in numbers)).hexdigest()


def _heads() -> int:
    return (_FURTHEST << ACTIVATION_BITS) // _PER_HEAD


@functools.cache
def _powers(step: int, count: int, bits: int) -> tuple[int, ...]:
    """exp(-k step / 4096) for k = 0, 1, ..., times 2^bits, the nearest integers; computed in integers of 160 bits."""
    precision = 160
    one = 1 << precision
    term, ratio, k = one, one, 0
    while term:  # the series of exp(-step / 4096)
        k += 1
        term = term * step // (k << ACTIVATION_BITS)
        ratio += -term if k % 2 else term
    powers, power = [], one
    for _ in range(count):
        powers.append((power + (1 << (precision - bits - 1))) >> (precision - bits))
        power = power * ratio >> precision
    return tuple(powers)


@functools.cache
def _tables_on(device: torch.device) -> tuple[Tensor, Tensor]:  # kept: compiled code has their address
    head = torch.tensor(_powers(_PER_HEAD, _heads(), _HEAD_BITS), dtype=torch.float64, device="cpu") * 2.0**-_HEAD_BITS
    tail = torch.tensor(_powers(1, _PER_HEAD, _TAIL_BITS), dtype=torch.float64, device="cpu") * 2.0**-_TAIL_BITS
    return head.to(device), tail.to(device)
