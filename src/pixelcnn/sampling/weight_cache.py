"""A cache of what was prepared from a model's weights, valid as long as the weights stay the same.

Packed weights, a kernel's tables or a captured graph take longer to make than a small batch takes to draw. They are
looked up by model, and the weights and layers they were made from are compared by value with the model's current ones:
a weight can change in ways that leave no trace (`.data`, a foreign optimiser, another process's memory), and a stale
one would silently draw from a different distribution.
"""

from __future__ import annotations

import operator
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
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
        weights, self._layers = _contents(model)
        self._kind = _kind(weights)
        self._in_one_piece = None if model.device.type == "cpu" else _in_one_piece(weights)
        self._bytes = [bytearray(_array(each).tobytes()) for each in weights] if self._in_one_piece is None else []
        self._places: list[tuple[int, int, bool]] = []
        self._arrays: list[NDArray[np.uint8]] = []
        self.made: dict[Hashable, T] = {}

    def are_current(self, model: Autoregressive) -> bool:
        """Whether they were made from exactly the weights that the model has now, bit for bit, in the same layers."""
        weights, layers = _contents(model)
        if self._kind != _kind(weights) or self._layers != layers:
            return False
        if self._in_one_piece is not None:
            return torch.equal(self._in_one_piece, _in_one_piece(weights))
        places = [(each.data_ptr(), each.nbytes, each.is_contiguous()) for each in weights]
        if places != self._places:  # otherwise they are in the memory of these arrays, which keep it from being freed
            self._arrays = list(map(_array, weights))
            self._places = places if all(contiguous for _, _, contiguous in places) else []
        # Not by torch, which shares out small comparisons, and then waits for a thread that a busy machine holds up. A
        # `bytearray` compares its bytes with the array's memory: nothing is copied, and a NaN equals itself.
        return len(self._bytes) == len(self._arrays) and all(map(operator.eq, self._bytes, self._arrays))


def _kind(weights: list[Tensor]) -> tuple[torch.dtype, torch.device]:
    return weights[0].dtype, weights[0].device


def _array(weights: Tensor) -> NDArray[np.uint8]:
    """The bytes of a weight on the CPU: its own memory if it is contiguous, otherwise a copy."""
    return _as_bytes(weights).numpy()


def _in_one_piece(weights: list[Tensor]) -> Tensor:
    """A copy of all weights in one tensor, which a GPU compares in a single call."""
    return torch.cat(list(map(_as_bytes, weights)))


def _as_bytes(weights: Tensor) -> Tensor:
    """A weight of any type, also of those that NumPy does not have, as bfloat16 and float8."""
    return weights.detach().reshape(-1).view(torch.uint8)


def _contents(model: Autoregressive) -> tuple[list[Tensor], list[object]]:
    """All numbers with which the network computes, and what its layers do with them: pruning changes buffers alone, and
    what a parametrization makes of a parameter may change with neither. An exact twin is not to be changed and has none
    but parameters.
    """
    if not isinstance(model, nn.Module):
        return list(model.parameters()), []
    found: list[Tensor | None] = []
    layers: list[object] = []
    modules: list[nn.Module | None] = [model]
    while modules:  # a pass of our own: `modules()` and the like take several times as long, before each draw
        module = modules.pop()
        if module is None:
            continue
        found.extend(module._parameters.values())
        if isinstance(module, MaskedConv2d):  # the mask is as large as the weights, and follows from the taps
            layers.append((module.activation, module.taps, module.seen))
            found.extend(x for name, x in module._buffers.items() if name != "mask")
        else:
            found.extend(module._buffers.values())
        if module._modules:
            modules.extend(module._modules.values())
            found.extend(getattr(module, name) for name in parametrized(module))
    return [weights for weights in found if weights is not None], layers


def _parametrized(model: Autoregressive) -> Iterator[tuple[str, Tensor]]:
    """What PyTorch's parametrizations make of parameters, by name."""
    if isinstance(model, nn.Module):
        for name, module in model.named_modules():
            for each in parametrized(module):
                yield f"{name}.{each}", getattr(module, each)
