"""Configurations: frozen dataclasses that describe a model or a training run.

The same object is the constructor's argument, the content of ``config.json`` and the command line's options. This
module does not import torch, so that ``pixelcnn --help`` does not wait for it.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import tyro

__all__ = [
    "FAMILIES",
    "ORDERS",
    "PRESETS",
    "DataConfig",
    "GatedPixelCNNConfig",
    "ModelConfig",
    "OrderEnsembleConfig",
    "PixelCNNConfig",
    "PixelCNNPlusPlusConfig",
    "TrainConfig",
    "from_dict",
    "to_dict",
]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
        shape = self.image_shape
        _check_images(shape, self.levels)
        if not (_is_int(self.filters) and 2 * shape[0] <= self.filters <= 2**16):
            raise ValueError(
                f"filters must be an integer in {2 * shape[0]}..{2**16}, at least 2 a channel, got {self.filters!r}"
            )
        if not (_is_int(self.blocks) and self.blocks >= 0):
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
        shape = self.image_shape
        _check_images(shape, self.levels)
        if not (_is_int(self.filters) and shape[0] <= self.filters <= 2**16 and self.filters % shape[0] == 0):
            raise ValueError(
                f"filters must be a multiple of the {shape[0]} channels in {shape[0]}..{2**16}, got {self.filters!r}"
            )
        if not (_is_int(self.layers) and self.layers >= 1):
            raise ValueError(f"layers must be an integer of at least 1, got {self.layers!r}")
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
        _check_images(self.image_shape, self.levels)
        for name, least in (("filters", 1), ("blocks", 0), ("mixtures", 1)):
            value = getattr(self, name)
            if not (_is_int(value) and least <= value <= 2**16):
                raise ValueError(f"{name} must be an integer in {least}..{2**16}, got {value!r}")
        _check_attention(self.attention, 2 * self.blocks, self.attention_heads, self.attention_size)
        _check_conditions(self.num_classes, self.condition_dim)


def _check_attention(blocks: object, most: int, heads: object, size: object) -> None:
    for name, value, least, limit in (
        ("attention", blocks, 0, most),
        ("attention_heads", heads, 1, 2**10),
        ("attention_size", size, 1, 2**10),
    ):
        if not (isinstance(value, int) and _is_int(value) and least <= value <= limit):
            raise ValueError(f"{name} must be an integer in {least}..{limit}, got {value!r}")


def _check_conditions(num_classes: object, condition_dim: object) -> None:
    for name, size in (("num_classes", num_classes), ("condition_dim", condition_dim)):
        if size is not None and not (isinstance(size, int) and _is_int(size) and 1 <= size <= 2**16):
            raise ValueError(f"{name} must be an integer in 1..{2**16} or None, got {size!r}")
    if num_classes is not None and condition_dim is not None:
        raise ValueError("num_classes and condition_dim exclude each other: leave one None")


ModelConfig = PixelCNNConfig | GatedPixelCNNConfig | PixelCNNPlusPlusConfig
"""The architecture of any model."""

ORDERS = (
    "right-down", "left-down", "right-up", "left-up", "down-right", "down-left", "up-right", "up-left",
)  # fmt: skip
"""Scan orders: the direction along a line, then that from line to line; the first is raster order. The first four read
rows and suit any shape; the others read columns."""


@dataclass(frozen=True, kw_only=True)
class OrderEnsembleConfig:
    """The architecture of a `pixelcnn.models.OrderEnsemble`: one part an order, each with its member and weight."""

    image_shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    levels: int
    """How many values a sub-pixel can take, 2..256."""
    networks: tuple[ModelConfig, ...]
    """The networks, each once. Height and width change places for one that reads columns."""
    members: tuple[int, ...]
    """Which network each part is, by its place in `networks`."""
    orders: tuple[str, ...]
    """The scan order of each part, one of `ORDERS`."""
    weights: tuple[float, ...]
    """What each part weighs, positive and finite, in proportion."""
    told: bool
    """Whether the networks' condition is the order, as a class: its index in `ORDERS`."""

    def __post_init__(self) -> None:
        _check_images(self.image_shape, self.levels)
        if not (self.networks and all(isinstance(network, ModelConfig) for network in self.networks)):
            raise ValueError(f"networks must be at least one model's configuration, got {self.networks!r}")
        if not (isinstance(self.told, bool)):
            raise ValueError(f"told must be True or False, got {self.told!r}")
        parts = len(self.members)
        checks = {
            "members": (
                all(_is_int(k) for k in self.members) and set(self.members) == set(range(len(self.networks))),
                f"name every place in 0..{len(self.networks) - 1}, and no other",
            ),
            "orders": (
                len(self.orders) == parts and all(order in ORDERS for order in self.orders),
                f"be one of {', '.join(ORDERS)} for each of the {parts} members",
            ),
            "weights": (
                len(self.weights) == parts
                and all(isinstance(w, int | float) and not isinstance(w, bool) for w in self.weights)
                and all(0 < w < float("inf") for w in self.weights),
                f"be a positive, finite number for each of the {parts} members",
            ),
        }
        for name, (right, rule) in checks.items():
            if not right:
                raise ValueError(f"{name} must {rule}, got {getattr(self, name)!r}")
        for member, order in zip(self.members, self.orders, strict=True):
            self._check_member(self.networks[member], order)

    def _check_member(self, network: ModelConfig, order: str) -> None:
        c, h, w = self.image_shape
        shape = (c, w, h) if order.startswith(("down", "up")) else (c, h, w)
        if network.image_shape != shape:
            raise ValueError(f"a member in the order {order} must have image_shape {shape}, got {network.image_shape}")
        if network.levels != self.levels:
            raise ValueError(f"members must have the same levels, got {self.levels} and {network.levels}")
        conditions = _conditions(network)
        if self.told and (conditions[0] or 0) <= (needed := ORDERS.index(order)):
            raise ValueError(
                f"a member that is told the order {order} must have num_classes of at least {needed + 1}, got "
                f"{conditions[0]}"
            )
        if conditions != (first := _conditions(self.networks[0])):
            raise ValueError(f"members must have the same num_classes and condition_dim, got {first} and {conditions}")

    @property
    def num_classes(self) -> int | None:
        """Classes to condition on: the members', unless they are told the order; None for none."""
        return None if self.told else _conditions(self.networks[0])[0]

    @property
    def condition_dim(self) -> int | None:
        """Size of a vector to condition on instead of a class; None for none."""
        return None if self.told else _conditions(self.networks[0])[1]


def _conditions(config: ModelConfig) -> tuple[int | None, int | None]:
    """num_classes and condition_dim of a model."""
    return (None, None) if isinstance(config, PixelCNNConfig) else (config.num_classes, config.condition_dim)


FAMILIES: dict[str, type[ModelConfig]] = {
    "pixelcnn": PixelCNNConfig,
    "gated": GatedPixelCNNConfig,
    "plusplus": PixelCNNPlusPlusConfig,
}
"""The families by the names that the command line gives them."""


def _check_images(shape: object, levels: object) -> None:
    if not (isinstance(shape, tuple) and len(shape) == 3 and all(_is_int(s) and s >= 1 for s in shape)):
        raise ValueError(f"image_shape must be three positive integers (C, H, W), got {shape!r}")
    if not (isinstance(levels, int) and _is_int(levels) and 2 <= levels <= 256):
        raise ValueError(f"levels must be in 2..256, got {levels!r}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How images of one's own are read, and which of them are held out."""

    size: int | tuple[int, int] | None = None
    """Side of the images, or their height and width. `None`: the pictures' own size, which must be the same for all."""
    channels: Literal[1, 3] | None = None
    """1 for greyscale, 3 for RGB. `None`: 1 if every picture is stored in greyscale, else 3."""
    crop: Literal["centre", "patches"] = "centre"
    """How pictures get their size: `centre` scales the picture until it just covers the size, and crops the centre;
    `patches` cuts the picture, unscaled, into tiles of the size side by side, and drops what is left at the edges."""
    strict: bool = False
    """Refuse data with a picture that cannot be used, instead of naming and skipping it."""
    held_out: float = 0.1
    """Share of the images that validate. A hash of an image's content decides, so copies stay together."""
    test: float = 0.0
    """Share of the images that are kept for DATA:test, by the same hash: neither trained on nor validated with."""

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if self.size is not None and not (
            len(sides) == 2 and all(isinstance(s, int) and _is_int(s) and 1 <= s <= 2**16 for s in sides)
        ):
            raise ValueError(f"size must be an integer in 1..{2**16}, or two of them, or None, got {self.size!r}")
        checks = {
            "channels": (
                self.channels is None or (_is_int(self.channels) and self.channels in (1, 3)),
                "be 1, 3 or None",
            ),
            "crop": (self.crop in ("centre", "patches"), "be 'centre' or 'patches'"),
            "strict": (isinstance(self.strict, bool), "be True or False"),
            "held_out": (0 < self.held_out < 1, "lie strictly between 0 and 1"),
            "test": (
                0 <= self.test < 1 - self.held_out,
                f"be at least 0 and less than 1 - held_out = {1 - self.held_out:g}",
            ),
        }
        for name, (right, rule) in checks.items():
            if not right:
                raise ValueError(f"{name} must {rule}, got {getattr(self, name)!r}")
        if self.crop == "patches" and self.size is None:
            raise ValueError("size must be given for patches, got None")

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """The size as height and width."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a training run computes, and how often it saves."""

    model: tyro.conf.AvoidSubcommands[ModelConfig] = field(default_factory=PixelCNNConfig)
    """The architecture."""
    unlabelled: float = 0.1
    """For a conditional model: share of the training images that are shown without their class or vector, drawn anew
    each epoch, so that it learns the unconditional distribution as well (and guidance has something to go by)."""
    protocol: Literal["clean", "seed"] = "clean"
    """The split of MNIST: `clean` is train 55,000 / validation 5,000 / official test 10,000; `seed` is the Keras
    example's: the last 7,000 of all 70,000 images validate (and most of the test set is trained on)."""
    epochs: int = 50
    """Passes over the training images."""
    steps: int | None = None
    """Length of the run in steps instead of whole epochs; it may end within an epoch."""
    batch_size: int = 128
    """Images a step."""
    accumulate: int = 1
    """Parts in which the gradient of a step is computed and summed: less memory on a GPU, the same step up to rounding.
    On a CPU, slices that fit its caches do that anyway."""
    learning_rate: float = 5e-4
    """Adam's learning rate (beta 0.9 and 0.999, epsilon 1e-7 as in Keras), at its peak."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """How the learning rate moves: `constant`; `cosine`, from its peak to zero at the last step; `one-cycle`, from a
    25th of the peak up to it over the first 30 % of the run and down to nearly zero, by half cosines."""
    warmup_steps: int = 0
    """Steps over which the learning rate first rises linearly to what the schedule says."""
    clip_norm: float | None = None
    """Largest Euclidean norm of a step's gradient (of the mean loss in nats a sub-pixel, by all weights together); a
    longer one is scaled down to it. `None`: not limited."""
    weight_decay: float = 0.0
    """Share of the weights, times the learning rate, that each step takes away (decoupled, as in AdamW); biases are
    left alone."""
    dropout: float = 0.0
    """Probability that a feature behind a residual block's middle convolution is zero in training, in multiples of
    2^-16; the others are scaled up. The training loss is then the one with features missing."""
    orders: Literal[1, 2, 4, 8] = 1
    """Scan orders that one network learns: each epoch shows every image flipped at random, for 8 also transposed, and
    the network is told how, as a class. The finished model is their exact mixture, an `OrderEnsemble`. For a family
    that can be conditional; 8 for square images."""
    binarise: Annotated[bool, tyro.conf.Suppress] = False
    """The training images are grey values, 0..255, and each epoch draws every pixel anew, 1 with probability
    grey / 255; the validation images are binary. The command line takes it from the data: mnist-dynamic."""
    shift: int = 0
    """Training images are moved by up to so many pixels in each direction, drawn anew each epoch; level 0 fills in."""
    ema: float | None = None
    """Decay of the exponential moving average of the weights, for example 0.999; the finished model then holds the
    averaged weights. `None`: no average."""
    finish: Literal["last", "best"] = "last"
    """Which weights the finished model holds: those after the `last` epoch, or those of the epoch with the `best`
    validation loss."""
    seed: int = 0
    """Decides the initial weights, the order and shifts of the images, dropout, and the pictures drawn at each epoch's
    end."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """What training multiplies in: `bf16` is PyTorch's autocast, with weights, sums over pixels and the likelihood in
    float32; `auto` is that on CUDA and float32 on a CPU. Held-out losses are always measured in float32."""
    compile: bool = True
    """On CUDA: compile the network by `torch.compile` (half a minute, once) and replay each step as a CUDA graph. For
    one process, if the images fit into half of the device's free memory."""
    checkpoint_seconds: float = 60.0
    """A checkpoint is written whenever this many seconds have passed, at each epoch's end, and at Ctrl-C or SIGTERM
    (after the step; on CUDA after those on their way, half a second)."""
    keep_last: int = 2
    """How many of the newest checkpoints are kept, besides the one with the best validation loss."""
    sample_images: int = 64
    """Images in the grid that is drawn at each epoch's end; 0 draws none."""
    tensorboard: bool = False
    """Write losses, rates, gradient norms and sample grids for TensorBoard as well, into the run's folder
    `tensorboard`; needs the extra of the same name."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                listed = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
                raise ValueError(f"{name} must be {listed}, got {getattr(self, name)!r}")
        for name, least in _LEAST.items():
            if not (_is_int(getattr(self, name)) and getattr(self, name) >= least):
                raise ValueError(f"{name} must be an integer of at least {least}, got {getattr(self, name)!r}")
        height, width = self.model.image_shape[1:]
        checks = {
            "steps": (
                self.steps is None or (_is_int(self.steps) and self.steps >= 1),
                "be an integer of at least 1",
            ),
            "unlabelled": (0 <= self.unlabelled <= 1, "be in 0..1"),
            "accumulate": (self.accumulate <= self.batch_size, f"be at most the batch size of {self.batch_size}"),
            "learning_rate": (0 < self.learning_rate < float("inf"), "be positive"),
            "clip_norm": (self.clip_norm is None or 0 < self.clip_norm < float("inf"), "be positive"),
            "weight_decay": (
                0 <= self.weight_decay * self.learning_rate < 1,
                f"be at least 0 and, times the learning rate of {self.learning_rate:g}, less than 1",
            ),
            "dropout": (0 <= self.dropout <= 0.99, "be in 0..0.99"),
            "shift": (
                self.shift < min(height, width),
                f"be less than the images' {height} rows and {width} columns",
            ),
            "orders": (
                self.orders < 8 or height == width,
                f"be at most 4 for images of {height} rows and {width} columns, which are not square",
            ),
            "binarise": (
                isinstance(self.binarise, bool) and (not self.binarise or self.model.levels == 2),
                f"be False for {self.model.levels} levels" if self.binarise is True else "be True or False",
            ),
            "ema": (self.ema is None or 0 < self.ema < 1, "lie strictly between 0 and 1"),
            "seed": (_is_int(self.seed) and 0 <= self.seed < 2**63, "be in 0..2**63-1"),
            "checkpoint_seconds": (self.checkpoint_seconds >= 0, "be at least 0"),
            "compile": (isinstance(self.compile, bool), "be True or False"),
            "tensorboard": (isinstance(self.tensorboard, bool), "be True or False"),
        }
        for name, (right, rule) in checks.items():
            if not right:
                raise ValueError(f"{name} must {rule}, got {getattr(self, name)!r}")


_CHOICES = {
    "protocol": ("clean", "seed"),
    "schedule": ("constant", "cosine", "one-cycle"),
    "finish": ("last", "best"),
    "orders": (1, 2, 4, 8),
    "precision": ("auto", "float32", "bf16"),
}
_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "accumulate": 1,
    "warmup_steps": 0,
    "shift": 0,
    "keep_last": 2,  # a damaged one needs one before it
    "sample_images": 0,
}


PRESETS: dict[str, TrainConfig] = {
    "seed": TrainConfig(protocol="seed"),
    "quick": TrainConfig(
        model=PixelCNNConfig(filters=16, blocks=8),  # narrow and deep: rows in sight draw digits, features only cost
        epochs=1,
        batch_size=16,
        learning_rate=5e-3,
        schedule="cosine",
        warmup_steps=100,
    ),
    "fast": TrainConfig(
        epochs=1,
        batch_size=16,
        learning_rate=2e-3,
        schedule="cosine",
        warmup_steps=100,
        clip_norm=1.0,
        ema=0.99,
    ),
    "best": TrainConfig(
        model=PixelCNNConfig(filters=64, blocks=21),  # 531,041 parameters
        epochs=100,
        batch_size=64,
        learning_rate=2e-3,
        schedule="cosine",
        warmup_steps=1000,
        clip_norm=1.0,
        weight_decay=0.01,
        dropout=0.1,
        shift=1,
        ema=0.9995,
        finish="best",
    ),
}
"""`seed`: the Keras example's recipe exactly. `quick`: recognisable digits in about 90 s on two cores. `fast`: the seed
network, taught quickly. `best`: at most as many parameters, as low a loss as they give."""


ConfigT = TypeVar("ConfigT")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON values: tuples become lists, nested configurations dictionaries.

    Where a field may hold one of several configurations, its dictionary names the one by "type".
    """
    values = typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            values[name] = _to_dict(value, hint)
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            values[name] = [_to_dict(each, typing.get_args(hint)[0]) for each in value]
    return values


def _to_dict(config: Any, hint: Any) -> dict[str, Any]:
    """`to_dict`, with the type where a field may hold one of several."""
    return ({"type": type(config).__name__} if _members(hint) else {}) | to_dict(config)


def from_dict(cls: type[ConfigT], values: Any, where: str) -> ConfigT:
    """Rebuilds a configuration strictly from `to_dict`'s values.

    Args:
        cls: The dataclass to build.
        values: What `to_dict` returned, perhaps from a file.
        where: What the values came from, named in errors.

    Raises:
        ValueError: If a field is unknown, missing, of the wrong type or out of range.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected an object with the fields of {cls.__name__}, got {values!r}")
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - fields):
        raise ValueError(
            f"{where}: unknown field {unknown[0]!r} for {cls.__name__}, known: {', '.join(sorted(fields))}"
        )
    if missing := sorted(fields - set(values)):
        raise ValueError(f"{where}: field {missing[0]!r} of {cls.__name__} is missing")
    hints = typing.get_type_hints(cls)
    decoded = {name: _decode(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return cls(**decoded)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _members(hint: Any) -> dict[str, type[Any]]:
    """The configurations that a field may hold one of, by name; none if there is no choice."""
    members = [
        member for member in typing.get_args(hint) if isinstance(member, type) and dataclasses.is_dataclass(member)
    ]
    return {member.__name__: member for member in members}


def _decode(hint: Any, value: Any, where: str) -> Any:
    """One JSON value as the type that the field's annotation asks for; the range is the dataclass's own business."""
    if members := _members(hint):
        kind = value.get("type") if isinstance(value, dict) else None
        if kind not in members:
            raise ValueError(f"{where}: field 'type' must be one of {', '.join(members)}, got {kind!r}")
        return from_dict(members[kind], {k: v for k, v in value.items() if k != "type"}, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where)
    if isinstance(value, list) and typing.get_origin(hint) is tuple and _members(each := typing.get_args(hint)[0]):
        return tuple(_decode(each, one, f"{where}[{k}]") for k, one in enumerate(value))
    if isinstance(value, list) and any(typing.get_origin(h) is tuple for h in (hint, *typing.get_args(hint))):
        return tuple(value)
    allowed = {float: (int, float), float | None: (int, float, type(None)), str: (str,)}.get(hint)
    if allowed is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
        raise ValueError(f"{where} must be of type {hint}, got {value!r}")
    return value
