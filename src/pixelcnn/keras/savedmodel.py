"""SavedModel folders: a TensorFlow checkpoint, in which a graph of objects says what each tensor is.

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

from pixelcnn.keras.bundle import Bundle, Message, read_whole
from pixelcnn.keras.network import KerasFileError, Weights, paired

__all__ = ["read_saved_model"]

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_PARTS = ((), ("conv",), ("conv1",), ("pixel_conv", "conv"), ("conv2",))  # of layers, in the order of a block


@dataclass(frozen=True)
class _Object:
    children: dict[str, int]
    """The children's indices in the graph."""
    key: str | None
    """Its tensor in the checkpoint, if it is a variable."""


def read_saved_model(folder: Path) -> Weights:
    """Reads a SavedModel folder; the tensors' checksums are verified."""
    bundle = Bundle(folder / "variables" / "variables")
    names = list(_variables([_object(node) for node in Message(bundle.text(_GRAPH)).messages(1)]))
    size = _size(folder / "saved_model.pb")
    if not names:
        raise KerasFileError("not the example's network: it has no layer with weights")
    convolutions = paired((name, bundle.tensor(key)) for name, key in names)
    return Weights(format="SavedModel", convolutions=convolutions, size=size, verified=True)


def _object(node: Message) -> _Object:
    children = {child.texts(2)[0]: child.integer(1) for child in node.messages(1)}
    keys = [key for attribute in node.messages(2) for key in attribute.texts(3)]
    return _Object(children, keys[0] if keys else None)


def _variables(objects: list[_Object]) -> Iterator[tuple[str, str]]:
    """Name and checkpoint key of each kernel and each bias, in the network's order."""

    def below(node: _Object, path: tuple[str, ...]) -> _Object | None:
        for part in path:
            if part not in node.children:
                return None
            node = objects[node.children[part]]
        return node

    def numbered(node: _Object, prefix: str) -> list[tuple[str, _Object]]:
        """The children with a prefix and a number, sorted by it."""
        found = {name: re.fullmatch(rf"{prefix}(\d{{1,5}})", name) for name in node.children}
        order = sorted((int(match[1]), name) for name, match in found.items() if match)
        return [(name, objects[node.children[name]]) for _, name in order]

    root = objects[0]
    operations, variables = below(root, ("_operations",)), below(root, ("variables",))
    layers = numbered(root, "layer_with_weights-")
    if not layers and operations is not None:
        layers = [(f"_operations/{name}", layer) for name, layer in numbered(operations, "")]
    for name, layer in layers:
        for path in _PARTS:
            for leaves in (("kernel", "_kernel"), ("bias",)):
                nodes = [(leaf, below(layer, (*path, leaf))) for leaf in leaves]
                keys = [("/".join((name, *path, leaf.strip("_"))), node.key) for leaf, node in nodes if node]
                yield from [(leaf, key) for leaf, key in keys if key is not None][:1]
    if not layers and variables is not None:
        for name, variable in numbered(variables, ""):
            if variable.key is not None:
                yield f"variables/{name}", variable.key


def _size(path: Path) -> tuple[int, int] | None:
    """Height and width in the first signature whose input is a batch of images of one channel."""
    graphs = Message(read_whole(path)).messages(2)
    if not graphs:
        raise KerasFileError(f"{path.name} is damaged: it holds no graph")
    signatures = [named.message(2) for graph in graphs for named in graph.messages(5)]
    for tensor in (named.message(2) for signature in signatures for named in signature.messages(1)):
        dims = [dim.integer(1) for dim in tensor.message(3).messages(2)]
        if len(dims) == 4 and dims[3] == 1 and max(dims[1:3]) < 2**31:
            return dims[1], dims[2]
    return None
