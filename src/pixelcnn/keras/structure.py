"""The configuration that Keras keeps beside the weights: which layers there are, in which order, and the images' size.

It is JSON and only looked at. No class that it names is built, and a Lambda's code is not even decoded.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Structure", "read_structure"]

_SAME = {"strides": 1, "dilation_rate": 1, "groups": 1, "data_format": "channels_last", "use_bias": True}


@dataclass(frozen=True)
class Structure:
    """What the configuration says."""

    names: list[str]
    """The layers' names, in order."""
    containers: list[str]
    """What each layer's group in Keras 3's weights is called: its class, and a number."""
    size: tuple[int, int] | None
    """Height and width of the images."""


def read_structure(text: str | bytes, where: str | Path) -> Structure:
    """Reads config.json, or the attribute `model_config`.

    Raises:
        ValueError: If it is not a configuration, or of another kind of network than the example's.
    """
    try:
        config = json.loads(text)
        layers = [(layer["class_name"], layer["config"]) for layer in config["config"]["layers"]]
        named = [(str(kind), dict(values), str(values["name"])) for kind, values in layers]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{where} is damaged: its configuration cannot be read ({error!r})") from None
    names, containers, counts = [], [], dict[str, int]()
    size = None
    for kind, values, name in named:
        base = kind.split(">")[-1]
        if base == "Lambda":
            raise ValueError(f"{where} is not the example's network: layer {name!r} is a Lambda, whose code is not run")
        if base == "InputLayer":
            size = _size(values, where)
        _check_layer(name, values, where)
        snake = _snake(base)
        names.append(name)
        containers.append(f"{snake}_{counts[snake]}" if snake in counts else snake)
        counts[snake] = counts.get(snake, 0) + 1
    with_mask = [values["mask_type"] for _, values, _ in named if "mask_type" in values]
    if with_mask and with_mask != ["A", *"B" * (len(with_mask) - 1)]:
        raise ValueError(f"{where} is not the example's network: its masks are {', '.join(map(str, with_mask))}")
    activations = [values["activation"] for _, values, _ in named if isinstance(values.get("activation"), str)]
    if activations and (activations[-1] not in ("sigmoid", "linear") or set(activations[:-1]) - {"relu"}):
        raise ValueError(f"{where} is not the example's network: its activations are {', '.join(activations)}")
    return Structure(names, containers, size)


def _size(values: dict[str, Any], where: str | Path) -> tuple[int, int] | None:
    shape = values.get("batch_shape", values.get("batch_input_shape"))
    if not (isinstance(shape, list) and len(shape) == 4 and shape[3] == 1):
        raise ValueError(f"{where}: images must have one channel, got an input of shape {shape}")
    height, width = shape[1:3]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _check_layer(name: str, values: dict[str, Any], where: str | Path) -> None:
    for key, meant in _SAME.items():
        value = values.get(key, meant)
        if value not in (meant, [meant, meant]):
            raise ValueError(f"{where} is not the example's network: layer {name!r} has {key} {value}")


def _snake(name: str) -> str:
    """How Keras makes names of classes: PixelConvLayer, pixel_conv_layer; Conv2D, conv2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
