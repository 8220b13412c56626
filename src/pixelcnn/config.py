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
    "PRESETS",
    "GatedPixelCNNConfig",
    "ModelConfig",
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
    levels: int = 2
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
    levels: int = 2
    """How many values a sub-pixel can take, 2..256; images hold 0 .. levels-1."""
    filters: int = 48
    """Features of each stack, a multiple of the channels."""
    layers: int = 10
    """Gated layers; the first reads the image, each later one widens the receptive field by one row."""
    num_classes: int | None = None
    """Classes to condition on; None for none."""
    condition_dim: int | None = None
    """Size of a vector to condition on instead of a class; None for none."""

    def __post_init__(self) -> None:
        shape = self.image_shape
        _check_images(shape, self.levels)
        if not (_is_int(self.filters) and shape[0] <= self.filters <= 2**16 and self.filters % shape[0] == 0):
            raise ValueError(
                f"filters must be a multiple of the {shape[0]} channels in {shape[0]}..{2**16}, got {self.filters!r}"
            )
        if not (_is_int(self.layers) and self.layers >= 1):
            raise ValueError(f"layers must be an integer of at least 1, got {self.layers!r}")
        _check_conditions(self.num_classes, self.condition_dim)


@dataclass(frozen=True, kw_only=True)
class PixelCNNPlusPlusConfig:
    """The architecture of a `pixelcnn.PixelCNNPlusPlus`."""

    image_shape: Annotated[tuple[int, int, int], tyro.conf.Suppress] = (3, 32, 32)
    """Channels, height and width of an image; the command line takes them from the data."""
    levels: int = 256
    """How many values a sub-pixel can take, 2..256; images hold 0 .. levels-1."""
    filters: int = 64
    """Features of each of the two streams."""
    blocks: int = 3
    """Residual blocks of each stream in each of the two halves."""
    mixtures: int = 10
    """Logistic distributions of a mixture."""
    num_classes: int | None = None
    """Classes to condition on; None for none."""
    condition_dim: int | None = None
    """Size of a vector to condition on instead of a class; None for none."""

    def __post_init__(self) -> None:
        _check_images(self.image_shape, self.levels)
        for name, least in (("filters", 1), ("blocks", 0), ("mixtures", 1)):
            value = getattr(self, name)
            if not (_is_int(value) and least <= value <= 2**16):
                raise ValueError(f"{name} must be an integer in {least}..{2**16}, got {value!r}")
        _check_conditions(self.num_classes, self.condition_dim)


def _check_conditions(num_classes: object, condition_dim: object) -> None:
    for name, size in (("num_classes", num_classes), ("condition_dim", condition_dim)):
        if size is not None and not (isinstance(size, int) and _is_int(size) and 1 <= size <= 2**16):
            raise ValueError(f"{name} must be an integer in 1..{2**16} or None, got {size!r}")
    if num_classes is not None and condition_dim is not None:
        raise ValueError("num_classes and condition_dim exclude each other: leave one None")


ModelConfig = PixelCNNConfig | GatedPixelCNNConfig | PixelCNNPlusPlusConfig
"""The architecture of any model."""


def _check_images(shape: object, levels: object) -> None:
    if not (isinstance(shape, tuple) and len(shape) == 3 and all(_is_int(s) and s >= 1 for s in shape)):
        raise ValueError(f"image_shape must be three positive integers (C, H, W), got {shape!r}")
    if not (isinstance(levels, int) and _is_int(levels) and 2 <= levels <= 256):
        raise ValueError(f"levels must be in 2..256, got {levels!r}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a training run computes, and how often it saves."""

    model: PixelCNNConfig = field(default_factory=PixelCNNConfig)
    """The architecture."""
    protocol: Literal["clean", "seed"] = "clean"
    """The split of MNIST: `clean` is train 55,000 / validation 5,000 / official test 10,000; `seed` is the Keras
    example's: the last 7,000 of all 70,000 images validate (and most of the test set is trained on)."""
    epochs: int = 50
    """Passes over the training images."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 5e-4
    """Adam's learning rate (beta 0.9 and 0.999, epsilon 1e-7 as in Keras), at its peak."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on from its peak: `constant`, or `cosine` to zero at the last step."""
    warmup_steps: int = 0
    """Steps over which the learning rate first rises linearly to its peak."""
    ema: float | None = None
    """Decay of the exponential moving average of the weights, for example 0.999; the finished model then holds the
    averaged weights. `None`: no average."""
    seed: int = 0
    """Decides the initial weights, the order of the images and the pictures drawn at each epoch's end."""
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""
    checkpoint_seconds: float = 60.0
    """A checkpoint is written whenever this many seconds have passed, at each epoch's end, and at Ctrl-C."""
    sample_images: int = 64
    """Images in the grid that is drawn at each epoch's end; 0 draws none."""

    def __post_init__(self) -> None:
        if self.protocol not in ("clean", "seed"):
            raise ValueError(f"protocol must be 'clean' or 'seed', got {self.protocol!r}")
        for name in ("epochs", "batch_size"):
            if not (_is_int(getattr(self, name)) and getattr(self, name) >= 1):
                raise ValueError(f"{name} must be an integer of at least 1, got {getattr(self, name)!r}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}")
        if not (_is_int(self.warmup_steps) and self.warmup_steps >= 0):
            raise ValueError(f"warmup_steps must be an integer of at least 0, got {self.warmup_steps!r}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate!r}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must lie strictly between 0 and 1, got {self.ema!r}")
        if not (_is_int(self.seed) and 0 <= self.seed < 2**63):
            raise ValueError(f"seed must be in 0..2**63-1, got {self.seed!r}")
        if not self.checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds must be at least 0, got {self.checkpoint_seconds!r}")
        if not (_is_int(self.sample_images) and self.sample_images >= 0):
            raise ValueError(f"sample_images must be an integer of at least 0, got {self.sample_images!r}")


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
}
"""`seed`: the Keras example's recipe exactly. `quick`: recognisable digits in about 90 s on two cores."""


ConfigT = TypeVar("ConfigT")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON values: tuples become lists, nested configurations dictionaries."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))


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


def _decode(hint: Any, value: Any, where: str) -> Any:
    """One JSON value as the type that the field's annotation asks for; the range is the dataclass's own business."""
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    allowed = {float: (int, float), float | None: (int, float, type(None)), str: (str,)}.get(hint)
    if allowed is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
        raise ValueError(f"{where} must be of type {hint}, got {value!r}")
    return value
