"""Anomaly scores: how unusual images are under a model, by the likelihood and three corrections of it.

A likelihood alone can be a poor anomaly score: an image that is simpler than the training images often has a higher one
(Nalisnick et al., 2019a). Each score here is higher for more unusual images, in bits per sub-pixel (D of them):

    likelihood    -log2 p(x) / D
    ratio         (log2 p_background(x) - log2 p(x)) / D, the background model trained on mutated images (Ren et al.,
                  2019)
    complexity    (-log2 p(x) - L(x)) / D, L(x) the bits that the best of a few lossless compressors needs (Serra et
                  al., 2020)
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

import math
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike, integer, tensor
from pixelcnn.density import checked_model
from pixelcnn.evaluation import AnyModel, checked_data, log_probs
from pixelcnn.images import encoded, exact_channels, exact_picture, figure_png
from pixelcnn.levels import GREY_LEVELS, levels_of
from pixelcnn.progress import progress_bar

__all__ = ["Score", "Scores", "coded_bits", "compressed_bits", "score"]

Score = Literal["likelihood", "ratio", "complexity", "typicality"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)  # tensors have no truth value
class Scores:
    """The scores of images."""

    log_prob: Tensor
    """float64 (N,): log-likelihood in nats."""
    bits_per_dim: Tensor
    """float64 (N,): -log2 of the likelihood, per sub-pixel."""
    score: Tensor
    """float64 (N,): the score that was asked for, higher for more unusual images."""

    def __repr__(self) -> str:
        low, high, mean = self.score.min(), self.score.max(), self.bits_per_dim.mean()
        return f"Scores of {len(self.score)} images, {low:.4g} to {high:.4g}, on average {mean:.4g} bits/dim"

    def _repr_png_(self) -> bytes:
        from matplotlib.figure import Figure  # which nothing else here should wait for

        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        axes.hist(self.score.tolist(), bins="sqrt")  # "auto" makes millions where most scores are nearly equal
        axes.set(xlabel="score (bits per sub-pixel), higher for more unusual images", ylabel="images")
        return figure_png(figure)


def score(
    model: AnyModel,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    condition: ArrayLike | None = None,
    method: Score = "likelihood",
    background: AnyModel | None = None,
    reference: ArrayLike | None = None,
    batch: int = 1,
    progress: bool = False,
) -> Scores:
    """Scores images.

    Args:
        model: Any model of the package, or its exact twin, see `pixelcnn.exact.prepare`.
        images: uint8 levels (N, C, H, W), N at least 1, of any size for networks that are good for it.
        labels: As for `AutoregressiveModel.log_prob`.
        condition: As for `AutoregressiveModel.log_prob`.
        method: Which score, in bits per sub-pixel, of which D are in an image: "likelihood" is -log2 p / D; "ratio" is
            that minus the same under `background`; "complexity" is that minus `compressed_bits` / D; "typicality" is
            how far its mean over a batch is from that of `reference`.
        background: For "ratio": a model of the same images that knows only their background, such as one trained with
            `TrainConfig.mutate`. It scores without labels and condition.
        reference: For "typicality": images that are typical, held out from training, uint8 levels (M, C, H, W), M at
            least 1; scored without labels and condition.
        batch: For "typicality": how many consecutive images are judged together, at least 1; the last batch may have
            fewer.
        progress: Show a progress bar on standard error.

    Raises:
        ValueError: If an argument is missing, superfluous or does not fit the model, or a weight is not finite.
    """
    model = checked_model(model)
    background = None if background is None else checked_model(background, "background")
    if method not in get_args(Score):
        raise ValueError(f"method must be one of {', '.join(get_args(Score))}, got {method!r}")
    for name, value, needed in (("background", background, "ratio"), ("reference", reference, "typicality")):
        if (value is not None) != (method == needed):
            rule = "given" if method == needed else "left out"
            raise ValueError(f"{name} must be {rule} for the score {method!r}")
    batch = integer("batch", batch, 1)
    if batch > 1 and method != "typicality":
        raise ValueError(f"batch must be 1 unless the score is typicality, got {batch!r}")
    model, background = model.fitting(images), None if background is None else background.fitting(images)
    images, labels, condition = checked_data(model, images, labels, condition)
    if background is not None and _kind_of(background) != _kind_of(model):
        raise ValueError(
            f"background must be for {_kind_of(model)}, as the model is, got one for {_kind_of(background)}"
        )
    log_prob = log_probs(model, images, (labels, condition), "scoring", progress=progress)
    dims = model.subpixels * math.log(2)
    bits = -log_prob / dims
    if method == "ratio":
        assert background is not None
        found = (
            bits + log_probs(background, images, (None, None), "scoring by the background", progress=progress) / dims
        )
    elif method == "complexity":
        found = bits - compressed_bits(images, model.levels, progress=progress) / model.subpixels
    elif method == "typicality":
        assert reference is not None
        try:
            reference, *_ = checked_data(model, reference, None, None)
        except ValueError as error:
            raise ValueError(f"reference {error}") from None
        typical = -log_probs(model, reference, (None, None), "scoring the reference", progress=progress).mean() / dims
        parts = torch.split(bits, batch)
        found = torch.cat([(part.mean() - typical).abs().expand(len(part)) for part in parts])
    else:
        found = bits
    return Scores(log_prob=log_prob, bits_per_dim=bits, score=found)


def _kind_of(model: AnyModel) -> str:
    c, h, w = model.image_shape
    return f"images of shape (N, {c}, {h}, {w}) and {model.levels} levels"


def coded_bits(
    model: AnyModel,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    condition: ArrayLike | None = None,
    progress: bool = False,
) -> float:
    """The bits that images take by a model's likelihood, with their classes, if given, each of them equally probable.

    Arguments and errors as for `score`.
    """
    found = score(model, images, labels, condition=condition, progress=progress).log_prob
    classes = 1 if labels is None else model.num_classes or 1
    return -found.sum().item() / math.log(2) + len(found) * math.log2(classes)


def compressed_bits(images: ArrayLike, levels: int, *, progress: bool = False) -> Tensor:
    """The bits that the best of PNG, lossless WebP and DEFLATE needs for each image by itself: float64 (N,).

    Args:
        images: uint8 levels (N, C, H, W). Unless they have 1 or 3 channels, only DEFLATE counts; with more than 256
            levels also PNG for one channel, and WebP, which has 8 bits, not at all.
        levels: Number of levels, 2..65,536; with two levels, DEFLATE gets eight pixels per byte.
        progress: Show a progress bar on standard error.

    Raises:
        ValueError: If the images have other levels.
    """
    images, found = levels_of("images", tensor("images", images), levels), []
    with progress_bar("compressing", len(images), "img", show=progress) as bar:
        for image in images.cpu():
            flat = image.numpy()
            sizes = [len(zlib.compress((np.packbits(flat) if levels == 2 else flat).tobytes(), 9))]
            if len(image) in exact_channels(levels):
                picture = exact_picture(image, levels)
                black_or_white = levels == 2 and len(image) == 1
                sizes.append(len(encoded(picture.convert("1") if black_or_white else picture, optimize=True)))
                if levels <= GREY_LEVELS:
                    sizes.append(len(encoded(picture, "WEBP", lossless=True, quality=100, method=4)))
            found.append(8.0 * min(sizes))
            bar.update()
    return torch.tensor(found, dtype=torch.float64, device="cpu")
