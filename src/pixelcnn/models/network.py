"""A network with parameters that defines a density: its configuration, its layers, its sizes, and how it is shown."""

from __future__ import annotations

import copy
import dataclasses
import html
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn

from pixelcnn.arguments import ArrayLike, shown, tensor, whole
from pixelcnn.config import ModelConfig
from pixelcnn.config.models import MAX_SCALE
from pixelcnn.density import DensityModel
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.layers import LevelEmbedding, MaskedConv2d
from pixelcnn.likelihoods import Likelihood, likelihood_of

__all__ = ["Network"]

_MAX_CHARACTERS = 60  # of an option that is shown


class Network(DensityModel, nn.Module):
    """A density whose `network` has parameters; `pixelcnn.AutoregressiveModel` adds that it is saved and loaded."""

    Config: ClassVar[type[Any]]
    """The dataclass of its configuration, whose fields are the constructor's arguments."""

    def __init__(
        self, config: ModelConfig, likelihood: Likelihood | None = None, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.likelihood = likelihood or likelihood_of(config.levels)
        size: int = getattr(config, "embedding", 0)
        self.level_embedding = LevelEmbedding(config.image_shape[0], config.levels, size, generator) if size else None
        self.class_names: tuple[str, ...] | None = None
        """Names of the classes, if they are known."""

    def __repr__(self) -> str:
        """The call that builds the model, with the options that are not the default; `pixelcnn info` has the layers."""
        options = {"image_shape": self.image_shape, "levels": self.levels} | self._options()
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    def _repr_html_(self) -> str:
        """For a notebook, a table: images, size of the network, options that are not the default, and classes."""
        c, h, w = self.image_shape
        rows = {
            "images": f"{c} x {h} x {w} of {self.levels} levels",
            "likelihood": type(self.likelihood).__name__,
            "parameters": f"{sum(p.numel() for p in self.parameters()):,} in {self.dtype} on {self.device}",
            **self._options(),
        }
        if self.class_names is not None:
            rows["classes"] = ", ".join(self.class_names)
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table><caption>{type(self).__name__}</caption>{cells}</table>"

    def _options(self) -> dict[str, Any]:
        """The fields of the configuration that are not the default, and short."""
        fields = ((field, getattr(self.config, field.name)) for field in dataclasses.fields(self.config))
        return {
            field.name: value
            for field, value in fields
            if field.name not in ("image_shape", "levels")
            and value != field.default
            and len(repr(value)) < _MAX_CHARACTERS
        }

    @property
    def masked_layers(self) -> list[MaskedConv2d]:
        """Every masked convolution, in the order of registration."""
        return [m for m in self.modules() if isinstance(m, MaskedConv2d)]

    def prepared(self) -> PreparedModel:
        """See `DensityModel.prepared`."""
        return prepare(self)

    @property
    def any_size(self) -> bool:
        """Whether `resized` has a model for images of any size."""
        _, height, width = self.image_shape
        try:
            self.resized((height + MAX_SCALE, width + MAX_SCALE))
        except ValueError:
            return False
        return True

    def fitting(self, images: ArrayLike) -> Self:
        """The model for images (N, C, H, W) of their size: itself, or `resized` if its network is good for any."""
        found = tensor("images", images)
        if found.dim() != 4 or found.shape[2:] == self.image_shape[1:] or 0 in found.shape or not self.any_size:
            return self
        return self.resized((found.shape[2], found.shape[3]))

    def resized(self, size: tuple[int, int]) -> Self:
        """The model of images of another size, with the same weights: what changes one's changes the other's.

        Args:
            size: Height and width, integers of at least 1.

        Raises:
            ValueError: If they are something else, the model is a mixture, or the network has a size of its own:
                weights, as those of places, attention or the places of a context, whose shapes or number depend on the
                images'.
        """
        sides = [side for side in map(whole, size) if side is not None] if isinstance(size, Sequence) else []
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"size must be a height and a width, integers of at least 1, got {shown(size)}")
        resized = copy.copy(self)
        resized.config = dataclasses.replace(self.config, image_shape=(self.image_shape[0], sides[0], sides[1]))
        own, needed = self.state_dict(), self.outline(resized.config).state_dict()
        for name in own | needed:
            if name not in own or name not in needed or own[name].shape != needed[name].shape:
                raise ValueError(
                    f"size must be {self.image_shape[1:]}, got {tuple(sides)}: the network's {name} is for that size"
                )
        return resized

    @classmethod
    def from_config(cls, config: Any, *, generator: torch.Generator | None = None) -> Self:
        """Builds the model that a configuration describes.

        Args:
            config: An instance of the class's `Config`.
            generator: Source of the initial weights; torch's global one by default.
        """
        fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(cls.Config)}
        build: Callable[..., Self] = cls  # a subclass's constructor takes its configuration's fields
        return build(**fields, generator=generator)

    @classmethod
    def outline(cls, config: Any) -> Self:
        """The model that a configuration describes, for its shapes: on the device "meta", where nothing is allocated.

        If its constructor looks at values, which that device does not have, the model is a real one.

        Raises:
            ValueError: If a weight would have more entries than can be counted.
        """
        try:
            with torch.device("meta"):
                return cls.from_config(config)
        except (RuntimeError, TypeError) as error:  # of `item` and of `numpy`
            if "overflow" in str(error).lower():  # of a size: a real one would fill the memory before
                raise ValueError(f"the sizes of {config} are too large") from None
            with torch.random.fork_rng(()):  # the caller's random numbers are not for this
                return cls.from_config(config)
