"""The methods of every model, given its network: likelihoods, samples and completions.

A model factorises the probability of an image over its sub-pixels in raster order, channels innermost,

    log p(x) = sum_k log p(x_k | x_1, ..., x_{k-1}),

and its network outputs the parameters of every factor. Trained models (`pixelcnn.models`) derive from `DensityModel`,
and so do their reproducible twins in exact arithmetic (`pixelcnn.exact`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from pixelcnn import sampling
from pixelcnn.arguments import ArrayLike, bounds, tensor
from pixelcnn.arithmetic import Arithmetic, Precision
from pixelcnn.arithmetic.precision import check_precision, exact_products
from pixelcnn.completion import Completion, Method, complete
from pixelcnn.config import ModelConfig, conditions_of
from pixelcnn.layers import MaskedConv2d
from pixelcnn.levels import levels_of
from pixelcnn.likelihoods import Likelihood
from pixelcnn.operations import FullView, View
from pixelcnn.sampling.autoregressive import check_weights
from pixelcnn.threads import in_parallel

__all__ = ["DensityModel", "MakeView"]

MakeView = Callable[[Tensor, Tensor | None], FullView]
_CACHE_BYTES = 3.2e6  # of one layer's features that stay in the caches of one or two cores
_DEVICE_BYTES = 2.0**28  # of one layer's features that a GPU computes at a time


class DensityModel(ABC):
    """Base of all models. Images are uint8 (N, C, H, W) holding 0 .. levels-1; log-probabilities are in nats."""

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
    def prepared(self) -> DensityModel:
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

    @property
    def slice_size(self) -> int:
        """The fastest number of images for a CPU at a time: as many as fit one layer's features in its cache.

        Depends only on the architecture, so that sums cut into slices do not depend on the machine.
        """
        return self._images_within(_CACHE_BYTES)

    def _images_within(self, size: float) -> int:
        """The number of images whose features of one layer take `size` bytes in float32; at least 1."""
        _, h, w = self.image_shape
        widest = max(layer.out_channels for layer in self.masked_layers)
        return max(1, int(size / (4 * h * w * widest)))

    # Likelihood ------------------------------------------------------------------------------------------------

    def forward(self, images: ArrayLike, labels: ArrayLike | None = None, precision: Precision | None = None) -> Tensor:
        """Raw distribution parameters of every sub-pixel, each given the ones before it.

        Args:
            images: uint8 levels (N, C, H, W); or floating-point levels of the model's dtype, for gradients with respect
                to them.
            labels: For a conditional model, classes, int64 (N,), or vectors, floating (N, condition_dim); None is its
                unconditional distribution.
            precision: As for `sample`.

        Returns:
            (N, C, H, W, params): the logit of P(x = 1) for 2 levels, `levels` logits for more, or a mixture's
            parameters, see `pixelcnn.likelihoods`.

        Raises:
            ValueError: If the shape, type or range of an argument is wrong, or a weight is not finite.
        """
        images = self.checked_images(images, floating=True).to(self.device)
        check_precision(precision, self.dtype)
        check_weights(self.named_parameters())
        return self.raw_params(images, self.condition_of(labels, len(images)), self.view_of(precision))

    def log_prob(
        self, images: ArrayLike, labels: ArrayLike | None = None, precision: Precision | None = None
    ) -> Tensor:
        """Exact log-likelihood of each image in nats.

        Args:
            images: uint8 levels (N, C, H, W).
            labels: For a conditional model, classes, int64 (N,), or vectors, floating (N, condition_dim); None is its
                unconditional distribution.
            precision: As for `sample`: the likelihood under the model that is sampled in that precision.

        Returns:
            (N,), float32 (float64 for a model in float64). Without gradients, memory does not grow with N beyond the
            result of `log_prob_map`.

        Raises:
            ValueError: If the shape, type or range of an argument is wrong, or a weight is not finite.
        """
        return self.log_prob_map(images, labels, precision).flatten(1).sum(1)

    def log_prob_map(
        self, images: ArrayLike, labels: ArrayLike | None = None, precision: Precision | None = None
    ) -> Tensor:
        """Exact log-likelihood in nats of each sub-pixel given the ones before it: (N, C, H, W).

        Arguments, dtype and errors as for `log_prob`, which is its sum.
        """
        images = self.checked_images(images).to(self.device)
        check_precision(precision, self.dtype)
        check_weights(self.named_parameters())
        condition, view = self.condition_of(labels, len(images)), self.view_of(precision)
        with exact_products(precision, self.device):
            return self._log_prob_map(images, condition, view)

    def _log_prob_map(self, images: Tensor, condition: Tensor | None, view: MakeView) -> Tensor:
        """Computes the map in one piece if gradients are needed, otherwise in parts with bounded memory."""
        if (torch.is_grad_enabled() and not self.exact) or len(images) == 0:
            return self.unchecked_log_prob_map(images, condition, view)
        on_host = self.device.type == "cpu"
        size = self.slice_size if on_host else self._images_within(_DEVICE_BYTES)
        if on_host and len(images) <= size:
            size = -(-len(images) // torch.get_num_threads())  # one part per thread
        parts = torch.split(images, size)
        conditions = [None] * len(parts) if condition is None else torch.split(condition, size)
        both = list(zip(parts, conditions, strict=True))
        if on_host and len(both) > 1:
            return torch.cat(in_parallel(lambda part: self.unchecked_log_prob_map(*part, view), both))
        return torch.cat([self.unchecked_log_prob_map(*part, view) for part in both])

    @torch.no_grad()
    def classify(self, images: ArrayLike, prior: ArrayLike | None = None) -> Tensor:
        """Posterior log-probabilities of the classes by Bayes' rule, for a class-conditional model.

            p(y | x) = p(x | y) p(y) / sum over y' of p(x | y') p(y')

        Args:
            images: uint8 levels (N, C, H, W).
            prior: p(y), positive, (num_classes,), for example counts; uniform by default. Need not sum to 1.

        Returns:
            (N, num_classes) in the model's dtype, in nats, without gradients (`log_prob` has them); `argmax(1)` is the
            most probable class. Memory is bounded for any N.

        Raises:
            ValueError: If the model has no classes, an argument does not fit it, or a weight is not finite.
        """
        classes = self.num_classes
        if classes is None:
            raise ValueError("classify needs a class-conditional model, and this one has no classes")
        prior = torch.ones(classes, device=self.device) if prior is None else tensor("prior", prior)
        if prior.shape != (classes,) or prior.dtype == torch.bool or prior.is_complex():
            raise ValueError(f"prior must hold numbers, ({classes},), got {prior!r}")
        prior = prior if prior.is_floating_point() else prior.double()
        if not (prior > 0).all() or not prior.isfinite().all():
            raise ValueError(f"prior must be positive and finite, got {prior.tolist()}")
        images = self.checked_images(images)
        labels = torch.arange(classes, device=self.device)
        given = [self.log_prob(images, label.expand(len(images))) for label in labels]
        joint = torch.stack(given, 1) + prior.log().to(self.device, self.dtype)
        return torch.log_softmax(joint, 1)

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

    # Sampling --------------------------------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        labels: ArrayLike | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        engine: sampling.Engine = "fast",
        progress: bool = False,
        first: int = 0,
        guidance: float = 1.0,
        precision: Precision | None = None,
        exact: bool = False,
    ) -> Tensor:
        """Draws images. Image i of a seed does not depend on `n` or on the engine.

        Memory beyond the result and a second copy of the weights does not grow with n: images are drawn in batches
        whose caches take at most 64 MB per thread (native) or 512 MB (eager), or what a single image needs if that is
        more.

        Args:
            n: Number of images, at least 1.
            labels: For a conditional model, classes, int64 (n,), or vectors, floating (n, condition_dim); None is its
                unconditional distribution.
            seed: 0..2**63-1.
            temperature: Positive; the logits are divided by it, and 1 samples the model's own distribution.
            engine: "fast" computes each pixel's features once, all pixels of a wavefront together: it is "native",
                compiled code, on a CPU with a C compiler, "graph" on a CUDA device, and "eager", plain PyTorch,
                elsewhere. "reference" runs one full forward pass per sub-pixel. All draw the same images.
            progress: Show a progress bar on standard error.
            first: Index of the first image: the result holds images `first .. first + n - 1` of the seed.
            guidance: Classifier-free guidance, in -1e6..1e6: the logits are u + guidance * (c - u), where u are the
                unconditional and c the conditional logits; 1 is the conditional distribution, above 1 exaggerates what
                is typical of the class.
            precision: None computes in the model's own dtype. "bf16", for models in float32, rounds the operands of
                every product to bfloat16 (`pixelcnn.arithmetic.precision`): faster on a GPU, but with different images
                from a slightly different distribution, whose likelihood is `log_prob` at the same precision; engines
                then agree on most images only. "float32" is what None means for such a model.
            exact: Draw from `pixelcnn.exact.prepare(model)`, the model rounded to a fixed grid (docs/results.md shows
                how little that changes): the same images, bit for bit, on any machine, device and engine. About half as
                fast; engines "native", "eager" and "reference" only; without temperature or guidance.

        Returns:
            uint8 levels (n, C, H, W) on the model's device.

        Raises:
            ValueError: If an argument is out of range, or a weight is not finite.
        """
        draw = sampling.Draw(
            seed=seed, first=first, temperature=temperature, labels=labels, guidance=guidance, precision=precision
        )
        model = self.prepared() if exact else self
        return sampling.sample(model, n, draw, engine=engine, progress=progress)

    def sample_stream(
        self,
        n: int,
        labels: ArrayLike | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        engine: sampling.Engine = "fast",
        progress: bool = False,
        first: int = 0,
        guidance: float = 1.0,
        precision: Precision | None = None,
        chunk: int = 1024,
        exact: bool = False,
    ) -> Iterator[Tensor]:
        """Draws any number of images, a chunk at a time, in memory that does not depend on their number.

        Arguments and errors as for `sample`. `chunk` is the number of images per chunk, at least 1; the last chunk can
        have fewer. The images do not depend on it. `pixelcnn.shards` stores such a stream in a folder.

        Yields:
            uint8 levels (count, C, H, W) in order, on the CPU, which together are the images of `sample`.

        Examples:
            >>> import pixelcnn
            >>> model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1)
            >>> [len(images) for images in model.sample_stream(25, chunk=10)]
            [10, 10, 5]
        """
        draw = sampling.Draw(
            seed=seed, first=first, temperature=temperature, labels=labels, guidance=guidance, precision=precision
        )
        model = self.prepared() if exact else self
        return sampling.sample_stream(model, n, draw, engine=engine, progress=progress, chunk=chunk)

    def sample_steps(
        self,
        n: int,
        labels: ArrayLike | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        first: int = 0,
        guidance: float = 1.0,
        precision: Precision | None = None,
        exact: bool = False,
    ) -> Iterator[Tensor]:
        """Draws images with the fast engine and yields the canvas after every step.

        Arguments and errors as for `sample`.

        Yields:
            uint8 (n, C, H, W), the same tensor each time, in which pixels not yet drawn are 0. Clone it to keep a step.
        """
        draw = sampling.Draw(
            seed=seed, first=first, temperature=temperature, labels=labels, guidance=guidance, precision=precision
        )
        model = self.prepared() if exact else self
        return sampling.sample_steps(model, n, draw)

    # Completion ------------------------------------------------------------------------------------------------

    def complete(
        self,
        images: ArrayLike,
        known: ArrayLike,
        n: int = 1,
        particles: int = 256,
        labels: ArrayLike | None = None,
        seed: int = 0,
        *,
        method: Method = "auto",
        moves: int = 0,
        engine: str = "fast",
        progress: bool = False,
        seconds: float = math.inf,
    ) -> Completion:
        """Draws from the exact conditional distribution of unknown sub-pixels given any known ones.

        See `pixelcnn.completion.complete`.

        Examples:
            >>> import pixelcnn
            >>> model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1)
            >>> known = torch.ones(4, 4, dtype=torch.bool)
            >>> known[1:3] = False  # the middle rows are wanted
            >>> completion = model.complete(model.sample(2), known, n=5, particles=100)
            >>> completion.images.shape, completion.log_evidence.shape
            (torch.Size([2, 5, 1, 4, 4]), torch.Size([2]))
        """
        return complete(
            self, images, known, n, particles, labels, seed, method=method, moves=moves, engine=engine,
            progress=progress, seconds=seconds,
        )  # fmt: skip

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
            if not usable.all():
                raise ValueError(
                    "labels must be finite, or NaN in all of a vector for none, got "
                    f"{labels[~usable][0].tolist()} for image {int((~usable).nonzero()[0])}"
                )
            return labels
        if labels.shape != (n,) or not whole:
            raise ValueError(f"labels must be torch.int64 of shape ({n},), got {labels.dtype} {tuple(labels.shape)}")
        low, top = bounds(labels) if n else (0, 0)
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
