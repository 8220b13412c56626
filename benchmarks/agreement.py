"""How often float32 rounding makes two engines draw different images, and whether rounding is all that it is.

    python benchmarks/agreement.py [--model mnist-seed] [--n 10000]                       # fast against the reference
    python benchmarks/agreement.py --device cuda [--engine graph] [--n 10000]       # the CPU against a GPU

By causality one full forward of a finished image gives the parameters that the reference sees at each of its steps, so
the image is the reference's if every draw from them is the pixel that is there. The images are drawn in the engine's
batches and scored in slices of other sizes: what is counted covers different engines and different batch sizes alike.

Where two images differ, they were drawn from the same parameters up to their first different sub-pixel, but for
rounding. That explains the difference if the sub-pixel's uniform lies within 1e-5 of a threshold of its cumulative
distribution, computed in float64; a difference that it does not explain is an error, and ends in exit code 1.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

import pixelcnn
from pixelcnn.devices import device_of
from pixelcnn.likelihoods import draw
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import uniforms
from pixelcnn.sampling import Engine

NEAR = 1e-5
"""How near a threshold a uniform has to lie for rounding to explain a difference."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to count."""

    model: str = "mnist-seed"
    """A shipped model's name or a model's folder."""
    n: int = 10_000
    """Images."""
    seed: int = 0
    """Which."""
    device: str = "cpu"
    """Where the other images are drawn: `cpu`, `cuda` or `cuda:N`."""
    engine: Engine | None = None
    """The engine that draws them; by default `fast` on a GPU, and on the CPU the reference, by full forwards."""


def distance(model: pixelcnn.AutoregressiveModel, image: Tensor, other: Tensor, u: Tensor) -> float:
    """How far the uniform of the first sub-pixel in which two images (C, H, W) differ is from a threshold.

    `model` is in float64; `u` holds the uniforms in raster order, channels innermost.
    """
    c, _, w = image.shape
    k = int((image != other).permute(1, 2, 0).flatten().nonzero()[0])
    params = model(image[None])[0, k % c, k // c // w, k // c % w]
    return float((model.likelihood.cdf(params) - u[k]).abs().min())


@torch.inference_mode()
def main(options: Options) -> None:
    model = pixelcnn.load(options.model)
    exact = copy.deepcopy(model).double()
    c, h, w = model.image_shape
    images = model.sample(options.n, seed=options.seed, progress=True)
    others = None
    if options.engine is not None or options.device != "cpu":
        elsewhere = copy.deepcopy(model).to(device_of(options.device))
        engine = options.engine or "fast"
        others = elsewhere.sample(options.n, seed=options.seed, engine=engine, progress=True).cpu()
    distances: list[float] = []
    first = 0
    with progress_bar("checking", options.n, "img", show=True) as bar:
        for part in torch.split(images, model.slice_size):
            u = uniforms(options.seed, first, len(part), model.subpixels)
            if others is None:
                other = draw(model.likelihood, model(part), u.view(-1, h, w, c).permute(0, 3, 1, 2))
            else:
                other = others[first : first + len(part)]
            different = (part != other).flatten(1).any(1).nonzero().flatten().tolist()
            distances += [distance(exact, part[k], other[k], u[k]) for k in different]
            first += len(part)
            bar.update(len(part))
    whom = "the engines" if others is None else f"the CPU and engine {options.engine or 'fast'!r} on {options.device}"
    print(f"{len(distances)} of {options.n:,} images of {options.model!r} differ between {whom} in float32")
    unexplained = sum(d > NEAR for d in distances)
    if distances:
        print(f"{len(distances) - unexplained} where a uniform lies within {NEAR:g} of a threshold", end="; ")
        print(f"the furthest: {max(distances):.1e}")
    if unexplained:
        sys.exit(f"{unexplained} differences are not explained by rounding")


if __name__ == "__main__":
    main(tyro.cli(Options))
