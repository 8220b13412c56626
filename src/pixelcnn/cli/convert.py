"""`pixelcnn convert-keras`, `export-keras` and `export-onnx`: models from and for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pixelcnn.cli import options

if TYPE_CHECKING:
    from pixelcnn.keras.network import Converted, Weights

_EXAMPLE = (28, 28)  # the example's images
_Out = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]


@dataclass(frozen=True, kw_only=True)
class ConvertKeras:
    """Convert weights of the Keras example "PixelCNN" into a model that every other command takes.

    The network's width, depth and image size may differ from the example's; each tensor's shape must fit. Masked
    entries that are not zero, which the example leaves behind, are counted and set to zero. Keras is not needed, and
    no code in the file is run.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file that Keras 2 or 3 wrote: .weights.h5, .keras, .h5 (a whole model, or weights), or a SavedModel folder. All
    but SavedModels need h5py: pip install 'pixelcnn[h5]'."""
    out: _Out
    """The model's folder. An existing one is replaced if it holds a model and nothing else."""
    size: tuple[int, int] | None = None
    """Height and width of the images, for files that do not state them, such as those of weights alone; by default the
    example's 28 28."""

    def run(self) -> None:
        """Reads, verifies and writes the weights, and prints a report."""
        from pixelcnn.keras import read_weights
        from pixelcnn.keras.network import from_keras

        weights = read_weights(self.file)
        if self.size is not None and weights.size not in (None, self.size):
            raise ValueError(f"--size must be left out or {weights.size}, as {self.file} says, got {self.size}")
        converted = from_keras(weights, weights.size or self.size or _EXAMPLE)
        converted.model.save_pretrained(self.out, _card(converted, weights, self.file))
        self._print_report(converted, weights)
        print(f"wrote {self.out}")

    def _print_report(self, converted: Converted, weights: Weights) -> None:
        from pixelcnn.keras.network import layers

        print(f"{self.file}: {weights.format}")
        width = max(len("in the file"), *(len(conv.name) for conv in weights.convolutions))
        print(f"  {'in the file':{width}}  {'kernel':>17}  {'parameters':>10}  becomes")
        for conv, target in zip(weights.convolutions, layers(weights.filters, weights.blocks), strict=True):
            height, wide, inputs, outputs = conv.kernel.shape
            shape = f"{height}x{wide}, {inputs} -> {outputs}"
            print(f"  {conv.name:{width}}  {shape:>17}  {conv.kernel.size + conv.bias.size:>10,}  {target}")
        parameters = sum(p.numel() for p in converted.model.parameters())
        print(f"PixelCNN, filters: {weights.filters}, residual blocks: {weights.blocks}, parameters: {parameters:,}")
        source = "as --size says" if self.size else "the example's; the file does not say"
        _, rows, columns = converted.model.image_shape
        print(f"images of {rows} x {columns}: {'as the file says' if weights.size else source}")
        print(_masked(converted))
        if not weights.verified:
            print("no checksum: exchanged tensors of the same shape would go unnoticed; compare the loss")


def _masked(converted: Converted) -> str:
    if not converted.remasked:
        return "masked entries: all zero"
    return (
        f"masked entries: {converted.remasked:,} were not zero, the largest {converted.largest:.3g}; now they are, "
        "as in the example's next forward pass"
    )


def _card(converted: Converted, weights: Weights, file: Path) -> str:
    from pixelcnn.files import printable
    from pixelcnn.models.card import describe

    name = printable(file.name)
    origin = (
        f'Converted from weights of the Keras example "PixelCNN" '
        f"(https://keras.io/examples/generative/pixelcnn/) by `pixelcnn convert-keras`: the file `{name}`, "
        f"{weights.format}. The file does not say how they were trained; the example trains on MNIST's training "
        f"images and on 3,000 of its test images, so its models have seen these. {_masked(converted).capitalize()}."
    )
    return describe(converted.model, training=origin)


@dataclass(frozen=True, kw_only=True)
class ExportKeras:
    """Write a PixelCNN's weights for the Keras example, where `model.load_weights(OUT)` reads them.

    For models like the example's: PixelCNN, one channel, two levels; any width, depth and image size. Keras is not
    needed, but h5py is: pip install 'pixelcnn[h5]'.
    """

    model: options.ModelName
    out: _Out
    """NAME.weights.h5, for Keras 3 and 2.15. No other format is written."""

    def run(self) -> None:
        """Writes the file and prints its size."""
        from pixelcnn.files import writable_file
        from pixelcnn.keras.hdf5 import check_name, write_weights
        from pixelcnn.keras.network import to_keras
        from pixelcnn.models.base import load

        check_name(self.out)
        writable_file(self.out)
        weights = to_keras(load(self.model))
        write_weights(weights, self.out)
        tensors = 2 * len(weights.convolutions)
        print(f"wrote {self.out}: {tensors} tensors; filters: {weights.filters}, residual blocks: {weights.blocks}")


@dataclass(frozen=True, kw_only=True)
class ExportOnnx:
    """Write a model as an ONNX graph: its forward pass or, with --step, one step of its sampler.

    Works for all families, but not for models with attention or in float64, nor for mixtures. pixelcnn/onnx/step.py
    explains the step's inputs and outputs, and examples/sample_onnx.py draws with it the same images as `pixelcnn
    sample`, using NumPy and onnxruntime alone.
    """

    model: options.ModelName
    out: _Out
    """The .onnx file. The forward pass takes `images` (N, C, H, W) and, for a conditional model, `labels` (-1: none),
    `condition` (vectors or maps, NaN throughout: none) or both, and returns `params` (N, C, H, W, parameters): one
    logit for 2 levels, logits for more, or a mixture's parameters."""
    step: bool = False
    """Write one step of the sampler, all pixels of a wavefront, instead of the forward pass."""
    input: Literal["uint8", "float32"] = "uint8"
    """Type of the forward pass's `images`, which hold levels either way. For more than 256 levels, int32 instead of
    uint8."""

    def run(self) -> None:
        """Writes."""
        from pixelcnn.files import writable_file, write_file
        from pixelcnn.models.base import load
        from pixelcnn.onnx.full import full_graph
        from pixelcnn.onnx.step import step_graph

        options.check_suffix("OUT", self.out, ".onnx")
        if self.step and self.input != "uint8":
            raise ValueError(f"--input must be uint8 with --step, got {self.input}")
        writable_file(self.out)
        model = load(self.model)
        content = step_graph(model) if self.step else full_graph(model, floating=self.input == "float32")
        write_file(self.out, content)
        what = "a step of the sampler" if self.step else "the forward pass"
        print(f"wrote {self.out}: {what}, {len(content):,} bytes")


COMMANDS = {"convert-keras": ConvertKeras, "export-keras": ExportKeras, "export-onnx": ExportOnnx}
