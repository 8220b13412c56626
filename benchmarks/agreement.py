"""How often float32 rounding makes the fast engine's image another than the reference's.

    python benchmarks/agreement.py [--model mnist] [--n 10000]

By causality one full forward of a finished image gives the parameters that the reference sees at each of its steps, so
the image is the reference's if every draw from them is the pixel that is there. The images are drawn in chunks of 64
and scored in slices of other sizes: what is counted covers different engines and different batch sizes alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tyro

import pixelcnn
from pixelcnn.likelihoods import draw
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import uniforms


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to count."""

    model: str = "mnist"
    """A shipped model's name or a model's folder."""
    n: int = 10_000
    """Images."""
    seed: int = 0
    """Which."""


@torch.inference_mode()
def main(options: Options) -> None:
    model = pixelcnn.load(options.model)
    c, h, w = model.image_shape
    images = model.sample(options.n, seed=options.seed, progress=True)
    different, first = 0, 0
    with progress_bar("checking", options.n, "img", show=True) as bar:
        for part in torch.split(images, model.slice_size):
            u = uniforms(options.seed, first, len(part), model.subpixels).view(-1, h, w, c).permute(0, 3, 1, 2)
            levels = draw(model.likelihood, model(part), u)
            different += int((levels != part).flatten(1).any(1).sum())
            first += len(part)
            bar.update(len(part))
    print(f"{different} of {options.n:,} images of {options.model!r} differ between the engines in float32")


if __name__ == "__main__":
    main(tyro.cli(Options))
