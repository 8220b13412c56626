"""What every model of the package can do, given the one thing that differs: its network.

A model factorises the probability of an image over its sub-pixels in raster order, channels innermost,

    log p(x) = sum_k log p(x_k | x_1, ..., x_{k-1}),

and its network gives the parameters of every factor. A subclass defines `network`; likelihood, sampling and storage
follow from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from pixelcnn import sampling
from pixelcnn.layers import FullView, MaskedConv2d, View
from pixelcnn.likelihoods import likelihood_of

if TYPE_CHECKING:
    from pixelcnn.config import PixelCNNConfig

__all__ = ["AutoregressiveModel"]

_CACHE_BYTES = 3.2e6  # features of one layer that stay in the caches of a core or two


class AutoregressiveModel(nn.Module, ABC):
    """Base of all models. Images are uint8 (N, C, H, W) holding 0 .. levels-1; probabilities are natural logarithms."""

    Config: ClassVar[type[Any]]

    def __init__(self, config: PixelCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.likelihood = likelihood_of(config.levels)

    @classmethod
    def from_config(cls, config: Any, *, generator: torch.Generator | None = None) -> Self:
        """Builds the model that a configuration describes, with fresh weights from `generator`."""
        fields = {name: getattr(config, name) for name in cls.Config.__dataclass_fields__}
        build: Callable[..., Self] = cls  # a subclass's constructor takes its configuration's fields
        return build(**fields, generator=generator)

    @abstractmethod
    def network(self, view: View) -> Tensor:
        """The raw parameters of the view's pixels, (..., channels * params), of one colour group in a front view."""

    # What a model is -------------------------------------------------------------------------------------------

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.config.image_shape

    @property
    def levels(self) -> int:
        """Values a sub-pixel can take."""
        return self.config.levels

    @property
    def subpixels(self) -> int:
        """Sub-pixels of an image, C * H * W: the dimensions of "bits/dim"."""
        c, h, w = self.image_shape
        return c * h * w

    @property
    def masked_layers(self) -> list[MaskedConv2d]:
        """Every masked convolution, in the order of registration."""
        return [m for m in self.modules() if isinstance(m, MaskedConv2d)]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def slice_size(self) -> int:
        """Images that a CPU computes fastest at a time: as many as keep one layer's features in its cache.

        A function of the architecture alone, so that sums cut into slices do not depend on the machine.
        """
        _, h, w = self.image_shape
        widest = max(layer.out_channels for layer in self.masked_layers)
        return max(1, int(_CACHE_BYTES / (4 * h * w * widest)))

    # Likelihood ------------------------------------------------------------------------------------------------

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Raw distribution parameters of every sub-pixel, each given the ones before it.

        Args:
            images: uint8 levels (N, C, H, W); or floating-point levels of the model's dtype, to differentiate by.
            labels: None; the models of this version are unconditional.

        Returns:
            (N, C, H, W, params): one logit of P(x = 1) for 2 levels, `levels` logits for more.

        Raises:
            ValueError: If the shape, type or range of an argument is wrong.
        """
        self._check_labels(labels)
        self.check_images(images, floating=True)
        return self._raw_params(images)

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Exact log-likelihood of each image in nats.

        Args:
            images: uint8 levels (N, C, H, W).
            labels: None; the models of this version are unconditional.

        Returns:
            (N,), float32 (float64 for a model in float64). Without gradients, memory does not grow with N beyond
            the result of `log_prob_map`.

        Raises:
            ValueError: If the shape, type or range of an argument is wrong.
        """
        return self.log_prob_map(images, labels).flatten(1).sum(1)

    def log_prob_map(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Exact log-likelihood in nats of each sub-pixel given the ones before it: (N, C, H, W).

        Arguments, dtype and errors as for `log_prob`, which is its sum.
        """
        self._check_labels(labels)
        self.check_images(images)
        if torch.is_grad_enabled() or len(images) == 0:
            return self.unchecked_log_prob_map(images)
        return torch.cat([self.unchecked_log_prob_map(part) for part in torch.split(images, self.slice_size)])

    def unchecked_log_prob_map(self, images: Tensor, view: Callable[[Tensor], FullView] = FullView) -> Tensor:
        """`log_prob_map` in one piece and without looking at the values first: for loops that know their data.

        Args:
            images: uint8 levels (N, C, H, W).
            view: Makes the view of the scaled images (N, H, W, C) that the network runs over.
        """
        return self.likelihood.log_prob(self._raw_params(images, view), images)

    def _raw_params(self, images: Tensor, view: Callable[[Tensor], FullView] = FullView) -> Tensor:
        c, h, w = self.image_shape
        image_nhwc = images.permute(0, 2, 3, 1).to(self.dtype) / (self.levels - 1)
        params = self.network(view(image_nhwc.contiguous()))
        return params.view(-1, h, w, c, self.likelihood.params).permute(0, 3, 1, 2, 4)

    # Sampling --------------------------------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        labels: Tensor | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        engine: sampling.Engine = "fast",
        progress: bool = False,
    ) -> Tensor:
        """Draws images. Image i of a seed does not depend on `n` or on the engine.

        Memory beyond the result and a second copy of the weights does not grow with n: images are drawn in batches
        whose caches take at most 64 MB a thread (native) or 512 MB (eager), or what a single image needs if that is
        more.

        Args:
            n: Number of images, at least 1.
            labels: None; the models of this version are unconditional.
            seed: 0..2**63-1.
            temperature: The logits are divided by it; 1 samples the model's own distribution.
            engine: "fast" computes each pixel's features once, all pixels of a wavefront together: it is "native",
                compiled code for the CPU, where there is a C compiler, and "eager", plain PyTorch, elsewhere.
                "reference" runs one full forward for every sub-pixel. All draw the same images.
            progress: Show a progress bar on standard error.

        Returns:
            uint8 levels (n, C, H, W) on the model's device.

        Raises:
            ValueError: If an argument is out of range.
        """
        self._check_labels(labels)
        return sampling.sample(self, n, seed=seed, temperature=temperature, engine=engine, progress=progress)

    def sample_steps(
        self, n: int, labels: Tensor | None = None, seed: int = 0, temperature: float = 1.0
    ) -> Iterator[Tensor]:
        """Draws images with the fast engine and yields the canvas after every step.

        Arguments and errors as for `sample`.

        Yields:
            uint8 (n, C, H, W), the same tensor each time: pixels not drawn yet are 0. Clone it to keep a step.
        """
        self._check_labels(labels)
        return sampling.sample_steps(self, n, seed=seed, temperature=temperature)

    # Storage ---------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Writes the model as a folder that `pixelcnn.load` reads: config.json, model.safetensors, README.md.

        The folder appears in one rename, after an earlier model there has been renamed aside.

        Args:
            folder: Where; its parents are made.
            card: Text of README.md; a short description of the model by default.

        Raises:
            OSError: If the folder cannot be written.
            ValueError: If the folder exists and holds something else than a model.
        """
        from pixelcnn.models.storage import save_model  # storage rebuilds models, so it imports this module

        save_model(self, Path(folder), card)

    # Errors ----------------------------------------------------------------------------------------------------

    def check_images(self, images: Tensor, *, floating: bool = False) -> None:
        """Looks at images before they are used.

        Args:
            images: Should be uint8 (N, C, H, W) holding 0 .. levels-1.
            floating: Whether floating-point levels of the model's dtype will do as well.

        Raises:
            ValueError: If they are not.
        """
        shape = self.image_shape
        if not isinstance(images, Tensor):
            raise ValueError(f"images must be a torch.Tensor, got {type(images).__name__}")
        if images.dim() != 4 or tuple(images.shape[1:]) != shape:
            raise ValueError(
                f"images must have shape (N, {shape[0]}, {shape[1]}, {shape[2]}), got {tuple(images.shape)}"
            )
        if images.dtype != torch.uint8 and not (floating and images.dtype == self.dtype):
            raise ValueError(f"images must be of dtype torch.uint8, got {images.dtype}")
        if images.numel() and (top := images.amax().item()) >= self.levels and images.dtype == torch.uint8:
            raise ValueError(f"images must hold levels 0..{self.levels - 1}, got {top}")

    def _check_labels(self, labels: Tensor | None) -> None:
        if labels is not None:
            raise ValueError("labels must be None: the model is unconditional and has no classes")
