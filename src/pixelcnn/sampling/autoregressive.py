"""The base of everything that can be drawn from: a network over a view, and how to interpret its outputs.

Likelihoods, samples and completions are built on it (`pixelcnn.density`), and the engines need no more than this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pixelcnn.arguments import ArrayLike, readable, tensor, transforming
from pixelcnn.arithmetic import Arithmetic, Precision
from pixelcnn.conditions import Conditions, Given
from pixelcnn.config import ModelConfig, conditions_of, map_of
from pixelcnn.layers import LevelEmbedding, MaskedConv2d
from pixelcnn.levels import GREY_LEVELS, level_dtype, levels_of
from pixelcnn.likelihoods import Likelihood
from pixelcnn.operations import Conv, FullView, View
from pixelcnn.threads import alone

__all__ = ["Autoregressive", "MakeView", "blank", "check_weights"]

MakeView = Callable[[Tensor, Tensor | None], FullView]

_LOGITS = 2**21  # logits that are made at a time where a sub-pixel has many


class Autoregressive(ABC):
    """A network that gives the distribution of each sub-pixel given the ones before it."""

    config: ModelConfig
    """The architecture."""
    likelihood: Likelihood
    """What the network's outputs mean."""
    level_embedding: LevelEmbedding | None
    """The vectors as which the network reads levels; None if it reads them as numbers."""
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

    @property
    def logit_layer(self) -> MaskedConv2d | None:
        """The 1 x 1 layer that `network` applies to what `penultimate` returns; None if the network is not cut in two.

        With many levels the last layer's result would not fit into memory for all pixels, so it is computed in parts.
        """
        return None

    def penultimate(self, view: View) -> Tensor:  # noqa: ARG002 - of those that have one
        """What `logit_layer` reads, (..., features)."""
        raise AssertionError(f"{type(self).__name__} has no last layer of its own")

    def read_levels(self, levels: Tensor) -> Tensor:
        """Levels (..., C) as the network reads them: scaled to 0..1, (..., C), or embedded, (..., C * embedding)."""
        if self.level_embedding is None:
            return self._scaled(levels)
        return self.level_embedding.forward(levels)

    def read_channel(self, levels: Tensor, channel: int) -> Tensor:
        """Levels (...) of one channel as the network reads them: (..., 1) or (..., embedding)."""
        if self.level_embedding is None:
            return self._scaled(levels).unsqueeze(-1)
        return self.level_embedding.of_channel(levels, channel)

    def _scaled(self, levels: Tensor) -> Tensor:
        """Levels of any shape as numbers 0..1: float16 holds these, but not all levels."""
        return (levels.to(self._wide) / (self.levels - 1)).to(self.dtype)

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
    def image_features(self) -> int:
        """Number of features by which the network reads a pixel: one per channel, or the channels' embeddings."""
        return self.image_shape[0] * (1 if self.level_embedding is None else self.level_embedding.features)

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
        if self._many_logits:
            return self._by_parts(self.likelihood.log_prob, images, condition, view)
        return self.likelihood.log_prob(self.raw_params(images, condition, view), images).to(self._wide)

    def unchecked_log_prob(
        self, images: Tensor, condition: Tensor | None = None, view: MakeView | None = None
    ) -> Tensor:
        """`log_prob` in one piece and without validating its arguments; see `unchecked_log_prob_map`."""
        return self.unchecked_log_prob_map(images, condition, view).flatten(1).sum(1)

    def raw_params(self, images: Tensor, condition: Tensor | None = None, view: MakeView | None = None) -> Tensor:
        """`forward` without validating its arguments; see `unchecked_log_prob_map`."""
        c, h, w = images.shape[1:]
        raw = self.network(self._seen(images, condition, view)).to(self._wide)  # if under autocast, or in float16
        if self.grouped:
            return raw.view(-1, h, w, c, self.likelihood.params).permute(0, 3, 1, 2, 4)
        levels_nhwc = images.permute(0, 2, 3, 1)
        return torch.stack([self.subpixel_params(raw, levels_nhwc, k) for k in range(c)], 1)

    def pixel_params(
        self, images: Tensor, pixels: slice, condition: Tensor | None = None, view: MakeView | None = None
    ) -> Tensor:
        """`raw_params` of P pixels, by their raster indices: (N, C, P, params). No other pixels' logits are made if
        there are many levels.
        """
        if not self._many_logits:
            return self.raw_params(images, condition, view).flatten(2, 3)[:, :, pixels]
        assert self.logit_layer is not None
        seen = self._seen(images, condition, view)
        x = self.penultimate(seen).flatten(1, 2)[:, None, pixels]
        raw = seen(Conv(self.logit_layer), x).to(self._wide)
        return raw.view(*raw.shape[:1], -1, self.image_shape[0], self.likelihood.params).transpose(1, 2)

    def _seen(self, images: Tensor, condition: Tensor | None, view: MakeView | None) -> FullView:
        """The view of whole images."""
        make = self.view_of(None) if view is None else view
        return make(self.read_levels(images.permute(0, 2, 3, 1)).contiguous(), condition)

    @property
    def _wide(self) -> torch.dtype:
        """Type of raw parameters and log-probabilities."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def _many_logits(self) -> bool:
        """Whether a sub-pixel has so many logits that they are not made for all pixels at once."""
        return self.logit_layer is not None and self.likelihood.params > GREY_LEVELS

    def _by_parts(
        self, of: Callable[[Tensor, Tensor], Tensor], images: Tensor, condition: Tensor | None, view: MakeView | None
    ) -> Tensor:
        """A function of raw parameters (P, C, params) and levels (P, C), for all pixels but some at a time.

        It returns (P, C, ...), and this (N, C, H, W, ...). The last layer's result exists for these pixels only, also
        where gradients are needed.
        """
        (c, h, w), layer = images.shape[1:], self.logit_layer
        assert layer is not None
        seen = self._seen(images, condition, view)

        def of_part(x: Tensor, levels: Tensor) -> Tensor:
            raw = seen(Conv(layer), x[None, None]).to(self._wide)
            return of(raw.view(*levels.shape, self.likelihood.params), levels)

        rows = max(1, _LOGITS // (c * self.likelihood.params))
        inputs, levels = self.penultimate(seen).flatten(0, 2), images.permute(0, 2, 3, 1).flatten(0, 2)
        parts = zip(torch.split(inputs, rows), torch.split(levels, rows), strict=True)
        # logits are computed once more in the backward pass instead of being kept, which torch.func does not know
        if torch.is_grad_enabled() and not transforming():
            found = [checkpoint(of_part, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        else:
            found = [of_part(*part) for part in parts]
        whole = torch.cat(found)
        return whole.view(-1, h, w, *whole.shape[1:]).movedim(3, 1)

    # Errors ----------------------------------------------------------------------------------------------------

    def checked_images(self, images: object, *, floating: bool = False) -> Tensor:
        """The images, validated, as levels (N, C, H, W) on their own device: uint8, or int32 above 256.

        Args:
            images: A tensor or an array, integers of any type or booleans (N, C, H, W) holding 0 .. levels-1.
            floating: Whether floating-point levels of the model's dtype are accepted as well, and returned unchanged,
                if the network reads levels as numbers.

        Raises:
            ValueError: If they are anything else.
        """
        shape = self.image_shape
        images = tensor("images", images)
        if images.dim() != 4 or tuple(images.shape[1:]) != shape:
            raise ValueError(
                f"images must have shape (N, {shape[0]}, {shape[1]}, {shape[2]}), got {tuple(images.shape)}"
            )
        if floating and images.dtype == self.dtype and self.level_embedding is None:
            return images
        return levels_of("images", images, self.levels)

    @property
    def conditions(self) -> Conditions:
        """What the model is conditional on."""
        _, height, width = self.image_shape
        return Conditions(*conditions_of(self.config), *map_of(self.config), height, width)

    def condition_of(self, labels: ArrayLike | None, n: int, condition: ArrayLike | None = None) -> Tensor | None:
        """What n images are conditioned on, as the network reads it: (n, D) in the model's dtype; None for nothing.

        See `pixelcnn.conditions` for what it holds.

        Raises:
            ValueError: If the arguments do not fit the model or the number of images.
        """
        labels, condition = self.checked_given(labels, condition, n)
        if labels is None and condition is None:
            return None
        labels, condition = (None if each is None else each.to(self.device) for each in (labels, condition))
        return self.unchecked_condition_of(labels, condition)

    def checked_given(self, labels: object, condition: object, n: int) -> Given:
        """Labels and condition of n images, validated; None stays None. See `Conditions.checked`."""
        return self.conditions.checked(labels, condition, n)

    def unchecked_condition_of(self, labels: Tensor | None, condition: Tensor | None = None) -> Tensor:
        """`condition_of` for validated tensors on the model's device, at least one, without synchronising with it."""
        return self.conditions.rows(labels, condition, self.dtype)


def blank(model: Autoregressive, n: int) -> Tensor:
    """Images of zeros to draw into: levels (n, C, H, W) on the model's device."""
    with alone():
        return torch.zeros(n, *model.image_shape, dtype=level_dtype(model.levels), device=model.device)


def check_weights(weights: Iterable[tuple[str, Tensor]], where: str = "") -> None:
    """Checks weights once, whenever they are read, written or prepared for an engine: NaN would draw images unnoticed.

    Args:
        weights: The tensors by name.
        where: Prefix of the error message.

    Raises:
        ValueError: If a value is NaN or infinite; the message names the tensor.
    """
    # detached: those made in inference mode would have to be saved for gradients
    named = [(name, weight.detach()) for name, weight in weights if readable(weight)]
    finite = [weight.isfinite().all() for _, weight in named]
    if finite and not torch.stack(finite).all():  # all at once: synchronises with the device only once
        name = next(name for (name, _), each in zip(named, finite, strict=True) if not each)
        raise ValueError(f"{where}{name} has values that are not finite")
