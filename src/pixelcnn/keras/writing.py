"""Writes weights so that the Keras example's own script loads them, by `model.load_weights(FILE)`.

    .weights.h5    Keras 3 (and 2.15): a group for each layer, named after its class
    .keras         the same in a zip, with the network's configuration, of which `keras.saving.load_model` builds it,
                   given the script's two classes as `custom_objects`; Keras 3
    .h5            the legacy layout, weights alone; Keras 2 and 3

A SavedModel is a TensorFlow program; only TensorFlow writes one: load one of these in Keras and call `model.export`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pixelcnn.files import write_file
from pixelcnn.keras.hdf5 import h5py_module
from pixelcnn.keras.layout import Convolution, Weights

__all__ = ["check_name", "write_weights"]

_KERAS = "3.0.0"  # the oldest that reads what is written here


def write_weights(weights: Weights, path: Path) -> None:
    """Writes a file in the format that its name says, whole or not at all.

    Raises:
        ValueError: If the name says none, or h5py is not installed.
        OSError: If it cannot be written.
    """
    write_file(path, check_name(path)(weights))


def check_name(path: Path) -> Callable[[Weights], bytes]:
    """The format that a file's name says, as a function that makes the content.

    Raises:
        ValueError: If it says none.
    """
    for ending, make in ((".weights.h5", _keras3), (".keras", _archive), (".h5", _legacy)):
        if path.name.endswith(ending):
            return make
    raise ValueError(
        f"OUT must end in .weights.h5, .keras or .h5, got {str(path)!r}; a SavedModel is a program, which only "
        "TensorFlow writes: load one of these in Keras and call model.export"
    )


def _layers(weights: Weights) -> Iterator[tuple[str, int, dict[str, Convolution]]]:
    """Each layer of the example: its class, its number among those of the class, its convolutions by their paths."""
    first, *blocks, before, last, out = weights.convolutions
    yield "pixel_conv_layer", 0, {"conv": first}
    for k in range(weights.blocks):
        yield "residual_block", k, dict(zip(("conv1", "pixel_conv/conv", "conv2"), blocks[3 * k :], strict=False))
    yield "pixel_conv_layer", 1, {"conv": before}
    yield "pixel_conv_layer", 2, {"conv": last}
    yield "conv2d", 0, {"": out}


def _hdf5(fill: Callable[[Any], None]) -> bytes:
    content = io.BytesIO()
    with h5py_module().File(content, "w") as file:
        fill(file)
    return content.getvalue()


def _keras3(weights: Weights) -> bytes:
    def fill(file: Any) -> None:
        file.create_group("vars")
        file.create_group("layers/input_layer/vars")
        for kind, number, convolutions in _layers(weights):
            layer = file.create_group(f"layers/{kind}_{number}" if number else f"layers/{kind}")
            layer.require_group("vars")
            for path, conv in convolutions.items():
                parts = path.split("/") if path else []
                for k in range(1, len(parts) + 1):  # Keras looks for every part's own variables
                    layer.require_group("/".join((*parts[:k], "vars")))
                own = layer["/".join((*parts, "vars"))]
                own["0"], own["1"] = conv.kernel, conv.bias

    return _hdf5(fill)


def _legacy(weights: Weights) -> bytes:
    def fill(file: Any) -> None:
        names = ["input_1"]
        file.create_group("input_1").attrs["weight_names"] = []
        file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", _KERAS
        drawn = masked = 0  # Conv2D and PixelConvLayer objects so far, by which Keras numbers names
        for kind, number, convolutions in _layers(weights):
            tensors = {}
            for path, conv in convolutions.items():
                own = f"conv2d_{drawn}" if drawn else "conv2d"
                parts = [own]
                if path.endswith("conv"):
                    parts.insert(0, f"pixel_conv_layer_{masked}" if masked else "pixel_conv_layer")
                    masked += 1
                if kind == "residual_block":
                    parts.insert(0, f"{kind}_{number}" if number else kind)
                drawn += 1
                tensors["/".join((*parts, "kernel:0"))] = conv.kernel
                tensors["/".join((*parts, "bias:0"))] = conv.bias
            names.append(next(iter(tensors)).split("/")[0])
            layer = file.create_group(names[-1])
            layer.attrs["weight_names"] = [name.encode() for name in tensors]
            for name, tensor in tensors.items():
                layer[name] = tensor
        file.attrs["layer_names"] = [name.encode() for name in names]

    return _hdf5(fill)


def _archive(weights: Weights) -> bytes:
    content = io.BytesIO()
    parts: dict[str, str | bytes] = {
        "metadata.json": json.dumps({"keras_version": _KERAS, "date_saved": "1980-01-01@00:00:00"}),
        "config.json": json.dumps(_config(weights)),
        "model.weights.h5": _keras3(weights),
    }
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name), part)  # of 1980, so that equal weights are equal bytes
    return content.getvalue()


def _config(weights: Weights) -> dict[str, Any]:
    """What Keras 3 itself writes of the example's network, as far as it reads it."""
    f, shape = weights.filters, [None, *(weights.size or (None, None))]
    conv = {"filters": f, "kernel_size": 1, "strides": 1, "activation": "relu", "padding": "valid"}
    names = iter(
        ["pixel_conv_layer", f"pixel_conv_layer_{weights.blocks + 1}", f"pixel_conv_layer_{weights.blocks + 2}"]
    )
    layers = [_layer("InputLayer", "input_layer", {"batch_shape": [*shape, 1], "dtype": "float32"}, None)]
    for kind, number, _ in _layers(weights):
        before = layers[-1]["name"], [*shape, 1 if len(layers) == 1 else f]
        if kind == "residual_block":
            layers.append(_layer("ResidualBlock", f"{kind}_{number}" if number else kind, {"filters": f}, before))
        elif kind == "conv2d":
            out = conv | {"filters": 1, "activation": "sigmoid"}
            layers.append(_layer("Conv2D", f"conv2d_{3 + 3 * weights.blocks}", out, before))
        else:
            first = {"kernel_size": 7, "padding": "same"} if number == 0 else {}
            config = {"mask_type": "B" if number else "A"} | conv | first
            layers.append(_layer("PixelConvLayer", next(names), config, before))
    ends = {"input_layers": [layers[0]["name"], 0, 0], "output_layers": [layers[-1]["name"], 0, 0]}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {"name": "pixel_cnn", "trainable": True, "layers": layers} | ends,
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
        "compile_config": {},
    }


def _layer(kind: str, name: str, config: dict[str, Any], before: tuple[str, list[int | None]] | None) -> dict[str, Any]:
    """A layer's entry, which reads the one before it."""
    inbound = []
    if before is not None:
        tensor = {"shape": before[1], "dtype": "float32", "keras_history": [before[0], 0, 0]}
        inbound = [{"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}}]
    own = kind in ("PixelConvLayer", "ResidualBlock")  # of the script that loads it
    return {
        "module": None if own else "keras.layers",
        "class_name": kind,
        "config": {"name": name} | config,
        "registered_name": kind if own else None,
        "name": name,
        "inbound_nodes": inbound,
    } | ({} if before is None else {"build_config": {"input_shape": before[1]}})
