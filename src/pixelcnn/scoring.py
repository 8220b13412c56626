"""Scores: how unusual images are under a model, by the likelihood and by what corrects it.

A likelihood alone can be a poor anomaly score: an image that is simpler than the training images often has a higher one
(Nalisnick et al., 2019a). Each score here is higher for what is more unusual, in bits a sub-pixel (D of them):

    likelihood    -log2 p(x) / D
    ratio         (log2 p_background(x) - log2 p(x)) / D, the background model trained on mutated images (Ren et al.,
                  2019)
    complexity    (-log2 p(x) - L(x)) / D, L(x) the bits that the best of some lossless compressors needs (Serra et al.,
                  2020)
    typicality    |mean of -log2 p over a batch - that of reference images| / D, for all images of the batch (Nalisnick
                  et al., 2019b)

References:
    | Do Deep Generative Models Know What They Don't Know? (Nalisnick et al., 2019a), https://arxiv.org/abs/1810.09136
    | Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (Nalisnick et al., 2019b),
      https://arxiv.org/abs/1906.02994
    | Likelihood Ratios for Out-of-Distribution Detection (Ren et al., 2019), https://arxiv.org/abs/1906.02845
    | Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models (Serra et al., 2020),
      https://arxiv.org/abs/1909.11480
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike, levels_of, tensor, whole
from pixelcnn.images import to_pil
from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.progress import progress_bar

__all__ = ["Score", "Scores", "compressed_bits", "score"]

Score = Literal["likelihood", "ratio", "complexity", "typicality"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What `score` says of each image."""

    log_prob: Tensor
    """float64 (N,): log-likelihood in nats."""
    bits_per_dim: Tensor
    """float64 (N,): -log2 of the likelihood, a sub-pixel."""
    score: Tensor
    """float64 (N,): the score that was asked for, higher for what is more unusual."""


def score(
    model: AutoregressiveModel,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    method: Score = "likelihood",
    background: AutoregressiveModel | None = None,
    reference: ArrayLike | None = None,
    batch: int = 1,
    progress: bool = False,
) -> Scores:
    """Scores images.

    Args:
        model: Any model of the package.
        images: uint8 levels (N, C, H, W).
        labels: As for `AutoregressiveModel.log_prob`.
        method: Which score; see the module's docstring.
        background: For `ratio`: a model of the same images that knows their background alone, say one that was trained
            with `TrainConfig.mutate`.
        reference: For `typicality`: images that are typical, held out from training, uint8 levels (M, C, H, W).
        batch: For `typicality`: so many consecutive images are judged together; the last batch may have fewer.
        progress: Show a bar on standard error.

    Raises:
        ValueError: If an argument is missing, superfluous or does not fit the model.
    """
    if method not in get_args(Score):
        raise ValueError(f"method must be one of {', '.join(get_args(Score))}, got {method!r}")
    for name, value, needed in (("background", background, "ratio"), ("reference", reference, "typicality")):
        if (value is not None) != (method == needed):
            rule = "given" if method == needed else "left out"
            raise ValueError(f"{name} must be {rule} for the score {method!r}")
    size = whole(batch)
    if size is None or size < 1 or (size > 1 and method != "typicality"):
        raise ValueError(f"batch must be an integer of at least 1, and 1 but for typicality, got {batch!r}")
    images = model.checked_images(images)
    if len(images) == 0:
        raise ValueError("images must hold at least one image, got 0")
    labels = None if labels is None else model.checked_labels(labels, len(images))
    if background is not None and _kind_of(background) != _kind_of(model):
        raise ValueError(
            f"background must be for {_kind_of(model)}, as the model is, got one for {_kind_of(background)}"
        )
    log_prob = _log_prob(model, images, labels, "scoring", progress)
    dims = model.subpixels * math.log(2)
    bits = -log_prob / dims
    if method == "ratio":
        assert background is not None
        found = bits + _log_prob(background, images, None, "scoring by the background", progress) / dims
    elif method == "complexity":
        found = bits - compressed_bits(images, model.levels, progress=progress) / model.subpixels
    elif method == "typicality":
        assert reference is not None
        reference = model.checked_images(reference)
        if len(reference) == 0:
            raise ValueError("reference must hold at least one image, got 0")
        typical = -_log_prob(model, reference, None, "scoring the reference", progress).mean() / dims
        parts = torch.split(bits, size)
        found = torch.cat([(part.mean() - typical).abs().expand(len(part)) for part in parts])
    else:
        found = bits
    return Scores(log_prob=log_prob, bits_per_dim=bits, score=found)


def _kind_of(model: AutoregressiveModel) -> str:
    c, h, w = model.image_shape
    return f"images of shape (N, {c}, {h}, {w}) and {model.levels} levels"


def compressed_bits(images: ArrayLike, levels: int, *, progress: bool = False) -> Tensor:
    """What the best of PNG, lossless WebP and DEFLATE needs for each image, its own file: bits, float64 (N,).

    Args:
        images: uint8 levels (N, C, H, W). With other than 1 or 3 channels DEFLATE alone counts.
        levels: Levels of a sub-pixel; for DEFLATE and two levels eight pixels are a byte.
        progress: Show a bar on standard error.
    """
    images, found = levels_of("images", tensor("images", images), levels), []
    with progress_bar("compressing", len(images), "img", show=progress) as bar:
        for image in images.cpu():
            plain = _packed(image) if levels == 2 else image.numpy().tobytes()
            sizes = [len(zlib.compress(plain, 9))]
            if len(image) in (1, 3):
                sizes += [_file_size(image, levels, "PNG"), _file_size(image, levels, "WEBP")]
            found.append(8.0 * min(sizes))
            bar.update()
    return torch.tensor(found, dtype=torch.float64, device="cpu")


def _packed(image: Tensor) -> bytes:
    import numpy as np

    return np.packbits(image.numpy().reshape(-1)).tobytes()


def _file_size(image: Tensor, levels: int, kind: str) -> int:
    picture = to_pil(image, levels)
    if kind == "PNG" and levels == 2 and len(image) == 1:
        picture = picture.convert("1")
    buffer = io.BytesIO()
    if kind == "PNG":
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return buffer.tell()


def _log_prob(model: AutoregressiveModel, images: Tensor, labels: Tensor | None, what: str, progress: bool) -> Tensor:
    """Log-likelihoods, a slice at a time: float64 (N,) on the CPU."""
    size = max(64, model.slice_size) if model.device.type == "cpu" else 4096
    found = []
    with torch.inference_mode(), progress_bar(what, len(images), "img", show=progress) as bar:
        for start in range(0, len(images), size):
            part = images[start : start + size].to(model.device)
            given = None if labels is None else labels[start : start + size]
            found.append(model.log_prob(part, given).double().cpu())
            bar.update(len(part))
    return torch.cat(found)
