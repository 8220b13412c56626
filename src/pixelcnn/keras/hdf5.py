"""Keras's HDF5 files, in both layouts, also inside .keras files: read, and written as .weights.h5.

    Keras 3, and 2 from 2.12 on (.weights.h5, and inside .keras)
        layers/residual_block_1/pixel_conv/conv/vars/0, /1    kernel and bias; the layer's class, numbered by class
        optimizer/..., metrics/...                            ignored
    legacy (.h5), at the top or, of whole models, in the group model_weights
        attribute layer_names                                 the layers, in the network's order
        NAME, attribute weight_names                          a layer's tensors, in its order

The classes are the example's, so their numbers are the network's order. What a whole model's configuration, JSON, says
of the layers is only looked at: no class that it names is built, and the code of a Lambda is not even decoded. Links to
other files, and tensors stored in other files, are refused.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pixelcnn.files import write_file
from pixelcnn.keras.network import Convolution, KerasFileError, Weights, check_size, paired

__all__ = ["check_name", "h5py_module", "read_archive", "read_hdf5", "write_weights"]

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second until Keras 2.14
_BLOCK = ("conv1", "pixel_conv/conv", "conv2")  # the example's names for the parts of a residual block
_CLASSES = ("InputLayer", "PixelConvLayer", "ResidualBlock", "Conv2D")
_REQUIRED = {"strides": 1, "dilation_rate": 1, "groups": 1, "data_format": "channels_last", "use_bias": True}
_MAX_BYTES = 2**31  # of a part of a zip, unpacked


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


def write_weights(weights: Weights, path: str | Path) -> None:
    """Writes a file that the example's own script loads by `model.load_weights(FILE)`, in Keras 3 and 2.15.

    The file is written whole or not at all.

    Args:
        weights: What `pixelcnn.keras.network.to_keras` returned.
        path: The file, NAME.weights.h5, in a folder that exists.

    Raises:
        ValueError: If its name does not end in .weights.h5, or h5py is not installed.
        OSError: If it cannot be written.
    """
    path = Path(path)
    check_name(path)
    content = io.BytesIO()
    with h5py_module().File(content, "w") as file:
        file.create_group("vars")
        file.create_group("layers/input_layer/vars")
        for name, conv in zip(_names(weights.blocks), weights.convolutions, strict=True):
            group = file["layers"]
            for part in name.split("/"):
                group = group.require_group(part)
                group.require_group("vars")  # Keras looks for each part's own variables
            group["vars/0"], group["vars/1"] = conv.kernel, conv.bias
    write_file(path, content.getvalue())


def _names(blocks: int) -> list[str]:
    """The group of each convolution, in the network's order."""
    first, *masked = (f"{_numbered('pixel_conv_layer', k)}/conv" for k in range(3))
    return [
        first,
        *(f"{_numbered('residual_block', k)}/{part}" for k in range(blocks) for part in _BLOCK),
        *masked,
        "conv2d",
    ]


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


# Reading ------------------------------------------------------------------------------------------------------------


def read_archive(path: Path) -> Weights:
    """Reads a .keras file, a zip whose checksums are verified: its configuration and its weights, and no other part."""
    with zipfile.ZipFile(path) as archive:
        config, content = (_part(archive, name) for name in ("config.json", "model.weights.h5"))
    return replace(read_hdf5(io.BytesIO(content)), format="Keras archive", size=_image_size(config), verified=True)


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise KerasFileError(f"not a Keras file: it has no {name}")
    if (size := archive.getinfo(name).file_size) > _MAX_BYTES:
        raise KerasFileError(f"not the example's network: its {name} has {size:,} bytes")
    return archive.read(name)


def read_hdf5(file: Path | BinaryIO) -> Weights:
    """Reads either layout from a file, or from its content."""
    with h5py_module().File(file, "r") as top:
        for container in _CONTAINERS:
            if container in top:
                return Weights(format="Keras 3 weights", convolutions=_by_class(_child(top, container)), size=None)
        return _legacy(top)


def _by_class(group: Any) -> list[Convolution]:
    names = _names(sum(name.startswith("residual_block") for name in group))
    convolutions = paired(
        (f"{group.name}/{name}".strip("/"), _tensor(group, f"{name}/vars/{k}")) for name in names for k in (0, 1)
    )
    if others := sorted(set(group) - {"input_layer", *(name.split("/")[0] for name in names)}):
        raise KerasFileError(f"not the example's network: it has the layer {others[0]!r}")
    return convolutions


def _legacy(top: Any) -> Weights:
    whole = "model_weights" in top
    group = _child(top, "model_weights") if whole else top
    if "layer_names" not in group.attrs:
        raise KerasFileError("not a file of Keras weights: it has neither layers nor layer_names")
    size = _image_size(top.attrs["model_config"]) if "model_config" in top.attrs else None
    layers = ((layer, _child(group, layer)) for layer in _texts(group.attrs["layer_names"]))
    tensors = (
        (f"{layer}/{name}", _tensor(inner, name))
        for layer, inner in layers
        for name in _texts(inner.attrs["weight_names"])
    )
    kind = "whole model" if whole else "weights"
    return Weights(format=f"{kind}, legacy HDF5", convolutions=paired(tensors), size=size)


def _image_size(configuration: str | bytes) -> tuple[int, int] | None:
    """Height and width of the images by a model's configuration, which must be that of the example's network."""
    try:
        layers = [
            (str(each["class_name"]), dict(each["config"])) for each in json.loads(configuration)["config"]["layers"]
        ]
        names = [str(values["name"]) for _, values in layers]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KerasFileError(f"the file is damaged: its configuration cannot be read ({error!r})") from None
    size = None
    for name, (kind, values) in zip(names, layers, strict=True):
        if (base := kind.split(">")[-1]) not in _CLASSES:
            raise KerasFileError(f"not the example's network: layer {name!r} is of class {base}, whose code is not run")
        if base == "InputLayer":
            size = _size(values)
        for key, required in _REQUIRED.items():
            if (value := values.get(key, required)) not in (required, [required, required]):
                raise KerasFileError(f"not the example's network: layer {name!r} has {key} {value}")
    masks = [values["mask_type"] for _, values in layers if "mask_type" in values]
    if masks and masks != ["A", *"B" * (len(masks) - 1)]:
        raise KerasFileError(f"not the example's network: its masks are {', '.join(map(str, masks))}")
    activations = [values["activation"] for _, values in layers if isinstance(values.get("activation"), str)]
    if activations and (activations[-1] not in ("sigmoid", "linear") or set(activations[:-1]) - {"relu"}):
        raise KerasFileError(f"not the example's network: its activations are {', '.join(activations)}")
    return size


def _size(values: dict[str, Any]) -> tuple[int, int] | None:
    shape = values.get("batch_shape", values.get("batch_input_shape"))
    if not (isinstance(shape, list) and len(shape) == 4 and shape[3] == 1):
        raise KerasFileError(f"images must have one channel, got an input of shape {shape}")
    height, width = shape[1:3]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _texts(names: Any) -> list[str]:
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
