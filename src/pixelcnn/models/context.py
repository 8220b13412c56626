"""Terms for the first layer: where a pixel lies, and a coarse view of everything drawn above it.

A network can add two kinds of terms at its first layer, for each of its streams:

    places     a learned bias for each position and feature
    context    for each scale s: features of the cell, of s x s pixels, that contains the pixel

A cell's features come from the rows of cells above its own, which are complete when the first of its pixels is drawn,
seen to both sides by a stack of convolutions over cells:

    x = ReLU(conv(image) + place)          3 x 3 cells of pixels: those of the three rows above (`context_places`)
    x = x + ReLU(conv(x) + A c)            2 x 3 cells: a cell's own features know only the rows above
    x = x + ReLU(conv(x))                  twice more
    term of a stream = conv_stream(x)      1 x 1, repeated over the cell's pixels

c is what the image is conditioned on (`pixelcnn.models.gated`). A pixel thus sees 6 s rows above its cell, 9 s columns
wide. The stack is cheap, because its convolutions run at 1 / s^2 of the pixels; it has 3 s / 4 times as many features
as the network's layers. Images whose sides are not multiples of s are padded with zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pixelcnn.config import GatedPixelCNNConfig, PixelCNNPlusPlusConfig
from pixelcnn.layers import MaskedConv2d, PositionTable, Window
from pixelcnn.operations import Conv, Position, Upsample, View, condition_term

__all__ = ["CoarseContext", "FirstLayerTerms"]

_LAYERS = 4  # of a context's stack
Stream = tuple[int, int]
"""Number of features of a stream, and of its colour groups."""


class CoarseContext(nn.Module):
    """The coarse context of one scale.

    Args:
        config: The model's configuration.
        scale: Side of a cell in pixels.
        streams: The streams to which terms are added.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig,
        scale: int,
        streams: Sequence[Stream],
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        _, height, width = config.image_shape
        filters = max(1, 3 * config.filters * scale // 4)
        self.scale = scale
        above = Window(-3 * scale, -1, -scale, 2 * scale - 1)
        self.first = MaskedConv2d(
            config.image_features, filters, above, mask_type="A", groups=1, stride=scale, generator=generator
        )
        places = config.context_places
        self.places = PositionTable(height, width, filters, generator, full=True, scale=scale) if places else None
        cells = Window(-1, 0, -1, 1)
        more = [MaskedConv2d(filters, filters, cells, mask_type="B", generator=generator) for _ in range(_LAYERS - 1)]
        self.layers = nn.ModuleList(more)
        condition = config.condition_features
        self.condition = nn.Linear(condition, filters, bias=False) if condition else None
        if self.condition is not None:
            nn.init.normal_(self.condition.weight, std=0.05, generator=generator)
        outputs = [
            MaskedConv2d(
                filters, features, 1, mask_type="B", groups=(1, groups), activation="none", generator=generator
            )
            for features, groups in streams
        ]
        self.outputs = nn.ModuleList(outputs)

    def forward(self, view: View) -> list[Tensor]:
        """The term of each stream at each cell, (..., features)."""
        places = None if self.places is None else view(Position(table=self.places))
        x = view(Conv(self.first), view.image, places)
        given = condition_term(view, self.condition, 1)
        for layer in self.layers:
            x = x + view(Conv(cast(MaskedConv2d, layer)), x, given)
            given = None
        return [view(Conv(cast(MaskedConv2d, layer)), x) for layer in self.outputs]


class FirstLayerTerms(nn.Module):
    """The terms that a configuration adds at the first layer.

    Args:
        config: The model's configuration.
        streams: The model's streams.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig,
        streams: Sequence[Stream],
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        _, height, width = config.image_shape
        tables = [
            PositionTable(height, width, features, generator, full=True) for features, _ in streams if config.places
        ]
        scales = sorted(config.context, reverse=True)
        contexts = [CoarseContext(config, scale, streams, generator) for scale in scales]
        # if the next finer scale divides this one, the terms are added up there first, while they are few numbers
        self._to = [b if a % b == 0 else 1 for a, b in itertools.pairwise([*scales, 1])]
        self.places, self.contexts = nn.ModuleList(tables), nn.ModuleList(contexts)
        self._streams = tuple(streams)

    def forward(self, view: View) -> list[Tensor | None]:
        """The sum of all terms for each stream, (..., features); None where there is none."""
        finished: list[Tensor | None] = [None] * len(self._streams)
        coarser: list[Tensor | None] = finished
        for context, to in zip(cast(Iterable[CoarseContext], self.contexts), self._to, strict=True):
            found = _sums(coarser, context.forward(view))
            repeated = [
                view(Upsample(cell=context.scale, to=to, groups=groups), x)
                for x, (_, groups) in zip(found, self._streams, strict=True)
            ]
            if to > 1:
                coarser = [*repeated]
            else:
                coarser, finished = [None] * len(repeated), [*_sums(finished, repeated)]
        if len(self.places):
            pairs = zip(cast(Iterable[PositionTable], self.places), self._streams, strict=True)
            return [*_sums(finished, [view(Position(table=table, groups=groups)) for table, (_, groups) in pairs])]
        return finished


def _sums(terms: Sequence[Tensor | None], added: Sequence[Tensor]) -> list[Tensor]:
    return [new if old is None else old + new for old, new in zip(terms, added, strict=True)]
