"""Keras's HDF5 files, in both layouts: read, and written as .weights.h5.

    Keras 3, and 2 from 2.12 on (.weights.h5, and inside .keras)
        layers/residual_block_1/pixel_conv/conv/vars/0, /1    kernel and bias; the layer's class, numbered by class
        optimizer/..., metrics/...                            ignored
    legacy (.h5), at the top or, of whole models, in the group model_weights
        attribute layer_names                                 the layers, in the network's order
        NAME, attribute weight_names                          a layer's tensors, in its order

The legacy layout states the order of the layers. In the other it follows from the configuration, if there is one, or
from the shapes. Links to other files, and tensors stored in other files, are refused.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pixelcnn.files import write_file
from pixelcnn.keras.configuration import Configuration, read_configuration
from pixelcnn.keras.network import Convolution, KerasFileError, Weights, check_size, interleaved, paired

__all__ = ["check_name", "h5py_module", "read_hdf5", "write_weights"]

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second until Keras 2.14
_BLOCK = ("conv1", "pixel_conv/conv", "conv2")  # the example's names for the parts of a residual block
_MAX_LAYERS, _MAX_PARTS = 10_000, 100  # entries of a list of layers, and below a layer's group


def h5py_module() -> Any:
    """The module h5py.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError("Keras's HDF5 files need h5py: pip install 'pixelcnn[h5]'") from None
    return h5py


# Writing ------------------------------------------------------------------------------------------------------------


def check_name(path: Path) -> None:
    """Checks the name of a file that is to be written.

    Raises:
        ValueError: If it does not end in .weights.h5.
    """
    if not path.name.endswith(".weights.h5"):
        raise ValueError(f"OUT must end in .weights.h5, the only format that is written, got {str(path)!r}")


def write_weights(weights: Weights, path: Path) -> None:
    """Writes a file that the example's own script loads by `model.load_weights(FILE)`, in Keras 3 and 2.15.

    The file is written whole or not at all.

    Raises:
        ValueError: If its name does not end in .weights.h5, or h5py is not installed.
        OSError: If it cannot be written.
    """
    check_name(path)
    blocks = [_numbered("residual_block", k) for k in range(weights.blocks)]
    masked = [f"{_numbered('pixel_conv_layer', k)}/conv" for k in range(3)]
    names = [masked[0], *(f"{block}/{part}" for block in blocks for part in _BLOCK), *masked[1:], "conv2d"]
    content = io.BytesIO()
    with h5py_module().File(content, "w") as file:
        file.create_group("vars")
        file.create_group("layers/input_layer/vars")
        for name, conv in zip(names, weights.convolutions, strict=True):
            group = file["layers"]
            for part in name.split("/"):
                group = group.require_group(part)
                group.require_group("vars")  # Keras looks for each part's own variables
            group["vars/0"], group["vars/1"] = conv.kernel, conv.bias
    write_file(path, content.getvalue())


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


# Reading ------------------------------------------------------------------------------------------------------------


def read_hdf5(file: Path | BinaryIO, configuration: Configuration | None = None) -> Weights:
    """Reads either layout.

    Args:
        file: The file, or its content.
        configuration: What is known of the order of the layers.
    """
    with h5py_module().File(file, "r") as top:
        for container in _CONTAINERS:
            if container in top:
                group = _child(top, container)
                if configuration is None:
                    return Weights(format="Keras 3 weights", convolutions=_by_class(group), size=None)
                convolutions = _by_configuration(group, configuration)
                return Weights(format="Keras 3 weights", convolutions=convolutions, size=configuration.size)
        return _legacy(top)


def _legacy(top: Any) -> Weights:
    whole = "model_weights" in top
    group = _child(top, "model_weights") if whole else top
    if "layer_names" not in group.attrs:
        raise KerasFileError("not a file of Keras weights: it has neither layers nor layer_names")
    layers = _texts(group.attrs["layer_names"])
    size = None
    if "model_config" in top.attrs:
        configuration = read_configuration(top.attrs["model_config"])
        size = configuration.size
        if [name for name in configuration.names if name in group] != layers[: len(configuration.names)]:
            raise KerasFileError("the layers in model_config are not those in layer_names")
    tensors = []
    for layer in layers:
        inner = _child(group, layer)
        tensors += [(f"{layer}/{name}", _tensor(inner, name)) for name in _texts(inner.attrs["weight_names"])]
    kind = "whole model" if whole else "weights"
    return Weights(format=f"{kind}, legacy HDF5", convolutions=paired(tensors), size=size)


def _by_configuration(group: Any, configuration: Configuration) -> list[Convolution]:
    if unknown := sorted(set(group) - set(configuration.groups)):
        raise KerasFileError(f"{unknown[0]!r} is a layer that config.json does not have")
    return [conv for name in configuration.groups for conv in _layer(_child(group, name))]


def _by_class(group: Any) -> list[Convolution]:
    if len(group) > _MAX_LAYERS:
        raise KerasFileError(f"not the example's network: it has {len(group):,} layers")
    classes: dict[str, dict[int, str]] = {}
    for name in group:
        base, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name, re.DOTALL).groups()  # type: ignore[union-attr]
        classes.setdefault(base, {})[int(number or 0)] = name
    queues = []
    for base, numbered in classes.items():
        if missing := set(range(len(numbered))) - set(numbered):
            raise KerasFileError(f"layer {base}_{min(missing)} is missing")
        queues.append([conv for k in sorted(numbered) for conv in _layer(_child(group, numbered[k]))])
    return interleaved(queues)


def _layer(group: Any) -> list[Convolution]:
    """The convolutions of a layer: none, its own, that of a PixelConvLayer, or those of a ResidualBlock."""
    names: list[str] = []

    def add(name: str) -> bool | None:
        names.append(name)
        return True if len(names) > _MAX_PARTS else None  # True ends the visit

    if group.visit(add):  # follows no links
        raise KerasFileError(f"not the example's network: {group.name} has too many parts")
    tensors = [name for name in names if hasattr(group[name], "shape")]
    for parts in ((), ("",), ("conv",), _BLOCK):
        expected = [(part, f"{part}/vars/{k}".lstrip("/")) for part in parts for k in (0, 1)]
        if sorted(tensors) == sorted(name for _, name in expected):
            return paired((f"{group.name}/{part}".strip("/"), _tensor(group, name)) for part, name in expected)
    raise KerasFileError(f"not the example's network: {group.name} has the tensors {', '.join(tensors)}")


def _texts(names: Any) -> list[str]:
    if np.size(names) > _MAX_LAYERS:
        raise KerasFileError(f"not the example's network: it has {np.size(names)} names")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(names)]


def _child(group: Any, path: str) -> Any:
    """What has this path in a group, without following links."""
    for name in path.strip("/").split("/"):
        link = group.get(name, getlink=True)
        if link is None:
            raise KerasFileError(f"{path!r} is missing in {group.name}")
        if type(link).__name__ != "HardLink":
            raise KerasFileError(f"{name!r} in {group.name} is a link, which is not followed")
        group = group[name]
    return group


def _tensor(group: Any, path: str) -> np.ndarray:
    data = _child(group, path)
    if not hasattr(data, "shape") or data.dtype.kind != "f":
        raise KerasFileError(f"{data.name} must be a tensor of floating-point numbers")
    if data.is_virtual or data.external:
        raise KerasFileError(f"{data.name} lies in another file, which is not read")
    check_size(data.shape, data.dtype.itemsize, data.name)
    if data.chunks is None and data.id.get_storage_size() != data.nbytes:
        raise KerasFileError(f"the file is damaged: {data.name} is cut off")
    values = np.asarray(data[()])
    return values.astype(values.dtype.newbyteorder("="))
