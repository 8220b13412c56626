"""Masked convolution: activation(layer(x) + add), optionally plus a residual in the same step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.arithmetic import grid
from pixelcnn.layers import MaskedConv2d, group_bounds
from pixelcnn.operations.base import IMAGE, Exporter, Front, Node, Operation, Packer, Part, Whole

__all__ = ["Conv"]


@dataclass(frozen=True, eq=False)
class Conv(Operation):
    """A masked convolution of the first input; a second input, with as many features as the result, is added before
    the activation.
    """

    layer: MaskedConv2d
    groups: int = field(init=False)
    opcode: ClassVar[int] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", len(self.layer.out_groups))

    def features(self, *inputs: int) -> int:
        """As many as the layer has output channels."""
        expected = self.layer.in_channels, self.layer.out_channels
        if inputs != expected[: len(inputs)]:
            raise TypeError(
                f"a convolution must be given {expected[0]} features, and {expected[1]} to add, got {inputs}"
            )
        return self.layer.out_channels

    def scale(self, *inputs: int) -> int:
        """The input's times the layer's stride."""
        return inputs[0] * self.layer.stride

    def whole(self, view: Whole, *inputs: Tensor) -> Tensor:
        """(N, H, W, in) to (N, H, W, out); with a stride s, to (N, ceil(H / s), ceil(W / s), out)."""
        x, add = inputs if len(inputs) == 2 else (inputs[0], None)
        layer, arithmetic = self.layer, view.arithmetic
        if arithmetic.exact:  # matrix products of the taps, never a Fourier or Winograd transform
            taps = layer.taps or [(0, 0)]  # a kernel that sees nothing multiplies the current pixel by zeros
            matrix = torch.cat([layer.kernel_at(*tap) for tap in taps], 1)
            y = F.linear(_columns(layer, x), matrix, layer.bias)
            return self._activated(arithmetic.settled(y if add is None else y + add))
        if layer.full_precision and torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.whole(view, *inputs)
        weight, x = arithmetic.operand(layer.causal_weight()), arithmetic.operand(x)
        if layer.pointwise:
            y = torch.addmm(layer.bias, x.reshape(-1, layer.in_channels), weight[:, :, 0, 0].t())
            if add is not None:
                return self._activated(y.view(*x.shape[:-1], layer.out_channels) + add)
            return self._activated(y).view(*x.shape[:-1], layer.out_channels)
        window = layer.window
        left, right = -window.left, window.right  # if the window ends before the current pixel, negative padding crops
        beside = left if left == right and layer.stride == 1 else 0  # padding that the convolution does by itself
        pads = [0, 0, left - beside, right - beside, -window.top, min(window.bottom, 0)]
        height, width = x.shape[1:3]
        if min(width + left, width + right, height + window.bottom) < 0:  # else PyTorch would crop more than there is
            x, pads = F.pad(x, [max(pad, 0) for pad in pads]), [min(pad, 0) for pad in pads]
        x_nchw = F.pad(x, pads).permute(0, 3, 1, 2)  # channels last
        y_nchw = F.conv2d(x_nchw, weight, layer.bias, layer.stride, (0, beside), layer.dilation)
        y_nchw = y_nchw if add is None else y_nchw + add.permute(0, 3, 1, 2)
        return self._activated(y_nchw).permute(0, 2, 3, 1)

    def at_front(self, front: Front, node: Node, group: int | None) -> Callable[[], Tensor]:
        """A matrix product for each piece of what the taps see."""
        layer, arithmetic, n = self.layer, front.arithmetic, front.n
        columns = front.part(node, group).columns
        bias = layer.bias[columns].clone()

        def matrix(taps: Sequence[tuple[int, int]]) -> Tensor:
            return arithmetic.operand(torch.cat([layer.kernel_at(*tap)[columns] for tap in taps], 1)).t().contiguous()

        pieces = [(see, matrix(taps)) for taps, see in front.seen(node, layer)]
        positions = front.positions(node)
        add = None if len(node.inputs) == 1 else front.operand(node.inputs[1], node, columns)
        residual = None if node.residual is None else front.operand(node.residual, node, columns)

        def compute() -> Tensor:
            if pieces:
                (see, weights), *others = pieces
                y = torch.addmm(bias, see(), weights)
                for see, weights in others:
                    y.addmm_(see(), weights)
                y = y.view(-1, n, len(bias))
            else:  # everything that it would see lies outside the image
                where = positions()
                y = bias.expand(len(range(where.start, where.stop, where.step or 1)), n, -1).clone()
            if add is not None:
                y += add()
            y = self._activated(arithmetic.settled(y))
            return y if residual is None else y.add_(residual())

        return compute

    def needs(self, node: Node, height: int, width: int, slope: int) -> Iterator[tuple[int, int]]:
        """Each tap (dy, dx) needs slope * dy + dx beyond the result's lead, and a step more where it sees all colour
        groups of a pixel: of the current one as by mask "all", of any other by every mask.
        """
        source = node.inputs[0]
        in_turn = source != IMAGE and node.input_groups[0] > 1  # the last group comes after the result's first
        for dy, dx in self.layer.taps:
            if -dy >= height or abs(dx) >= width:
                continue
            own = (dy, dx) == (0, 0)
            late = slope * dy + dx + (self._sees_later_groups(node) if own else in_turn)
            # of the image, the current pixel's earlier channels are available in the same step
            yield source, late - (source == IMAGE and own)
        for value, groups in zip(node.inputs[1:], node.input_groups[1:], strict=True):
            yield value, int(groups > self.groups)
        if node.residual is not None:
            yield node.residual, 0

    def _sees_later_groups(self, node: Node) -> bool:
        """Whether some colour group sees, at the current pixel, what is not yet there when it is computed: later groups
        of the source or, of the image, its own channel.
        """
        bounds = group_bounds(self.layer.in_channels, node.input_groups[0])
        there = [start if node.inputs[0] == IMAGE else stop for start, stop in bounds]
        return any(seen > there[min(group, len(there) - 1)] for group, seen in enumerate(self.layer.seen))

    def above(self, scale: int) -> float:
        """As far as the uppermost tap."""
        return scale * max((-dy for dy, _ in self.layer.taps), default=0)

    def by_rows(self, node: Node, rows: Iterable[int]) -> bool:
        """If the source is, or if only rows above are seen."""
        rows = set(rows)
        above = node.inputs[0] in rows or all(dy < 0 for dy, _ in self.layer.taps)
        return above and set(node.reads[1:]) <= rows

    def bound(self, features: Sequence[int], *bounds: float) -> tuple[float, float]:
        """The layer's result is clamped to the limit; its sum is bounded by the magnitudes of weights and inputs."""
        sizes = sum((self.layer.kernel_at(*tap).abs().sum(1) for tap in self.layer.taps), self.layer.bias.abs())
        total = float(sizes.max()) * max(1.0, bounds[0]) + sum(bounds[1:])
        return grid.LIMIT, total

    def slots(self, node: Node) -> dict[str, int]:
        """See `Operation.slots`."""
        slots = dict(zip(("source", "add"), node.inputs, strict=False))
        return slots if node.residual is None else slots | {"residual": node.residual}

    def in_place(self, node: Node) -> tuple[int, ...]:
        """The values that are added."""
        return node.reads[1:]

    def packed(self, packer: Packer, node: Node, part: Part) -> dict[str, int]:
        """See `Operation.packed`."""
        relu, stride = int(self.layer.activation == "relu"), self.layer.stride
        return packer.product(node, self.layer, part.columns) | {"relu": relu, "stride": stride}

    def exported(self, graph: Exporter, node: Node) -> str:
        """See `Operation.exported`."""
        y = graph.conv(node, self.layer)
        for value in node.inputs[1:]:
            y = graph.node("Add", y, graph.operand(value, node))
        if self.layer.activation == "relu":
            y = graph.node("Relu", y)
        return y if node.residual is None else graph.node("Add", y, graph.operand(node.residual, node))

    def _activated(self, y: Tensor) -> Tensor:
        """In place, so on the product's result itself and not on a view of it, for which autograd would copy it all."""
        return y.relu_() if self.layer.activation == "relu" else y


def _columns(layer: MaskedConv2d, x: Tensor) -> Tensor:
    """What the taps read at each output position, side by side: (N, rows, columns, taps * in)."""
    if layer.pointwise:
        return x
    _, h, w, _ = x.shape
    stride = layer.stride
    rows, columns = -(-h // stride), -(-w // stride)
    up, left = -min(dy for dy, _ in layer.taps), max(0, -min(dx for _, dx in layer.taps))
    right = max(0, layer.right_of(w))
    padded = F.pad(x, (0, 0, left, right, up, 0))
    down, across = (rows - 1) * stride + 1, (columns - 1) * stride + 1
    return torch.cat(
        [
            padded[:, up + dy : up + dy + down : stride, left + dx : left + dx + across : stride]
            for dy, dx in layer.taps
        ],
        -1,
    )
