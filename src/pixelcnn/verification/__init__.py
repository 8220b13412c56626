"""Verification: whether a network is causal, normalised and deterministic, as an exact likelihood of images must be.

A network defines a probability of images,

    log p(x) = sum_k log p(x_k | x_1, ..., x_{k-1}),

if each factor depends on earlier sub-pixels only (rows from the top, each from the left, channels innermost), sums to 1
over the levels, and is the same function whatever else is in the batch. `verify` tests that for models of this package
and for any PyTorch module that maps images to logits or other parameters. It tests the network with its present
weights, so a network whose weights are all zero passes whatever its masks are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from pixelcnn.arguments import ArrayLike
from pixelcnn.models import AutoregressiveModel, MixtureModel
from pixelcnn.verification.checks import checks_of
from pixelcnn.verification.dependence import seen_by
from pixelcnn.verification.report import Check, Verification
from pixelcnn.verification.subject import LogProb, Scale, Subject, images_at, model_subject, module_subject

__all__ = ["Check", "Verification", "verify"]


@torch.inference_mode(mode=False)  # else nothing could be differentiated
def verify(
    model: nn.Module,
    image_shape: Sequence[int] | None = None,
    levels: int | None = None,
    *,
    scale: Scale | None = None,
    log_prob: LogProb | None = None,
    images: ArrayLike | None = None,
    progress: bool = False,
) -> Verification:
    """Tests whether a network defines a probability of images: causal, normalised and deterministic.

    The network itself is not changed: copies of it are evaluated, and trained for a step. What is tested:

    - repeatable: the same images have the same likelihood when computed again, in the mode that the network is in
    - batch: an image's likelihood does not depend on its neighbours in the batch, in evaluation or in training mode
      with dropout off; batch normalisation fails
    - mode: training mode, with dropout off, computes the same
    - causal: the Jacobian of all sub-pixels' log-probabilities is exactly zero for the sub-pixel itself and later ones;
      where gradients with respect to images are missing or not finite, sub-pixels are changed, one at a time
    - trained: the same at a few positions after a step of Adam, which fills weights that are masked only once
    - normalised: the probabilities of all levels sum to 1, at every sub-pixel
    - enumerated: the probabilities of all ways to fill the last sub-pixels sum to 1
    - engines: for models of this package, all engines draw the images of the reference sampler, in float64

    Args:
        model: A model of this package, or any PyTorch module that maps scaled images (N, C, H, W) to parameters of each
            sub-pixel's distribution.
        image_shape: Channels, height and width. For a model of this package, its own.
        levels: Number of values of a sub-pixel, 2 or more. For a model of this package, its own.
        scale: What a module of your own is given, as a function of images as floating-point levels 0 .. levels-1
            (N, C, H, W); by default `images / (levels - 1)`. Whole numbers, as for an embedding, are allowed:
            `lambda images: images.long()`.
        log_prob: What a module's outputs mean, as a function of the outputs and of images (torch.int64, N, C, H, W):
            natural logarithms of each sub-pixel's probability, (N, C, H, W). By default, outputs are logits: for two
            levels of P(x = 1), (N, C, H, W); otherwise of every level, (N, levels, H, W) for one channel, and
            (N, levels, C, H, W) or (N, C, H, W, levels).
        images: Images at which to test, levels (N, C, H, W), N at least 1, of which at most 4 are used; 4 random ones
            by default.
        progress: Show a progress bar on standard error.

    Raises:
        ValueError: If an argument does not fit the module, its outputs have another shape, it cannot be copied, or it
            is a mixture, whose `networks` can be verified.

    Examples:
        >>> import torch
        >>> import pixelcnn
        >>> report = pixelcnn.verify(pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1))
        >>> report.ok
        True
        >>> network = torch.nn.Conv2d(1, 1, 3, padding=1)  # sees what is below and itself
        >>> pixelcnn.verify(network, (1, 4, 4), 2).failed
        ('causal', 'trained', 'enumerated')
    """
    started = time.perf_counter()
    if isinstance(model, MixtureModel):
        raise ValueError("model must have one scan order; verify each of the mixture's `networks`")
    if isinstance(model, AutoregressiveModel):
        if not (image_shape, levels, scale, log_prob) == (None, None, None, None):
            raise ValueError("image_shape, levels, scale and log_prob must be left out for a model of this package")
        subject: Subject = model_subject(model)
    else:
        subject = module_subject(model, image_shape, levels, scale, log_prob)
    at = images_at(subject, images)
    checks = list(checks_of(subject, at, progress))
    pixel = (subject.shape[1] // 2, subject.shape[2] // 2)
    return Verification(
        subject=subject.name,
        checks=tuple(checks),
        pixel=pixel,
        seen=seen_by(subject, at, pixel) if any(check.name == "causal" for check in checks) else None,
        seconds=time.perf_counter() - started,
    )
