"""The gradient of a batch in parts: each core of a CPU takes parts of its own, and each process a share of the batch.

Two cores that share every operation wait for each other some hundred times per part. Here each thread goes through
parts of its own, with one thread per operation and gradients of its own, which are added at the end in the order of the
threads. So the result depends on the number of threads, and on nothing else.

Where several processes train together, each computes the gradient of its share of the batch, and PyTorch's
DistributedDataParallel sums them while the last part's are still being computed.

References:
    | PyTorch Distributed: Experiences on Accelerating Data Parallel Training (Li et al., 2020), VLDB,
      https://arxiv.org/abs/2006.15704
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from pixelcnn.arithmetic.precision import exact_products
from pixelcnn.models import AutoregressiveModel
from pixelcnn.processes import ALONE, Processes
from pixelcnn.sampling.autoregressive import MakeView

__all__ = ["Gradient", "autocast", "parts_of"]

Part = tuple[int, int]
"""Start and stop of the images."""


def parts_of(model: AutoregressiveModel, n: int, threads: int, least: int = 1) -> list[Part]:
    """Parts of nearly equal size in which the gradient of n images is computed, at least so many of them.

    On a CPU each is small enough for its caches, and there are as many for each thread.
    """
    count = max(1, min(least, n))
    if model.device.type == "cpu" and n:
        slices = -(-n // model.slice_size)
        count = min(n, -(-max(count, slices) // threads) * threads)
    return [(n * k // count, n * (k + 1) // count) for k in range(count)]


class Gradient:
    """The gradient of a model's parameters.

    Args:
        model: The model in training.
        processes: Those that compute the gradient together.
        bf16: Multiply in bfloat16, by PyTorch's autocast; otherwise in the model's own type.

    Raises:
        ValueError: If no parameter requires a gradient, or they cannot have one.
    """

    def __init__(self, model: AutoregressiveModel, processes: Processes = ALONE, *, bf16: bool = False) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        if not self._parameters:
            raise ValueError("model must have a parameter that requires a gradient, to be trained, got none")
        if self._parameters[0].is_inference():
            raise ValueError("model must be made outside of torch.inference_mode, to be trained, got one made inside")
        self._device, self._bf16 = model.device, bf16
        self._nats: nn.Module = _Nats(model)
        self._together: nn.parallel.DistributedDataParallel | None = None
        if processes.count > 1:
            self._nats = self._together = nn.parallel.DistributedDataParallel(self._nats)
        self._pool: ThreadPoolExecutor | None = None
        self._workers = 0

    def add(
        self,
        images: Tensor,
        condition: Tensor | None,
        view_from: Callable[[int], MakeView],
        parts: list[Part],
        divisor: float,
        threads: int = 1,
        weights: Tensor | None = None,
    ) -> float:
        """Adds the gradient of the images' negative log-likelihood to the parameters' `.grad`.

        Args:
            images: This process's uint8 images (n, C, H, W), possibly none.
            condition: What the images are conditioned on, (n, D), or None.
            view_from: Makes the view of a part, by the index of its first image.
            parts: The parts into which the images are cut, in order.
            divisor: The sum over the images is divided by this before it is differentiated. Several processes take
                the mean of their gradients.
            threads: Number of CPU threads that go through parts of their own, if there are as many parts. Operations in
                the caller's thread must then have no team (`pixelcnn.threads`).
            weights: What each image's negative log-likelihood is multiplied by, (n,); 1 by default.

        Returns:
            The sum over this process's images in nats, not divided.
        """

        def nats_of(start: int, stop: int) -> Tensor:
            given = None if condition is None else condition[start:stop]
            by = None if weights is None else weights[start:stop]
            with autocast(self._device, self._bf16):
                nats: Tensor = self._nats(images[start:stop], given, view_from(start), by)
            return nats

        with exact_products(None, self._device):
            if self._device.type == "cpu" and self._together is None and 1 < threads <= len(parts):
                return self._side_by_side(nats_of, parts, divisor, threads)
            total = 0.0
            for start, stop in parts:
                with self._summed(stop == len(images)):
                    nats = nats_of(start, stop)
                    (nats / divisor).backward()  # type: ignore[no-untyped-call]
                total += nats.item()
            return total

    def _side_by_side(
        self, nats_of: Callable[[int, int], Tensor], parts: list[Part], divisor: float, threads: int
    ) -> float:
        def share(parts: list[Part]) -> tuple[float, list[Tensor]]:
            total = 0.0
            gradients: list[Tensor] = []
            for start, stop in parts:
                nats = nats_of(start, stop)
                new = torch.autograd.grad(nats / divisor, self._parameters, materialize_grads=True)
                if gradients:
                    torch._foreach_add_(gradients, new)
                else:
                    gradients = list(new)
                total += nats.item()
            return total, gradients

        if self._pool is None or self._workers != threads:
            self._pool, self._workers = ThreadPoolExecutor(threads), threads
        bounds = [len(parts) * k // threads for k in range(threads + 1)]
        shares = [self._pool.submit(share, parts[a:b]) for a, b in itertools.pairwise(bounds)]
        try:
            wait(shares)
        finally:
            wait(shares)  # after a second Ctrl-C too: they read the parameters
        results = [each.result() for each in shares]
        for _, gradients in results:
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                total = gradient if parameter.grad is None else parameter.grad + gradient
                parameter.grad = total.contiguous()  # as parameters are: PyTorch's fused Adam ignores strides
        return sum(nats for nats, _ in results)

    def _summed(self, last: bool) -> AbstractContextManager[object]:
        """Inside the block a gradient is added to the earlier parts', and with the last one summed by all processes."""
        return contextlib.nullcontext() if self._together is None or last else self._together.no_sync()


class _Nats(nn.Module):
    """The negative log-likelihood of images as DistributedDataParallel needs it: a module's forward pass."""

    def __init__(self, model: AutoregressiveModel) -> None:
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())  # and no buffers: the masks would be sent at every forward
        self._log_prob_map, self._log_prob = model.unchecked_log_prob_map, model.unchecked_log_prob

    def forward(self, images: Tensor, condition: Tensor | None, view: MakeView, weights: Tensor | None) -> Tensor:
        """The sum over the images, in nats."""
        if weights is None:
            return -self._log_prob_map(images, condition, view=view).sum()
        return -(weights * self._log_prob(images, condition, view=view)).sum()


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """Inside the block a forward pass multiplies in bfloat16, by PyTorch's autocast, if asked for."""
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if bf16 else contextlib.nullcontext()
