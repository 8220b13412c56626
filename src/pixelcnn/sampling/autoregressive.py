"""The base of everything that can be drawn from: a network over a view, and how to interpret its outputs.

Likelihoods, samples and completions are built on it (`pixelcnn.density`), and the engines need no more than this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from pixelcnn.arguments import ArrayLike, bounds, readable, tensor
from pixelcnn.arithmetic import Arithmetic, Precision
from pixelcnn.config import ModelConfig, conditions_of
from pixelcnn.layers import MaskedConv2d
from pixelcnn.levels import level_dtype, levels_of
from pixelcnn.likelihoods import Likelihood
from pixelcnn.operations import FullView, View

__all__ = ["Autoregressive", "MakeView", "blank", "check_weights"]

MakeView = Callable[[Tensor, Tensor | None], FullView]


class Autoregressive(ABC):
    """A network that gives the distribution of each sub-pixel given the ones before it."""

    config: ModelConfig
    """The architecture."""
    likelihood: Likelihood
    """What the network's outputs mean."""
    exact: bool = False
    """Whether the model computes in exact arithmetic, see `pixelcnn.exact`."""
    grouped: ClassVar[bool] = True
    """Whether the network's output has a separate part for each channel, which sees the earlier channels."""

    if TYPE_CHECKING:  # from `nn.Module`, if the model is one

        def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
            """All weights."""

        def named_parameters(
            self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
        ) -> Iterator[tuple[str, nn.Parameter]]:
            """All weights, by name."""

    @property
    @abstractmethod
    def masked_layers(self) -> list[MaskedConv2d]:
        """Every masked convolution of the network."""

    @abstractmethod
    def network(self, view: View) -> Tensor:
        """The raw parameters of the view's pixels, (..., channels * params).

        If the model is not `grouped`, the input of `subpixel_params` instead.
        """

    @abstractmethod
    def prepared(self) -> Autoregressive:
        """The model in exact arithmetic, see `pixelcnn.exact.prepare`; the model itself if it already is."""

    def arithmetic_of(self, precision: Precision | None) -> Arithmetic:
        """The arithmetic in which the network is computed at a given precision."""
        return Arithmetic(precision)

    def view_of(self, precision: Precision | None) -> MakeView:
        """The function that makes a view of whole images from scaled images (N, H, W, C) and their conditions."""
        return lambda image, condition: FullView(image, condition, precision)

    def subpixel_params(self, raw: Tensor, levels: Tensor, channel: int) -> Tensor:  # noqa: ARG002 - a grouped one needs none
        """The raw parameters of one channel given the earlier ones.

        Args:
            raw: What `network` returned for a full view, (..., features).
            levels: Levels of the same pixels, (..., C); only channels before `channel` matter.
            channel: Index of the channel.

        Returns:
            (..., params).
        """
        params = self.likelihood.params
        return raw[..., channel * params : (channel + 1) * params]

    def subpixel_params_on_grid(self, raw: Tensor, levels: Tensor, channel: int) -> Tensor:
        """`subpixel_params` in exact arithmetic: the input of `Likelihood.on_grid`."""
        return self.subpixel_params(raw, levels, channel)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.config.image_shape

    @property
    def levels(self) -> int:
        """Number of values that a sub-pixel can take."""
        return self.config.levels

    @property
    def subpixels(self) -> int:
        """Number of sub-pixels of an image, C * H * W: the dimensions in "bits/dim"."""
        c, h, w = self.image_shape
        return c * h * w

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def num_classes(self) -> int | None:
        """Number of classes that the model is conditional on; None if there are none."""
        return conditions_of(self.config)[0]

    @property
    def condition_dim(self) -> int | None:
        """Size of the vector that the model is conditional on; None if there is none."""
        return conditions_of(self.config)[1]

    def unchecked_log_prob_map(
        self, images: Tensor, condition: Tensor | None = None, view: MakeView | None = None
    ) -> Tensor:
        """`log_prob_map` in one piece and without validating its arguments: for loops that know their data.

        Args:
            images: uint8 levels (N, C, H, W).
            condition: The result of `condition_of` for the labels.
            view: Makes the view that the network runs over, from the scaled images (N, H, W, C) and the condition.
        """
        return self.likelihood.log_prob(self.raw_params(images, condition, view), images)

    def unchecked_log_prob(
        self, images: Tensor, condition: Tensor | None = None, view: MakeView | None = None
    ) -> Tensor:
        """`log_prob` in one piece and without validating its arguments; see `unchecked_log_prob_map`."""
        return self.unchecked_log_prob_map(images, condition, view).flatten(1).sum(1)

    def raw_params(self, images: Tensor, condition: Tensor | None = None, view: MakeView | None = None) -> Tensor:
        """`forward` without validating its arguments; see `unchecked_log_prob_map`."""
        view = self.view_of(None) if view is None else view
        c, h, w = self.image_shape
        image_nhwc = images.permute(0, 2, 3, 1).to(self.dtype) / (self.levels - 1)
        raw = self.network(view(image_nhwc.contiguous(), condition))
        raw = raw.to(torch.promote_types(self.dtype, torch.float32))  # under autocast, or if the model is in float16
        if self.grouped:
            return raw.view(-1, h, w, c, self.likelihood.params).permute(0, 3, 1, 2, 4)
        levels_nhwc = images.permute(0, 2, 3, 1)
        return torch.stack([self.subpixel_params(raw, levels_nhwc, k) for k in range(c)], 1)

    # Errors ----------------------------------------------------------------------------------------------------

    def checked_images(self, images: object, *, floating: bool = False) -> Tensor:
        """The images, validated, as uint8 (N, C, H, W) on their own device.

        Args:
            images: A tensor or an array, integers of any type (N, C, H, W) holding 0 .. levels-1; also booleans if
                there are two levels.
            floating: Whether floating-point levels of the model's dtype are accepted as well, and returned unchanged.

        Raises:
            ValueError: If they are anything else.
        """
        shape = self.image_shape
        images = tensor("images", images)
        if images.dim() != 4 or tuple(images.shape[1:]) != shape:
            raise ValueError(
                f"images must have shape (N, {shape[0]}, {shape[1]}, {shape[2]}), got {tuple(images.shape)}"
            )
        if floating and images.dtype == self.dtype:
            return images
        return levels_of("images", images, self.levels)

    def condition_of(self, labels: ArrayLike | None, n: int) -> Tensor | None:
        """What n images are conditioned on, (n, D) in the model's dtype: classes one-hot, vectors followed by a 1.

        A class of -1, and a vector of NaN, become zeros, which is the unconditional distribution.

        Raises:
            ValueError: If the labels do not fit the model or the number of images.
        """
        if labels is None:
            return None
        return self.unchecked_condition_of(self.checked_labels(labels, n).to(self.device))

    def checked_labels(self, labels: object, n: int) -> Tensor:
        """The labels of n images, validated: classes, int64 (n,), or vectors, floating-point (n, condition_dim).

        Args:
            labels: A tensor, an array or a list; classes are integers of any type, vectors any finite numbers. A class
                of -1, or a vector of NaN, is none.
            n: Number of images.

        Raises:
            ValueError: If they do not fit the model or the number of images.
        """
        classes, size = self.num_classes, self.condition_dim
        if classes is None and size is None:
            raise ValueError("labels must be None: the model is unconditional and has no classes")
        labels = tensor("labels", labels)
        whole = not labels.is_floating_point() and not labels.is_complex()
        if classes is None:
            if labels.shape != (n, size) or labels.is_complex():
                raise ValueError(
                    f"labels must be floating-point of shape ({n}, {size}), got {labels.dtype} {tuple(labels.shape)}"
                )
            labels = labels.to(torch.float64) if whole else labels
            usable = labels.isfinite().all(1) | labels.isnan().all(1)
            if readable(labels) and not usable.all():
                raise ValueError(
                    "labels must be finite, or NaN in all of a vector for none, got "
                    f"{labels[~usable][0].tolist()} for image {int((~usable).nonzero()[0])}"
                )
            return labels
        if labels.shape != (n,) or not whole:
            raise ValueError(f"labels must be torch.int64 of shape ({n},), got {labels.dtype} {tuple(labels.shape)}")
        low, top = bounds(labels) if n and readable(labels) else (0, 0)
        if low < -1 or top >= classes:
            raise ValueError(f"labels must be in 0..{classes - 1}, got {low}..{top}")
        return labels.to(torch.int64)

    def unchecked_condition_of(self, labels: Tensor) -> Tensor:
        """`condition_of` for labels on the model's device, without checking values and so without synchronising."""
        classes = self.num_classes
        if classes is None:
            given = ~labels[:, :1].isnan()
            vectors = torch.where(given, labels, 0)
            return torch.cat([vectors, given.to(labels.dtype)], 1).to(self.dtype)
        return (labels.unsqueeze(1) == torch.arange(classes, device=labels.device)).to(self.dtype)


def blank(model: Autoregressive, n: int) -> Tensor:
    """Images of zeros to draw into: levels (n, C, H, W) on the model's device."""
    return torch.zeros(n, *model.image_shape, dtype=level_dtype(model.levels), device=model.device)


def check_weights(weights: Iterable[tuple[str, Tensor]], where: str = "") -> None:
    """Checks weights once, whenever they are read, written or prepared for an engine: NaN would draw images unnoticed.

    Args:
        weights: The tensors by name.
        where: Prefix of the error message.

    Raises:
        ValueError: If a value is NaN or infinite; the message names the tensor.
    """
    named = [(name, weight) for name, weight in weights if readable(weight)]
    finite = [weight.isfinite().all() for _, weight in named]
    if finite and not torch.stack(finite).all():  # all at once: synchronises with the device only once
        name = next(name for (name, _), each in zip(named, finite, strict=True) if not each)
        raise ValueError(f"{where}{name} has values that are not finite")
