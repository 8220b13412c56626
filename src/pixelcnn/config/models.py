"""The architectures of the model families: their names, their options, and what they can be conditioned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

import tyro

from pixelcnn.config.checks import Range, check_fields, check_images, check_rules, is_int
from pixelcnn.config.values import to_dict

__all__ = [
    "FAMILIES",
    "MAX_KERNEL",
    "MAX_SCALE",
    "GatedPixelCNNConfig",
    "ModelConfig",
    "PhotoPixelCNNConfig",
    "PixelCNNConfig",
    "PixelCNNPlusPlusConfig",
    "architecture_of",
    "conditions_of",
    "depth_of",
    "kernel_sizes",
    "map_of",
]

MAX_KERNEL = 31
"""Width of the widest kernel."""
MAX_SCALE = 16
"""Scale of the coarsest context: the side of a cell in pixels."""


def _odd_width(width: object, least: int) -> tuple[bool, str]:
    """Whether it is a kernel's width, and what it must be."""
    right = is_int(width) and width % 2 == 1 and least <= width <= MAX_KERNEL
    return right, f"be an odd integer in {least}..{MAX_KERNEL}"


@dataclass(frozen=True, kw_only=True)
class _ImageModelConfig:
    """The options of every architecture."""

    family: ClassVar[str]
    """The family's name on the command line."""

    image_shape: Annotated[tuple[int, int, int], tyro.conf.Suppress] = (1, 28, 28)
    """Channels, height and width of an image; the command line takes them from the data."""
    levels: Annotated[int, tyro.conf.Suppress] = 2
    """How many values a sub-pixel can take, 2..65,536; images hold 0 .. levels-1."""
    embedding: Annotated[int, Range(0, 2**10)] = 0
    """Size of the learned vector as which the network reads each level, for levels that are categories, such as the
    codes of a VQ-VAE; 0 reads a level as a number."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_images(self.image_shape, self.levels)

    @property
    def image_features(self) -> int:
        """Number of features by which the network reads a pixel: one per channel, or the channels' embeddings."""
        return self.image_shape[0] * max(1, self.embedding)


@dataclass(frozen=True, kw_only=True)
class _MapConfig(_ImageModelConfig):
    """The options shared by the families that can be conditional on a map."""

    condition_channels: Annotated[Annotated[int, Range(0, 2**10)], tyro.conf.Suppress] = 0
    """Channels of a map of numbers to condition on, such as a smaller picture; 0 for none."""
    condition_levels: Annotated[Annotated[int, Range(0, 2**16)], tyro.conf.Suppress] = 0
    """Number of categories, 0 .. condition_levels - 1, of a map to condition on, such as labels of pixels or the codes
    of a coarser grid: the map's last channel; 0 for none."""

    @property
    def condition_features(self) -> int:
        """How many numbers come before the map's in what an image is conditioned on."""
        return 0


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig(_ImageModelConfig):
    """The architecture of a `pixelcnn.PixelCNN`; the defaults are the seed network of 532,673 parameters."""

    family: ClassVar[str] = "pixelcnn"

    filters: Annotated[int, Range(1, 2**16)] = 128
    """Features of each layer; the residual blocks narrow them to half."""
    blocks: Annotated[int, Range(0)] = 5
    """Residual blocks; each widens the receptive field by one row."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 2 * self.image_shape[0]
        check_rules(self, {"filters": (self.filters >= least, f"be at least {least}, 2 per channel")})


@dataclass(frozen=True, kw_only=True)
class _WideFieldConfig(_MapConfig):
    """The options shared by the families that can see the whole picture and be conditional."""

    first_kernel: int = 3
    """Odd width of the kernels that read the image, 3..31."""
    kernel_size: int | tuple[int, ...] = 3
    """Odd width of the other kernels, 1..31: one for all of them, or one for each later layer (of `gated`) or block (of
    `plusplus`). Wide kernels in few layers beat narrow ones in many."""
    places: bool = False
    """Add a learned bias for each position and feature at the first layer, by which the network knows where it is."""
    context: tuple[int, ...] = ()
    """Scales of coarse causal contexts, each 2..16, for example 4 2: the rows above, in cells of s x s pixels, seen
    whole by a small stack of convolutions at 1/s of the resolution. Sampling then goes row by row."""
    context_places: bool = True
    """Give each cell of a coarse context learned features of its own. Without them, and without places and attention,
    the network has no size of its own and is good for images of any."""
    num_classes: Annotated[Annotated[int | None, Range(1, 2**16)], tyro.conf.Suppress] = None
    """Classes to condition on; None for none."""
    condition_dim: Annotated[Annotated[int | None, Range(1, 2**16)], tyro.conf.Suppress] = None
    """Size of a vector to condition on; None for none."""
    attention: Annotated[int, Range(0)] = 0
    """Attention blocks, by which a pixel sees all pixels before it, spread evenly between the layers: at most one
    fewer than there are layers (of `gated`), or twice the blocks (of `plusplus`). Sampling then takes one step per
    pixel."""
    attention_heads: Annotated[int, Range(1, 2**10)] = 4
    """Heads of an attention block."""
    attention_size: Annotated[int, Range(1, 2**10)] = 16
    """Features of each head's queries, keys and values."""

    def _check_wide_field(self, name: str, count: int) -> None:
        """Checks options that can have one value for each of `count` layers or blocks, called `name` in messages."""
        sizes = self.kernel_size if isinstance(self.kernel_size, tuple) else (self.kernel_size,)
        first, scales = self.first_kernel, self.context
        check_rules(
            self,
            {
                "first_kernel": _odd_width(first, 3),
                "kernel_size": (all(_odd_width(size, 1)[0] for size in sizes), f"hold odd integers in 1..{MAX_KERNEL}"),
                "context": (
                    all(is_int(scale) and 2 <= scale <= MAX_SCALE for scale in scales),
                    f"hold integers in 2..{MAX_SCALE}",
                ),
                "attention": (self.attention <= count, f"be an integer in 0..{count}"),
            },
        )
        if isinstance(self.kernel_size, tuple) and len(sizes) != count:
            raise ValueError(f"kernel_size must be one integer or {name} = {count} of them, got {self.kernel_size!r}")
        if len(set(scales)) < len(scales):
            raise ValueError(f"context must hold each scale once, got {scales!r}")
        if self.condition_dim is not None and any(map_of(self)):
            raise ValueError(
                "condition_dim, a vector, and condition_channels or condition_levels, a map, exclude each other, got "
                f"{self.condition_dim!r}, {self.condition_channels!r} and {self.condition_levels!r}"
            )

    @property
    def condition_features(self) -> int:
        """How many numbers stand for classes, one each, and a vector: its own, and a 1, which tells it from none."""
        return (self.num_classes or 0) + (0 if self.condition_dim is None else self.condition_dim + 1)


@dataclass(frozen=True, kw_only=True)
class GatedPixelCNNConfig(_WideFieldConfig):
    """The architecture of a `pixelcnn.GatedPixelCNN`."""

    family: ClassVar[str] = "gated"

    first_kernel: int = 7
    """Odd width of the kernels that read the image, 3..31."""
    filters: Annotated[int, Range(1, 2**16)] = 48
    """Features of each stack, a multiple of the channels."""
    layers: Annotated[int, Range(1)] = 10
    """Gated layers; the first reads the image, each later one widens the receptive field by one row."""

    def __post_init__(self) -> None:
        super().__post_init__()
        c = self.image_shape[0]
        check_rules(self, {"filters": (self.filters % c == 0, f"be a multiple of the {c} channels")})
        self._check_wide_field("layers - 1", self.layers - 1)


@dataclass(frozen=True, kw_only=True)
class PixelCNNPlusPlusConfig(_WideFieldConfig):
    """The architecture of a `pixelcnn.PixelCNNPlusPlus`."""

    family: ClassVar[str] = "plusplus"

    image_shape: Annotated[tuple[int, int, int], tyro.conf.Suppress] = (3, 32, 32)
    """Channels, height and width of an image; the command line takes them from the data."""
    levels: Annotated[int, tyro.conf.Suppress] = 256
    """How many values a sub-pixel can take, 2..65,536; images hold 0 .. levels-1."""
    filters: Annotated[int, Range(1, 2**16)] = 64
    """Features of each of the two streams."""
    blocks: Annotated[int, Range(0, 2**16)] = 3
    """Residual blocks of each stream in each of the two halves."""
    mixtures: Annotated[int, Range(1, 2**16)] = 10
    """Logistic distributions of a mixture."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_wide_field("2 * blocks", 2 * self.blocks)


@dataclass(frozen=True, kw_only=True)
class PhotoPixelCNNConfig(_MapConfig):
    """The architecture of a `pixelcnn.PhotoPixelCNN`."""

    family: ClassVar[str] = "photo"

    image_shape: Annotated[tuple[int, int, int], tyro.conf.Suppress] = (3, 48, 48)
    """Channels, height and width of an image; the command line takes them from the data."""
    levels: Annotated[int, tyro.conf.Suppress] = 256
    """How many values a sub-pixel can take, 2..65,536; images hold 0 .. levels-1."""
    filters: Annotated[int, Range(1, 2**16)] = 64
    """Features of each layer."""
    blocks: Annotated[int, Range(0, 2**16)] = 4
    """Residual blocks."""
    mixtures: Annotated[int, Range(1, 2**16)] = 5
    """Logistic distributions of a mixture."""
    first_kernel: int = 7
    """Odd width of the kernel that reads the image, 3..31."""
    kernel_size: int = 3
    """Odd width of the blocks' kernels, 1..31."""
    linear_kernel: int = 5
    """Odd width, 3..31, of the kernel of the linear prediction, which the network corrects."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"first_kernel": 3, "kernel_size": 1, "linear_kernel": 3}
        check_rules(self, {name: _odd_width(getattr(self, name), low) for name, low in least.items()})


def kernel_sizes(config: GatedPixelCNNConfig | PixelCNNPlusPlusConfig, count: int) -> tuple[int, ...]:
    """The kernel width of each of `count` layers after the first, or of `count` blocks."""
    return (config.kernel_size,) * count if isinstance(config.kernel_size, int) else config.kernel_size


ModelConfig = PixelCNNConfig | GatedPixelCNNConfig | PixelCNNPlusPlusConfig | PhotoPixelCNNConfig
"""The architecture of any model."""


_LATER = (  # options unknown to streams of earlier models
    "first_kernel", "kernel_size", "places", "context", "embedding", "context_places", "condition_channels",
    "condition_levels",
)  # fmt: skip


def architecture_of(config: ModelConfig) -> dict[str, object]:
    """The configuration as JSON values for a model's identity; a newer option at its default is left out."""
    values = to_dict(config)
    return {name: value for name, value in values.items() if name not in _LATER or value != _json(type(config), name)}


def _json(cls: type[ModelConfig], name: str) -> object:
    """A field's default as `to_dict` writes it."""
    default = cls.__dataclass_fields__[name].default
    return list(default) if isinstance(default, tuple) else default


def depth_of(config: object) -> int:
    """How many blocks or layers the networks of a configuration have, each with weights of its own; those of classes of
    users' own are not counted.
    """
    networks = getattr(config, "networks", (getattr(config, "network", config),))
    shipped = [network for network in networks if type(network) in get_args(ModelConfig)]
    depth: int = sum(getattr(network, "blocks", 0) + getattr(network, "layers", 0) for network in shipped)
    return depth


def conditions_of(config: object) -> tuple[int | None, int | None]:
    """Number of classes, or size of a vector, that a model is conditional on, for any architecture; None for none."""
    absent = getattr(config, "num_classes", None), getattr(config, "condition_dim", None)
    found: tuple[int | None, int | None] = getattr(config, "conditions", absent)
    return found


def map_of(config: object) -> tuple[int, int]:
    """Channels of numbers, and number of categories, of the map that a model is conditional on; 0 for none."""
    return getattr(config, "condition_channels", 0), getattr(config, "condition_levels", 0)


FAMILIES: dict[str, type[ModelConfig]] = {config.family: config for config in get_args(ModelConfig)}
"""The families by their names on the command line, users' own included."""
