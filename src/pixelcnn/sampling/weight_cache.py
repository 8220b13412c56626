"""A cache of what was prepared from a model's weights, valid as long as the weights stay the same.

Packed weights, a kernel's tables or a captured graph take longer to make than a small batch takes to draw. They are
looked up by model, and the weights they were made from are compared by value with the model's current ones: a weight
can change in ways that leave no trace (`.data`, a foreign optimiser, another process's memory), and a stale one would
silently draw from a different distribution.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from pixelcnn.layers import MaskedConv2d, parametrized
from pixelcnn.sampling.autoregressive import Autoregressive, check_weights

__all__ = ["WeightKeyedCache"]

T = TypeVar("T")


class WeightKeyedCache(Generic[T]):
    """The `size` most recently used results per model; all are dropped when its weights change or it is deleted.

    A cached result must not refer to the model, or neither would ever be freed.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: weakref.WeakKeyDictionary[Autoregressive, _Results[T]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, model: Autoregressive, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns for this model and key, made again only if necessary.

        Raises:
            ValueError: If a weight is not finite.
        """
        with self._lock:
            results = self._results.get(model)
            if results is None or not results.are_current(model):
                self._results.pop(model, None)
                results = self._results[model] = _Results(model)
            made = results.made
            if key not in made:
                while len(made) >= self._size:
                    del made[next(iter(made))]  # before the next one takes memory
                made[key] = make()
            made[key] = made.pop(key)  # the most recently used comes last
            return made[key]


class _Results(Generic[T]):
    def __init__(self, model: Autoregressive) -> None:
        check_weights(model.named_parameters())
        check_weights(_parametrized(model))
        self._kind = (model.dtype, model.device)
        self._weights: list[bytes] | Tensor
        if model.device.type == "cpu":
            self._weights = list(_bytes(model))
        else:
            self._weights = _in_one_piece(model)
        self.made: dict[Hashable, T] = {}

    def are_current(self, model: Autoregressive) -> bool:
        """Whether they were made from exactly the weights that the model has now, bit for bit."""
        if self._kind != (model.dtype, model.device):
            return False
        if isinstance(self._weights, Tensor):
            return torch.equal(self._weights, _in_one_piece(model))
        # Not by torch, which shares out small comparisons, and then waits for a thread that a busy machine holds up.
        return all(now == before for now, before in itertools.zip_longest(_bytes(model), self._weights))


def _bytes(model: Autoregressive) -> Iterator[bytes]:
    """The weights as bytes, so that a NaN equals itself."""
    return (_as_bytes(weights).numpy().tobytes() for weights in _weights(model))


def _in_one_piece(model: Autoregressive) -> Tensor:
    """A copy of all weights in one tensor, which a GPU compares in a single call."""
    return torch.cat([_as_bytes(weights) for weights in _weights(model)])


def _weights(model: Autoregressive) -> Iterator[Tensor]:
    """All numbers with which the network computes: pruning changes buffers alone, and what a parametrization makes of
    a parameter may change with neither. An exact twin is not to be changed and has none but parameters.
    """
    if not isinstance(model, nn.Module):
        yield from model.parameters()
        return
    for module in model.modules():  # in one pass: it is made before each draw
        masks = isinstance(module, MaskedConv2d)  # as large as the weights, and the architecture's
        yield from (x for x in module._parameters.values() if x is not None)
        yield from (x for name, x in module._buffers.items() if x is not None and not (masks and name == "mask"))
        yield from (getattr(module, name) for name in parametrized(module))


def _parametrized(model: Autoregressive) -> Iterator[tuple[str, Tensor]]:
    """What PyTorch's parametrizations make of parameters, by name."""
    if isinstance(model, nn.Module):
        for name, module in model.named_modules():
            for each in parametrized(module):
                yield f"{name}.{each}", getattr(module, each)


def _as_bytes(weights: Tensor) -> Tensor:
    """A weight of any type, bfloat16 included, which NumPy does not have."""
    return weights.detach().reshape(-1).view(torch.uint8)
