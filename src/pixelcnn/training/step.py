"""One training step: the gradient of a batch, Adam, and the moving average of the weights.

The loss is the mean negative log-likelihood of a sub-pixel in nats, which for two levels is the binary cross-entropy
that Keras averages over pixels. On a CPU the batch is cut into slices that stay in its caches, and their gradients
are summed: the same gradient, 1.6 times faster at the seed network's size.

References:
    | Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015), https://arxiv.org/abs/1412.6980
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixelcnn.models import AutoregressiveModel

__all__ = ["Stepper"]

_BETAS = (0.9, 0.999)
_KERAS_EPSILON = 1e-7


class Stepper:
    """A model in training: its optimiser and, if asked for, its averaged weights.

    Args:
        model: Trained in place.
        ema: Decay of the averaged weights, or None. It is held under (1 + t) / (10 + t) at step t, so that the
            initial weights are soon forgotten.
    """

    def __init__(self, model: AutoregressiveModel, ema: float | None) -> None:
        self.model = model
        self.steps = 0
        self._ema = ema
        self._parameters = dict(model.named_parameters())
        self._optimizer = torch.optim.Adam(model.parameters(), betas=_BETAS)
        for parameter in self._parameters.values():  # what Adam would make at its first step: makes `state` uniform
            self._optimizer.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        self.averaged = None if ema is None else {k: p.detach().clone() for k, p in self._parameters.items()}

    def step(self, images: Tensor, learning_rate: float) -> float:
        """One step on uint8 images (N, C, H, W); the sum of their negative log-likelihoods before it, in nats."""
        self._optimizer.zero_grad()
        on_cpu = images.device.type == "cpu"
        total = 0.0
        for part in torch.split(images, self.model.slice_size if on_cpu else len(images)):
            nats = -self.model.unchecked_log_prob_map(part).sum()
            (nats / images.numel()).backward()  # type: ignore[no-untyped-call]
            total += nats.item()
        self.steps += 1
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
            # Keras adds epsilon before the bias correction, torch after it
            group["eps"] = _KERAS_EPSILON / math.sqrt(1 - _BETAS[1] ** self.steps)
        self._optimizer.step()
        if self.averaged is not None and self._ema is not None:
            decay = min(self._ema, (1 + self.steps) / (10 + self.steps))
            for name, parameter in self._parameters.items():
                self.averaged[name].lerp_(parameter.detach(), 1 - decay)
        return total

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            state = self._optimizer.state[parameter]
            tensors[f"model.{name}"] = parameter.detach()
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
        for parameter in self._parameters.values():
            self._optimizer.state[parameter]["step"].fill_(steps)
