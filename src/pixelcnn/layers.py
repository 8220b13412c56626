"""The masked convolution, and the full view of a network.

A network is written once, over features `(..., channels)` with channels last. Pointwise parts work on any leading
shape; what does not (the masked convolution with its activation, which needs neighbours, and dropout, which exists in
training only) asks a *view*:

- `FullView` holds whole images. Features are (N, H, W, channels) and the convolution computes every pixel at once,
  with the causal rows of the kernel only. Training and scoring use it.
- `pixelcnn.sampling.front.FrontView` holds the pixels that are being generated now. Features are (pixels, channels) of
  one colour group, and the convolution reads its neighbours from a cache.

The mask (van den Oord et al., 2016) keeps the taps above and to the left. At the centre, features belong to colour
groups, one for each image channel: mask "A" lets group g read groups < g, mask "B" groups <= g.

References:
    | Pixel Recurrent Neural Networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
    | Understanding the difficulty of training deep feedforward neural networks (Glorot & Bengio, 2010)
"""

from __future__ import annotations

import itertools
import math
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FullView", "MaskedConv2d", "View", "group_bounds"]

MaskType = Literal["A", "B"]
Activation = Literal["relu", "none"]


def group_bounds(channels: int, groups: int) -> list[tuple[int, int]]:
    """The (start, stop) of each colour group: contiguous, as equal as possible, the larger ones first."""
    size, larger = divmod(channels, groups)
    starts = [g * size + min(g, larger) for g in range(groups + 1)]
    return list(itertools.pairwise(starts))


class MaskedConv2d(nn.Module):
    """The parameters of a "same" convolution with zero padding whose kernel sees earlier sub-pixels only.

    It computes nothing itself: a view does. Weights are kept in full, (out, in, k, k), and the mask is multiplied in
    where they are used, so a masked entry never matters; it starts at zero and gets no gradient.

    Args:
        in_channels: Input features.
        out_channels: Output features.
        kernel_size: Odd height and width of the kernel.
        mask_type: "A" (the first layer, which reads the image) or "B" (the others).
        groups: Colour groups, the number of image channels.
        activation: What follows the convolution: "relu" or "none".
        generator: Source of the initial weights: Glorot uniform over the full, unmasked fans; zero biases.
    """

    mask: Tensor
    """(out, in, k, k), 1 where the kernel sees and 0 where it does not."""
    taps: list[tuple[int, int]]
    """The (dy, dx) of the pixels that the kernel reads, in raster order; the own pixel (0, 0) comes last."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        mask_type: MaskType,
        groups: int = 1,
        activation: Activation = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        assert kernel_size % 2 == 1, kernel_size
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.mask_type = mask_type
        self.activation = activation
        self.in_groups = group_bounds(in_channels, groups)
        self.out_groups = group_bounds(out_channels, groups)

        mask = torch.zeros(out_channels, in_channels, kernel_size, kernel_size)
        centre = kernel_size // 2
        mask[:, :, :centre, :] = 1
        mask[:, :, centre, :centre] = 1
        for g, (start, stop) in enumerate(self.out_groups):
            seen = self.in_groups[: g + (mask_type == "B")]
            mask[start:stop, : seen[-1][1] if seen else 0, centre, centre] = 1
        self.register_buffer("mask", mask, persistent=False)
        self.taps = _taps(kernel_size, centre_seen=mask_type == "B" or groups > 1)

        bound = math.sqrt(6 / (kernel_size**2 * (in_channels + out_channels)))
        weight = torch.empty_like(mask).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight * mask)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def extra_repr(self) -> str:
        """What `print(model)` shows of this layer."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"mask_type={self.mask_type!r}, groups={len(self.in_groups)}, activation={self.activation!r}"
        )


def _taps(kernel_size: int, centre_seen: bool) -> list[tuple[int, int]]:
    reach = kernel_size // 2
    above = [(dy, dx) for dy in range(-reach, 0) for dx in range(-reach, reach + 1)]
    return above + [(0, dx) for dx in range(-reach, centre_seen)]


class View(Protocol):
    """What a network asks of a view."""

    def input_conv(self, layer: MaskedConv2d) -> Tensor:
        """The first convolution, mask "A", and its activation; it reads the image that the view holds."""
        ...

    def conv(self, layer: MaskedConv2d, x: Tensor) -> Tensor:
        """A convolution, mask "B", and its activation: features (..., in) to (..., out)."""
        ...

    def dropout(self, x: Tensor) -> Tensor:
        """The features themselves; in training with dropout, some of them are zero."""
        ...


class FullView:
    """Whole images: every pixel's features at once.

    Args:
        image: Scaled pixel values, (N, H, W, C), of the network's dtype.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image

    def input_conv(self, layer: MaskedConv2d) -> Tensor:
        """See `View.input_conv`: (N, H, W, out)."""
        return self.conv(layer, self.image)

    def conv(self, layer: MaskedConv2d, x: Tensor) -> Tensor:
        """See `View.conv`: (N, H, W, in) to (N, H, W, out)."""
        weight = layer.weight * layer.mask
        if layer.kernel_size == 1:
            y = torch.addmm(layer.bias, x.reshape(-1, layer.in_channels), weight[:, :, 0, 0].t())
            return _activate(layer, y).view(*x.shape[:-1], layer.out_channels)
        above = layer.kernel_size // 2
        x_nchw = F.pad(x, (0, 0, 0, 0, above, 0)).permute(0, 3, 1, 2)  # channels-last memory
        y_nchw = F.conv2d(x_nchw, weight[:, :, : above + 1], layer.bias, padding=(0, above))
        return _activate(layer, y_nchw).permute(0, 2, 3, 1)

    def dropout(self, x: Tensor) -> Tensor:
        """See `View.dropout`: `pixelcnn.training.dropout.DropoutView` is the one that drops."""
        return x


def _activate(layer: MaskedConv2d, y: Tensor) -> Tensor:
    """In place, so on what the product returned and not on a view of it: autograd would copy the whole for that."""
    return y.relu_() if layer.activation == "relu" else y
