"""The two layouts of HDF5 files that Keras writes.

    Keras 3, and 2 from 2.12 on (.weights.h5, and inside .keras)
        layers/residual_block_1/pixel_conv/conv/vars/0, /1    kernel and bias; the class's name, numbered by class
        optimizer/..., metrics/...                            not looked at
    legacy (.h5), at the top or, of whole models, in the group model_weights
        attribute layer_names                                 the layers, in the network's order
        NAME, attribute weight_names                          its tensors, in the layer's order

The legacy layout says the order. In the other it follows from a configuration, if there is one, or from the shapes.
Links to other files, and tensors kept in other files, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pixelcnn.keras.layout import Convolution, Weights, check_bytes, check_shapes, in_turn, paired
from pixelcnn.keras.structure import Structure, read_structure

__all__ = ["h5py_module", "read_hdf5"]

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second until Keras 2.14
_BLOCK = ("conv1", "pixel_conv/conv", "conv2")  # the example's names for the parts of a residual block
_MOST, _PARTS = 10_000, 10  # layers, and entries of a layer's group, at most


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


def read_hdf5(file: Path | BinaryIO, where: Path, structure: Structure | None = None) -> Weights:
    """Reads either layout.

    Args:
        file: The file, or its content.
        where: Its name, for errors.
        structure: What is known of the layers' order.

    Raises:
        ValueError: If it is damaged or not the example's network, or h5py is not installed.
    """
    h5py = h5py_module()
    try:
        with h5py.File(file, "r") as top:
            weights = _read(top, where, structure)
    except ValueError as error:
        if str(error).startswith(str(where)):
            raise
        raise ValueError(f"{where} is damaged: {error}") from None
    except Exception as error:  # a damaged file makes h5py raise almost anything
        raise ValueError(f"{where} is damaged: {error!r}") from None
    check_shapes(weights.convolutions, where)
    return weights


def _read(top: Any, where: Path, structure: Structure | None) -> Weights:
    for container in _CONTAINERS:
        if container in top:
            group = _child(top, container, where)
            convolutions = _by_class(group, where) if structure is None else _by_structure(group, structure, where)
            size = None if structure is None else structure.size
            return Weights(format="Keras 3 weights", convolutions=convolutions, size=size)
    whole = "model_weights" in top
    group = _child(top, "model_weights", where) if whole else top
    if "layer_names" not in group.attrs:
        raise ValueError(f"{where} is not a file of Keras weights: it has neither layers nor layer_names")
    structure = read_structure(top.attrs["model_config"], where) if "model_config" in top.attrs else None
    tensors = list(_legacy(group, where))
    if (
        structure is not None
        and [n for n in structure.names if n in group]
        != _texts(group.attrs["layer_names"], where)[: len(structure.names)]
    ):
        raise ValueError(f"{where}: the layers in model_config are not those in layer_names")
    return Weights(
        format="whole model, legacy HDF5" if whole else "weights, legacy HDF5",
        convolutions=paired(tensors, where),
        size=None if structure is None else structure.size,
    )


def _by_structure(group: Any, structure: Structure, where: Path) -> list[Convolution]:
    if unknown := sorted(set(group) - set(structure.containers)):
        raise ValueError(f"{where}: {unknown[0]!r} is a layer that config.json does not have")
    found = []
    for name in structure.containers:
        if name not in group:
            raise ValueError(f"{where}: layer {name!r} of config.json is missing")
        found += _unit(_child(group, name, where), where)
    return found


def _by_class(group: Any, where: Path) -> list[Convolution]:
    if len(group) > _MOST:
        raise ValueError(f"{where} is not the example's network: it has {len(group):,} layers")
    classes: dict[str, dict[int, str]] = {}
    for name in group:
        base, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name, re.DOTALL).groups()  # type: ignore[union-attr]
        classes.setdefault(base, {})[int(number or 0)] = name
    queues = {}
    for base, numbered in classes.items():
        if missing := set(range(len(numbered))) - set(numbered):
            raise ValueError(f"{where}: layer {base}_{min(missing)} is missing")
        queues[base] = [conv for k in sorted(numbered) for conv in _unit(_child(group, numbered[k], where), where)]
    return in_turn(queues, where)


def _unit(group: Any, where: Path) -> list[Convolution]:
    """The convolutions of a layer: its own, that of a PixelConvLayer, or those of a ResidualBlock."""
    found = dict(_leaves(group, "", where))
    if set(found) == set(_BLOCK):
        return [found[name] for name in _BLOCK]
    if set(found) - {"", "conv"} or len(found) > 1:
        raise ValueError(f"{where} is not the example's network: {group.name} has the parts {', '.join(sorted(found))}")
    return list(found.values())


def _leaves(group: Any, path: str, where: Path) -> Iterator[tuple[str, Convolution]]:
    if path.count("/") > 1 or len(group) > _PARTS:  # also of a file whose groups contain each other
        raise ValueError(f"{where} is not the example's network: {group.name} has too many parts")
    for name in sorted(group):
        child = _child(group, name, where)
        if name == "vars":
            if set(child) == {"0", "1"}:
                kernel, bias = (_tensor(child, key, where) for key in ("0", "1"))
                (conv,) = paired([(group.name.strip("/"), kernel), (f"{group.name}/vars/1", bias)], where)
                yield path, conv
            elif len(child):
                raise ValueError(f"{where} is not the example's network: {child.name} has {len(child)} tensors, not 2")
        else:
            if not hasattr(child, "keys"):
                raise ValueError(f"{where} is not the example's network: {child.name} is a tensor")
            yield from _leaves(child, f"{path}/{name}".lstrip("/"), where)


def _legacy(group: Any, where: Path) -> Iterator[tuple[str, np.ndarray]]:
    for layer in _texts(group.attrs["layer_names"], where):
        inner = _child(group, layer, where)
        for name in _texts(inner.attrs["weight_names"], where):
            yield f"{layer}/{name}", _tensor(inner, name, where)


def _texts(names: Any, where: Path) -> list[str]:
    if np.size(names) > _MOST:
        raise ValueError(f"{where} is not the example's network: {np.size(names)} names")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(names)]


def _child(group: Any, path: str, where: Path) -> Any:
    """What has a path in a group, in this file."""
    for name in path.strip("/").split("/"):
        link = group.get(name, getlink=True)
        if link is None:
            raise ValueError(f"{where}: {path!r} is missing in {group.name}")
        if type(link).__name__ != "HardLink":
            raise ValueError(f"{where}: {name!r} in {group.name} is a link, which is not followed")
        group = group[name]
    return group


def _tensor(group: Any, path: str, where: Path) -> np.ndarray:
    data = _child(group, path, where)
    if not hasattr(data, "shape") or data.dtype.kind != "f":
        raise ValueError(f"{where}: {data.name} must be a tensor of floating-point numbers")
    if data.is_virtual or data.external:
        raise ValueError(f"{where}: {data.name} lies in another file, which is not read")
    check_bytes(data.shape, data.dtype.itemsize, data.name, where)
    if data.chunks is None and data.id.get_storage_size() != data.nbytes:
        raise ValueError(f"{where} is damaged: {data.name} is not all there")
    values = np.asarray(data[()])
    return values.astype(values.dtype.newbyteorder("="))
