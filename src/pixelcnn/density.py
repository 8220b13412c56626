"""The methods of every model, given its network: likelihoods, samples and completions.

A model factorises the probability of an image over its sub-pixels in raster order, channels innermost,

    log p(x) = sum_k log p(x_k | x_1, ..., x_{k-1}),

and its network outputs the parameters of every factor. Trained models (`pixelcnn.models`) derive from `DensityModel`,
and so do their reproducible twins in exact arithmetic (`pixelcnn.exact`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from os import PathLike
from typing import Any, Literal, TypeVar, cast, overload

import torch
from torch import Tensor

from pixelcnn import sampling
from pixelcnn.arguments import ArrayLike, shown, tensor
from pixelcnn.arithmetic import Precision
from pixelcnn.arithmetic.precision import check_precision, exact_products
from pixelcnn.bounded import Bounded
from pixelcnn.completion import Completion, CompletionOptions, Method, complete
from pixelcnn.randomness import seed_of
from pixelcnn.sampling.autoregressive import check_weights
from pixelcnn.windows import complete_in_windows

__all__ = ["DensityModel", "checked_model"]

ModelT = TypeVar("ModelT", bound="DensityModel")


class DensityModel(Bounded):
    """Base of all models. Images are uint8 (N, C, H, W), int32 for more than 256 levels, holding 0 .. levels-1;
    log-probabilities are in nats.
    """

    # Likelihood ------------------------------------------------------------------------------------------------

    def forward(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        precision: Precision | None = None,
        *,
        condition: ArrayLike | None = None,
    ) -> Tensor:
        """Raw distribution parameters of every sub-pixel, each given the ones before it.

        Args:
            images: uint8 levels (N, C, H, W); or, without an embedding, floating-point levels of the model's dtype, for
                gradients with respect to them.
            labels: For a class-conditional model, classes, int64 (N,); None, or -1 for one image, leaves them open. For
                a model without classes that is conditional on a vector, they may be the vectors of `condition`.
            precision: As for `sample`.
            condition: For a model that is conditional on one, a vector, floating (N, condition_dim), or a map, (N,
                condition_channels and one more with condition_levels, h, w), see `pixelcnn.conditions`; None, or NaN
                throughout for one image, leaves it open.

        Returns:
            (N, C, H, W, params), float32 (float64 for a model in float64): the logit of P(x = 1) for 2 levels, `levels`
            logits for more, or a mixture's parameters, see `pixelcnn.likelihoods`.

        Raises:
            ValueError: If the shape, type or range of an argument is wrong, or a weight is not finite.
        """
        images = self.checked_images(images, floating=True).to(self.device)
        check_precision(precision, self.dtype)
        check_weights(self.named_parameters())
        n = images.shape[0]  # of which, unlike `len`, torch.export makes no constant
        return self.raw_params(images, self.condition_of(labels, n, condition), self.view_of(precision))

    def log_prob(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        precision: Precision | None = None,
        *,
        condition: ArrayLike | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Exact log-likelihood of each image in nats.

        Args:
            images: uint8 levels (N, C, H, W).
            labels: For a class-conditional model, classes, int64 (N,); None, or -1 for one image, leaves them open.
            precision: As for `sample`: the likelihood under the model that is sampled in that precision.
            condition: As for `forward`.
            progress: Show a progress bar on standard error for each image that is computed in stripes.

        Returns:
            (N,), float32 (float64 for a model in float64). Without gradients, memory does not grow with N beyond the
            result of `log_prob_map`, nor with the images' height, see `pixelcnn.bounded`.

        Warns:
            UserWarning: If gradients are needed, for which more than 2 GiB would be kept.

        Raises:
            ValueError: If the shape, type or range of an argument is wrong, or a weight is not finite.
        """
        return self.log_prob_map(images, labels, precision, condition=condition, progress=progress).flatten(1).sum(1)

    def log_prob_map(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        precision: Precision | None = None,
        *,
        condition: ArrayLike | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Exact log-likelihood in nats of each sub-pixel given the ones before it: (N, C, H, W).

        Arguments, dtype and errors as for `log_prob`, which is its sum.
        """
        images = self.checked_images(images).to(self.device)
        check_precision(precision, self.dtype)
        check_weights(self.named_parameters())
        given, view = self.condition_of(labels, images.shape[0], condition), self.view_of(precision)
        with exact_products(precision, self.device):
            return self._log_prob_map(images, given, view, progress=progress)

    @torch.no_grad()
    def classify(
        self, images: ArrayLike, prior: ArrayLike | None = None, *, condition: ArrayLike | None = None
    ) -> Tensor:
        """Posterior log-probabilities of the classes by Bayes' rule, for a class-conditional model.

            p(y | x) = p(x | y) p(y) / sum over y' of p(x | y') p(y')

        Args:
            images: uint8 levels (N, C, H, W).
            prior: p(y), positive, (num_classes,), for example counts; uniform by default. Need not sum to 1.
            condition: As for `forward`; all probabilities are then given it.

        Returns:
            (N, num_classes) in the dtype of `log_prob`, in nats, without gradients (`log_prob` has them); `argmax(1)`
            is the most probable class. Memory is bounded for any N.

        Raises:
            ValueError: If the model has no classes, an argument does not fit it, or a weight is not finite.
        """
        classes = self.num_classes
        if classes is None:
            raise ValueError("classify needs a class-conditional model, and this one has no classes")
        prior = torch.ones(classes, device=self.device) if prior is None else tensor("prior", prior)
        if prior.shape != (classes,) or prior.dtype == torch.bool or prior.is_complex():
            raise ValueError(f"prior must hold numbers, ({classes},), got {shown(prior)}")
        wide = torch.promote_types(prior.dtype, torch.float32) if prior.is_floating_point() else torch.float64
        prior = prior.to(wide)
        if not (prior > 0).all() or not prior.isfinite().all():
            raise ValueError(f"prior must be positive and finite, got {prior.tolist()}")
        images = self.checked_images(images)
        labels = torch.arange(classes, device=self.device)
        given = [self.log_prob(images, label.expand(len(images)), condition=condition) for label in labels]
        joint = torch.stack(given, 1)
        return torch.log_softmax(joint + prior.log().to(joint), 1)

    # Sampling --------------------------------------------------------------------------------------------------

    @overload
    def sample(
        self,
        n: int,
        labels: ArrayLike | None = ...,
        seed: int | None = ...,
        temperature: float = ...,
        engine: sampling.Engine = ...,
        progress: bool = ...,
        first: int = ...,
        guidance: float = ...,
        precision: Precision | None = ...,
        exact: bool = ...,
        *,
        with_log_prob: Literal[False] = ...,
        condition: ArrayLike | None = ...,
        generator: torch.Generator | None = ...,
    ) -> Tensor: ...

    @overload
    def sample(
        self,
        n: int,
        labels: ArrayLike | None = ...,
        seed: int | None = ...,
        temperature: float = ...,
        engine: sampling.Engine = ...,
        progress: bool = ...,
        first: int = ...,
        guidance: float = ...,
        precision: Precision | None = ...,
        exact: bool = ...,
        *,
        with_log_prob: Literal[True],
        condition: ArrayLike | None = ...,
        generator: torch.Generator | None = ...,
    ) -> tuple[Tensor, Tensor]: ...

    def sample(
        self,
        n: int,
        labels: ArrayLike | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        engine: sampling.Engine = "fast",
        progress: bool = False,
        first: int = 0,
        guidance: float = 1.0,
        precision: Precision | None = None,
        exact: bool = False,
        *,
        with_log_prob: bool = False,
        condition: ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Draws images. Image i of a seed does not depend on `n` or on the engine.

        `pixelcnn.sampling` says how far rounding allows that. Memory beyond the result and a second copy of the weights
        does not grow with n: images are drawn in batches whose caches take at most 64 MB per thread (native) or 512 MB
        (eager), or what a single image needs if that is more.

        Args:
            n: Number of images; for 0 the result is empty.
            labels: As for `forward`, (n,).
            seed: 0..2**63-1: which images, the same ones whenever the seed is the same. None draws a seed from
                `generator`, so that each call draws other images.
            temperature: Positive and finite; the logits are divided by it, and 1 samples the model's own distribution.
            engine: "fast" computes each pixel's features once, all pixels of a wavefront together: it is "native",
                compiled code, on a CPU with a C compiler, "graph" on a CUDA device, and "eager", plain PyTorch,
                elsewhere. "reference" runs one full forward pass per sub-pixel, and is what "fast" stands for where the
                network does more than ask its view for operations. All draw the same images.
            progress: Show a progress bar on standard error.
            first: Index of the first image, 0..2**62: the result holds images `first .. first + n - 1` of the seed.
            guidance: Classifier-free guidance, in -1e6..1e6: the logits are u + guidance * (c - u), where u are the
                unconditional and c the conditional logits; 1 is the conditional distribution, above 1 exaggerates what
                is typical of the class. Other values than 1 need labels or a condition, and a likelihood with logits.
            precision: None computes in the model's own dtype. "bf16", for models in float32, rounds the operands of
                every product to bfloat16 (`pixelcnn.arithmetic.precision`): faster on a GPU, but with different images
                from a slightly different distribution, whose likelihood is `log_prob` at the same precision; engines
                then agree on most images only. "float32" is what None means for such a model.
            exact: Draw from `pixelcnn.exact.prepare(model)`, the model rounded to a fixed grid (docs/results.md shows
                how little that changes): the same images, bit for bit, on any machine, device and engine. About half as
                fast; engines "native", "eager" and "reference" only; without temperature, guidance or precision.
            with_log_prob: Return the images' log-likelihoods too, without gradients; for temperature and guidance 1.
                The native engine knows them from drawing, for nearly nothing; the others compute them afterwards. They
                are those of `log_prob` up to the order of sums, and with `exact` the same to the bit.
            condition: As for `forward`, for n images.
            generator: Source of the seed, which must then be None; by default torch's, which `torch.manual_seed` sets.

        Returns:
            uint8 levels, int32 for more than 256, (n, C, H, W) on the model's device; with `with_log_prob` a pair of
            them and their log-likelihoods in nats, (n,), as `log_prob` returns them.

        Warns:
            UserWarning: If "fast" stands for "reference", or on a CPU for "eager"; says why.

        Raises:
            ValueError: If an argument is out of range or does not fit the model or the others, the engine cannot draw
                from the model on this machine, or a weight is not finite.
        """
        seed = seed_of(seed, generator)
        draw = sampling.Draw(n, labels, seed, temperature, first, guidance, precision, exact, condition=condition)
        if not with_log_prob:
            return sampling.sample(self, draw, engine=engine, progress=progress)
        draw = draw.plain()
        if (draw.temperature, draw.guidance) != (1, 1):
            raise ValueError(
                "with_log_prob needs the model's own distribution: temperature and guidance must be 1, got "
                f"{draw.temperature!r} and {draw.guidance!r}"
            )
        found = torch.zeros(draw.n, dtype=torch.float64, device=self.device)
        images = sampling.sample(self, draw, engine=engine, progress=progress, log_prob=found)
        model = cast(DensityModel, self.prepared()) if draw.exact else self
        if draw.n > 0 and found.count_nonzero() == draw.n:
            return images, found.to(torch.promote_types(self.dtype, torch.float32))
        with torch.no_grad():
            return images, model.log_prob(images, labels, draw.precision, condition=condition)

    def sample_stream(
        self,
        n: int,
        labels: ArrayLike | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        engine: sampling.Engine = "fast",
        progress: bool = False,
        first: int = 0,
        guidance: float = 1.0,
        precision: Precision | None = None,
        chunk: int = 1024,
        exact: bool = False,
        *,
        condition: ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Draws any number of images, a chunk at a time, in memory that does not depend on their number.

        Arguments and errors as for `sample`. `chunk` is the number of images per chunk, at least 1; the last chunk can
        have fewer. The images do not depend on it. `pixelcnn.shards` stores such a stream in a folder.

        Yields:
            Levels (count, C, H, W) in order, on the CPU, which together are the images of `sample`.

        Examples:
            >>> import pixelcnn
            >>> model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1)
            >>> [len(images) for images in model.sample_stream(25, chunk=10)]
            [10, 10, 5]
        """
        seed = seed_of(seed, generator)
        draw = sampling.Draw(n, labels, seed, temperature, first, guidance, precision, exact, condition=condition)
        return sampling.sample_stream(self, draw, engine=engine, progress=progress, chunk=chunk)

    def sample_steps(
        self,
        n: int,
        labels: ArrayLike | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        first: int = 0,
        guidance: float = 1.0,
        precision: Precision | None = None,
        exact: bool = False,
        *,
        condition: ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Draws images, all in one batch, and yields the canvas after every step of the fast engine.

        Arguments and errors as for `sample`. On a CUDA device the engine is "eager".

        Yields:
            Levels (n, C, H, W) on the model's device, the same tensor each time, in which pixels not yet drawn are 0.
            Clone it to keep a step. Nothing if n is 0.
        """
        seed = seed_of(seed, generator)
        draw = sampling.Draw(n, labels, seed, temperature, first, guidance, precision, exact, condition=condition)
        return sampling.sample_steps(self, draw)

    # Completion ------------------------------------------------------------------------------------------------

    def complete(
        self,
        images: ArrayLike,
        known: ArrayLike,
        n: int = 1,
        particles: int = 256,
        labels: ArrayLike | None = None,
        seed: int | None = None,
        *,
        method: Method = "auto",
        moves: int = 0,
        engine: str = "fast",
        progress: bool = False,
        seconds: float = math.inf,
        condition: ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Completion:
        """Draws from the exact conditional distribution of unknown sub-pixels given any known ones.

        `pixelcnn.completion` explains how.

        Args:
            images: uint8 levels (N, C, H, W), N at least 1; those of unknown sub-pixels do not matter.
            known: bool, (N, C, H, W) or broadcastable to it: True for the sub-pixels that are given.
            n: Number of draws per image, at least 1.
            particles: Number of particles per image, at least n. Not used where the known sub-pixels all come first in
                raster order: then the draws are exact.
            labels: As for `log_prob`.
            seed: Selects the draws, as for `sample`. Draw k of image i depends only on (seed, i, k, n, particles,
                method, moves) and on that image, its mask, label and condition. The uniform numbers are those of
                `sample`: to complete images that it drew, use another seed, or the first draw may be the image itself.
            generator: As for `sample`.
            method: `auto` is exact where that is possible and uses particles otherwise; `particles` always uses
                particles; `raster` ignores the known sub-pixels that come later, as plain ancestral sampling does, and
                puts them back at the end: a baseline, not the conditional distribution.
            moves: Number of Metropolis-Hastings moves of each draw at the end, at least 0. Each costs about twice the
                time of a sample.
            engine: `fast`, `native`, `eager` or `reference`, as for `sample`.
            progress: Show a progress bar on standard error.
            seconds: Time limit in seconds, for all images together; after it there is no result but an error.
            condition: As for `log_prob`.

        Returns:
            The draws, on the model's device, and how far to trust them.

        Warns:
            UserWarning: If the effective sample size of an image falls below 4: more particles, or moves, are needed.

        Raises:
            ValueError: If an argument is out of range or has the wrong shape, there is no image or one without an
                unknown sub-pixel, its known ones have probability zero, it takes longer than `seconds`, the engine
                cannot complete images of the model on this machine, or a weight is not finite.

        Examples:
            >>> import pixelcnn
            >>> model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1)
            >>> known = torch.ones(4, 4, dtype=torch.bool)
            >>> known[1:3] = False  # the middle rows are wanted
            >>> completion = model.complete(model.sample(2), known, n=5, particles=100)
            >>> completion.images.shape, completion.log_evidence.shape
            (torch.Size([2, 5, 1, 4, 4]), torch.Size([2]))
        """
        options = CompletionOptions(
            n=n, particles=particles, seed=seed_of(seed, generator), method=method, moves=moves, engine=engine,
            progress=progress, seconds=seconds,
        )  # fmt: skip
        return self.complete_with(options, images, known, labels, condition)

    def complete_with(
        self,
        options: CompletionOptions,
        images: ArrayLike,
        known: ArrayLike,
        labels: ArrayLike | None,
        condition: ArrayLike | None = None,
    ) -> Completion:
        """`complete`, with its other arguments as options."""
        in_windows = complete_in_windows(self, images, known, labels, options, condition)
        return in_windows or complete(self, images, known, labels, options, condition)


def checked_model(model: ModelT, name: str = "model") -> ModelT:
    """The model that an argument is, or that `torch.compile` has wrapped: its class and weights have other names there.

    Raises:
        ValueError: If it is something else.
    """
    found: Any = getattr(model, "_orig_mod", model)
    if isinstance(found, DensityModel):
        return cast(ModelT, found)
    advice = "; pixelcnn.load reads one" if isinstance(model, str | PathLike) else ""
    raise ValueError(f"{name} must be a pixelcnn.AutoregressiveModel, got {type(model).__name__}{advice}")
