"""Evaluation: the likelihood of held-out images under a model, with its standard error and confidence interval."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike
from pixelcnn.conditions import Given
from pixelcnn.density import checked_model
from pixelcnn.exact import PreparedModel
from pixelcnn.models import AutoregressiveModel
from pixelcnn.processes import ALONE, Processes
from pixelcnn.progress import progress_bar

__all__ = ["AnyModel", "Evaluation", "bootstrap_interval", "checked_data", "evaluate", "evaluate_parts", "log_probs"]

AnyModel: TypeAlias = AutoregressiveModel | PreparedModel
"""A trained model, or its exact twin."""

_MAX_GROUPS = 50_000
_RESAMPLES, _PERCENTILES = 1000, ((1 - 0.95) / 2, (1 + 0.95) / 2)


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation:
    """The mean negative log-likelihood of a set of images, in the field's units."""

    images: int
    """Number of images."""
    nats_per_image: float
    """Mean negative log-likelihood of an image, natural logarithm."""
    standard_error: float
    """Standard error of `nats_per_image`: standard deviation over the images / sqrt(images); NaN for one image."""
    interval: tuple[float, float]
    """95 % bootstrap interval of `nats_per_image`: percentiles of 1,000 resampled means, with a fixed seed; NaN for one
    image."""
    nats_per_subpixel: float
    """`nats_per_image` / (C * H * W), with the mean of C * H * W over images of several sizes: what Keras calls the
    loss."""
    bits_per_dim: float
    """`nats_per_subpixel` / ln 2: comparable between image sizes."""
    images_per_second: float
    """Measured throughput, of all images."""
    by_class: dict[int, Evaluation] = field(default_factory=dict)
    """The same for the images of each class, if labels were given; not for those without one, -1."""
    accuracy: float | None = None
    """With `marginal` and labels: of the images that have a class, the share of those whose class is the most probable
    one by Bayes' rule."""

    def __repr__(self) -> str:
        nats = f"{self.nats_per_image:.4f} +- {self.standard_error:.4f} nats per image"
        return f"Evaluation of {self.images} images: {nats}, {self.bits_per_dim:.4f} bits/dim"


def evaluate(
    model: AnyModel,
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    condition: ArrayLike | None = None,
    marginal: bool = False,
    progress: bool = False,
    processes: Processes = ALONE,
) -> Evaluation:
    """Evaluates a model on images, one slice at a time.

    Args:
        model: Any model of the package, or its exact twin, see `pixelcnn.exact.prepare`.
        images: uint8 levels (N, C, H, W), N at least 1, on any device; of any size for a network that is good for it,
            see `AutoregressiveModel.resized`.
        labels: As for `AutoregressiveModel.log_prob`.
        condition: As for `AutoregressiveModel.log_prob`.
        marginal: For a class-conditional model: evaluate the mixture of its classes, p(x) = mean over y of p(x | y),
            which draws a class first, all with the same probability. It takes a pass per class. The images' labels then
            only serve for `by_class` and `accuracy`. Without `marginal` and labels, p(x) is what the model has learnt
            from images whose labels were dropped.
        progress: Show a progress bar on standard error.
        processes: The processes that call this with the same arguments and evaluate a share each. Slices are cut as for
            one process, and each process gets the result for all images.

    Raises:
        ValueError: If there is no image, an argument does not fit the model, or a weight is not finite.
    """
    return evaluate_parts(
        model, [(images, labels, condition)], marginal=marginal, progress=progress, processes=processes
    )


def evaluate_parts(
    model: AnyModel,
    parts: Iterable[tuple[ArrayLike, ArrayLike | None, ArrayLike | None]],
    *,
    marginal: bool = False,
    progress: bool = False,
    processes: Processes = ALONE,
) -> Evaluation:
    """Evaluates a model on images of several sizes.

    Args:
        model: As for `evaluate`.
        parts: Images of one size each, with their labels and conditions, as for `evaluate`; with labels in all parts or
            in none.
        marginal: As for `evaluate`.
        progress: As for `evaluate`.
        processes: As for `evaluate`.

    Raises:
        ValueError: As `evaluate`; or if there are no parts.
    """
    model = checked_model(model)
    started, found, sizes, classes, joints = time.perf_counter(), [], [], [], []
    for images, labels, condition in parts:
        fitting = model.fitting(images)
        images, labels, condition = checked_data(fitting, images, labels, condition)
        share = processes.share(len(images), _slice_size(fitting))
        part_labels, part_condition = (None if tensor is None else tensor[share] for tensor in (labels, condition))
        if marginal:
            joints.append(processes.gather(_joint(fitting, images[share], part_condition, progress=progress)))
            found.append(-torch.logsumexp(joints[-1], 1))
        else:
            own = log_probs(fitting, images[share], (part_labels, part_condition), "evaluating", progress=progress)
            found.append(-processes.gather(own))
        sizes.append(torch.full((len(images),), float(fitting.subpixels), dtype=torch.float64, device="cpu"))
        if labels is not None and not labels.is_floating_point():
            classes.append(labels.cpu())
    if not found:
        raise ValueError("parts must hold at least one image, got none")
    nats, subpixels = torch.cat(found), torch.cat(sizes)
    if classes and (labelled := sum(map(len, classes))) < len(nats):
        raise ValueError(f"labels must be given for all parts or none, got them for {labelled} of {len(nats)} images")
    images_per_second = len(nats) / (time.perf_counter() - started)

    def summary(nats: Tensor, subpixels: Tensor, by_class: dict[int, Evaluation]) -> Evaluation:
        mean, size = nats.mean().item(), subpixels.mean().item()
        return Evaluation(
            images=len(nats),
            nats_per_image=mean,
            standard_error=nats.std().item() / math.sqrt(len(nats)) if len(nats) > 1 else math.nan,
            interval=bootstrap_interval(nats),
            nats_per_subpixel=mean / size,
            bits_per_dim=mean / size / math.log(2),
            images_per_second=images_per_second,
            by_class=by_class,
        )

    each = torch.cat(classes) if classes else None
    known = [] if each is None else torch.unique(each[each >= 0]).tolist()
    by_class = {k: summary(nats[each == k], subpixels[each == k], {}) for k in known}
    result = summary(nats, subpixels, by_class)
    if not joints or each is None or not known:
        return result
    right = torch.cat(joints).argmax(1) == each
    return replace(result, accuracy=right[each >= 0].double().mean().item())


def _joint(model: AnyModel, images: Tensor, condition: Tensor | None, *, progress: bool) -> Tensor:
    """The log of p(x, y) by image and class, the classes equally probable: float64 (N, classes), on the CPU.

    Raises:
        ValueError: If the model has no classes.
    """
    classes = model.num_classes
    if classes is None:
        raise ValueError("marginal must be False for a model without classes")
    given = []
    for label in range(classes):
        labels = torch.full((len(images),), label, device="cpu")
        given.append(log_probs(model, images, (labels, condition), f"class {label} of {classes}", progress=progress))
    return torch.stack(given, 1) - math.log(classes)


def checked_data(
    model: AnyModel, images: ArrayLike, labels: ArrayLike | None, condition: ArrayLike | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Images, at least one, labels and condition as tensors.

    Raises:
        ValueError: If they do not fit the model, or there is no image.
    """
    images = model.checked_images(images)
    if len(images) == 0:
        raise ValueError("images must hold at least one image, got 0")
    return images, *model.checked_given(labels, condition, len(images))


def log_probs(model: AnyModel, images: Tensor, given: Given, description: str, *, progress: bool) -> Tensor:
    """Log-likelihoods in nats, computed one slice at a time.

    Args:
        model: Any model of the package.
        images: uint8 levels (N, C, H, W) that fit the model, on any device.
        given: Labels and condition, as for `AutoregressiveModel.log_prob`.
        description: Of the progress bar.
        progress: Show a progress bar on standard error.

    Returns:
        float64 (N,) on the CPU.
    """
    found = [torch.empty(0, dtype=torch.float64, device=model.device)]
    size = _slice_size(model)
    with torch.inference_mode(), progress_bar(description, len(images), "img", show=progress) as bar:
        for start in range(0, len(images), size):
            part = images[start : start + size].to(model.device)
            some, maps = (None if each is None else each[start : start + size] for each in given)
            found.append(model.log_prob(part, some, condition=maps, progress=progress).double())
            bar.update(len(part))
            if model.device.type == "cpu":
                bar.set_postfix(nats=f"{-torch.cat(found[-100:]).mean():.2f}", refresh=False)
    return torch.cat(found).cpu()


def _slice_size(model: AnyModel) -> int:
    return max(64, model.slice_size) if model.device.type == "cpu" else 4096  # so that the host seldom waits


def bootstrap_interval(values: Tensor) -> tuple[float, float]:
    """The middle 95 % of 1,000 means of resampled values (N,): a function of the values alone; NaN for one value.

    More than 50,000 values are resampled in groups of neighbours, all of one size but the last.

    References:
        | An Introduction to the Bootstrap (Efron & Tibshirani, 1993), Chapman & Hall.
    """
    if len(values) < 2:
        return math.nan, math.nan
    size = math.ceil(len(values) / _MAX_GROUPS)
    means, weights = values, torch.ones_like(values)
    if size > 1:
        groups = torch.split(values, size)
        means = torch.stack([group.mean() for group in groups])
        weights = torch.tensor([len(group) for group in groups], dtype=means.dtype, device="cpu")
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(_RESAMPLES):
        drawn = torch.randint(len(means), (len(means),), generator=generator, device="cpu")
        found.append((means[drawn] * weights[drawn]).sum() / weights[drawn].sum())
    low, high = torch.stack(found).quantile(torch.tensor(_PERCENTILES, dtype=means.dtype, device="cpu")).tolist()
    return low, high
