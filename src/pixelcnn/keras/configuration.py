"""Keras's JSON configuration of a network: its layers, their order, and the size of the images.

It is only looked at. No class that it names is built, and the code of a Lambda layer is not even decoded.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pixelcnn.keras.network import KerasFileError

__all__ = ["Configuration", "read_configuration"]

_REQUIRED = {"strides": 1, "dilation_rate": 1, "groups": 1, "data_format": "channels_last", "use_bias": True}


@dataclass(frozen=True)
class Configuration:
    """What a configuration says."""

    names: list[str]
    """The layers' names, in order."""
    groups: list[str]
    """The name of each layer's group in Keras 3's HDF5 layout: its class and a number."""
    size: tuple[int, int] | None
    """Height and width of the images."""


def read_configuration(text: str | bytes) -> Configuration:
    """Reads config.json of a .keras file, or the attribute `model_config` of a legacy one."""
    try:
        layers = [(str(layer["class_name"]), dict(layer["config"])) for layer in json.loads(text)["config"]["layers"]]
        names = [str(values["name"]) for _, values in layers]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KerasFileError(f"the file is damaged: its configuration cannot be read ({error!r})") from None
    groups, counts, size = [], dict[str, int](), None
    for name, (kind, values) in zip(names, layers, strict=True):
        base = kind.split(">")[-1]
        if base == "Lambda":
            raise KerasFileError(f"not the example's network: layer {name!r} is a Lambda, whose code is not run")
        if base == "InputLayer":
            size = _size(values)
        for key, required in _REQUIRED.items():
            if (value := values.get(key, required)) not in (required, [required, required]):
                raise KerasFileError(f"not the example's network: layer {name!r} has {key} {value}")
        group = _snake_case(base)
        number = counts.get(group, 0)
        groups.append(f"{group}_{number}" if number else group)
        counts[group] = number + 1
    masks = [values["mask_type"] for _, values in layers if "mask_type" in values]
    if masks and masks != ["A", *"B" * (len(masks) - 1)]:
        raise KerasFileError(f"not the example's network: its masks are {', '.join(map(str, masks))}")
    activations = [values["activation"] for _, values in layers if isinstance(values.get("activation"), str)]
    if activations and (activations[-1] not in ("sigmoid", "linear") or set(activations[:-1]) - {"relu"}):
        raise KerasFileError(f"not the example's network: its activations are {', '.join(activations)}")
    return Configuration(names, groups, size)


def _size(values: dict[str, Any]) -> tuple[int, int] | None:
    shape = values.get("batch_shape", values.get("batch_input_shape"))
    if not (isinstance(shape, list) and len(shape) == 4 and shape[3] == 1):
        raise KerasFileError(f"images must have one channel, got an input of shape {shape}")
    height, width = shape[1:3]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _snake_case(name: str) -> str:
    """A class's name as Keras writes it: PixelConvLayer, pixel_conv_layer; Conv2D, conv2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
