"""An ONNX graph under construction: nodes with generated names, constants without duplicates.

Every operation of a program makes its own nodes (`Operation.exported`), over features with channels last, as in the
networks. How features are laid out and what a convolution sees is defined by the graphs of whole images and of a step,
which have what `pixelcnn.operations.base.Exporter` describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pixelcnn.operations import IMAGE
from pixelcnn.sampling.program import Program
from pixelcnn.version import __version__

__all__ = ["Graph", "onnx_module"]

_OPSET, _IR = 17, 8  # from 2022: old enough for every runtime in use


def onnx_module() -> Any:
    """The `onnx` module.

    Raises:
        ValueError: If onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise ValueError("exporting to ONNX needs onnx: pip install 'pixelcnn[onnx]'") from None
    return onnx


class Graph:
    """Nodes, constants, inputs and outputs, and the program that is being added."""

    program: Program
    condition: str | None = None
    """Name of the class and the vector that the images are conditioned on, (N, D)."""
    condition_map: str | None = None
    """Name of the map that they are conditioned on, (N, D, h, w)."""
    sides: tuple[int, int]
    """Height and width of the images."""
    values: dict[int, str]
    """Names of the program's values available so far."""

    def __init__(self) -> None:
        self._onnx = onnx_module()
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def begin(self, program: Program, image: str) -> None:
        """Sets the program, and the name of the scaled image."""
        self.program = program
        self.values = {IMAGE: image}

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        """Adds a named input; a string in its shape stands for a dimension of any size."""
        self._inputs.append(self._described(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> None:
        """Makes a value an output of the given name."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [name]))
        self._outputs.append(self._described(name, dtype, shape))

    def constant(self, value: Tensor | np.ndarray | Sequence[int] | int | float) -> str:
        """The name of a constant; integers are int64, other numbers float32."""
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        default = np.float32 if isinstance(value, float) else np.int64
        array = np.asarray(value, value.dtype if isinstance(value, np.ndarray) else default)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = self._constants[key] = f"c{len(self._constants)}"
            self._initializers.append(self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return self._constants[key]

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with a single output; returns its name."""
        return self.nodes(kind, 1, *inputs, **attributes)[0]

    def nodes(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node; returns the names of its outputs."""
        names = [f"v{len(self._nodes)}_{k}" for k in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """A value converted to another dtype."""
        return self.node("Cast", value, to=self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """A value in another shape, one dimension of which may be -1."""
        return self.node("Reshape", value, self.constant(list(shape)))

    def bytes(self, name: str, metadata: Mapping[str, object]) -> bytes:
        """The content of an .onnx file."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR,
            producer_name="pixelcnn",
            producer_version=__version__,
        )
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _described(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> Any:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, kind, list(shape))
