"""`pixelcnn export-onnx`: a model as an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pixelcnn.cli import options

__all__ = ["ExportOnnx"]


@dataclass(frozen=True, kw_only=True)
class ExportOnnx:
    """Write a model as an ONNX graph: its forward or, with --step, one step of its sampler.

    Works for all families, but not for models with attention or mixtures over scan orders. pixelcnn/onnx/step.py
    explains the step's inputs and outputs, and examples/sample_onnx.py draws with it the same images as `pixelcnn
    sample`, using NumPy and onnxruntime alone.
    """

    model: options.ModelName
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The .onnx file. The forward takes `images` (N, C, H, W) and, for a conditional model, `labels` (-1: none), and
    returns `params` (N, C, H, W, parameters): one logit for 2 levels, logits for more, or a mixture's parameters."""
    step: bool = False
    """Write one step of the sampler, all pixels of a wavefront, instead of the forward."""
    input: Literal["uint8", "float32"] = "uint8"
    """Type of the forward's `images`; either way they hold levels."""

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
        print(f"wrote {self.out}: {'a step of the sampler' if self.step else 'the forward'}, {len(content):,} bytes")


COMMANDS = {"export-onnx": ExportOnnx}
