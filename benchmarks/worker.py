"""One way to draw images with PyTorch, in a process of its own so that its memory can be told.

    echo 784 | python benchmarks/worker.py pytorch --batch 4

Once it is warm it prints a line of JSON about itself. Then it answers each line of standard input, a number of steps,
by the time that drawing took and its peak memory; the first answer also holds the pixels drawn, so that the competitors
can be compared. `benchmarks/keras/sample.py` does the same for the baseline.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import torch
import tyro
from torch import Tensor

import pixelcnn
from machine import peak_bytes, synchronize
from pixelcnn.devices import device_of
from pixelcnn.sampling import Draw, engine_of
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.reference import ReferenceSampler
from pixelcnn.sampling.schedule import schedule_of

Name = Literal["pytorch", "pytorch-compile", "raster", "eager", "fast"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to draw."""

    name: Annotated[Name, tyro.conf.Positional]
    """The competitor."""
    batch: int = 4
    """Images."""
    model: str = "mnist-seed"
    """A shipped model's name or a model's folder."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """A way to draw images."""

    about: str
    steps: int
    """Steps of a whole batch."""
    draw: Callable[[int], Tensor]
    """Takes so many steps and returns the images, (N, C, H, W)."""
    whole: bool = False
    """Takes all its steps or none."""


class _Compiled:
    """A model with a compiled forward; in all else the model itself."""

    def __init__(self, model: pixelcnn.AutoregressiveModel) -> None:
        self._model = model
        self._forward = torch.compile(model.raw_params, dynamic=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def raw_params(self, images: Tensor, condition: Tensor | None = None, _view: object = None) -> Tensor:
        return self._forward(images, condition)


def competitor(name: Name, model: pixelcnn.AutoregressiveModel, n: int) -> Competitor:
    c, h, w = model.image_shape

    def by_steps(make: Callable[[], ReferenceSampler | EagerSampler], about: str, *, whole: bool = False) -> Competitor:
        def draw(steps: int) -> Tensor:
            images = torch.zeros(n, c, h, w, dtype=torch.uint8, device=model.device)
            for _ in itertools.islice(make().run(images, Draw(n)), steps):
                pass
            return images

        return Competitor(about=about, steps=make().steps, draw=draw, whole=whole)

    if name == "pytorch":
        return by_steps(
            lambda: ReferenceSampler(model, Draw(n)), f"PyTorch {torch.__version__}, a full forward pass per sub-pixel"
        )
    if name == "pytorch-compile":
        compiled = cast("Autoregressive", _Compiled(model))
        return by_steps(lambda: ReferenceSampler(compiled, Draw(n)), "the same under torch.compile")
    if name == "raster":
        about = "each feature computed once, a pixel at a time"
        return by_steps(lambda: EagerSampler(model, Draw(n), slope=w), about, whole=True)
    ways = {"eager": "in PyTorch", "graph": "by a CUDA graph"}
    how = ways.get(engine_of(model, name).name, "in compiled code")
    return Competitor(
        about=f"each feature computed once, a wavefront at a time, {how}",
        steps=schedule_of(model).wavefront.steps,
        draw=lambda _: model.sample(n, seed=0, engine=name),
        whole=True,
    )


def main(options: Options) -> None:
    device = device_of(options.device)
    model = pixelcnn.load(options.model).to(device)
    this = competitor(options.name, model, options.batch)

    def seconds(steps: int) -> tuple[float, Tensor]:
        synchronize(device)
        start = time.perf_counter()
        images = this.draw(steps)
        synchronize(device)
        return time.perf_counter() - start, images

    few = this.steps if this.whole else 2
    about = {
        "about": this.about,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": this.steps,
        "whole": this.whole,
        "prepare_seconds": seconds(few)[0],
        "step_seconds": seconds(few)[0] / few,
    }
    print(json.dumps(about), flush=True)
    first = True
    for line in sys.stdin:
        steps = int(line)
        assert steps == this.steps or not this.whole, steps
        taken, images = seconds(steps)
        answer: dict[str, Any] = {"steps": steps, "seconds": taken, "peak_bytes": peak_bytes(device)}
        if first:
            drawn = model.subpixels * steps // this.steps
            pixels = images.permute(0, 2, 3, 1).flatten(1)[:, :drawn]  # in the order in which they are drawn
            answer["pixels"] = base64.b64encode(zlib.compress(pixels.cpu().numpy().tobytes())).decode()
        first = False
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # compiled anew, so that the time it takes can be told
        main(tyro.cli(Options))
