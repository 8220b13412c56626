"""PixelCNN++: gated residual blocks over two shifted streams, and a discretised mixture of logistics.

One stream, u, sees the rows above by down-shifted convolutions (2 x 3); the other, ul, sees the pixels above and to the
left by down-right-shifted ones (2 x 2) and, in each block, u. A block is

    c = conv(elu(x)) + sum of nin(elu(s)) over the short-cuts s
    (a, b) = conv(elu(c)) + A h + M m,        x <- x + a * sigmoid(b)

with elu(x) the exponential linear units of x and of -x, h the class or vector that the image is conditioned on, and m
the pixel's features of a map (`pixelcnn.operations.condition_map`). The first half of the
blocks passes its results to the second half, in reverse order, as short-cuts. All blocks work at the image's
resolution.

Both streams begin with convolutions of the image, to which `pixelcnn.models.context` can add what is known of the
pixel's position and of the whole picture above it.

With attention blocks (`pixelcnn.models.attention`) between those of ul, that stream sees all earlier pixels.

The network outputs the parameters of a pixel's mixture (`pixelcnn.models.logistics`).

References:
    | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications (Salimans,
      Karpathy, Chen & Kingma, 2017), https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

import functools
import typing

import torch
from torch import Tensor, nn

from pixelcnn.arguments import plain
from pixelcnn.config import PixelCNNPlusPlusConfig, kernel_sizes
from pixelcnn.layers import MaskedConv2d, Window
from pixelcnn.models.attention import attention_blocks
from pixelcnn.models.context import FirstLayerTerms
from pixelcnn.models.logistics import LogisticsModel
from pixelcnn.operations import GLU, ConcatELU, Conv, View, condition_term
from pixelcnn.operations.condition_map import condition_map, map_encoder, map_layer, map_term

__all__ = ["PixelCNNPlusPlus", "ResidualBlock"]

_conv = functools.partial(MaskedConv2d, mask_type="B", activation="none")


def _down(size: int) -> Window:
    """The window of the down-shifted stream, which sees the rows above: the upper half of a kernel of that width."""
    return Window(-(size // 2), 0, -(size // 2), size // 2)


def _down_right(size: int) -> Window:
    """The window of the down-right-shifted stream, which also sees the current row."""
    return Window(-(size // 2), 0, -(size // 2), 0)


class ResidualBlock(nn.Module):
    """A gated residual block of one stream.

    Args:
        filters: Features of the stream.
        window: The window of its convolutions.
        shortcuts: Number of short-cuts that are added.
        condition: Size of the class and vector that the image is conditioned on; 0 for nothing.
        map_features: Features of the map that it is conditioned on; 0 for none.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        filters: int,
        window: Window,
        shortcuts: int,
        condition: int,
        map_features: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(2 * filters, filters, window, generator=generator)
        self.joins = nn.ModuleList([_conv(2 * filters, filters, 1, generator=generator) for _ in range(shortcuts)])
        self.conv2 = _conv(2 * filters, 2 * filters, window, generator=generator)
        self.condition = nn.Linear(condition, 2 * filters, bias=False) if condition else None
        if self.condition is not None:
            nn.init.normal_(self.condition.weight, std=0.05, generator=generator)
        self.map = map_layer(map_features, 2 * filters, generator)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)  # a block begins close to the identity

    def forward(self, x: Tensor, shortcuts: typing.Sequence[Tensor], view: View, known: Tensor | None) -> Tensor:
        """Features (..., filters) to features of the same shape."""
        joined: Tensor | None = None
        for layer, shortcut in zip(self.joins, shortcuts, strict=True):
            joined = view(Conv(typing.cast(MaskedConv2d, layer)), view(ConcatELU(), shortcut), joined)
        c = view(Conv(self.conv1), view(ConcatELU(), x), joined)
        given = map_term(view, self.map, known, condition_term(view, self.condition, 1))
        return x + view(GLU(), view(Conv(self.conv2), view.dropout(view(ConcatELU(), c)), given))


class PixelCNNPlusPlus(LogisticsModel):
    """PixelCNN++, conditional on a class, a vector or a map if asked for.

    Args:
        image_shape: Channels, height and width.
        levels: Number of values that a sub-pixel can take, 2..65,536.
        filters: Features of each stream.
        blocks: Residual blocks of each stream in each of the two halves.
        mixtures: Logistic distributions per mixture.
        first_kernel: Odd width of the kernels that read the image, 3..31.
        kernel_size: Odd width of the other kernels, 1..31: one, or one for each of the 2 * blocks blocks.
        places: Whether each position has a learned bias for each feature of the first layer.
        context: Scales of coarse causal contexts, each 2..16, see `pixelcnn.models.context`.
        num_classes: Number of classes to condition on; None for none.
        condition_dim: Size of a vector to condition on; None for none.
        attention: Number of attention blocks, 0..2 * blocks.
        attention_heads: Heads per attention block.
        attention_size: Features of each head's queries, keys and values.
        embedding: Size of the learned vector as which each level is read; 0 reads it as a number.
        context_places: Whether each cell of a context has learned features of its own.
        condition_channels: Channels of a map of numbers to condition on, see `pixelcnn.operations.condition_map`.
        condition_levels: Number of categories of a map to condition on, its last channel.
        generator: Source of the initial weights; torch's global one by default.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = PixelCNNPlusPlus(image_shape=(3, 4, 4), levels=256, filters=8, blocks=1, mixtures=3)
        >>> model.sample(2).shape
        torch.Size([2, 3, 4, 4])
    """

    Config = PixelCNNPlusPlusConfig

    def __init__(
        self,
        image_shape: typing.Sequence[int] = PixelCNNPlusPlusConfig.image_shape,
        levels: int = PixelCNNPlusPlusConfig.levels,
        filters: int = PixelCNNPlusPlusConfig.filters,
        blocks: int = PixelCNNPlusPlusConfig.blocks,
        mixtures: int = PixelCNNPlusPlusConfig.mixtures,
        num_classes: int | None = None,
        condition_dim: int | None = None,
        attention: int = PixelCNNPlusPlusConfig.attention,
        attention_heads: int = PixelCNNPlusPlusConfig.attention_heads,
        attention_size: int = PixelCNNPlusPlusConfig.attention_size,
        first_kernel: int = PixelCNNPlusPlusConfig.first_kernel,
        kernel_size: int | typing.Sequence[int] = PixelCNNPlusPlusConfig.kernel_size,
        places: bool = PixelCNNPlusPlusConfig.places,
        context: typing.Sequence[int] = PixelCNNPlusPlusConfig.context,
        embedding: int = PixelCNNPlusPlusConfig.embedding,
        context_places: bool = PixelCNNPlusPlusConfig.context_places,
        condition_channels: int = PixelCNNPlusPlusConfig.condition_channels,
        condition_levels: int = PixelCNNPlusPlusConfig.condition_levels,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        shape = typing.cast("tuple[int, int, int]", tuple(image_shape))
        config = PixelCNNPlusPlusConfig(
            image_shape=shape,
            levels=levels,
            filters=filters,
            blocks=blocks,
            mixtures=mixtures,
            num_classes=num_classes,
            condition_dim=condition_dim,
            attention=attention,
            attention_heads=attention_heads,
            attention_size=attention_size,
            first_kernel=first_kernel,
            kernel_size=plain(kernel_size),
            places=places,
            context=tuple(context),
            embedding=embedding,
            context_places=context_places,
            condition_channels=condition_channels,
            condition_levels=condition_levels,
        )
        filters, blocks, mixtures = config.filters, config.blocks, config.mixtures
        super().__init__(config, mixtures, generator=generator)
        c, image = self.image_shape[0], self.image_features
        condition = config.condition_features
        self.map_encoder = map_encoder(config, generator)
        known = 0 if self.map_encoder is None else self.map_encoder.features

        kernels = kernel_sizes(config, 2 * blocks)
        up, down = kernels[:blocks], kernels[blocks:]

        def row(windows: typing.Iterable[Window], shortcuts: int) -> list[ResidualBlock]:
            return [ResidualBlock(filters, window, shortcuts, condition, known, generator) for window in windows]

        r = config.first_kernel // 2
        self.input_u = _conv(image, filters, Window(-r - 1, -1, -r, r), mask_type="A", generator=generator)
        self.input_above = _conv(image, filters, Window(-r, -1, -r, r), mask_type="A", generator=generator)
        self.input_left = _conv(image, filters, Window(-r, 0, -r, -1), mask_type="A", generator=generator)
        halves = [
            row(map(_down, up), 0),
            row(map(_down_right, up), 1),
            row(map(_down, down), 1),
            row(map(_down_right, down), 2),
        ]
        self.up_u, self.up_ul, self.down_u, self.down_ul = map(nn.ModuleList, halves)
        self.output = _conv(2 * filters, self.raw_features, 1, generator=generator)
        between = attention_blocks(config, 2 * blocks + 1, filters, 1, generator)
        self.attention = nn.ModuleList(between.values())
        self._attended = tuple(between)  # the numbers of blocks after which they come
        self.terms = FirstLayerTerms(config, ((filters, 1), (filters, 1)), generator)
        with torch.no_grad():  # the mixture begins spread over all levels
            means = self.output.bias[mixtures : mixtures * (1 + c)].view(c, mixtures)
            middles = torch.linspace(-0.9, 0.9, mixtures) * 2.0**self._resolution.mean_bits
            means.copy_(middles.expand(c, mixtures))
            self.output.bias[mixtures * (1 + c) : mixtures * (1 + 2 * c)] = -1.5

    def network(self, view: View) -> Tensor:
        """See `AutoregressiveModel.network`: the input of `subpixel_params`, (..., raw features)."""
        u = view(Conv(self.input_u), view.image)
        ul = view(Conv(self.input_left), view.image, view(Conv(self.input_above), view.image))
        of_u, of_ul = self.terms.forward(view)
        u = u if of_u is None else u + of_u
        ul = ul if of_ul is None else ul + of_ul
        known = condition_map(view, self.map_encoder)
        us, uls = [u], [ul]
        for for_u, for_ul in zip(self.up_u, self.up_ul, strict=True):
            us.append(for_u.forward(us[-1], (), view, known))
            uls.append(self._attend(len(uls), for_ul.forward(uls[-1], (us[-1],), view, known), view))
        u, ul = us.pop(), uls.pop()
        for k, (for_u, for_ul) in enumerate(zip(self.down_u, self.down_ul, strict=True), len(self.up_ul) + 1):
            u = for_u.forward(u, (us.pop(),), view, known)
            ul = self._attend(k, for_ul.forward(ul, (u, uls.pop()), view, known), view)
        return view(Conv(self.output), view(ConcatELU(), ul))

    def _attend(self, blocks: int, ul: Tensor, view: View) -> Tensor:
        """The stream after `blocks` of its blocks, passed through the attention block that follows, if there is one."""
        if blocks not in self._attended:
            return ul
        attended: Tensor = self.attention[self._attended.index(blocks)].forward(ul, view)
        return attended
