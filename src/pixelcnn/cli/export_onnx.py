"""`pixelcnn export-onnx`: a model as an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["ExportOnnx"]


@dataclass(frozen=True, kw_only=True)
class ExportOnnx:
    """Write a model as an ONNX graph: its forward or, with --step, one step of its sampler.

    All families; not models with attention, and not mixtures over scan orders. The step's inputs and outputs are
    explained in pixelcnn/onnx/step.py, and examples/sample_onnx.py draws with it in NumPy and onnxruntime alone, the
    same images as `pixelcnn sample`.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped model's name (mnist), a model's folder, a training run's folder, or a model on the Hugging Face Hub,
    user/name or user/name@revision."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The .onnx file. The forward reads `images` (N, C, H, W) and, of a conditional model, `labels` (-1: any), and
    gives `params` (N, C, H, W, parameters): a logit for 2 levels, logits for more, a mixture's parameters."""
    step: bool = False
    """One step of the sampler, all pixels of a wavefront, instead of the forward."""
    input: Literal["uint8", "float32"] = "uint8"
    """Type of the forward's `images`; either way they hold levels."""

    def run(self) -> None:
        """Writes."""
        from pixelcnn.files import is_special_file, writable_file, write_file
        from pixelcnn.models.base import load
        from pixelcnn.onnx.full import full_graph
        from pixelcnn.onnx.step import step_graph

        if self.out.suffix != ".onnx" and not is_special_file(self.out):
            raise ValueError(f"OUT must end in .onnx, got {str(self.out)!r}")
        if self.step and self.input != "uint8":
            raise ValueError(f"--input must be uint8 with --step, got {self.input}")
        writable_file(self.out)
        model = load(self.model)
        content = step_graph(model) if self.step else full_graph(model, floating=self.input == "float32")
        write_file(self.out, content)
        print(f"wrote {self.out}: {'a step of the sampler' if self.step else 'the forward'}, {len(content):,} bytes")
