"""Layers: the parameters of a network's operations, and which pixels a masked convolution sees.

A layer computes nothing itself; the operations do (`pixelcnn.operations`).

The mask (van den Oord et al., 2016) keeps the taps above and to the left. At the centre, features belong to colour
groups, one for each image channel: mask "A" lets group g read groups < g, mask "B" groups <= g. Mask "all" keeps the
whole current pixel, which is known only once it has been drawn: it is for features that only later pixels see, through
attention (`pixelcnn.operations.attention`).

References:
    | Pixel Recurrent Neural Networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
    | Understanding the difficulty of training deep feedforward neural networks (Glorot & Bengio, 2010)
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Activation", "DifferenceConv2d", "LevelEmbedding", "MaskType", "MaskedConv2d", "PositionTable",
    "ReparametrisedConv2d", "ScaledConv2d", "Window", "adjacent", "group_bounds", "parametrized",
]  # fmt: skip

MaskType = Literal["A", "B", "all"]
Activation = Literal["relu", "none"]


def group_bounds(channels: int, groups: int) -> list[tuple[int, int]]:
    """The (start, stop) of each colour group: contiguous, as equal in size as possible, larger ones first."""
    size, larger = divmod(channels, groups)
    starts = [g * size + min(g, larger) for g in range(groups + 1)]
    return list(itertools.pairwise(starts))


@dataclass(frozen=True)
class Window:
    """The rectangle that a kernel covers: offsets (dy, dx) with top <= dy <= bottom and left <= dx <= right."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def square(cls, size: int) -> Window:
        """An odd kernel with the current pixel at its centre."""
        return cls(-(size // 2), size // 2, -(size // 2), size // 2)

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left + 1

    def taps(self) -> list[tuple[int, int]]:
        """All offsets in raster order."""
        return list(itertools.product(range(self.top, self.bottom + 1), range(self.left, self.right + 1)))


def adjacent(taps: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Taps in raster order as runs of neighbours in a row."""
    runs: list[list[tuple[int, int]]] = []
    for dy, dx in taps:
        if runs and runs[-1][-1] == (dy, dx - 1):
            runs[-1].append((dy, dx))
        else:
            runs.append([(dy, dx)])
    return runs


def parametrized(module: nn.Module) -> list[str]:
    """Names of a module's own tensors that are functions of others, by `torch.nn.utils.parametrize`."""
    found = module._modules.get("parametrizations")  # quickly, as it is asked for every draw
    return list(found) if isinstance(found, nn.ModuleDict) else []


def _check(mask_type: str, activation: str, kernel: int | Window, stride: int, dilation: int) -> None:
    """Raises ValueError, see `MaskedConv2d`."""
    for name, value, allowed in (("mask_type", mask_type, MaskType), ("activation", activation, Activation)):
        if value not in get_args(allowed):
            raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {value!r}")
    if isinstance(kernel, int) and (kernel < 1 or kernel % 2 == 0):
        raise ValueError(f"kernel must be an odd integer of at least 1 or a Window, got {kernel!r}")
    if isinstance(kernel, Window) and (kernel.bottom > 0 or kernel.height < 1 or kernel.width < 1):
        raise ValueError(f"kernel must be a Window of at least one pixel and none below the current row, got {kernel}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride!r}")
    if dilation < 1 or (dilation > 1 and (not isinstance(kernel, int) or stride > 1)):
        raise ValueError(f"dilation must be 1, or more for a square kernel without a stride, got {dilation}")


class MaskedConv2d(nn.Module):
    """The parameters of a "same" convolution with zero padding whose kernel sees only earlier sub-pixels.

    Weights are stored in full, (out, in, height, width), and multiplied by the mask where they are used, so a masked
    entry never matters; it starts at zero and gets no gradient.

    Args:
        in_channels: Number of input features.
        out_channels: Number of output features.
        kernel: Odd height and width of a square, of which the mask keeps the taps up to the current pixel in raster
            order; or a `Window`, of which it keeps all.
        mask_type: What is seen of the current pixel: "A" (the first layer, which reads the image) earlier colour
            groups, "B" (the other layers) the same group as well, "all" (keys and values of attention) all groups, for
            one output group.
        groups: Colour groups of the input and of the output, the number of image channels or 1. Every output group sees
            the whole of an input with one group.
        dilation: Pixels from one tap of a square kernel to the next, in both directions; only 1 with a `Window`, with a
            stride, or with the pixel alone.
        stride: Pixels from one output to the next, in both directions: output (i, j) lies at the input's pixel
            (i * stride, j * stride), and there are as many outputs as it takes to cover the input.
        activation: What follows the convolution: "relu" or "none".
        bias: Whether something is added for each output; without, `bias` is a constant of zeros.
        full_precision: Whether it is computed in the model's own type where training multiplies in bfloat16, which
            cannot tell neighbouring levels of 256.
        generator: Source of the initial weights: Glorot uniform over the full, unmasked fans; zero biases.

    Raises:
        ValueError: If an argument is something else.
    """

    mask: Tensor
    """(out, in, height, width), 1 where the kernel sees and 0 where it does not."""
    bias: Tensor
    """(out,): what is added, a parameter or zeros."""
    window: Window
    """The rectangle that the kernel covers, gaps between its taps included."""
    taps: list[tuple[int, int]]
    """The offsets (dy, dx) of the pixels that the kernel reads, in raster order."""
    seen: list[int]
    """For each output group, the number of features it reads at the current pixel (0, 0), counted from the first."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | Window,
        *,
        mask_type: MaskType,
        groups: int | tuple[int, int] = 1,
        stride: int = 1,
        dilation: int = 1,
        activation: Activation = "relu",
        bias: bool = True,
        full_precision: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.full_precision = full_precision
        _check(mask_type, activation, kernel, stride, dilation)
        self.stride = stride
        self.dilation = dilation
        window = Window.square(kernel) if isinstance(kernel, int) else kernel
        self.window = Window(*(edge * dilation for edge in dataclasses.astuple(window)))
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mask_type = mask_type
        self.activation = activation
        in_groups, out_groups = (groups, groups) if isinstance(groups, int) else groups
        if mask_type == "all" and out_groups != 1:
            raise ValueError(f'groups must be (groups of the input, 1) for mask_type "all", got {groups!r}')
        self.in_groups = group_bounds(in_channels, in_groups)
        self.out_groups = group_bounds(out_channels, out_groups)
        if mask_type == "all":
            counts = [in_groups]
        else:
            counts = [(g if in_groups > 1 else 0) + (mask_type == "B") for g in range(out_groups)]
        self.seen = [self.in_groups[count - 1][1] if count else 0 for count in counts]
        self.taps = [
            tap
            for tap in window.taps()
            if (max(self.seen) > 0 if tap == (0, 0) else tap < (0, 0) or not isinstance(kernel, int))
        ]

        self.taps = [(dy * dilation, dx * dilation) for dy, dx in self.taps]
        mask = self._mask(out_channels, in_channels, window.height, window.width)
        self.register_buffer("mask", mask, persistent=False)
        whole = len(self.taps) == window.height * window.width
        self._dense = whole and ((0, 0) not in self.taps or min(self.seen) == in_channels)

        bound = math.sqrt(6 / (window.height * window.width * (in_channels + out_channels)))
        weight = torch.empty_like(mask).uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight * mask)
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_channels))
        else:
            self.register_buffer("bias", torch.zeros(out_channels), persistent=False)

    def _mask(self, *shape: int) -> Tensor:
        mask = torch.zeros(shape)
        for dy, dx in self.taps:
            y, x = self._place(dy, dx)
            for (start, stop), seen in zip(self.out_groups, self.seen, strict=True):
                mask[start:stop, : seen if (dy, dx) == (0, 0) else None, y, x] = 1
        return mask

    def _constants(self) -> dict[str, Tensor]:
        """The buffers, which no state has."""
        constants = {"mask": self._mask(*self.mask.shape)}
        return constants if "bias" in self._parameters else constants | {"bias": torch.zeros(self.out_channels)}

    def _fill_constants(self, like: Tensor) -> None:
        """Gives the buffers of a layer that was made on the device "meta" their values, where another tensor is."""
        with torch.device(like.device):
            for name, constant in self._constants().items():
                setattr(self, name, constant.to(like))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """See `torch.nn.Module`; this is also what `to_empty` calls."""
        without_values = self.mask.is_meta
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if without_values:
            self._fill_constants(self.mask)
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """See `torch.nn.Module`, with whose `assign=True` the weights leave the device "meta"."""
        super()._load_from_state_dict(*arguments)
        if self.mask.is_meta:
            self._fill_constants(self.weight)

    @property
    def pointwise(self) -> bool:
        """Whether the kernel covers the current pixel alone."""
        return self.window == Window(0, 0, 0, 0)

    def masked_weight(self) -> Tensor:
        """The weights with zeros where the kernel does not see: (out, in, height, width)."""
        return self.weight if self._dense else self.weight * self.mask

    def right_of(self, width: int) -> int:
        """How many columns beyond an input of `width` columns the layer sees; negative if it does not see the last."""
        return (-(-width // self.stride) - 1) * self.stride + self.window.right - (width - 1)

    def kernel_at(self, dy: int, dx: int) -> Tensor:
        """The masked weights of one tap, (out, in); zeros for an offset between the taps."""
        if dy % self.dilation or dx % self.dilation:
            return self.weight.new_zeros(self.out_channels, self.in_channels)
        y, x = self._place(dy, dx)
        return self.weight[:, :, y, x] * self.mask[:, :, y, x]

    def _place(self, dy: int, dx: int) -> tuple[int, int]:
        """Where the weights of a tap lie in the kernel."""
        return (dy - self.window.top) // self.dilation, (dx - self.window.left) // self.dilation

    def causal_weight(self) -> Tensor:
        """`masked_weight` without the rows below the current one."""
        return self.masked_weight()[:, :, : 1 - self.window.top // self.dilation]

    def extra_repr(self) -> str:
        """What `print(model)` shows of this layer."""
        return (
            f"{self.in_channels}, {self.out_channels}, {self.window}, mask_type={self.mask_type!r}, "
            f"groups=({len(self.in_groups)}, {len(self.out_groups)}), stride={self.stride}, dilation={self.dilation}, "
            f"activation={self.activation!r}"
        )


class ReparametrisedConv2d(MaskedConv2d):
    """A masked convolution whose kernel is a linear function of its parameters, by which training takes steps of a
    suitable size.

    Args:
        scale: Depends on the class.
        options: As for `MaskedConv2d`.
    """

    scale: Tensor

    def __init__(self, *options: Any, scale: float | Sequence[float] | Tensor, **more: Any) -> None:
        super().__init__(*options, **more)
        self._scale = scale
        self.register_buffer("scale", torch.as_tensor(scale), persistent=False)
        self._settled = False

    def _constants(self) -> dict[str, Tensor]:
        return super()._constants() | {"scale": torch.as_tensor(self._scale)}

    @abstractmethod
    def kernel_of(self, weight: Tensor) -> Tensor:
        """The kernel, (out, in, height, width), that parameters of its shape stand for; zeros for masked zeros."""

    def masked_weight(self) -> Tensor:
        """See `MaskedConv2d.masked_weight`."""
        weight = self.weight * self.mask
        return weight if self._settled else self.kernel_of(weight)

    def kernel_at(self, dy: int, dx: int) -> Tensor:
        """See `MaskedConv2d.kernel_at`."""
        if dy % self.dilation or dx % self.dilation:
            return super().kernel_at(dy, dx)
        y, x = self._place(dy, dx)
        return self.masked_weight()[:, :, y, x]

    def settle(self) -> None:
        """Makes the parameters the kernel itself, for good: what is rounded to a grid must be the kernel."""
        with torch.no_grad():
            self.weight.copy_(self.masked_weight())
        self._settled = True


class ScaledConv2d(ReparametrisedConv2d):
    """A masked convolution that multiplies each result by its entry of `scale`, (out,)."""

    def kernel_of(self, weight: Tensor) -> Tensor:
        """See `ReparametrisedConv2d.kernel_of`."""
        return weight * self.scale[:, None, None, None]


class DifferenceConv2d(ReparametrisedConv2d):
    """A masked convolution of an image's differences: all pixels are read by how much they differ from the one to the
    left, `scale` times enlarged, which itself is read as it is, `scale` / 8 times enlarged.

    It is a linear layer of the image like any other, but learns fast where neighbours are alike, as in photographs:
    there all features of the values themselves would be much the same, and any step in the weights would move them all.
    """

    def kernel_of(self, weight: Tensor) -> Tensor:
        """See `ReparametrisedConv2d.kernel_of`."""
        seen = weight * self.scale
        y, x = self._place(0, -1)
        left = seen[:, :, y, x] / 8 - (seen.sum((2, 3)) - seen[:, :, y, x])
        row = torch.cat([seen[:, :, y, :x], left[..., None], seen[:, :, y, x + 1 :]], -1)
        return torch.cat([seen[:, :, :y], row[:, :, None], seen[:, :, y + 1 :]], 2)

    @torch.no_grad()
    def start_from(self, kernel: Tensor) -> None:
        """Takes the parameters that stand for a kernel, (out, in, height, width)."""
        y, x = self._place(0, -1)
        self.weight.copy_(kernel / self.scale)
        self.weight[:, :, y, x] = 8 * kernel.sum((2, 3)) / self.scale


class PositionTable(nn.Module):
    """Learned features of each position: those of its row plus those of its column, or separate ones per position.

    Args:
        height: Height of the image.
        width: Width of the image.
        features: Number of features of each position.
        full: Whether each position has features of its own.
        scale: Pixels from one position to the next; there are as many positions as it takes to cover the image.
        generator: Source of the initial values: normal, with a standard deviation of 0.05.
    """

    def __init__(
        self,
        height: int,
        width: int,
        features: int,
        generator: torch.Generator | None = None,
        *,
        full: bool = False,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.features = features
        self.scale = scale
        self.full = full
        height, width = -(-height // scale), -(-width // scale)

        def parameter(*positions: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*positions, features).normal_(std=0.05, generator=generator))

        if full:
            self.table = parameter(height, width)
        else:
            self.rows, self.columns = parameter(height), parameter(width)

    def forward(self) -> Tensor:
        """All positions: (ceil(H / scale), ceil(W / scale), features)."""
        return self.table if self.full else self.rows[:, None] + self.columns


class LevelEmbedding(nn.Module):
    """A learned vector for each level of each channel: how a network reads levels that are categories, not numbers.

    Args:
        channels: Channels of the image; each has vectors of its own.
        levels: Number of levels.
        features: Size of a vector.
        generator: Source of the initial values: normal, with a standard deviation of 1.
    """

    def __init__(self, channels: int, levels: int, features: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.channels, self.levels, self.features = channels, levels, features
        self.weight = nn.Parameter(torch.empty(channels * levels, features).normal_(generator=generator))

    def forward(self, levels: Tensor) -> Tensor:
        """Levels (..., channels), integer, to the vectors of all channels side by side, (..., channels * features)."""
        first = torch.arange(0, len(self.weight), self.levels, device=levels.device)
        return F.embedding(levels.long() + first, self.weight).flatten(-2)

    def of_channel(self, levels: Tensor, channel: int) -> Tensor:
        """Levels (...) of one channel to their vectors, (..., features)."""
        return F.embedding(levels.long() + channel * self.levels, self.weight)
