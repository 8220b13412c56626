"""Which products a processor multiplies fastest, float32 or bfloat16: measured, for what a name says of it can mislead.

A processor with bfloat16 products (AVX-512 BF16, AMX) trains about twice as fast under PyTorch's autocast, one without
thirty times as slowly. Half of a training step's products are tried both ways: a convolution with its gradient, on one
slice of images, in one thread.
"""

from __future__ import annotations

import functools
import time

import torch
import torch.nn.functional as F

from pixelcnn.threads import alone

__all__ = ["bf16_pays"]

_GAIN = 1.25  # a little more than one measurement differs from the next
_TURNS = 5


@functools.cache
def bf16_pays() -> bool:
    """Whether training on this machine's processor is faster in bfloat16; takes a tenth of a second, once a process."""
    images = torch.ones(8, 32, 30, 28, device="cpu").to(memory_format=torch.channels_last)
    weight = torch.ones(64, 32, 3, 5, device="cpu", requires_grad=True)

    def seconds(bf16: bool) -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
            y = F.conv2d(images, weight, padding=(0, 2))
        torch.autograd.grad(y.sum(), weight)
        return time.perf_counter() - started

    with alone(), torch.enable_grad():
        exact, rounded = seconds(False), seconds(True)  # the first ones prepare what the others use
        if rounded > 5 * exact:
            return False
        exact, rounded = (min(seconds(bf16) for _ in range(_TURNS)) for bf16 in (False, True))
    return exact > _GAIN * rounded
