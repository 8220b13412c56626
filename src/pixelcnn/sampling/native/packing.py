"""A program with its weights packed, as the native engine reads them.

The weights of a colour group's convolution are a matrix, (taps * in, out), cut into panels as wide as two vector
registers, each read from start to end. What does not depend on the number of images is prepared here once a model.
"""

from __future__ import annotations

import weakref
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.layers import MaskedConv2d, group_bounds
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.program import IMAGE, Conv, Program, Sum, record
from pixelcnn.sampling.wavefront import Wavefront

__all__ = ["ALIGNMENT", "PackedNetwork", "packed"]

ALIGNMENT = 16
"""Numbers after which an array of weights or features may start."""
_MOST_RUNS = 64  # as in engine.c


def packed(model: Autoregressive, wavefront: Wavefront, panel: int) -> PackedNetwork:
    """The model's network, packed again only if its weights have changed since the last time."""
    network = _networks.get(model)
    if network is None or (network.wavefront, network.panel) != (wavefront, panel) or not network.is_of(model):
        network = _networks[model] = PackedNetwork(model, wavefront, panel)
    return network


_networks: weakref.WeakKeyDictionary[Autoregressive, PackedNetwork] = weakref.WeakKeyDictionary()


class PackedNetwork:
    """A program with its weights packed: what does not depend on the number of images."""

    def __init__(self, model: Autoregressive, wavefront: Wavefront, panel: int) -> None:
        self.program: Program = record(model)
        self.wavefront = wavefront
        self.image_shape = model.image_shape
        self.levels = model.levels
        self.params = model.likelihood.params
        self.panel = panel
        self.real = torch.empty(0, dtype=model.dtype).numpy().dtype
        self._originals = [weight.copy() for weight in _weights(model)]
        self._runs: list[tuple[int, int, int]] = []
        self._weights: list[Tensor] = []
        self._size = 0
        readers = [op for op in self.program.operations if isinstance(op, Conv)]
        taps = {value: self._taps(value, readers) for value in range(len(self.program.features))}
        self.reach = max((layer.kernel_size // 2 for op in readers for layer in (op.layer,)), default=0)
        self.image_reach = max((op.layer.kernel_size // 2 for op in readers if op.source == IMAGE), default=0)
        self.slots = {v: 1 + max(delay for delay, _ in seen) for v, seen in taps.items() if seen - {(0, 0)}}
        self.rows_above = {v: max(-up for _, up in seen) for v, seen in taps.items() if seen}
        with torch.inference_mode():
            self.groups = [
                [self._pack(op, channel) for op in self.program.operations] for channel in range(self.image_shape[0])
            ]
            self.weights = torch.cat([*self._weights, torch.zeros(ALIGNMENT, dtype=model.dtype)]).numpy()
        self.runs = np.array(self._runs or [(0, 0, 0)], dtype=np.int64)

    def is_of(self, model: Autoregressive) -> bool:
        """Whether it was packed from the very weights that the model has now, bit for bit."""
        # By NumPy: torch would share out each small comparison, and wait for a thread that a busy machine holds up.
        now = _weights(model)
        return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(self._originals, now, strict=True))

    def _taps(self, value: int, readers: list[Conv]) -> set[tuple[int, int]]:
        """How many steps ago and how many rows up (as a negative number) the value is read."""
        slope = self.wavefront.slope
        return {
            (-(slope * dy + dx), dy)
            for op in readers
            if op.source == value
            for dy, dx in op.layer.taps
            if self.wavefront.reaches(dy, dx)
        }

    def _pack(self, op: Conv | Sum, channel: int) -> tuple[int, ...]:
        """An operation of one colour group: first column, columns, ReLU, first run, runs, weights, bias."""
        if isinstance(op, Sum):
            start, stop = group_bounds(self.program.features[op.target], self.image_shape[0])[channel]
            return start, stop - start, 0, 0, 0, 0, 0
        layer = op.layer
        start, stop = layer.out_groups[channel]
        seen = channel - (layer.mask_type == "A")
        own = layer.in_groups[seen][1] if seen >= 0 else 0  # features of the own pixel that the group may read
        weight = (layer.weight * layer.mask)[start:stop]
        first_run = len(self._runs)
        rows = []
        for run in self._runs_of(op, layer):
            length = len(run) * layer.in_channels - (layer.in_channels - own if run[-1] == (0, 0) else 0)
            if length == 0:
                continue
            (dy, dx), reach = run[0], layer.kernel_size // 2
            self._runs.append((-(self.wavefront.slope * dy + dx), dy, length))
            kernel = weight[:, :, reach + dy, reach + dx :][:, :, : len(run)]
            rows.append(kernel.permute(2, 1, 0).flatten(0, 1)[:length])
        count = len(self._runs) - first_run
        assert count <= _MOST_RUNS, count
        padding = -(stop - start) % self.panel
        bias = self._keep(F.pad(layer.bias[start:stop], (0, padding)))
        matrix = F.pad(torch.cat(rows) if rows else weight.new_zeros(0, stop - start), (0, padding))
        panels = matrix.view(len(matrix), matrix.shape[1] // self.panel, self.panel).transpose(0, 1)
        return start, stop - start, int(layer.activation == "relu"), first_run, count, self._keep(panels), bias

    def _runs_of(self, op: Conv, layer: MaskedConv2d) -> list[list[tuple[int, int]]]:
        """Taps that are read in one go: those of a kernel row in the image, single ones elsewhere."""
        inside = [tap for tap in layer.taps if self.wavefront.reaches(*tap)]
        if op.source != IMAGE:
            return [[tap] for tap in inside]
        return [list(taps) for _, taps in groupby(inside, key=lambda tap: tap[0])]

    def _keep(self, values: Tensor) -> int:
        """Puts numbers behind the others, aligned, and says where."""
        offset = self._size
        flat = F.pad(values.reshape(-1), (0, -values.numel() % ALIGNMENT))
        self._weights.append(flat)
        self._size += len(flat)
        return offset


def _weights(model: Autoregressive) -> list[np.ndarray[Any, Any]]:
    """The bits of the weights, as integers: a NaN is equal to itself."""
    tensors = [tensor.detach() for layer in model.masked_layers for tensor in (layer.weight, layer.bias)]
    return [tensor.numpy().view(f"i{tensor.itemsize}") for tensor in tensors]
