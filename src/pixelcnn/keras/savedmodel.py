"""SavedModel folders: TensorFlow's checkpoint, in which a graph of objects says what each tensor is.

    root -> layer_with_weights-K -> [conv1 | pixel_conv ->] [conv ->] kernel, bias       Keras 2
    root -> _operations -> K -> ... -> _kernel, bias                                     Keras 3, tf.saved_model.save
    root -> variables -> 0, 1, 2, ...                                                    Keras 3, model.export

The images' size is that of the signature's input. No function of the model is run, and no operation looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelcnn.keras.bundle import Bundle
from pixelcnn.keras.layout import Weights, check_shapes, paired
from pixelcnn.keras.wire import fields, integer, message

__all__ = ["read_saved_model"]

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_PARTS = ((), ("conv",), ("conv1",), ("pixel_conv", "conv"), ("conv2",))  # of layers, in the order of a block
_LARGEST = 2**28  # bytes of saved_model.pb


@dataclass(frozen=True)
class _Object:
    children: dict[str, int]
    key: str | None
    """Its tensor in the checkpoint, if it is a variable."""


def read_saved_model(folder: Path) -> Weights:
    """Reads a SavedModel folder; the tensors' checksums are verified.

    Raises:
        ValueError: If it is damaged or not the example's network.
    """
    bundle = Bundle(folder / "variables" / "variables")
    try:
        objects = [_object(node) for node in fields(bundle.text(_GRAPH)).get(1, [])]
        names = list(_keys(objects))
        size = _size(folder / "saved_model.pb")
    except (ValueError, LookupError) as error:
        if str(error).startswith(str(folder)):
            raise
        raise ValueError(f"{folder} is damaged: {error}") from None
    if not names:
        raise ValueError(f"{folder} is not the example's network: no layer with weights is found in it")
    tensors: list[tuple[str, np.ndarray]] = [(name, bundle.tensor(key)) for name, key in names]
    convolutions = paired(tensors, folder)
    check_shapes(convolutions, folder)
    return Weights(format="SavedModel", convolutions=convolutions, size=size)


def _object(node: int | bytes) -> _Object:
    of_node = message(node)
    children = {}
    for child in map(message, of_node.get(1, [])):
        children[_text(child[2][0])] = integer(child.get(1))
    keys = [_text(attribute[3][0]) for attribute in map(message, of_node.get(2, [])) if 3 in attribute]
    return _Object(children, keys[0] if keys else None)


def _keys(objects: list[_Object]) -> Iterator[tuple[str, str]]:
    """Name and key of each kernel and each bias, in the network's order."""
    root = objects[0]
    layers = {
        int(found[1]): (name, objects[node])
        for name, node in root.children.items()
        if (found := re.fullmatch(r"layer_with_weights-(\d{1,5})", name))
    }
    if not layers and "_operations" in root.children:
        layers = _list(objects, "_operations")
    if layers:
        for _, (name, layer) in sorted(layers.items()):
            for path in _PARTS:
                yield from _variables(objects, layer, name, path)
    elif "variables" in root.children:
        for _, (name, variable) in sorted(_list(objects, "variables").items()):
            if variable.key is not None:
                yield name, variable.key


def _list(objects: list[_Object], name: str) -> dict[int, tuple[str, _Object]]:
    entries = objects[objects[0].children[name]].children
    return {int(k): (f"{name}/{k}", objects[node]) for k, node in entries.items() if k.isdecimal() and len(k) < 6}


def _variables(objects: list[_Object], layer: _Object, name: str, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Kernel and bias of what a layer calls by a path, if it has that."""
    for part in path:
        if part not in layer.children:
            return
        layer = objects[layer.children[part]]
    for names in (("kernel", "_kernel"), ("bias",)):
        for child in names:
            if child in layer.children and (key := objects[layer.children[child]].key) is not None:
                yield "/".join((name, *path, child.strip("_"))), key
                break


def _size(path: Path) -> tuple[int, int] | None:
    """Height and width in the first signature whose input is a batch of images of one channel."""
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path} is not the example's network: it has {path.stat().st_size:,} bytes")
    graphs = fields(path.read_bytes()).get(2, [])
    if not graphs:
        raise ValueError(f"{path} is damaged: it holds no graph")
    for graph in map(message, graphs):
        for signature in map(message, graph.get(5, [])):
            for entry in message(signature.get(2, [b""])[0]).get(1, []):
                info = message(message(entry).get(2, [b""])[0])
                dims = [integer(message(dim).get(1)) for dim in message(info.get(3, [b""])[0]).get(2, [])]
                if len(dims) == 4 and dims[3] == 1 and max(dims[1:3]) < 2**31:
                    return dims[1], dims[2]
    return None


def _text(value: int | bytes) -> str:
    if isinstance(value, int):
        raise ValueError("a number where a text should be")
    return value.decode()
