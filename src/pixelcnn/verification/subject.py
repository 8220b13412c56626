"""A network as the checks see it: images to outputs, and outputs to log-probabilities."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixelcnn.arguments import ArrayLike, tensor
from pixelcnn.conditions import Given
from pixelcnn.config.checks import check_images
from pixelcnn.levels import levels_of
from pixelcnn.likelihoods import Bernoulli, Categorical
from pixelcnn.models import AutoregressiveModel

__all__ = [
    "DROPOUTS",
    "LogProb",
    "Scale",
    "Subject",
    "copied",
    "device_of",
    "dtype_of",
    "given_to",
    "images_at",
    "in_double",
    "in_mode",
    "model_subject",
    "module_subject",
    "raster",
]

LogProb = Callable[[Tensor, Tensor], Tensor]
Scale = Callable[[Tensor], Tensor]

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A module as the checks see it: images to outputs, and outputs to log-probabilities."""

    name: str
    module: nn.Module
    shape: tuple[int, int, int]
    levels: int
    outputs: Callable[[nn.Module, Tensor], Tensor]
    """The outputs of a copy of the module for floating-point levels, (N, C, H, W)."""
    log_prob: LogProb
    """The log-probabilities of levels, int64 (N, C, H, W), by the outputs."""
    model: AutoregressiveModel | None = None
    """The module, if it is a model of this package."""

    @property
    def subpixels(self) -> int:
        """Number of sub-pixels of an image."""
        return math.prod(self.shape)

    def factors(self, module: nn.Module, images: Tensor, values: Tensor | None = None) -> Tensor:
        """Log-probabilities of all sub-pixels in raster order, (N, sub-pixels), for what the network sees: `values`, by
        default the images, int64.
        """
        values = images.to(dtype_of(module)) if values is None else values
        found = self.log_prob(self.outputs(module, values), images)
        if found.shape != images.shape:
            raise ValueError(f"log_prob must return (N, C, H, W) = {tuple(images.shape)}, got {tuple(found.shape)}")
        return raster(found)

    def copy(self, dtype: torch.dtype | None = None) -> nn.Module:
        """A copy in evaluation mode, perhaps in another type."""
        module = copied(self.module).eval()
        return module if dtype is None else module.to(dtype)


def given_to(model: AutoregressiveModel, n: int) -> Given:
    """What n images are checked given, the same for each: class 0, and a vector or a map of all kinds of values."""
    conditions, device = model.conditions, model.device
    label = None if conditions.classes is None else torch.zeros(n, dtype=torch.int64, device=device)
    if conditions.size is not None:
        return label, torch.linspace(-1, 1, conditions.size, device=device).expand(n, -1)
    if not conditions.channels:
        return label, None
    h, w = conditions.height, conditions.width
    parts = [torch.linspace(-1, 1, conditions.numbers * h * w, device=device)]
    if conditions.categories:
        parts.append(torch.arange(h * w, device=device) % conditions.categories)
    return label, torch.cat(parts).view(conditions.channels, h, w).expand(n, -1, -1, -1)


def model_subject(model: AutoregressiveModel) -> Subject:
    """A model of this package, given a class, vector or map where it is conditional."""

    def outputs(module: nn.Module, values: Tensor) -> Tensor:
        assert isinstance(module, AutoregressiveModel)
        labels, condition = given_to(module, len(values))
        return module.raw_params(values, module.condition_of(labels, len(values), condition))

    return Subject(
        name=_described(model, model.image_shape, model.levels),
        module=model,
        shape=model.image_shape,
        levels=model.levels,
        outputs=outputs,
        log_prob=model.likelihood.log_prob,
        model=model,
    )


def module_subject(
    module: nn.Module,
    image_shape: Sequence[int] | None,
    levels: int | None,
    scale: Scale | None,
    log_prob: LogProb | None,
) -> Subject:
    """Any other module; arguments and errors as for `verify`."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(module).__name__}")
    if image_shape is None or levels is None:
        missing = "image_shape" if image_shape is None else "levels"
        raise ValueError(f"{missing} must be given for a module that is not of this package")
    shape = tuple(image_shape)
    check_images(shape, levels)
    c, h, w = shape
    top, scaled = levels - 1, scale
    subject = Subject(
        name=_described(module, (c, h, w), levels),
        module=module,
        shape=(c, h, w),
        levels=levels,
        outputs=lambda module, values: module(values / top if scaled is None else scaled(values)),
        log_prob=_LogitReader(levels) if log_prob is None else log_prob,
    )
    zeros = torch.zeros(2, c, h, w, dtype=torch.int64, device=device_of(module))
    with torch.no_grad():
        subject.factors(subject.copy(), zeros)  # tells what does not fit
    return subject


class _LogitReader:
    """The log-probabilities of a module's outputs if these are logits in one of the usual layouts."""

    def __init__(self, levels: int) -> None:
        self._levels = levels

    def __call__(self, outputs: Tensor, images: Tensor) -> Tensor:
        """See `LogProb`."""
        levels, (n, c, h, w) = self._levels, images.shape
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if levels == 2 and found == (n, c, h, w):
            return Bernoulli().log_prob(outputs.unsqueeze(-1), images)
        layouts: dict[object, tuple[int, ...]] = {
            (n, levels, c, h, w): (0, 2, 3, 4, 1),
            (n, c, h, w, levels): (0, 1, 2, 3, 4),
        }
        if c == 1:
            layouts[n, levels, h, w] = (0, 2, 3, 1)
        if found not in layouts:
            usual = f"(N, {c}, {h}, {w}), " if levels == 2 else ""
            raise ValueError(
                f"outputs of shape {found} for images of shape {(n, c, h, w)} and {levels} levels are not logits "
                f"{usual}(N, {levels}, {c}, {h}, {w}) or (N, {c}, {h}, {w}, {levels}): say with log_prob what they mean"
            )
        return Categorical(levels).log_prob(outputs.permute(layouts[found]).reshape(n, c, h, w, levels), images)


def images_at(subject: Subject, images: ArrayLike | None) -> Tensor:
    """The images to test at, int64 (2 to 4, C, H, W)."""
    device = device_of(subject.module)
    if images is None:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(subject.levels, (4, *subject.shape), generator=generator, device="cpu")
        return drawn.to(device)
    given = levels_of("images", tensor("images", images), subject.levels).to(device, torch.int64)
    if given.shape[1:] != subject.shape or len(given) == 0:
        c, h, w = subject.shape
        raise ValueError(f"images must have shape (N, {c}, {h}, {w}), got {tuple(given.shape)}")
    return given[:4] if len(given) > 1 else torch.cat([given, subject.levels - 1 - given])


def in_mode(subject: Subject, training: bool) -> nn.Module:
    """A copy in a mode, without dropout."""
    module = subject.copy().train(training)
    for part in module.modules():
        if isinstance(part, DROPOUTS):
            part.eval()
        elif isinstance(part, nn.MultiheadAttention | nn.RNNBase):  # which have dropout of their own
            part.dropout = 0.0
    return module


def in_double(subject: Subject, images: Tensor) -> nn.Module:
    """A copy in float64, if the network runs in it."""
    double = subject.copy(torch.float64)
    try:
        subject.factors(double, images[:1])
    except RuntimeError:  # it converts to another type
        return subject.copy()
    return double


def copied(module: nn.Module) -> nn.Module:
    """A copy of a module, in its own mode and type."""
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise ValueError(f"model must be copyable, {type(module).__name__} is not: {error}") from error


def raster(images: Tensor) -> Tensor:
    """(N, C, H, W, ...) with sub-pixels in the order of drawing: (N, H * W * C, ...)."""
    return images.movedim(1, 3).flatten(1, 3)


def dtype_of(module: nn.Module) -> torch.dtype:
    """The type of the first floating-point parameter."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def device_of(module: nn.Module) -> torch.device:
    """The device of the first parameter."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def _described(module: nn.Module, shape: tuple[int, int, int], levels: int) -> str:
    c, h, w = shape
    parameters = sum(p.numel() for p in module.parameters())
    return f"{type(module).__name__}, images {c} x {h} x {w} of {levels} levels, {parameters:,} parameters"
