"""The masked convolution, and the full view of a network.

A network is written once, over features `(..., channels)` with channels last. Pointwise parts work on any leading
shape; what does not (the masked convolution with its activation, which needs neighbours, attention, which needs all
earlier pixels, and dropout, which exists in training only) asks a *view*:

- `FullView` holds whole images. Features are (N, H, W, channels) and the convolution computes every pixel at once,
  with the causal rows of the kernel only. Training and scoring use it.
- The recorder of `pixelcnn.sampling.program` computes nothing: it notes what is asked for, and the samplers run that
  program for the pixels that are being generated now, reading neighbours from caches.

The mask (van den Oord et al., 2016) keeps the taps above and to the left. At the centre, features belong to colour
groups, one for each image channel: mask "A" lets group g read groups < g, mask "B" groups <= g. Mask "all" keeps the
whole own pixel, which is known once it has been drawn: only for what later pixels see of it by attention
(`pixelcnn.attention`).

References:
    | Pixel Recurrent Neural Networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
    | Understanding the difficulty of training deep feedforward neural networks (Glorot & Bengio, 2010)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelcnn.attention import PlaceTable, attend_all
from pixelcnn.precision import Precision, as_operand

__all__ = ["FullView", "MaskedConv2d", "View", "Window", "concat_elu", "gated", "group_bounds", "upsampled"]

MaskType = Literal["A", "B", "all"]
Activation = Literal["relu", "none"]


def group_bounds(channels: int, groups: int) -> list[tuple[int, int]]:
    """The (start, stop) of each colour group: contiguous, as equal as possible, the larger ones first."""
    size, larger = divmod(channels, groups)
    starts = [g * size + min(g, larger) for g in range(groups + 1)]
    return list(itertools.pairwise(starts))


@dataclass(frozen=True)
class Window:
    """The rectangle of a kernel's entries: offsets (dy, dx) with top <= dy <= bottom and left <= dx <= right."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def square(cls, size: int) -> Window:
        """An odd kernel with the own pixel in its middle."""
        return cls(-(size // 2), size // 2, -(size // 2), size // 2)

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left + 1

    def taps(self) -> list[tuple[int, int]]:
        """All offsets in raster order."""
        return list(itertools.product(range(self.top, self.bottom + 1), range(self.left, self.right + 1)))


class MaskedConv2d(nn.Module):
    """The parameters of a "same" convolution with zero padding whose kernel sees earlier sub-pixels only.

    It computes nothing itself: a view does. Weights are kept in full, (out, in, height, width), and the mask is
    multiplied in where they are used, so a masked entry never matters; it starts at zero and gets no gradient.

    Args:
        in_channels: Input features.
        out_channels: Output features.
        kernel: Odd height and width of a square, of which the mask keeps the taps up to the pixel in raster order; or a
            `Window`, of which it keeps all.
        mask_type: What is seen of the own pixel: "A" (the first layer, which reads the image) earlier colour groups,
            "B" (the others) the own group as well, "all" (keys and values of attention) all groups, for one output
            group.
        groups: Colour groups of the input and of the output, the number of image channels or 1. An input of one group
            is seen whole by every output group.
        stride: Pixels from one output to the next, in both directions: output (i, j) stands at the input's pixel
            (i * stride, j * stride), and there are as many as it takes to cover the input.
        activation: What follows the convolution: "relu" or "none".
        generator: Source of the initial weights: Glorot uniform over the full, unmasked fans; zero biases.
    """

    mask: Tensor
    """(out, in, height, width), 1 where the kernel sees and 0 where it does not."""
    window: Window
    """Where the kernel's entries lie."""
    taps: list[tuple[int, int]]
    """The (dy, dx) of the pixels that the kernel reads, in raster order."""
    seen: list[int]
    """For each output group, how many features of the own pixel (0, 0) it reads: the first so many."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Window,
        *,
        mask_type: MaskType,
        groups: int | tuple[int, int] = 1,
        stride: int = 1,
        activation: Activation = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.window = window = Window.square(kernel) if isinstance(kernel, int) else kernel
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mask_type = mask_type
        self.activation = activation
        in_groups, out_groups = (groups, groups) if isinstance(groups, int) else groups
        self.in_groups = group_bounds(in_channels, in_groups)
        self.out_groups = group_bounds(out_channels, out_groups)
        if mask_type == "all":
            assert out_groups == 1, out_groups
            counts = [in_groups]
        else:
            counts = [(g if in_groups > 1 else 0) + (mask_type == "B") for g in range(out_groups)]
        self.seen = [self.in_groups[count - 1][1] if count else 0 for count in counts]
        self.taps = [
            tap
            for tap in window.taps()
            if (max(self.seen) > 0 if tap == (0, 0) else tap < (0, 0) or not isinstance(kernel, int))
        ]

        mask = torch.zeros(out_channels, in_channels, window.height, window.width)
        for dy, dx in self.taps:
            for (start, stop), seen in zip(self.out_groups, self.seen, strict=True):
                mask[start:stop, : seen if (dy, dx) == (0, 0) else None, dy - window.top, dx - window.left] = 1
        self.register_buffer("mask", mask, persistent=False)
        whole = len(self.taps) == window.height * window.width
        self._dense = whole and ((0, 0) not in self.taps or min(self.seen) == in_channels)

        bound = math.sqrt(6 / (window.height * window.width * (in_channels + out_channels)))
        weight = torch.empty_like(mask).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight * mask)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    @property
    def pointwise(self) -> bool:
        """Whether the kernel covers the own pixel alone."""
        return (self.window.height, self.window.width) == (1, 1)

    def masked_weight(self) -> Tensor:
        """The weights with zeros where the kernel does not see: (out, in, height, width)."""
        return self.weight if self._dense else self.weight * self.mask

    def right_of(self, width: int) -> int:
        """How many columns to the right of an input of so many the layer sees; negative if it does not see the last."""
        return (-(-width // self.stride) - 1) * self.stride + self.window.right - (width - 1)

    def kernel_at(self, dy: int, dx: int) -> Tensor:
        """The masked weights of one tap, (out, in)."""
        y, x = dy - self.window.top, dx - self.window.left
        return self.weight[:, :, y, x] * self.mask[:, :, y, x]

    def extra_repr(self) -> str:
        """What `print(model)` shows of this layer."""
        return (
            f"{self.in_channels}, {self.out_channels}, {self.window}, mask_type={self.mask_type!r}, "
            f"groups=({len(self.in_groups)}, {len(self.out_groups)}), stride={self.stride}, "
            f"activation={self.activation!r}"
        )


class View(Protocol):
    """What a network asks of a view."""

    def input_conv(self, layer: MaskedConv2d, add: Tensor | None = None) -> Tensor:
        """A convolution that reads the image that the view holds, mask "A": activation(layer(image) + add)."""
        ...

    def conv(self, layer: MaskedConv2d, x: Tensor, add: Tensor | None = None) -> Tensor:
        """activation(layer(x) + add): features (..., in) to (..., out)."""
        ...

    def gate(self, x: Tensor, groups: int) -> Tensor:
        """tanh(a) * sigmoid(b) of features (..., 2 f), which are a and b of each of so many colour groups: (..., f)."""
        ...

    def glu(self, x: Tensor) -> Tensor:
        """A * sigmoid(b) of features (..., 2 f), a before b, of one colour group: (..., f)."""
        ...

    def concat_elu(self, x: Tensor) -> Tensor:
        """The exponential linear units of x and of -x, of one colour group: (..., 2 f)."""
        ...

    def condition(self, layer: nn.Linear, groups: int) -> Tensor | None:
        """The layer's output, of so many colour groups, for what each image is conditioned on; None if it is not.

        Only for adding to a convolution.
        """
        ...

    def place(self, table: PlaceTable, groups: int) -> Tensor:
        """The table's features, of so many colour groups, for each pixel's place. Only for adding to something."""
        ...

    def upsample(self, x: Tensor, scale: int, groups: int, to: int = 1) -> Tensor:
        """Features of cells of scale x scale pixels, of so many colour groups, at each pixel of its cell.

        Or, where `to` divides the scale, at each cell of to x to pixels.
        """
        ...

    def attention(self, query: Tensor, keys: Tensor, values: Tensor, heads: int, groups: int) -> Tensor:
        """What each pixel finds among those before it, see `pixelcnn.attention`.

        Args:
            query: (..., groups * heads * d), of so many colour groups.
            keys: (..., heads * d), of one colour group; may depend on all channels of their own pixel.
            values: (..., heads * d) of the same.
            heads: Parts of the features that have weights of their own.
            groups: Colour groups of the query and of what is found.

        Returns:
            (..., groups * heads * d); zeros at the first pixel.
        """
        ...

    def dropout(self, x: Tensor) -> Tensor:
        """The features themselves; in training with dropout, some of them are zero."""
        ...


class FullView:
    """Whole images: every pixel's features at once.

    Args:
        image: Scaled pixel values, (N, H, W, C), of the network's dtype.
        condition: What the images are conditioned on, (N, D) of the same dtype; None for nothing.
        precision: What operands are rounded to, see `pixelcnn.precision`.
    """

    def __init__(self, image: Tensor, condition: Tensor | None = None, precision: Precision | None = None) -> None:
        self.image = image
        self._condition = condition
        self._precision = precision

    def input_conv(self, layer: MaskedConv2d, add: Tensor | None = None) -> Tensor:
        """See `View.input_conv`: (N, H, W, out)."""
        return self.conv(layer, self.image, add)

    def conv(self, layer: MaskedConv2d, x: Tensor, add: Tensor | None = None) -> Tensor:
        """See `View.conv`: (N, H, W, in) to (N, H, W, out); with a stride s, to (N, ceil(H / s), ceil(W / s), out)."""
        weight = as_operand(layer.masked_weight(), self._precision)
        x = as_operand(x, self._precision)
        if layer.pointwise:
            y = torch.addmm(layer.bias, x.reshape(-1, layer.in_channels), weight[:, :, 0, 0].t())
            if add is not None:
                return _activate(layer, y.view(*x.shape[:-1], layer.out_channels) + add)
            return _activate(layer, y).view(*x.shape[:-1], layer.out_channels)
        window, causal = layer.window, weight[:, :, : 1 - layer.window.top]  # no row below the own one
        left, right = -window.left, window.right  # a window that ends before the own pixel: what is negative cuts
        beside = left if left == right and layer.stride == 1 else 0  # what the convolution pads by itself
        pads = (0, 0, left - beside, right - beside, -window.top, min(window.bottom, 0))
        x_nchw = F.pad(x, pads).permute(0, 3, 1, 2)  # channels last
        y_nchw = F.conv2d(x_nchw, causal, layer.bias, layer.stride, padding=(0, beside))
        y_nchw = y_nchw if add is None else y_nchw + add.permute(0, 3, 1, 2)
        return _activate(layer, y_nchw).permute(0, 2, 3, 1)

    def gate(self, x: Tensor, groups: int) -> Tensor:
        """See `View.gate`."""
        return gated(x, groups)

    def glu(self, x: Tensor) -> Tensor:
        """See `View.glu`."""
        return F.glu(x)

    def concat_elu(self, x: Tensor) -> Tensor:
        """See `View.concat_elu`."""
        return concat_elu(x)

    def condition(self, layer: nn.Linear, groups: int) -> Tensor | None:  # noqa: ARG002 - all groups are here
        """See `View.condition`: (N, 1, 1, out)."""
        if self._condition is None:
            return None
        x, weight = (as_operand(tensor, self._precision) for tensor in (self._condition, layer.weight))
        return F.linear(x, weight, layer.bias)[:, None, None]

    def place(self, table: PlaceTable, groups: int) -> Tensor:  # noqa: ARG002 - all groups are here
        """See `View.place`: (1, H, W, features)."""
        return table.forward()[None]

    def upsample(self, x: Tensor, scale: int, groups: int, to: int = 1) -> Tensor:  # noqa: ARG002 - all groups are here
        """See `View.upsample`: (N, ceil(H / scale), ceil(W / scale), features) to (N, ceil(H / to), ..., features)."""
        return upsampled(x, scale // to, *(-(-side // to) for side in self.image.shape[1:3]))

    def attention(self, query: Tensor, keys: Tensor, values: Tensor, heads: int, groups: int) -> Tensor:
        """See `View.attention`: (N, H, W, groups * heads * d)."""
        return attend_all(query, keys, values, heads, groups, self._precision)

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: `pixelcnn.training.dropout.DropoutView` is the one that drops."""
        return x


def gated(x: Tensor, groups: int) -> Tensor:
    """tanh(a) * sigmoid(b), where the features (..., 2 f) are a and b of each colour group in turn: (..., f)."""
    a, b = x.view(*x.shape[:-1], groups, 2, x.shape[-1] // groups // 2).unbind(-2)
    # copies first: on strided features PyTorch computes these functions a number at a time, ten times as slowly
    return (torch.tanh(a.contiguous()) * torch.sigmoid(b.contiguous())).flatten(-2)


def upsampled(x: Tensor, scale: int, height: int, width: int) -> Tensor:
    """Features (N, ceil(H / scale), ceil(W / scale), f), each repeated scale x scale times: (N, H, W, f)."""
    repeated = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=scale, mode="nearest")  # channels last
    return repeated.permute(0, 2, 3, 1)[:, :height, :width]


def concat_elu(x: Tensor) -> Tensor:
    """The exponential linear units of x and of -x: features (..., f) to (..., 2 f)."""
    return F.elu(torch.cat([x, -x], -1))


def _activate(layer: MaskedConv2d, y: Tensor) -> Tensor:
    """In place, so on what the product returned and not on a view of it: autograd would copy the whole for that."""
    return y.relu_() if layer.activation == "relu" else y
