"""A network over whole images on the grid: see `pixelcnn.exact.grid`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelcnn.attention import PlaceTable
from pixelcnn.exact import grid, units
from pixelcnn.layers import MaskedConv2d, upsampled

__all__ = ["ExactView"]


class ExactView:
    """Whole images, like `pixelcnn.layers.FullView`, for a network whose parameters are on their grids.

    What a layer computes is rounded to the activations' grid and held within its limit; sums of such are exact as they
    are. Convolutions are matrix products of the taps, never a transform.

    Args:
        image: Scaled pixel values, float64 (N, H, W, C).
        condition: What the images are conditioned on, float64 (N, D); None for nothing.
    """

    def __init__(self, image: Tensor, condition: Tensor | None = None) -> None:
        self._image = grid.rounded(image)
        self._condition = None if condition is None else grid.clamped(condition)

    def input_conv(self, layer: MaskedConv2d, add: Tensor | None = None) -> Tensor:
        """See `View.input_conv`: (N, H, W, out)."""
        return self.conv(layer, self._image, add)

    def conv(self, layer: MaskedConv2d, x: Tensor, add: Tensor | None = None) -> Tensor:
        """See `View.conv`: (N, H, W, in) to (N, H, W, out)."""
        y = F.linear(_columns(layer, x), _matrix(layer), layer.bias)
        y = grid.clamped(y if add is None else y + add)
        return y.relu_() if layer.activation == "relu" else y

    def gate(self, x: Tensor, groups: int) -> Tensor:
        """See `View.gate`."""
        return units.gated(x, groups)

    def glu(self, x: Tensor) -> Tensor:
        """See `View.glu`."""
        return units.glu(x)

    def concat_elu(self, x: Tensor) -> Tensor:
        """See `View.concat_elu`."""
        return units.concat_elu(x)

    def condition(self, layer: nn.Linear, groups: int) -> Tensor | None:  # noqa: ARG002 - all groups are here
        """See `View.condition`: (N, 1, 1, out)."""
        if self._condition is None:
            return None
        return grid.clamped(F.linear(self._condition, layer.weight, layer.bias))[:, None, None]

    def place(self, table: PlaceTable, groups: int) -> Tensor:  # noqa: ARG002 - all groups are here
        """See `View.place`: (1, H, W, features)."""
        return grid.clamped(table.forward())[None]

    def upsample(self, x: Tensor, scale: int, groups: int, to: int = 1) -> Tensor:  # noqa: ARG002 - all groups are here
        """See `View.upsample`: (N, ceil(H / to), ceil(W / to), features)."""
        return upsampled(x, scale // to, *(-(-side // to) for side in self._image.shape[1:3]))

    def attention(self, query: Tensor, keys: Tensor, values: Tensor, heads: int, groups: int) -> Tensor:
        """See `View.attention`: (N, H, W, groups * heads * d)."""
        n, h, w, features = query.shape
        size = features // (groups * heads)
        q, k, v = (x.reshape(n, h * w, -1, size).transpose(1, 2) for x in (query, keys, values))  # (N, heads, P, d)
        k, v = k.repeat(1, groups, 1, 1), v.repeat(1, groups, 1, 1)
        found = q.new_zeros(q.shape)
        for p in range(1, h * w):  # a row of the triangle at a time
            found[:, :, p : p + 1] = units.attend(q[:, :, p : p + 1], k[:, :, :p], v[:, :, :p])
        return found.transpose(1, 2).reshape(query.shape)

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: nothing is dropped."""
        return x


def _matrix(layer: MaskedConv2d) -> Tensor:
    """The taps' weights side by side: (out, taps * in)."""
    return torch.cat([layer.kernel_at(*tap) for tap in layer.taps], 1)


def _columns(layer: MaskedConv2d, x: Tensor) -> Tensor:
    """What the taps of every result read, side by side: (N, rows, columns, taps * in)."""
    if layer.pointwise and layer.taps:
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
