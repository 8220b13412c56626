"""Training steps that the host only counts: for a CUDA device that holds all the images.

A step, from the choice of its images by their places in the epoch's order to the averaged weights, reads and writes
nothing but tensors at fixed addresses on the device, so it is captured once as a CUDA graph and replayed; its number
is a counter there. What the host knows beforehand, an epoch's order and rates, is sent once an epoch, and what a step
tells of itself is fetched for many steps at once. The forward and backward pass and the update are compiled by
`torch.compile`, which fuses what would otherwise be limited by memory: masks, activations, residual sums, Adam.

Weights, gradient and Adam's moments lie in one vector each, so that the update is one kernel; the weights that are
Muon's (`pixelcnn.training.muon`) come last. It is Keras's Adam, as in `pixelcnn.training.step`, the reference that this
one is tested against:

    w <- w - rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + 1e-7)

References:
    | CUDA graphs in PyTorch, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import contextlib
import functools
import math
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
from pixelcnn.training.muon import directions, is_muons
from pixelcnn.training.step import ADAM_BETAS, KERAS_EPSILON, StepResult, ema_decay, restore

__all__ = ["ResidentStepper"]

_BURST = 50  # steps between two looks at what they told, at most
_BURST_SECONDS = 0.5  # and how long they may take: a signal waits for them
_COMPILING: dict[str, str | int | bool | Callable[..., Any]] = {
    "constant_and_index_propagation": False,  # it would compute dropout's hashes, which wrap, in unbounded integers
}


class ResidentStepper:
    """A model in training on the device where its images are.

    Args:
        model: Trained in place; its parameters move into one vector.
        config: The recipe.
        batches: Of images that are `resident`.
        bf16: Multiply in bfloat16, by PyTorch's autocast.
        compiled: Compile and capture, which needs a CUDA device; without, the same steps one operation at a time.
    """

    def __init__(
        self, model: AutoregressiveModel, config: TrainConfig, batches: Batches, *, bf16: bool, compiled: bool
    ) -> None:
        self.model = model
        self.steps = 0
        """Steps taken; those of a burst are ahead of what `run` has told."""
        self._config, self._batches, self._bf16 = config, batches, bf16
        named = dict(model.named_parameters())
        muons = {k: p for k, p in named.items() if config.optimizer == "muon" and is_muons(p)}
        adams = {k: p for k, p in named.items() if k not in muons}
        parameters = adams | muons
        device = model.device

        weights = torch.cat([p.detach().flatten() for p in parameters.values()])
        split = sum(p.numel() for p in adams.values())
        self._vectors = {
            "model": weights,
            "exp_avg": torch.zeros_like(weights[:split]),
            "exp_avg_sq": torch.zeros_like(weights[:split]),
            "momentum": torch.zeros_like(weights[split:]),
        }
        if config.ema is not None:
            self._vectors["ema"] = weights.clone()
        of = {"exp_avg": adams, "exp_avg_sq": adams, "momentum": muons}
        self._named = {
            key: _views(vector, {name: p.shape for name, p in of.get(key, parameters).items()})
            for key, vector in self._vectors.items()
        }
        self._matrices = [p.shape for p in muons.values()]
        for name, parameter in parameters.items():
            parameter.data = self._named["model"][name]
        self._parameters = list(parameters.values())
        self._decays = torch.cat(
            [torch.full((p.numel(),), float(p.dim() > 1), dtype=p.dtype, device=device) for p in parameters.values()]
        )
        self.averaged = self._named.get("ema")
        """The averaged weights by name, or None."""

        per_epoch = batches.steps_per_epoch
        self._order = torch.zeros(len(batches), dtype=torch.int64, device=device)
        self._epoch, self._in_epoch, self._taken = torch.zeros(3, dtype=torch.int64, device=device).unbind()
        self._rates = torch.zeros(per_epoch, 4, dtype=torch.float64, device=device)
        self._told = torch.zeros(per_epoch, 2, dtype=torch.float64, device=device)
        self._places = torch.arange(config.batch_size, device=device)
        self._burst = 1

        self._forward: Callable[..., Tensor] = self._nats
        self._update = _update
        if compiled:
            self._forward = torch.compile(self._nats, dynamic=False, options=_COMPILING)
            self._update = torch.compile(_update, dynamic=False)
        self._replay: Callable[[], None] | None = None
        self._captured = compiled

    # A step ----------------------------------------------------------------------------------------------------

    def run(self, epoch: int, done: int, stop: int, rates: Callable[[int], float]) -> Iterator[StepResult]:
        """Steps `done .. stop-1` of an epoch, at the rate for their number in the run, and what each tells of itself.

        Results come in bursts of half a second at most: weights and `steps` are those after the last step of the burst.
        """
        self._begin(epoch, done, stop, rates)
        size = self._config.batch_size
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
            told = self._told[done : done + burst].tolist()  # waits for them
            fitting = int(_BURST_SECONDS / max(1e-9, time.perf_counter() - started) * burst)
            self._burst = max(1, min(_BURST, fitting, 4 * self._burst))
            for nats, norm in told:
                yield StepResult(nats, norm)
            done += burst

    def _begin(self, epoch: int, done: int, stop: int, rates: Callable[[int], float]) -> None:
        """Sends what the host knows of an epoch."""
        config, table = self._config, []
        for k in range(done, stop):
            t = self.steps + k - done + 1
            rate = rates(t - 1)
            adam = rate * math.sqrt(1 - ADAM_BETAS[1] ** t) / (1 - ADAM_BETAS[0] ** t)
            averaged = 0.0 if config.ema is None else 1 - ema_decay(config.ema, t)
            table.append([adam, rate * config.weight_decay, averaged, rate])
        self._rates[done:stop] = torch.tensor(table, dtype=torch.float64, device="cpu").view(-1, 4)
        self._order.copy_(self._batches.order(epoch))
        self._epoch.fill_(epoch)
        self._in_epoch.fill_(done)
        self._taken.fill_(self.steps)

    def _whole_step(self) -> None:
        """One step of a whole batch: the first captures it."""
        work = functools.partial(self._step, self._config.batch_size, self._forward)
        if not self._captured:
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
        state = [*self._vectors.values(), self._in_epoch, self._taken]

        def undone() -> None:
            before = [tensor.clone() for tensor in state]
            work()
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

        return undone

    def _step(self, size: int, nats_of: Callable[..., Tensor]) -> None:
        """One step of the next `size` images: everything on the device."""
        config = self._config
        with torch.no_grad():
            places = self._in_epoch * config.batch_size + self._places[:size]
            batch = self._batches.take(self._order[places], self._epoch)
        for parameter in self._parameters:
            parameter.grad = None
        part = -(-size // config.accumulate)
        total = torch.zeros((), dtype=self.model.dtype, device=self.model.device)
        for first in range(0, size, part):
            condition = None if batch.condition is None else batch.condition[first : first + part]
            with autocast(self.model.device, self._bf16):
                nats = nats_of(batch.images[first : first + part], condition, self._places[first], self._taken)
            (nats / batch.images.numel()).backward()  # type: ignore[no-untyped-call]
            total = total + nats.detach()
        with torch.no_grad():
            gradient = torch.cat([_flat_gradient(p) for p in self._parameters])
            row = self._rates.index_select(0, self._in_epoch.view(1))[0].to(gradient.dtype)
            norm = self._update(
                self._vectors, gradient, row, self._decays, config.clip_norm, bool(config.weight_decay), self._matrices
            )
            told = torch.stack([total.double(), norm.double()])
            self._told.index_copy_(0, self._in_epoch.view(1), told.unsqueeze(0))
            self._in_epoch += 1
            self._taken += 1

    def _nats(self, images: Tensor, condition: Tensor | None, first: Tensor, step: Tensor) -> Tensor:
        view: Any = FullView
        if self._config.dropout:
            view = functools.partial(
                DropoutView, rate=self._config.dropout, seed=self._config.seed, step=step, first=first
            )
        return -self.model.unchecked_log_prob_map(images, condition, view=view).sum()

    # State -----------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by the names of `Stepper.tensors`."""
        kinds = {"exp_avg": "adam.exp_avg", "exp_avg_sq": "adam.exp_avg_sq", "momentum": "muon.momentum"}
        named = ((kinds.get(key, key), views) for key, views in self._named.items())
        return {f"{kind}.{name}": view for kind, views in named for name, view in views.items()}

    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Goes back to what `tensors` returned after `steps` steps.

        Raises:
            ValueError: If a tensor is missing, unknown or of another shape or type.
        """
        restore(self.tensors(), tensors)
        self.steps = steps


def _update(
    vectors: dict[str, Tensor],
    gradient: Tensor,
    row: Tensor,
    decays: Tensor,
    clip_norm: float | None,
    decay: bool,
    matrices: list[torch.Size],
) -> Tensor:
    """Adam's and Muon's step in place, by a row of rates; returns the gradient's norm before it was limited."""
    weights, m, v = vectors["model"], vectors["exp_avg"], vectors["exp_avg_sq"]
    norm: Tensor = torch.linalg.vector_norm(gradient)
    if clip_norm is not None:
        gradient = gradient * (clip_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grads_with_norm_
    if decay:
        weights.mul_(1 - row[1] * decays)
    adams, muons = gradient[: len(m)], gradient[len(m) :]
    m.lerp_(adams, 1 - ADAM_BETAS[0])
    v.mul_(ADAM_BETAS[1]).addcmul_(adams, adams, value=1 - ADAM_BETAS[1])
    weights[: len(m)].sub_(row[0] * m / (v.sqrt() + KERAS_EPSILON))
    if matrices:
        found = directions(_parts(muons, matrices), _parts(vectors["momentum"], matrices))
        weights[len(m) :].sub_(row[3] * torch.cat([x.flatten() for x in found]))
    if "ema" in vectors:
        vectors["ema"].lerp_(weights, row[2])
    return norm


def _flat_gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter).flatten() if parameter.grad is None else parameter.grad.flatten()


def _views(vector: Tensor, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Consecutive parts of a vector, of the given shapes, by name."""
    return dict(zip(shapes, _parts(vector, [*shapes.values()]), strict=True))


def _parts(vector: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    parts = torch.split(vector, [shape.numel() for shape in shapes])
    return [part.view(shape) for shape, part in zip(shapes, parts, strict=True)]


@contextlib.contextmanager
def _tuned_convolutions() -> Iterator[None]:
    """Within it cuDNN tries which of its algorithms is fastest, once a shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
