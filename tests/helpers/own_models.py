"""Models of users' own, as a module that `--import own_models` finds: one that can be recorded, and one that cannot."""

from dataclasses import dataclass
from typing import ClassVar

import torch

import pixelcnn
from pixelcnn.layers import MaskedConv2d
from pixelcnn.operations import Conv


@dataclass(frozen=True, kw_only=True)
class PlainConfig:
    """Two layers."""

    family: ClassVar[str] = "plain"

    image_shape: tuple[int, int, int] = (1, 28, 28)
    """Channels, height and width."""
    levels: int = 2
    """Number of values."""
    width: int = 6
    """Features."""
    num_classes: int | None = None
    """Classes, of which nothing is made."""


@pixelcnn.register
class Plain(pixelcnn.AutoregressiveModel):
    """See `PlainConfig`."""

    Config = PlainConfig

    def __init__(self, image_shape=(1, 28, 28), levels=2, width=6, num_classes=None, *, generator=None):
        options = {"image_shape": image_shape, "levels": levels, "width": width, "num_classes": num_classes}
        super().__init__(self.Config(**options))
        c = self.image_shape[0]
        outputs = c * self.likelihood.params
        self.first = MaskedConv2d(c, width, 5, mask_type="A", groups=c, generator=generator)
        self.last = MaskedConv2d(width, outputs, 1, mask_type="B", groups=c, activation="none", generator=generator)

    def between(self, x):
        return x

    def network(self, view):
        return view(Conv(self.last), self.between(view(Conv(self.first), view.image)))


@dataclass(frozen=True, kw_only=True)
class NormedConfig(PlainConfig):
    """With a norm."""

    family: ClassVar[str] = "normed"


@pixelcnn.register
class Normed(Plain):
    """What is between the layers is no operation of a view."""

    Config = NormedConfig

    def between(self, x):
        return torch.nn.functional.normalize(x, dim=-1)
