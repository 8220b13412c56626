"""PixelCNN: masked convolutions and residual blocks, as in the Keras example.

    image -> 7x7 mask A -> ReLU -> [1x1, 3x3 mask B, 1x1, each ReLU; add] * blocks -> [1x1, ReLU] * 2 -> 1x1

`PixelCNN()` has 532,673 parameters, including masked weights, and reproduces the example. It has the blind spot of the
original: pixels above and to the right are seen only through the corners of the 3x3 kernels.

References:
    | Pixel Recurrent Neural Networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
    | Keras example "PixelCNN" (ADMoreau, 2020), https://keras.io/examples/generative/pixelcnn/
"""

from __future__ import annotations

import typing

import torch
from torch import Tensor, nn

from pixelcnn.config import PixelCNNConfig
from pixelcnn.layers import MaskedConv2d
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.operations import Conv, View

__all__ = ["PixelCNN", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """x + ReLU(1x1(ReLU(3x3 mask B(ReLU(1x1(x)))))), with half as many features inside, to which dropout may apply."""

    def __init__(self, filters: int, groups: int, generator: torch.Generator | None) -> None:
        super().__init__()
        half = filters // 2
        self.conv1 = MaskedConv2d(filters, filters, 1, mask_type="B", groups=groups, generator=generator)
        self.masked = MaskedConv2d(filters, half, 3, mask_type="B", groups=groups, generator=generator)
        self.conv2 = MaskedConv2d(half, filters, 1, mask_type="B", groups=groups, generator=generator)

    def forward(self, x: Tensor, view: View) -> Tensor:
        """Features (..., filters) to features of the same shape."""
        return x + view(Conv(self.conv2), view.dropout(view(Conv(self.masked), view(Conv(self.conv1), x))))


class PixelCNN(AutoregressiveModel):
    """PixelCNN, by default the seed network for binary 28x28 images.

    Args:
        image_shape: Channels, height and width.
        levels: Number of values that a sub-pixel can take, 2..65,536.
        filters: Features of each layer, at least two per channel.
        blocks: Number of residual blocks.
        embedding: Size of the learned vector as which each level is read; 0 reads it as a number.
        generator: Source of the initial weights; torch's global one by default.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = PixelCNN(image_shape=(1, 8, 8), levels=4, filters=16, blocks=2)
        >>> images = model.sample(3, seed=1)
        >>> images.shape, images.dtype
        (torch.Size([3, 1, 8, 8]), torch.uint8)
        >>> model.log_prob(images).shape
        torch.Size([3])
    """

    Config = PixelCNNConfig
    config: PixelCNNConfig

    def __init__(
        self,
        image_shape: tuple[int, int, int] = PixelCNNConfig.image_shape,
        levels: int = PixelCNNConfig.levels,
        filters: int = PixelCNNConfig.filters,
        blocks: int = PixelCNNConfig.blocks,
        embedding: int = PixelCNNConfig.embedding,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        shape = typing.cast("tuple[int, int, int]", tuple(image_shape))
        super().__init__(
            PixelCNNConfig(image_shape=shape, levels=levels, filters=filters, blocks=blocks, embedding=embedding),
            generator=generator,
        )
        c, filters, blocks = self.image_shape[0], self.config.filters, self.config.blocks
        self.input = MaskedConv2d(self.image_features, filters, 7, mask_type="A", groups=c, generator=generator)
        self.blocks = nn.ModuleList([ResidualBlock(filters, c, generator) for _ in range(blocks)])
        head = [MaskedConv2d(filters, filters, 1, mask_type="B", groups=c, generator=generator) for _ in range(2)]
        self.head = nn.ModuleList(head)
        params = c * self.likelihood.params
        self.output = MaskedConv2d(filters, params, 1, mask_type="B", groups=c, activation="none", generator=generator)

    def penultimate(self, view: View) -> Tensor:
        """See `Autoregressive.penultimate`."""
        h = view(Conv(self.input), view.image)
        for block in self.blocks:
            h = block.forward(h, view)
        for layer in self.head:
            h = view(Conv(typing.cast(MaskedConv2d, layer)), h)
        return h

    def network(self, view: View) -> Tensor:
        """See `Autoregressive.network`."""
        return view(Conv(self.output), self.penultimate(view))

    @property
    def logit_layer(self) -> MaskedConv2d:
        """See `Autoregressive.logit_layer`."""
        return self.output
