"""The optimiser: gradient clipping, decoupled weight decay, Adam or Muon, and an average of the weights.

The gradient g is scaled down to the largest norm allowed. Then, in step t = 1, 2, ... at a learning rate r,

    w <- (1 - r * decay) * w                                        weights; biases stay
    m <- b1 * m + (1 - b1) * g,    v <- b2 * v + (1 - b2) * g^2
    w <- w - r * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + 1e-7)
    a <- d * a + (1 - d) * w,      d = min(ema, (1 + t) / (10 + t)), to forget the initial weights soon

This is Keras's Adam: epsilon is added before the bias correction, whereas PyTorch adds it afterwards. With Muon, the
weights of hidden convolutions follow `pixelcnn.training.muon`, and the others follow Adam.

References:
    | Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015), https://arxiv.org/abs/1412.6980
    | Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019), https://arxiv.org/abs/1711.05101
    | On the difficulty of training Recurrent Neural Networks (Pascanu et al., 2013), https://arxiv.org/abs/1211.5063
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam

from pixelcnn.config import EnergyConfig, TrainConfig
from pixelcnn.models import AutoregressiveModel
from pixelcnn.training.muon import directions, is_muons

__all__ = ["Optimizer", "Rates"]

_BETAS = (0.9, 0.999)
_EPSILON = 1e-7
_MANY = 2.0**20  # steps after which both bias corrections are 1


class Rates(NamedTuple):
    """What depends on the number of a step, as numbers, or as scalars on the device in a captured step."""

    learning_rate: float | Tensor
    """The learning rate; Muon's step."""
    adam_rate: float | Tensor
    """What `adam` takes for the learning rate."""
    kept: float | Tensor
    """Share of a weight that weight decay leaves."""
    averaged: float | Tensor
    """Share of the weights that goes into their average."""
    epsilon: float = _EPSILON
    """What `adam` takes for epsilon."""


class Optimizer:
    """A model in training with everything that its next update depends on.

    Args:
        model: Trained in place.
        config: The recipe.
        captured: `update` is captured in a CUDA graph, so its rates are scalars on the device.
        compiled: Compile Muon's elementwise operations.
    """

    def __init__(
        self,
        model: AutoregressiveModel,
        config: TrainConfig | EnergyConfig,
        *,
        captured: bool = False,
        compiled: bool = False,
    ) -> None:
        self.model, self.recipe = model, config
        self.steps = 0
        """Number of steps taken."""
        self._captured = captured
        self._parameters: dict[str, Tensor] = dict(model.named_parameters())
        self._weights = [p for p in self._parameters.values() if p.dim() > 1 and p.requires_grad]
        muons = {k: p for k, p in self._parameters.items() if config.optimizer == "muon" and is_muons(p)}
        adams = {k: p for k, p in self._parameters.items() if k not in muons}
        self._momenta = {k: torch.zeros_like(p) for k, p in muons.items()}
        self._means = {k: torch.zeros_like(p) for k, p in adams.items()}
        self._squares = {k: torch.zeros_like(p) for k, p in adams.items()}
        start = _MANY if captured else 0.0
        self._counts = {k: torch.full((), start, dtype=torch.float32, device=p.device) for k, p in adams.items()}
        self._directions = torch.compile(directions, dynamic=False) if compiled else directions
        self.averaged = None if config.ema is None else {k: p.detach().clone() for k, p in self._parameters.items()}
        """The averaged weights by name, or None."""

    def rates(self, learning_rate: float, step: int) -> Rates:
        """What a step depends on, by its learning rate and its number from 0; with `captured`, to be moved there."""
        t = step + 1
        correction = math.sqrt(1 - _BETAS[1] ** t)
        kept = 1 - learning_rate * self.recipe.weight_decay
        averaged = 0.0 if self.recipe.ema is None else 1 - min(self.recipe.ema, (1 + t) / (10 + t))
        if self._captured:  # epsilon is a constant in a graph, so the rate takes the bias corrections
            return Rates(learning_rate, learning_rate * correction / (1 - _BETAS[0] ** t), kept, averaged)
        return Rates(learning_rate, learning_rate, kept, averaged, _EPSILON / correction)

    @torch.no_grad()
    def update(self, rates: Rates) -> Tensor:
        """One update by the parameters' gradients; returns the gradient's norm before clipping, a scalar."""
        parameters = list(self._parameters.values())
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.recipe.clip_norm, norm)
        if self.recipe.weight_decay:
            torch._foreach_mul_(self._weights, rates.kept)
        self._adam(rates)
        if self._momenta:
            self._muon(rates.learning_rate)
        if self.averaged is not None:
            averages = list(self.averaged.values())
            if isinstance(rates.averaged, Tensor):
                changes: list[Tensor] = list(torch._foreach_sub(parameters, averages))
                torch._foreach_mul_(changes, rates.averaged)
                torch._foreach_add_(averages, changes)
            else:
                torch._foreach_lerp_(averages, parameters, rates.averaged)
        return norm

    def _adam(self, rates: Rates) -> None:
        names = [name for name in self._means if self._parameters[name].grad is not None]
        adam(
            [self._parameters[name] for name in names],
            [gradient for name in names if (gradient := self._parameters[name].grad) is not None],
            [self._means[name] for name in names],
            [self._squares[name] for name in names],
            [],
            [self._counts[name] for name in names],
            fused=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=rates.adam_rate,
            weight_decay=0.0,
            eps=rates.epsilon,
            maximize=False,
        )

    def _muon(self, learning_rate: float | Tensor) -> None:
        weights = [self._parameters[name] for name in self._momenta]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        found = self._directions(gradients, list(self._momenta.values()))
        if isinstance(learning_rate, Tensor):
            torch._foreach_mul_(found, learning_rate)
        torch._foreach_sub_(weights, found, alpha=1.0 if isinstance(learning_rate, Tensor) else learning_rate)

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights, if there are any."""
        if self.averaged is None:
            yield
            return
        trained = [p.detach().clone() for p in self._parameters.values()]
        self.take_average()
        try:
            yield
        finally:
            self._set(trained)

    def take_average(self) -> None:
        """Gives the model the averaged weights for good, if there are any."""
        if self.averaged is not None:
            self._set(self.averaged.values())

    @torch.no_grad()
    def _set(self, weights: Iterable[Tensor]) -> None:
        for parameter, weight in zip(self._parameters.values(), weights, strict=True):
            parameter.copy_(weight)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            tensors[f"model.{name}"] = parameter.detach()
            if name in self._momenta:
                tensors[f"muon.momentum.{name}"] = self._momenta[name]
            else:
                tensors[f"adam.exp_avg.{name}"] = self._means[name]
                tensors[f"adam.exp_avg_sq.{name}"] = self._squares[name]
            if self.averaged is not None:
                tensors[f"ema.{name}"] = self.averaged[name]
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Goes back to what `tensors` returned after `steps` steps.

        Raises:
            ValueError: If a tensor is missing, unknown, or of another shape or type.
        """
        current = self.tensors()
        if difference := sorted(set(current) ^ set(tensors)):
            raise ValueError(f"the checkpoint's tensors do not fit the run: {difference[0]!r}")
        for name, tensor in current.items():
            if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
                raise ValueError(
                    f"the checkpoint's tensor {name!r} must be {tensor.dtype} {tuple(tensor.shape)}, "
                    f"got {tensors[name].dtype} {tuple(tensors[name].shape)}"
                )
            tensor.copy_(tensors[name])
        self.steps = steps
        if not self._captured:
            for count in self._counts.values():
                count.fill_(steps)
