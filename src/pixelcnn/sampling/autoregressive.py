"""What the samplers need to know about a model and its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from pixelcnn.arguments import ArrayLike
from pixelcnn.arithmetic import Arithmetic, Precision
from pixelcnn.layers import MaskedConv2d
from pixelcnn.levels import level_dtype
from pixelcnn.likelihoods import Likelihood
from pixelcnn.operations import FullView, View

__all__ = ["Autoregressive", "blank", "check_weights"]


class Autoregressive(Protocol):
    """A network over a view, and how to interpret its outputs; every model in the package is one."""

    @property
    def likelihood(self) -> Likelihood:
        """What the network's outputs mean."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the model computes in exact arithmetic, see `pixelcnn.exact`."""
        ...

    def arithmetic_of(self, precision: Precision | None) -> Arithmetic:
        """The arithmetic in which the network is computed at a given precision."""
        ...

    def view_of(self, precision: Precision | None) -> Callable[[Tensor, Tensor | None], FullView]:
        """The function that makes a view of whole images from scaled images (N, H, W, C) and their conditions."""
        ...

    @property
    def grouped(self) -> bool:
        """Whether the network's output has a separate part for each channel."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        ...

    @property
    def levels(self) -> int:
        """Number of values that a sub-pixel can take."""
        ...

    @property
    def masked_layers(self) -> list[MaskedConv2d]:
        """Every masked convolution of the network."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All weights, by name."""
        ...

    def network(self, view: View) -> Tensor:
        """The raw parameters of the view's pixels."""
        ...

    def subpixel_params(self, raw: Tensor, levels: Tensor, channel: int) -> Tensor:
        """The raw parameters of one channel given the earlier ones."""
        ...

    def checked_images(self, images: object) -> Tensor:
        """The images, validated and converted to the type they are used in."""
        ...

    def unchecked_log_prob_map(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """The log-likelihood of each sub-pixel, (N, C, H, W)."""
        ...

    def checked_labels(self, labels: object, n: int) -> Tensor:
        """The labels of n images, validated and converted to the type they are used in."""
        ...

    def condition_of(self, labels: ArrayLike | None, n: int) -> Tensor | None:
        """What n images are conditioned on, (n, D)."""
        ...

    def raw_params(
        self,
        images: Tensor,
        condition: Tensor | None = None,
        view: Callable[[Tensor, Tensor | None], FullView] | None = None,
    ) -> Tensor:
        """The raw parameters of whole images, (N, C, H, W, params), computed over the view that `view` makes of them,
        by default `view_of(None)`.
        """
        ...


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
    named = list(weights)
    finite = [weight.isfinite().all() for _, weight in named]
    if finite and not torch.stack(finite).all():  # all at once: synchronises with the device only once
        name = next(name for (name, _), each in zip(named, finite, strict=True) if not each)
        raise ValueError(f"{where}{name} has values that are not finite")
