"""GatedPixelCNN: a vertical and a horizontal stack of gated convolutions, without a blind spot.

The vertical stack sees the rows above; the horizontal stack sees its own row to the left and, by a link, the vertical
stack:

    v' = conv_v(v) + A c + M m                       v  <- tanh(v'_1) * sigmoid(v'_2)
    h' = conv_h(h) + link(v') + B c,  g = tanh(h'_1) * sigmoid(h'_2)
    skip <- skip + conv_s(g)                         h  <- h + conv_r(g)

and the parameters are 1x1(ReLU(1x1(ReLU(skip)))). c is what the image is conditioned on: a one-hot class, or a
vector followed by a 1; it is zero where that is dropped, which is how the same network learns the unconditional
distribution. m is the pixel's features of a map, if there is one (`pixelcnn.operations.condition_map`), which reach h'
by the link.

At the first layer `pixelcnn.models.context` can add to conv_v(v) and to link(v') what is known of the pixel's position
and of the whole picture above it. With a coarse context, which knows c as well, the later layers are not conditioned on
c: this costs nothing, and what they learn serves images of every class and of none.

With attention blocks (`pixelcnn.models.attention`) between the layers, the horizontal stack sees all earlier pixels.

References:
    | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), https://arxiv.org/abs/1606.05328
    | Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

import functools
import typing

import torch
from torch import Tensor, nn

from pixelcnn.arguments import plain
from pixelcnn.config import GatedPixelCNNConfig, kernel_sizes
from pixelcnn.layers import MaskedConv2d, MaskType, Window
from pixelcnn.models.attention import attention_blocks
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.models.context import FirstLayerTerms
from pixelcnn.operations import Conv, Gate, View, condition_term
from pixelcnn.operations.condition_map import condition_map, map_encoder, map_layer, map_term

__all__ = ["GatedLayer", "GatedPixelCNN"]


class GatedLayer(nn.Module):
    """One layer of both stacks.

    Args:
        filters: Features of each stack, a multiple of `channels`.
        kernel_size: Odd width of the kernels; the height of the vertical one is half of it, rounded up.
        channels: Channels of the image.
        image: Number of features by which the layer reads the image; 0 if it reads the layer before it.
        last: Whether only the skip connections read the layer's output.
        condition: Size of the class and vector that the image is conditioned on; 0 for nothing.
        map_features: Features of the map that it is conditioned on; 0 for none.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        channels: int,
        *,
        image: int,
        last: bool,
        condition: int,
        map_features: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        r, c, first = kernel_size // 2, channels, image > 0
        inputs = image or filters
        mask: MaskType = "A" if first else "B"
        above = Window(-r, -1 if first else 0, -r, r)
        beside = Window(0, 0, -r, -1 if first and c == 1 else 0)
        conv = functools.partial(MaskedConv2d, mask_type="B", activation="none", generator=generator)
        self.vertical = conv(inputs, 2 * filters, above, mask_type=mask)
        self.horizontal = conv(inputs, 2 * filters, beside, mask_type=mask, groups=c)
        self.link = conv(2 * filters, 2 * filters, 1, groups=(1, c))
        self.skip = conv(filters, filters, 1, groups=c, activation="relu" if last else "none")
        self.residual = None if last else conv(filters, filters, 1, groups=c)
        self.condition_v = nn.Linear(condition, 2 * filters, bias=False) if condition else None
        self.condition_h = nn.Linear(condition, 2 * filters, bias=False) if condition else None
        self.map = map_layer(map_features, 2 * filters, generator)
        self._channels = c
        for linear in (self.condition_v, self.condition_h):
            if linear is not None:
                nn.init.normal_(linear.weight, std=0.05, generator=generator)

    def forward(
        self,
        v: Tensor | None,
        h: Tensor | None,
        skip: Tensor | None,
        view: View,
        terms: typing.Sequence[Tensor | None] = (None, None),
        known: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """The two stacks and the sum of the skip connections, (..., filters) each, None before the first layer.

        `terms` are added to the wide features of the two stacks, (..., 2 * filters); `known` is the map's features.
        """
        of_v, of_h = terms
        for_v = map_term(view, self.map, known, condition_term(view, self.condition_v, 1))
        for_h = condition_term(view, self.condition_h, self._channels)
        v_wide = view(Conv(self.vertical), view.image if v is None else v, for_v)
        v_wide = v_wide if of_v is None else v_wide + of_v
        from_v = view(Conv(self.link), v_wide, for_h)
        from_v = from_v if of_h is None else from_v + of_h
        h_wide = view(Conv(self.horizontal), view.image if h is None else h, from_v)
        g = view.dropout(view(Gate(groups=self._channels), h_wide))
        skip = view(Conv(self.skip), g, skip)
        if self.residual is None:
            return None, None, skip
        residual = view(Conv(self.residual), g)
        h = residual if h is None else h + residual  # right after it, so that engines add as they multiply
        return view(Gate(), v_wide), h, skip


class GatedPixelCNN(AutoregressiveModel):
    """Gated PixelCNN, conditional on a class, a vector or a map if asked for.

    Args:
        image_shape: Channels, height and width.
        levels: Number of values that a sub-pixel can take, 2..65,536.
        filters: Features of each stack, a multiple of the channels.
        layers: Number of gated layers.
        first_kernel: Odd width of the kernels that read the image, 3..31.
        kernel_size: Odd width of the other kernels, 1..31: one, or one for each later layer.
        places: Whether each position has a learned bias for each feature of the first layer.
        context: Scales of coarse causal contexts, each 2..16, see `pixelcnn.models.context`.
        num_classes: Number of classes to condition on; None for none.
        condition_dim: Size of a vector to condition on; None for none.
        attention: Number of attention blocks, 0..layers - 1.
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
        >>> model = GatedPixelCNN(image_shape=(1, 8, 8), filters=8, layers=3, num_classes=10)
        >>> images = model.sample(3, labels=torch.tensor([0, 4, 9]))
        >>> images.shape, images.dtype
        (torch.Size([3, 1, 8, 8]), torch.uint8)
    """

    Config = GatedPixelCNNConfig
    config: GatedPixelCNNConfig

    def __init__(
        self,
        image_shape: typing.Sequence[int] = GatedPixelCNNConfig.image_shape,
        levels: int = GatedPixelCNNConfig.levels,
        filters: int = GatedPixelCNNConfig.filters,
        layers: int = GatedPixelCNNConfig.layers,
        num_classes: int | None = None,
        condition_dim: int | None = None,
        attention: int = GatedPixelCNNConfig.attention,
        attention_heads: int = GatedPixelCNNConfig.attention_heads,
        attention_size: int = GatedPixelCNNConfig.attention_size,
        first_kernel: int = GatedPixelCNNConfig.first_kernel,
        kernel_size: int | typing.Sequence[int] = GatedPixelCNNConfig.kernel_size,
        places: bool = GatedPixelCNNConfig.places,
        context: typing.Sequence[int] = GatedPixelCNNConfig.context,
        embedding: int = GatedPixelCNNConfig.embedding,
        context_places: bool = GatedPixelCNNConfig.context_places,
        condition_channels: int = GatedPixelCNNConfig.condition_channels,
        condition_levels: int = GatedPixelCNNConfig.condition_levels,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        shape = typing.cast("tuple[int, int, int]", tuple(image_shape))
        super().__init__(
            GatedPixelCNNConfig(
                image_shape=shape,
                levels=levels,
                filters=filters,
                layers=layers,
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
            ),
            generator=generator,
        )
        c, filters, layers = self.image_shape[0], self.config.filters, self.config.layers
        condition = self.config.condition_features
        self.map_encoder = map_encoder(self.config, generator)
        kernels = (self.config.first_kernel, *kernel_sizes(self.config, layers - 1))
        gated_layers = [
            GatedLayer(
                filters,
                kernels[k],
                c,
                image=self.image_features if k == 0 else 0,
                last=k == layers - 1,
                condition=condition if k == 0 or not self.config.context else 0,
                map_features=0 if self.map_encoder is None else self.map_encoder.features,
                generator=generator,
            )
            for k in range(layers)
        ]
        self.layers = nn.ModuleList(gated_layers)
        self.head = MaskedConv2d(filters, filters, 1, mask_type="B", groups=c, generator=generator)
        params = c * self.likelihood.params
        self.output = MaskedConv2d(filters, params, 1, mask_type="B", groups=c, activation="none", generator=generator)
        between = attention_blocks(self.config, layers, filters, c, generator)
        self.attention = nn.ModuleList(between.values())
        self._attended = tuple(between)  # the numbers of layers after which the blocks come
        self.terms = FirstLayerTerms(self.config, ((2 * filters, 1), (2 * filters, c)), generator)

    def penultimate(self, view: View) -> Tensor:
        """See `Autoregressive.penultimate`."""
        v: Tensor | None = None
        h: Tensor | None = None
        skip: Tensor | None = None
        terms: typing.Sequence[Tensor | None] = self.terms.forward(view)
        known = condition_map(view, self.map_encoder)
        attention = dict(zip(self._attended, self.attention, strict=True))
        for k, layer in enumerate(self.layers, 1):
            v, h, skip = layer.forward(v, h, skip, view, terms, known)
            terms = (None, None)
            if k in attention:
                assert h is not None
                h = attention[k].forward(h, view)
        assert skip is not None
        return view(Conv(self.head), skip)

    def network(self, view: View) -> Tensor:
        """See `Autoregressive.network`."""
        return view(Conv(self.output), self.penultimate(view))

    @property
    def logit_layer(self) -> MaskedConv2d:
        """See `Autoregressive.logit_layer`."""
        return self.output
