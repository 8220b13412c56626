"""The architectures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from pixelcnn.config.checks import check_images, is_int, make_plain
from pixelcnn.config.values import to_dict

__all__ = [
    "FAMILIES",
    "MAX_KERNEL",
    "MAX_SCALE",
    "GatedPixelCNNConfig",
    "ModelConfig",
    "PixelCNNConfig",
    "PixelCNNPlusPlusConfig",
    "architecture_of",
    "conditions_of",
    "kernel_sizes",
]

MAX_KERNEL = 31
"""Widest kernel."""
MAX_SCALE = 16
"""Coarsest context: pixels of a cell's side."""


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig:
    """The architecture of a `pixelcnn.PixelCNN`; the defaults are the seed network of 532,673 parameters."""

    image_shape: Annotated[tuple[int, int, int], tyro.conf.Suppress] = (1, 28, 28)
    """Channels, height and width of an image; the command line takes them from the data."""
    levels: Annotated[int, tyro.conf.Suppress] = 2
    """How many values a sub-pixel can take, 2..256; images hold 0 .. levels-1."""
    filters: int = 128
    """Features of each layer; the residual blocks narrow them to half."""
    blocks: int = 5
    """Residual blocks; each widens the receptive field by one row."""

    def __post_init__(self) -> None:
        make_plain(self)
        shape = self.image_shape
        check_images(shape, self.levels)
        if not (is_int(self.filters) and 2 * shape[0] <= self.filters <= 2**16):
            raise ValueError(
                f"filters must be an integer in {2 * shape[0]}..{2**16}, at least 2 a channel, got {self.filters!r}"
            )
        if not (is_int(self.blocks) and self.blocks >= 0):
            raise ValueError(f"blocks must be an integer of at least 0, got {self.blocks!r}")


@dataclass(frozen=True, kw_only=True)
class GatedPixelCNNConfig:
    """The architecture of a `pixelcnn.GatedPixelCNN`."""

    image_shape: Annotated[tuple[int, int, int], tyro.conf.Suppress] = (1, 28, 28)
    """Channels, height and width of an image; the command line takes them from the data."""
    levels: Annotated[int, tyro.conf.Suppress] = 2
    """How many values a sub-pixel can take, 2..256; images hold 0 .. levels-1."""
    filters: int = 48
    """Features of each stack, a multiple of the channels."""
    layers: int = 10
    """Gated layers; the first reads the image, each later one widens the receptive field by one row."""
    first_kernel: int = 7
    """Odd width of the kernels that read the image, 3..31."""
    kernel_size: int | tuple[int, ...] = 3
    """Odd width of the other kernels, 1..31: one for all later layers, or one for each of them. Wide kernels
    in few layers beat narrow ones in many."""
    places: bool = False
    """Add a learned bias for each position and feature at the first layer, by which the network knows where it is."""
    context: tuple[int, ...] = ()
    """Scales of coarse causal contexts, each 2..16, for example 4 2: the rows above, in cells of s x s pixels, seen
    whole by a small stack of convolutions at 1/s of the resolution. Sampling then goes row by row."""
    num_classes: Annotated[int | None, tyro.conf.Suppress] = None
    """Classes to condition on; None for none."""
    condition_dim: Annotated[int | None, tyro.conf.Suppress] = None
    """Size of a vector to condition on instead of a class; None for none."""
    attention: int = 0
    """Attention blocks, by which a pixel sees all pixels before it, spread evenly between the layers, at most
    layers - 1. Sampling then takes a step a pixel."""
    attention_heads: int = 4
    """Heads of an attention block."""
    attention_size: int = 16
    """Features of each head's queries, keys and values."""

    def __post_init__(self) -> None:
        make_plain(self)
        shape = self.image_shape
        check_images(shape, self.levels)
        if not (is_int(self.filters) and shape[0] <= self.filters <= 2**16 and self.filters % shape[0] == 0):
            raise ValueError(
                f"filters must be a multiple of the {shape[0]} channels in {shape[0]}..{2**16}, got {self.filters!r}"
            )
        if not (is_int(self.layers) and self.layers >= 1):
            raise ValueError(f"layers must be an integer of at least 1, got {self.layers!r}")
        _check_field(self, "layers - 1", self.layers - 1)
        _check_attention(self.attention, self.layers - 1, self.attention_heads, self.attention_size)
        _check_conditions(self.num_classes, self.condition_dim)


@dataclass(frozen=True, kw_only=True)
class PixelCNNPlusPlusConfig:
    """The architecture of a `pixelcnn.PixelCNNPlusPlus`."""

    image_shape: Annotated[tuple[int, int, int], tyro.conf.Suppress] = (3, 32, 32)
    """Channels, height and width of an image; the command line takes them from the data."""
    levels: Annotated[int, tyro.conf.Suppress] = 256
    """How many values a sub-pixel can take, 2..256; images hold 0 .. levels-1."""
    filters: int = 64
    """Features of each of the two streams."""
    blocks: int = 3
    """Residual blocks of each stream in each of the two halves."""
    mixtures: int = 10
    """Logistic distributions of a mixture."""
    first_kernel: int = 3
    """Odd width of the kernels that read the image, 3..31."""
    kernel_size: int | tuple[int, ...] = 3
    """Odd width of the other kernels, 1..31: one for all blocks of a stream, or one for each of them. Wide kernels in
    few layers beat narrow ones in many."""
    places: bool = False
    """Add a learned bias for each position and feature at the first layer, by which the network knows where it is."""
    context: tuple[int, ...] = ()
    """Scales of coarse causal contexts, each 2..16, for example 4 2: the rows above, in cells of s x s pixels, seen
    whole by a small stack of convolutions at 1/s of the resolution. Sampling then goes row by row."""
    num_classes: Annotated[int | None, tyro.conf.Suppress] = None
    """Classes to condition on; None for none."""
    condition_dim: Annotated[int | None, tyro.conf.Suppress] = None
    """Size of a vector to condition on instead of a class; None for none."""
    attention: int = 0
    """Attention blocks, by which a pixel sees all pixels before it, spread evenly between the blocks of
    the second stream, at most 2 * blocks. Sampling then takes a step a pixel."""
    attention_heads: int = 4
    """Heads of an attention block."""
    attention_size: int = 16
    """Features of each head's queries, keys and values."""

    def __post_init__(self) -> None:
        make_plain(self)
        check_images(self.image_shape, self.levels)
        for name, least in (("filters", 1), ("blocks", 0), ("mixtures", 1)):
            value = getattr(self, name)
            if not (is_int(value) and least <= value <= 2**16):
                raise ValueError(f"{name} must be an integer in {least}..{2**16}, got {value!r}")
        _check_field(self, "2 * blocks", 2 * self.blocks)
        _check_attention(self.attention, 2 * self.blocks, self.attention_heads, self.attention_size)
        _check_conditions(self.num_classes, self.condition_dim)


def kernel_sizes(config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig, count: int) -> tuple[int, ...]:
    """The width of the kernels of each of so many layers after the first, or of so many blocks."""
    return (config.kernel_size,) * count if isinstance(config.kernel_size, int) else config.kernel_size


def _check_field(config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig, name: str, count: int) -> None:
    """Whether what a network sees can be as its configuration says; `count` kernels follow the first."""
    if not (is_int(config.first_kernel) and config.first_kernel % 2 == 1 and 3 <= config.first_kernel <= MAX_KERNEL):
        raise ValueError(f"first_kernel must be an odd integer in 3..{MAX_KERNEL}, got {config.first_kernel!r}")
    sizes = config.kernel_size if isinstance(config.kernel_size, tuple) else (config.kernel_size,)
    if not all(is_int(size) and size % 2 == 1 and 1 <= size <= MAX_KERNEL for size in sizes):
        raise ValueError(f"kernel_size must hold odd integers in 1..{MAX_KERNEL}, got {config.kernel_size!r}")
    if isinstance(config.kernel_size, tuple) and len(sizes) != count:
        raise ValueError(f"kernel_size must be one integer or {name} = {count} of them, got {config.kernel_size!r}")
    if not isinstance(config.places, bool):
        raise ValueError(f"places must be True or False, got {config.places!r}")
    scales = config.context
    if not (isinstance(scales, tuple) and all(is_int(scale) and 2 <= scale <= MAX_SCALE for scale in scales)):
        raise ValueError(f"context must hold integers in 2..{MAX_SCALE}, got {scales!r}")
    if len(set(scales)) < len(scales):
        raise ValueError(f"context must hold each scale once, got {scales!r}")


def _check_attention(blocks: object, most: int, heads: object, size: object) -> None:
    for name, value, least, limit in (
        ("attention", blocks, 0, most),
        ("attention_heads", heads, 1, 2**10),
        ("attention_size", size, 1, 2**10),
    ):
        if not (isinstance(value, int) and is_int(value) and least <= value <= limit):
            raise ValueError(f"{name} must be an integer in {least}..{limit}, got {value!r}")


def _check_conditions(num_classes: object, condition_dim: object) -> None:
    for name, size in (("num_classes", num_classes), ("condition_dim", condition_dim)):
        if size is not None and not (isinstance(size, int) and is_int(size) and 1 <= size <= 2**16):
            raise ValueError(f"{name} must be an integer in 1..{2**16} or None, got {size!r}")
    if num_classes is not None and condition_dim is not None:
        raise ValueError("num_classes and condition_dim exclude each other: leave one None")


ModelConfig = PixelCNNConfig | GatedPixelCNNConfig | PixelCNNPlusPlusConfig
"""The architecture of any model."""


_LATER = ("first_kernel", "kernel_size", "places", "context")  # options that streams of earlier models know nothing of


def architecture_of(config: ModelConfig) -> dict[str, object]:
    """The configuration as JSON values for a model's identity, which an option that is off does not change."""
    values = to_dict(config)
    return {name: value for name, value in values.items() if name not in _LATER or value != _json(type(config), name)}


def _json(cls: type[ModelConfig], name: str) -> object:
    """A field's default as `to_dict` writes it."""
    default = cls.__dataclass_fields__[name].default
    return list(default) if isinstance(default, tuple) else default


def conditions_of(config: ModelConfig) -> tuple[int | None, int | None]:
    """num_classes and condition_dim of a model."""
    return (None, None) if isinstance(config, PixelCNNConfig) else (config.num_classes, config.condition_dim)


FAMILIES: dict[str, type[ModelConfig]] = {
    "pixelcnn": PixelCNNConfig,
    "gated": GatedPixelCNNConfig,
    "plusplus": PixelCNNPlusPlusConfig,
}
"""The families by the names that the command line gives them."""
