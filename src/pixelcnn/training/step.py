"""One training step: the gradient of a batch, its limit, Adam, and the moving average of the weights.

The loss is the mean negative log-likelihood of a sub-pixel in nats, which for two levels is the binary cross-entropy
that Keras averages over pixels. On a CPU the batch is cut into slices that stay in its caches, and their gradients
are summed: the same gradient, twice as fast at the seed network's size. `pixelcnn.training.resident` takes the same
step without a word from the host.

Where several processes train together, each computes the gradient of its own part of the batch (`.gradient`), and from
there on all do the same.

Weight decay is decoupled: before the update, weights (not biases) are multiplied by 1 - learning rate * decay. With
`pixelcnn.training.muon` the weights of hidden convolutions are Muon's, and the others Adam's.

References:
    | Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015), https://arxiv.org/abs/1412.6980
    | Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), https://arxiv.org/abs/1711.05101
    | PyTorch Distributed: Experiences on Accelerating Data Parallel Training (Li et al., 2020), VLDB,
      https://arxiv.org/abs/2006.15704
    | On the difficulty of training Recurrent Neural Networks (Pascanu et al., 2013), https://arxiv.org/abs/1211.5063
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pixelcnn.models import AutoregressiveModel
from pixelcnn.operations import FullView
from pixelcnn.processes import ALONE, Processes
from pixelcnn.threads import alone
from pixelcnn.training.batches import Batch
from pixelcnn.training.dropout import DropoutView
from pixelcnn.training.gradient import Gradient
from pixelcnn.training.muon import directions, is_muons

__all__ = ["ADAM_BETAS", "KERAS_EPSILON", "StepResult", "Stepper", "ema_decay", "restore"]

ADAM_BETAS = (0.9, 0.999)
KERAS_EPSILON = 1e-7


class StepResult(NamedTuple):
    """What a step tells of itself."""

    nats: float
    """Sum of the negative log-likelihoods of this process's images before the step."""
    gradient_norm: float
    """Euclidean norm of the gradient of the mean loss in nats a sub-pixel, before it was limited."""


class Stepper:
    """A model in training: its optimiser and, if asked for, its averaged weights.

    Args:
        model: Trained in place.
        ema: Decay of the averaged weights, or None; see `ema_decay`.
        optimizer, clip_norm, weight_decay, dropout, accumulate: As in `pixelcnn.TrainConfig`.
        seed: The run's seed, for dropout.
        bf16: Multiply in bfloat16, by PyTorch's autocast.
        processes: Those that train together; all begin with the first one's weights.
    """

    def __init__(
        self,
        model: AutoregressiveModel,
        ema: float | None,
        *,
        optimizer: Literal["adam", "muon"] = "adam",
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        accumulate: int = 1,
        seed: int = 0,
        bf16: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        self.model = model
        self.steps = 0
        """Steps taken."""
        self._ema = ema
        self._clip_norm, self._weight_decay = clip_norm, weight_decay
        self._dropout, self._accumulate, self._seed = dropout, accumulate, seed
        self._processes = processes
        self._parameters = dict(model.named_parameters())
        self._gradient = Gradient(model, processes, bf16=bf16)
        muons = {k: p for k, p in self._parameters.items() if optimizer == "muon" and is_muons(p)}
        self._momenta = {k: torch.zeros_like(p) for k, p in muons.items()}
        self._adams = {k: p for k, p in self._parameters.items() if k not in muons}
        self._optimizer = torch.optim.Adam(self._adams.values(), betas=ADAM_BETAS, fused=True)
        for parameter in self._adams.values():  # what Adam would make at its first step: makes `state` uniform
            self._optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device="cpu"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        self.averaged = None if ema is None else {k: p.detach().clone() for k, p in self._parameters.items()}

    def run(self, batches: Iterable[Batch], rates: Callable[[int], float]) -> Iterator[StepResult]:
        """A step for each batch, at the rate for its number, and what it tells of itself."""
        for batch in batches:
            yield self.step(batch.images, rates(self.steps), batch.condition, batch.first, batch.total)

    def step(
        self,
        images: Tensor,
        learning_rate: float,
        condition: Tensor | None = None,
        first: int = 0,
        total: int | None = None,
    ) -> StepResult:
        """One step.

        Args:
            images: This process's uint8 images (n, C, H, W), perhaps none of them.
            learning_rate: Adam's, in this step.
            condition: What they are conditioned on, (n, D), or None.
            first: Place in the whole batch of the first of them.
            total: Images in the whole batch, by default n.
        """
        if self.model.device.type != "cpu" or self._processes.count > 1:
            return self._step(images, learning_rate, condition, first, total, 1)
        with alone() as threads:
            return self._step(images, learning_rate, condition, first, total, threads)

    def _step(
        self,
        images: Tensor,
        learning_rate: float,
        condition: Tensor | None,
        first: int,
        total: int | None,
        threads: int,
    ) -> StepResult:
        for parameter in self._parameters.values():
            parameter.grad = None
        whole = len(images) if total is None else total
        divisor = whole * self.model.subpixels / self._processes.count
        parts = self._parts(len(images), threads)
        nats = self._gradient.add(images, condition, lambda start: self._view(first + start), parts, divisor, threads)
        parameters = list(self._parameters.values())
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self._clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self._clip_norm, norm)
        self.steps += 1
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
            # Keras adds epsilon before the bias correction, torch after it
            group["eps"] = KERAS_EPSILON / math.sqrt(1 - ADAM_BETAS[1] ** self.steps)
        if self._weight_decay:
            for weight in (p.detach() for p in parameters if p.dim() > 1):
                weight.mul_(1 - learning_rate * self._weight_decay)
        self._optimizer.step()
        if self._momenta:
            self._move(learning_rate)
        if self.averaged is not None and self._ema is not None:
            decay = ema_decay(self._ema, self.steps)
            torch._foreach_lerp_(list(self.averaged.values()), [p.detach() for p in parameters], 1 - decay)
        return StepResult(nats, norm.item())

    def _move(self, learning_rate: float) -> None:
        """Muon's step."""
        weights = [self._parameters[name] for name in self._momenta]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        for weight, direction in zip(weights, directions(gradients, [*self._momenta.values()]), strict=True):
            weight.detach().sub_(direction, alpha=learning_rate)

    def _parts(self, n: int, threads: int) -> list[tuple[int, int]]:
        """The images that the gradient is computed of at a time: first, and behind the last; nearly as many each."""
        count = max(1, min(self._accumulate, n))
        if self.model.device.type == "cpu" and n:
            slices = -(-n // self.model.slice_size)
            count = min(n, -(-max(count, slices) // threads) * threads)  # as many for each thread
        return [(n * k // count, n * (k + 1) // count) for k in range(count)]

    def _view(self, first: int) -> Callable[[Tensor, Tensor | None], FullView]:
        """Makes the view of a part whose first image is the batch's image `first`."""
        if not self._dropout:
            return FullView
        return functools.partial(DropoutView, rate=self._dropout, seed=self._seed, step=self.steps, first=first)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            tensors[f"model.{name}"] = parameter.detach()
            if name in self._momenta:
                tensors[f"muon.momentum.{name}"] = self._momenta[name]
            else:
                state = self._optimizer.state[parameter]
                tensors[f"adam.exp_avg.{name}"] = state["exp_avg"]
                tensors[f"adam.exp_avg_sq.{name}"] = state["exp_avg_sq"]
            if self.averaged is not None:
                tensors[f"ema.{name}"] = self.averaged[name]
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Goes back to what `tensors` returned after `steps` steps.

        Raises:
            ValueError: If a tensor is missing, unknown or of another shape or type.
        """
        restore(self.tensors(), tensors)
        self.steps = steps
        for parameter in self._adams.values():
            self._optimizer.state[parameter]["step"].fill_(steps)


def ema_decay(ema: float, steps: int) -> float:
    """The averaged weights' decay after t steps: held under (1 + t) / (10 + t), to forget the initial ones soon."""
    return min(ema, (1 + steps) / (10 + steps))


@torch.no_grad()
def restore(current: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Copies tensors into the current ones of the same names.

    Raises:
        ValueError: If a tensor is missing, unknown or of another shape or type.
    """
    if difference := sorted(set(current) ^ set(tensors)):
        raise ValueError(f"the checkpoint's tensors do not fit the run: {difference[0]!r}")
    for name, tensor in current.items():
        if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
            raise ValueError(
                f"the checkpoint's tensor {name!r} must be {tensor.dtype} {tuple(tensor.shape)}, "
                f"got {tensors[name].dtype} {tuple(tensors[name].shape)}"
            )
        tensor.copy_(tensors[name])
