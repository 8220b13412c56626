"""PhotoPixelCNN: a small network for photographs, which corrects a linear prediction from a pixel's neighbours.

    image -> masked convolution, ReLU -> [masked convolution, ReLU, 1x1; add] * blocks -> 1x1, ReLU -> 1x1
    image -> linear masked convolution; their sum gives the mixtures

The linear layer begins as the prediction of lossless formats, left + above - above left, each colour corrected by the
error of the one before it, with narrow distributions around it, so the network has to learn only what this misses. It
reads differences between neighbours (`DifferenceConv2d`). There are no gates: a ReLU costs nothing in exact arithmetic,
where an exponential takes as long as dozens of products. The network has no size of its own and is good for pictures
of any.

The network outputs the parameters of a pixel's mixture (`pixelcnn.models.logistics`).
"""

from __future__ import annotations

import itertools
import math
import typing

import torch
from torch import Tensor, nn

from pixelcnn.config import PhotoPixelCNNConfig
from pixelcnn.layers import Activation, DifferenceConv2d, MaskedConv2d, ScaledConv2d
from pixelcnn.models.logistics import LogisticsModel
from pixelcnn.operations import Conv, View

__all__ = ["PhotoPixelCNN"]


class PhotoPixelCNN(LogisticsModel):
    """A network for photographs and other grids of many levels that change little from pixel to pixel.

    Args:
        image_shape: Channels, height and width.
        levels: Number of values that a sub-pixel can take, 2..65,536.
        filters: Features of each layer.
        blocks: Residual blocks.
        mixtures: Logistic distributions per mixture.
        first_kernel: Odd width of the kernel that reads the image, 3..31.
        kernel_size: Odd width of the blocks' kernels, 1..31.
        linear_kernel: Odd width of the kernel of the linear prediction, 3..31.
        embedding: Size of the learned vector as which each level is read; 0 reads it as a number.
        generator: Source of the initial weights; torch's global one by default.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = PhotoPixelCNN(image_shape=(3, 4, 4), levels=256, filters=8, blocks=1, mixtures=3)
        >>> model.sample(2).shape
        torch.Size([2, 3, 4, 4])
    """

    Config = PhotoPixelCNNConfig

    def __init__(
        self,
        image_shape: typing.Sequence[int] = PhotoPixelCNNConfig.image_shape,
        levels: int = PhotoPixelCNNConfig.levels,
        filters: int = PhotoPixelCNNConfig.filters,
        blocks: int = PhotoPixelCNNConfig.blocks,
        mixtures: int = PhotoPixelCNNConfig.mixtures,
        first_kernel: int = PhotoPixelCNNConfig.first_kernel,
        kernel_size: int = PhotoPixelCNNConfig.kernel_size,
        linear_kernel: int = PhotoPixelCNNConfig.linear_kernel,
        embedding: int = PhotoPixelCNNConfig.embedding,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        config = PhotoPixelCNNConfig(
            image_shape=typing.cast("tuple[int, int, int]", tuple(image_shape)),
            levels=levels,
            filters=filters,
            blocks=blocks,
            mixtures=mixtures,
            first_kernel=first_kernel,
            kernel_size=kernel_size,
            linear_kernel=linear_kernel,
            embedding=embedding,
        )
        super().__init__(config, config.mixtures, generator=generator)
        image, features, raw = self.image_features, config.filters, self.raw_features

        def conv(outputs: int, width: int, activation: Activation) -> MaskedConv2d:
            return MaskedConv2d(features, outputs, width, mask_type="B", activation=activation, generator=generator)

        reads: dict[str, typing.Any] = {"mask_type": "A", "full_precision": True, "generator": generator}
        self.input = DifferenceConv2d(image, features, config.first_kernel, scale=16.0, **reads)
        blocks_ = [
            (conv(features, config.kernel_size, "relu"), conv(features, 1, "none")) for _ in range(config.blocks)
        ]
        self.blocks = nn.ModuleList(map(nn.ModuleList, blocks_))
        self.head = conv(features, 1, "relu")
        scale = torch.ones(raw)
        scale[self.means] = 1 / 16  # a level is 1 / 128: else a step of training would move them by several
        self.output = ScaledConv2d(features, raw, 1, mask_type="B", activation="none", scale=scale, generator=generator)
        self.linear = DifferenceConv2d(image, raw, config.linear_kernel, scale=0.5, activation="none", **reads)
        self._blocks = tuple(blocks_)  # looked up for every front
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """The initial weights: the network changes little of the linear prediction."""
        c, m = self.image_shape[0], self.likelihood.mixtures
        unit, coupling = 2.0**self._resolution.mean_bits, 0.9 if c == 3 else 0.0
        self.input.weight.mul_(2.4)  # of differences, which are small
        for first, second in self._blocks:
            first.weight.mul_(2.0)  # Glorot's bound is for the full kernel, half of which is masked
            second.weight.mul_(0.3)
        self.output.weight.mul_(0.02)
        weight, bias = torch.zeros_like(self.linear.weight), self.linear.bias
        middle = weight.shape[-1] // 2
        for k in range(c):
            means = slice(m + k * m, m + k * m + m)
            bias[means] = unit * (torch.linspace(-0.02, 0.02, m) - 1 + (coupling if k else 0))
            for channel, share in ((k, 1.0), (k - 1, -coupling)):
                if channel >= 0 and self.image_features == c:  # levels that are read as numbers, 0 to 1 for -1 to 1
                    weight[means, channel, middle, middle - 1] = 2 * unit * share
                    weight[means, channel, middle - 1, middle] = 2 * unit * share
                    weight[means, channel, middle - 1, middle - 1] = -2 * unit * share
        self.linear.start_from(weight)
        bias[m * (1 + c) : m * (1 + 2 * c)] = -3.7
        for index, (one, other) in enumerate(itertools.combinations(range(c), 2)):
            pair = slice(m * (1 + 2 * c) + index * m, m * (2 + 2 * c) + index * m)
            bias[pair] = math.atanh(coupling) if other == one + 1 else 0.0

    def network(self, view: View) -> Tensor:
        """See `AutoregressiveModel.network`: the input of `subpixel_params`, (..., raw features)."""
        x = view(Conv(self.input), view.image)
        for first, second in self._blocks:
            x = x + view(Conv(second), view.dropout(view(Conv(first), x)))
        return view(Conv(self.output), view(Conv(self.head), x)) + view(Conv(self.linear), view.image)
