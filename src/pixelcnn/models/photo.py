"""PhotoPixelCNN: a small network for photographs, which corrects a linear prediction from a pixel's neighbours.

    image -> masked convolution, ReLU -> [masked convolution, ReLU, 1x1; add] * blocks -> 1x1, ReLU -> 1x1
    image -> linear masked convolution; their sum gives the mixtures

The linear layer begins as the prediction of lossless formats, left + above - above left, each colour corrected by the
error of the one before it, with narrow distributions around it, so the network has to learn only what this misses. It
reads differences between neighbours (`DifferenceConv2d`). There are no gates: a ReLU costs nothing in exact arithmetic,
where an exponential takes as long as dozens of products. The network has no size of its own and is good for pictures
of any.

A map that the image is conditioned on (`pixelcnn.operations.condition_map`) adds to the first convolution of every
block, and to the output.

The network outputs the parameters of a pixel's mixture (`pixelcnn.models.logistics`).
"""

from __future__ import annotations

import math
import typing

import torch
from torch import Tensor, nn

from pixelcnn.config import PhotoPixelCNNConfig
from pixelcnn.layers import Activation, DifferenceConv2d, MaskedConv2d, ScaledConv2d
from pixelcnn.models.logistics import LogisticsModel
from pixelcnn.operations import Conv, View
from pixelcnn.operations.condition_map import condition_map, map_encoder, map_layer, map_term

__all__ = ["PhotoPixelCNN"]


class PhotoPixelCNN(LogisticsModel):
    """A network for photographs and other grids of many levels that change little from pixel to pixel, conditional on a
    map if asked for.

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
        condition_channels: Channels of a map of numbers to condition on, see `pixelcnn.operations.condition_map`.
        condition_levels: Number of categories of a map to condition on, its last channel.
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
        condition_channels: int = PhotoPixelCNNConfig.condition_channels,
        condition_levels: int = PhotoPixelCNNConfig.condition_levels,
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
            condition_channels=condition_channels,
            condition_levels=condition_levels,
        )
        super().__init__(config, config.mixtures, generator=generator)
        image, features, raw = self.image_features, config.filters, self.raw_features

        def conv(outputs: int, width: int, activation: Activation) -> MaskedConv2d:
            return MaskedConv2d(features, outputs, width, mask_type="B", activation=activation, generator=generator)

        reads: dict[str, typing.Any] = {"mask_type": "A", "full_precision": True, "generator": generator}
        self.input = DifferenceConv2d(image, features, config.first_kernel, scale=16.0, **reads)
        pairs = [(conv(features, config.kernel_size, "relu"), conv(features, 1, "none")) for _ in range(config.blocks)]
        self.blocks = nn.ModuleList(map(nn.ModuleList, pairs))
        self.head = conv(features, 1, "relu")
        means = range(raw)[self.means]
        scale = [1 / 16 if k in means else 1.0 for k in range(raw)]  # a level is 1 / 128: else steps would be several
        final: dict[str, typing.Any] = {"mask_type": "B", "activation": "none", "scale": scale, "generator": generator}
        self.output = ScaledConv2d(features, raw, 1, **final)
        self.map_encoder = map_encoder(config, generator)
        known = 0 if self.map_encoder is None else self.map_encoder.features
        maps = [map_layer(known, features, generator) for _ in pairs]
        self.maps = nn.ModuleList([layer for layer in maps if layer is not None])
        self.map_output = ScaledConv2d(known, raw, 1, bias=False, **final) if known else None
        self.linear = DifferenceConv2d(image, raw, config.linear_kernel, scale=0.5, activation="none", **reads)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """The initial weights: the network changes little of the linear prediction."""
        c, m = self.image_shape[0], self.likelihood.mixtures
        as_numbers = self.level_embedding is None  # else levels predict nothing yet, and mixtures begin spread over all
        unit, coupling = 2.0**self._resolution.mean_bits, 0.9 if c == 3 and as_numbers else 0.0
        self.input.weight.mul_(2.4)  # of differences, which are small
        for first, second in self._pairs:
            first.weight.mul_(2.0)  # Glorot's bound is for the full kernel, half of which is masked
            second.weight.mul_(0.3)
        self.output.weight.mul_(0.02)
        if self.map_output is not None:
            self.map_output.weight.mul_(0.02)
        weight, bias = torch.zeros_like(self.linear.weight), self.linear.bias
        middle = weight.shape[-1] // 2
        spread = torch.linspace(-0.02, 0.02, m) - 1 if as_numbers else torch.linspace(-0.9, 0.9, m)
        for k in range(c):
            means = slice(m + k * m, m + k * m + m)
            bias[means] = unit * (spread + (coupling if k else 0))
            for channel, share in ((k, 1.0), (k - 1, -coupling)):
                if channel >= 0 and as_numbers:  # 0 to 1 for -1 to 1
                    weight[means, channel, middle, middle - 1] = 2 * unit * share
                    weight[means, channel, middle - 1, middle] = 2 * unit * share
                    weight[means, channel, middle - 1, middle - 1] = -2 * unit * share
        self.linear.start_from(weight)
        bias[m * (1 + c) : m * (1 + 2 * c)] = -3.7 if as_numbers else -1.5
        if coupling:
            slopes = bias[m * (1 + 2 * c) :].view(-1, m)  # of the pairs (0, 1), (0, 2), (1, 2)
            slopes[[0, 2]] = math.atanh(coupling)

    @property
    def _pairs(self) -> typing.Iterable[tuple[MaskedConv2d, MaskedConv2d]]:
        """The two convolutions of each block."""
        return typing.cast("typing.Iterable[tuple[MaskedConv2d, MaskedConv2d]]", self.blocks)

    def network(self, view: View) -> Tensor:
        """See `AutoregressiveModel.network`: the input of `subpixel_params`, (..., raw features)."""
        known = condition_map(view, self.map_encoder)
        x = view(Conv(self.input), view.image)
        maps = self.maps if len(self.maps) else [None] * len(self.blocks)
        for (first, second), of_map in zip(self._pairs, typing.cast("list[MaskedConv2d | None]", maps), strict=True):
            given = map_term(view, of_map, known, None)
            x = x + view(Conv(second), view.dropout(view(Conv(first), x, given)))
        given = map_term(view, self.map_output, known, None)
        return view(Conv(self.output), view(Conv(self.head), x), given) + view(Conv(self.linear), view.image)
