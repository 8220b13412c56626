"""Training steps without a word from the host: for a CUDA device that holds all the images.

A step, from choosing its images by their indices in the epoch's order to the averaged weights, reads and writes only
tensors at fixed addresses on the device, so it is captured once as a CUDA graph and replayed; its number is a counter
there. What the host knows beforehand, an epoch's order and rates, is sent once per epoch, and the results of many steps
are fetched at once. The forward and backward passes are compiled by `torch.compile`, which fuses what would otherwise
be limited by memory: masks, activations and residual sums. The update is that of `pixelcnn.training.step`.

References:
    | CUDA graphs in PyTorch, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pixelcnn.arithmetic.precision import exact_products
from pixelcnn.config import TrainConfig
from pixelcnn.devices import cuda_graph
from pixelcnn.models import AutoregressiveModel
from pixelcnn.operations import FullView
from pixelcnn.training.batches import Batches
from pixelcnn.training.dropout import DropoutView
from pixelcnn.training.gradient import autocast
from pixelcnn.training.optimizer import Optimizer, Rates
from pixelcnn.training.step import StepResult

__all__ = ["ResidentStepper"]

_BURST = 50  # steps between two looks at their results, at most
_BURST_SECONDS = 0.5  # and how long they may take: a signal waits for them
_COMPILING: dict[str, str | int | bool | Callable[..., Any]] = {
    "constant_and_index_propagation": False  # it would compute dropout's hashes, which wrap, in unbounded integers
}


class ResidentStepper(Optimizer):
    """A model in training on the device where its images are; `steps` includes those whose results are on their way.

    Args:
        model: Trained in place.
        config: The recipe.
        batches: Of images that are `resident`.
        bf16: Multiply in bfloat16, by PyTorch's autocast.
        compiled: Compile and capture, which needs a CUDA device; otherwise the same steps run one operation at a time.
    """

    def __init__(
        self, model: AutoregressiveModel, config: TrainConfig, batches: Batches, *, bf16: bool, compiled: bool
    ) -> None:
        super().__init__(model, config, captured=True, compiled=compiled)
        self.config = config
        self._batches, self._bf16 = batches, bf16
        per_epoch, device = batches.steps_per_epoch, model.device
        self._order = torch.zeros(len(batches), dtype=torch.int64, device=device)
        self._epoch, self._in_epoch, self._taken = torch.zeros(3, dtype=torch.int64, device=device).unbind()
        self._rates = torch.zeros(per_epoch, 4, dtype=torch.float64, device=device)
        self._results = torch.zeros(per_epoch, 2, dtype=torch.float64, device=device)
        self._indices = torch.arange(config.batch_size, device=device)
        self._burst = 1
        self._forward: Callable[..., Tensor] = self._nats
        if compiled:
            self._forward = torch.compile(self._nats, dynamic=False, options=_COMPILING)
        self._replay: Callable[[], None] | None = None
        self._compiled = compiled

    def run(self, epoch: int, done: int, stop: int, rates: Callable[[int], float]) -> Iterator[StepResult]:
        """Steps `done .. stop-1` of an epoch, at the learning rate for their number in the run.

        Results come in bursts of half a second at most: weights and `steps` are those after the last step of the burst.
        """
        self._begin(epoch, done, stop, rates)
        size = self.config.batch_size
        whole = min(stop, len(self._batches) // size)
        while done < stop:
            burst = min(self._burst, stop - done)
            started = time.perf_counter()
            with exact_products(None, self.model.device), _tuned_convolutions():
                for k in range(done, done + burst):
                    if k < whole:
                        self._whole_step()
                    else:  # what is left of an epoch: once, so not worth a capture
                        self._step(len(self._batches) - k * size, self._nats)
            self.steps += burst
            results = self._results[done : done + burst].tolist()  # waits for them
            fitting = int(_BURST_SECONDS / max(1e-9, time.perf_counter() - started) * burst)
            self._burst = max(1, min(_BURST, fitting, 4 * self._burst))
            for nats, norm in results:
                yield StepResult(nats, norm)
            done += burst

    def _begin(self, epoch: int, done: int, stop: int, rates: Callable[[int], float]) -> None:
        """Sends what the host knows of an epoch."""
        steps = range(self.steps, self.steps + stop - done)
        table = [self.rates(rates(step), step)[:4] for step in steps]
        self._rates[done:stop] = torch.tensor(table, dtype=torch.float64, device="cpu").view(-1, 4)
        self._order.copy_(self._batches.order(epoch))
        self._epoch.fill_(epoch)
        self._in_epoch.fill_(done)
        self._taken.fill_(self.steps)

    def _whole_step(self) -> None:
        """One step of a whole batch: the first captures it."""
        work = functools.partial(self._step, self.config.batch_size, self._forward)
        if not self._compiled:
            work()
            return
        if self._replay is None:
            with (
                warnings.catch_warnings(),
                torch._dynamo.config.patch(recompile_limit=1000),
            ):  # of all runs of a process
                warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # float32 is meant to be exact
                self._replay = cuda_graph(work, self._undone(work), 3, self.model.device)
        self._replay()

    def _undone(self, work: Callable[[], None]) -> Callable[[], None]:
        """Steps that leave everything as it was."""
        state = [*self.tensors().values(), self._in_epoch, self._taken]

        def undone() -> None:
            before = [tensor.clone() for tensor in state]
            work()
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

        return undone

    def _step(self, size: int, nats_of: Callable[..., Tensor]) -> None:
        """One step of the next `size` images: everything on the device."""
        config = self.config
        with torch.no_grad():
            indices = self._in_epoch * config.batch_size + self._indices[:size]
            batch = self._batches.take(self._order[indices], self._epoch)
        for parameter in self._parameters.values():
            parameter.grad = None
        part = -(-size // config.accumulate)
        total = torch.zeros((), dtype=self.model.dtype, device=self.model.device)
        for first in range(0, size, part):
            condition = None if batch.condition is None else batch.condition[first : first + part]
            with autocast(self.model.device, self._bf16):
                nats = nats_of(batch.images[first : first + part], condition, self._indices[first], self._taken)
            (nats / batch.images.numel()).backward()  # type: ignore[no-untyped-call]
            total = total + nats.detach()
        with torch.no_grad():
            rates = self._rates.index_select(0, self._in_epoch.view(1))[0].to(self.model.dtype)
            norm = self.update(Rates(*rates.unbind()))  # type: ignore[arg-type]  # of the first four
            result = torch.stack([total.double(), norm.double()])
            self._results.index_copy_(0, self._in_epoch.view(1), result.unsqueeze(0))
            self._in_epoch += 1
            self._taken += 1

    def _nats(self, images: Tensor, condition: Tensor | None, first: Tensor, step: Tensor) -> Tensor:
        rate, seed = self.config.dropout, self.config.seed
        dropping = functools.partial(DropoutView, rate=rate, seed=seed, step=step, first=first)
        view: Any = dropping if rate else FullView
        return -self.model.unchecked_log_prob_map(images, condition, view=view).sum()


@contextlib.contextmanager
def _tuned_convolutions() -> Iterator[None]:
    """Inside the block, cuDNN tries which of its algorithms is fastest, once per shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
