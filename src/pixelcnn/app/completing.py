"""Completion for the page: the editor's image and mask, pictures of visitors, draws. Nothing here knows Gradio.

The editor in the browser and the server exchange one string, JSON:

    shape   [C, H, W]
    levels  what white is, plus 1
    image   the uint8 levels (C, H, W), in base64
    hidden  H * W characters in raster order: 1 where a pixel is unknown

Whatever comes back is checked, for a visitor may send anything. Visitors' pictures come as base64 as well.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from pixelcnn.app.limits import Limits
from pixelcnn.app.served import Served
from pixelcnn.app.uploads import as_image, in_base64
from pixelcnn.completion import FEW, comes_first
from pixelcnn.datasets import mnist
from pixelcnn.models import OrderEnsemble
from pixelcnn.orders import rearranged

__all__ = [
    "Completed",
    "Edited",
    "completed",
    "digit",
    "edited",
    "has_digits",
    "opened",
    "read_picture",
]


@dataclass(frozen=True, kw_only=True)
class Edited:
    """An image, and what is known of it."""

    image: Tensor
    """uint8 levels (C, H, W)."""
    known: Tensor
    """bool (C, H, W), the same for all channels."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """Draws, and how far they can be trusted."""

    draws: Tensor
    """uint8 levels (n, C, H, W)."""
    ess: float
    """The smallest effective sample size at any step."""
    log_evidence: float
    """log p(known sub-pixels) in nats."""
    exact: bool
    """Whether the known sub-pixels come first, so that the draws are exact and independent."""
    few: bool
    """Whether the draws are likely to be few and alike."""
    particles: int
    seconds: float


def has_digits(served: Served) -> bool:
    """Whether MNIST's test images are images for the model."""
    return served.model.image_shape == (1, 28, 28)


def digit(served: Served, index: int) -> Tensor:
    """An MNIST test image, uint8 levels (1, 28, 28); an index beyond the last one starts again."""
    images = _digits(served.model.levels)
    return images[index % len(images)]


@cache
def _digits(levels: int) -> Tensor:
    return mnist("test", levels)[0]


def opened(served: Served, image: Tensor | None = None) -> str:
    """The editor's string for an image, by default a black one; its middle rows are hidden."""
    c, h, w = served.model.image_shape
    if image is None:
        image = torch.zeros(c, h, w, dtype=torch.uint8)
    top = max(0, min(h - 1, round(0.36 * h)))
    bottom = max(top + 1, round(0.64 * h))
    return json.dumps(
        {
            "shape": [c, h, w],
            "levels": served.model.levels,
            "image": base64.b64encode(image.cpu().numpy().tobytes()).decode(),
            "hidden": "".join("1" if top <= y < bottom else "0" for y in range(h) for _ in range(w)),
        }
    )


def edited(served: Served, text: object) -> Edited:
    """What the editor's string says.

    Raises:
        ValueError: If it is not an image for the model with something hidden.
    """
    c, h, w = served.model.image_shape
    try:
        said = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ValueError("the editor has no image: load the page again")
    if said.get("shape") != [c, h, w] or said.get("levels") != served.model.levels:
        raise ValueError(f"the editor's image is not one for {served.name}: choose the model again")
    hidden = said.get("hidden")
    if not isinstance(hidden, str) or len(hidden) != h * w or set(hidden) - {"0", "1"}:
        raise ValueError(f"the mask must be {h} x {w} pixels, each known or hidden")
    content = in_base64(said.get("image"), "the editor's image")
    if len(content) != c * h * w or max(content) >= served.model.levels:
        raise ValueError(f"the image must be {c} x {h} x {w} numbers below {served.model.levels}")
    unknown = torch.tensor([letter == "1" for letter in hidden]).view(1, h, w).expand(c, h, w)
    if not unknown.any():
        raise ValueError("nothing is hidden: paint over what is to be completed")
    return Edited(image=torch.from_numpy(np.frombuffer(content, np.uint8).reshape(c, h, w).copy()), known=~unknown)


def read_picture(served: Served, content: object, limits: Limits) -> Tensor:
    """A visitor's picture, a file in base64, as `pixelcnn.app.uploads.as_image` makes of it an image for the model."""
    return as_image(served, in_base64(content, "the file"), limits)


def completed(
    served: Served, given: Edited, n: int, particles: int, label: int | None, seed: int, limits: Limits
) -> Completed:
    """Completes an image.

    Args:
        served: The model.
        given: The image and what is known.
        n: Draws.
        particles: At least n; not used where the draws are exact.
        label: A class, or None for any.
        seed: Which draws.
        limits: Bounds the particles and the time.

    Raises:
        ValueError: If more is asked for than the model or the server can give, or what is known is impossible.
    """
    most = limits.particles_of(served.model)
    if not 1 <= particles <= most:
        raise ValueError(f"the number of particles must be in 1..{most}, got {particles}")
    if not 1 <= n <= particles:
        raise ValueError(f"the number of completions must be in 1..{particles}, the number of particles, got {n}")
    if label is not None and not served.classes:
        raise ValueError(f"{served.name} has no classes, got class {label}")
    if label is not None and not 0 <= label < served.classes:
        raise ValueError(f"the class must be in 0..{served.classes - 1}, got {label}")
    labels = None if label is None else torch.tensor([label])
    begun = time.monotonic()
    found = served.model.complete(
        given.image[None], given.known[None], n, particles, labels, seed, seconds=limits.seconds
    )
    seconds = time.monotonic() - begun
    orders = served.model.config.orders if isinstance(served.model, OrderEnsemble) else ("right-down",)
    exact = any(comes_first(rearranged(given.known, order)) for order in orders)
    ess = float(found.ess[0])
    return Completed(
        draws=found.images[0].cpu(),
        ess=ess,
        log_evidence=float(found.log_evidence[0]),
        exact=exact,
        few=not exact and ess < min(FEW, particles),
        particles=particles,
        seconds=seconds,
    )
