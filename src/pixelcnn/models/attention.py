"""The attention block, through which a pixel sees all pixels before it, by their content and their position.

    q = conv_q(x) + place_q               f = ReLU(conv_x(x) + conv_i(image))
    k = conv_k(f) + place_k               v = conv_v(f)
    x <- x + conv_o(attention(q, k, v))

with 1x1 convolutions and attention over the pixels strictly before the current one (`pixelcnn.operations.attention`).
The features x of a pixel know what came before it; keys and values are only read by later pixels, so f knows the pixel
itself as well.

PixelSNAIL has residual blocks around each attention, which also read the image and coordinates; here the layers of the
network come before and after it, and tables for each row and column of the image take the place of coordinates.

References:
    | PixelSNAIL: An Improved Autoregressive Generative Model (Chen et al., 2018), https://arxiv.org/abs/1712.09763
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from pixelcnn.config import GatedPixelCNNConfig, PixelCNNPlusPlusConfig
from pixelcnn.layers import MaskedConv2d, PositionTable
from pixelcnn.operations import Attention, Conv, Position, View

__all__ = ["AttentionBlock", "attention_blocks"]


class AttentionBlock(nn.Module):
    """One attention block of a stream.

    Args:
        config: The model's configuration.
        filters: Number of features of the stream.
        groups: Number of colour groups of the stream.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig,
        filters: int,
        groups: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        _, height, width = config.image_shape
        self.heads = config.attention_heads
        features = self.heads * config.attention_size
        self._groups = groups
        conv = functools.partial(MaskedConv2d, kernel=1, mask_type="B", activation="none", generator=generator)
        self.query = conv(filters, groups * features, groups=groups)
        self.image = conv(config.image_features, filters, mask_type="all", groups=(groups, 1))
        self.finished = conv(filters, filters, mask_type="all", groups=(groups, 1), activation="relu")
        self.keys = conv(filters, features)
        self.values = conv(filters, features)
        self.output = conv(groups * features, filters, groups=groups)
        self.query_place = PositionTable(height, width, groups * features, generator)
        self.key_place = PositionTable(height, width, features, generator)
        with torch.no_grad():
            self.output.weight.mul_(0.1)  # a block begins close to the identity

    def forward(self, x: Tensor, view: View) -> Tensor:
        """Features (..., filters) to features of the same shape."""
        positions = view(Position(table=self.query_place, groups=self._groups))
        query = view(Conv(self.query), x, positions)
        finished = view(Conv(self.finished), x, view(Conv(self.image), view.image))
        keys = view(Conv(self.keys), finished, view(Position(table=self.key_place)))
        values = view(Conv(self.values), finished)
        found = view(Attention(heads=self.heads, groups=self._groups), query, keys, values)
        return x + view(Conv(self.output), view.dropout(found))


def attention_blocks(
    config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig,
    layers: int,
    filters: int,
    groups: int,
    generator: torch.Generator | None,
) -> dict[int, AttentionBlock]:
    """The attention blocks of a configuration, spread evenly between the layers, keyed by the number of layers before.

    Args:
        config: The model's configuration.
        layers: Number of layers of the stream; there is no block before the first and none after the last.
        filters: Number of features of the stream.
        groups: Number of colour groups of the stream.
        generator: Source of the initial weights.
    """
    return {
        (k + 1) * layers // (config.attention + 1): AttentionBlock(config, filters, groups, generator)
        for k in range(config.attention)
    }
