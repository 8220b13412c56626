"""The gradient of a batch, in parts, on a CPU each core with parts of its own.

Two cores that share every operation wait for each other some hundred times a part. Here each thread goes through parts
of its own, one thread an operation, with gradients of its own, which are added at the end in the order of the threads.
So the result depends on the number of threads, and on nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["Gradient"]

Part = tuple[int, int]
"""First image and the one behind the last."""


class Gradient:
    """Gradients of parameters.

    Args:
        parameters: Of which.
    """

    def __init__(self, parameters: list[Tensor]) -> None:
        self._parameters = parameters
        self._pool: ThreadPoolExecutor | None = None

    def add(self, nats_of: Callable[[int, int], Tensor], parts: list[Part], scale: float) -> float:
        """Adds the gradient of a sum to the parameters' `.grad`.

        Args:
            nats_of: The summed negative log-likelihood of images `start .. stop-1`, a scalar.
            parts: Into which images are cut, in order.
            scale: What the sum is multiplied by before it is differentiated.

        Returns:
            The sum over all parts, not scaled.
        """
        threads = min(torch.get_num_threads(), len(parts)) if self._parameters[0].device.type == "cpu" else 1
        if threads == 1:
            total = 0.0
            for start, stop in parts:
                nats = nats_of(start, stop)
                (nats * scale).backward()  # type: ignore[no-untyped-call]
                total += nats.item()
            return total
        return self._side_by_side(nats_of, parts, scale, threads)

    def _side_by_side(
        self, nats_of: Callable[[int, int], Tensor], parts: list[Part], scale: float, threads: int
    ) -> float:
        def share(parts: list[Part]) -> tuple[float, list[Tensor]]:
            total = 0.0
            gradients: list[Tensor] = []
            for start, stop in parts:
                nats = nats_of(start, stop)
                new = torch.autograd.grad(nats * scale, self._parameters)
                if gradients:
                    torch._foreach_add_(gradients, new)
                else:
                    gradients = list(new)
                total += nats.item()
            return total, gradients

        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads)
        bounds = [len(parts) * k // threads for k in range(threads + 1)]
        usual = torch.get_num_threads()
        torch.set_num_threads(1)  # which threads of the pool take over when they start
        try:
            shares = list(self._pool.map(share, (parts[a:b] for a, b in itertools.pairwise(bounds))))
        finally:
            torch.set_num_threads(usual)
        for _, gradients in shares:
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return sum(total for total, _ in shares)
