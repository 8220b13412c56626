"""Drawing images: the fast engine against the reference, which runs one full forward a pixel as the Keras example does.

    python benchmarks/sampling.py [--model NAME] [--n 4] [--device cpu]

One run on one machine: the two alternate, each is warmed up first, the median and the spread are printed and the ratio
is taken between medians. The two must draw the same images.
"""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass

import torch
import tyro

import pixelcnn
from pixelcnn.devices import device_of
from pixelcnn.sampling.wavefront import wavefront_of


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    model: str = "mnist"
    """A shipped model's name or a model's folder."""
    n: int = 4
    """Images drawn at a time."""
    rounds: int = 5
    """Times that the fast engine is measured before and after each of the reference's runs."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    references: int = 2
    """Runs of the reference."""


def seconds(model: pixelcnn.AutoregressiveModel, n: int, engine: str) -> tuple[float, torch.Tensor]:
    start = time.perf_counter()
    images = model.sample(n, seed=0, engine=engine).cpu()  # type: ignore[arg-type]
    return time.perf_counter() - start, images


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):9.4f} s   ({min(times):.4f} .. {max(times):.4f}, {len(times)} runs)"


def main(options: Options) -> None:
    model = pixelcnn.load(options.model).to(device_of(options.device))
    wavefront = wavefront_of(model)
    _, fast_images = seconds(model, options.n, "fast")
    model(fast_images.to(model.device))  # warms up the reference's forward
    times: dict[str, list[float]] = {"fast": [], "reference": []}
    for _ in range(options.references):
        times["fast"] += [seconds(model, options.n, "fast")[0] for _ in range(options.rounds)]
        taken, images = seconds(model, options.n, "reference")
        times["reference"].append(taken)
        assert torch.equal(images, fast_images), "the engines draw different images"
    times["fast"] += [seconds(model, options.n, "fast")[0] for _ in range(options.rounds)]

    print(f"{options.n} images of {model.image_shape} from {options.model!r}; {platform.machine()}, ", end="")
    print(f"{torch.get_num_threads()} threads, {model.device}, PyTorch {torch.__version__}")
    print(f"  reference  {model.subpixels:4d} full forwards  {spread(times['reference'])}")
    print(f"  fast       {wavefront.steps:4d} steps          {spread(times['fast'])}")
    print(f"  ratio      {statistics.median(times['reference']) / statistics.median(times['fast']):.0f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
