"""Completion: draws from the exact conditional distribution of some pixels given any others.

Let x be an image with known sub-pixels K and unknown ones U. Where all of K come first in raster order, ancestral
sampling of U is a draw from p(x_U | x_K). For any other K it ignores what comes later. Here N particles walk along the
image together (sequential Monte Carlo): at each step the unknown sub-pixels are drawn from their conditionals, and the
known ones weigh a particle by theirs,

    w <- w * p(x_k | x_<k),        k in K.

When the effective sample size (sum w)^2 / sum w^2 falls under N / 2, particles are resampled systematically in
proportion to w, and the weights start again from 1. The product of the means of w is an unbiased estimate of p(x_K);
the particles' distribution tends to p(x_U | x_K) as N grows, with an error of order 1 / N.

Moves (Metropolis-Hastings) may follow: a random rectangle of unknown sub-pixels B is drawn anew from its conditionals,
and the new image x' takes the place of x with probability min(1, a),

    a = prod over k not in B of p(x'_k | x'_<k) / p(x_k | x_<k),

which leaves p(x_U | x_K) as it is, so that fewer particles suffice.

References:
    | Sequential Monte Carlo Methods in Practice (Doucet, de Freitas & Gordon, 2001), Springer.
    | Comparison of Resampling Schemes for Particle Filtering (Douc, Cappe & Moulines, 2005),
      https://arxiv.org/abs/cs/0507025
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import queue
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from pixelcnn.arguments import ArrayLike, bounds, integer, number, tensor
from pixelcnn.arithmetic.precision import exact_products
from pixelcnn.images import encoded, show
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import check_seed, decision_uniforms, permutation
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.particles import NativeParticles, Particles, particles_of

__all__ = ["FEW", "Completion", "CompletionOptions", "Method", "checked_mask", "comes_first", "complete"]

Method = Literal["auto", "particles", "raster"]

FEW = 4.0
"""Effective sample size below which a warning is given."""
_SHOWN = 8  # in a notebook: images, and draws of each
_MOVES = 2**48  # index of the first image whose uniforms serve moves


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)  # tensors have no truth value
class Completion:
    """Completed images, and how far to trust them."""

    images: Tensor
    """Levels (N, n, C, H, W), in the type of `AutoregressiveModel.sample`: n equally weighted draws for each image."""
    ess: Tensor
    """float64 (N,): the smallest effective sample size at any step; n where the draws are exact."""
    log_evidence: Tensor
    """float64 (N,): log p(known sub-pixels) in nats; an estimate, unbiased in p, where the draws are not exact; NaN for
    the method `raster`, which has none."""
    accepted: float
    """Fraction of the moves that were accepted, over all draws of all images; NaN without moves."""

    def __repr__(self) -> str:
        count, n = self.images.shape[:2]
        images, draws = f"{count} image{'s' * (count != 1)}", f"{n} draw{'s' * (n != 1)}"
        return f"Completion of {images}, {draws} of each, effective sample size at least {self.ess.min():.1f}"

    def _repr_png_(self) -> bytes:
        return encoded(show(self.images[:_SHOWN, :_SHOWN]))


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """How images are completed; all but the last two fields are arguments of `AutoregressiveModel.complete`."""

    n: int
    particles: int
    seed: int
    method: Method
    moves: int
    engine: str
    progress: bool
    seconds: float
    indices: Sequence[int] | None = None
    """Each image's index in the call, which selects its random numbers; by default 0, 1, ..."""
    begun: float = field(default_factory=time.monotonic)
    """When the call began, by `time.monotonic`; `seconds` is its limit for all images together."""

    def checked(self) -> CompletionOptions:
        """These options with their numbers as Python's, each within its range.

        Raises:
            ValueError: If one is out of range.
        """
        n = integer("n", self.n, 1, 2**24)
        particles = integer("particles", self.particles, n, 2**24)
        moves = integer("moves", self.moves, 0, 2**24)
        seconds = number("seconds", self.seconds)
        if not seconds >= 0:
            raise ValueError(f"seconds must be at least 0, got {seconds!r}")
        if self.method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {self.method!r}")
        seed = check_seed(self.seed)
        return dataclasses.replace(self, n=n, particles=particles, seed=seed, moves=moves, seconds=seconds)


def complete(
    model: Autoregressive,
    images: ArrayLike,
    known: ArrayLike,
    labels: ArrayLike | None,
    options: CompletionOptions,
    condition: ArrayLike | None = None,
) -> Completion:
    """Draws from the distribution of the unknown sub-pixels given the known ones; see `AutoregressiveModel.complete`.

    Args:
        model: Any model of the package except an `OrderEnsemble`, whose own method picks an order.
        images: See `AutoregressiveModel.complete`, also for `known` and `labels`.
        known: See above.
        labels: See above.
        options: Everything else.
        condition: See above.
    """
    images = model.checked_images(images)
    known = checked_mask(known, images.shape)
    options = options.checked()
    checked = model.checked_given(labels, condition, len(images))
    given = tuple(None if each is None else each.to(model.device) for each in checked)
    images = images.to(model.device)
    with exact_products(None, model.device):
        work = _Work(model, images, known, given, options)
        ends = work.run()
    few = min(FEW, options.particles)
    collapsed = [work.indices[k] for k, end in enumerate(ends) if end.ess < few and not work.is_exact(k)]
    if collapsed:
        warnings.warn(
            f"the effective sample size fell below {FEW:g} for {len(collapsed)} of {len(ends)} images (the "
            f"first: {collapsed[0]}): their draws are few and alike; more particles or moves will help",
            stacklevel=2,
        )
    proposed = options.n * options.moves * len(ends)
    return Completion(
        images=torch.stack([end.draws for end in ends]),
        ess=torch.tensor([end.ess for end in ends], dtype=torch.float64, device="cpu"),
        log_evidence=torch.tensor([end.log_evidence for end in ends], dtype=torch.float64, device="cpu"),
        accepted=sum(end.accepted for end in ends) / proposed if proposed else math.nan,
    )


def checked_mask(known: object, shape: torch.Size) -> Tensor:
    """The mask as bool (N, C, H, W) on the CPU; it may be integers, all of them 0 or 1.

    Raises:
        ValueError: If it is not a mask for images of this shape, there are none, or it leaves nothing unknown in one.
    """
    if shape[0] == 0:
        raise ValueError("images must be at least one, got 0")
    known = tensor("known", known, "torch.bool tensor")
    if known.is_floating_point() or known.is_complex():
        raise ValueError(f"known must be a torch.bool tensor, got {known.dtype}")
    low, top = bounds(known) if known.numel() else (0, 0)
    if low < 0 or top > 1:
        raise ValueError(f"known must be a torch.bool tensor, or hold 0 and 1, got {low}..{top}")
    known = known.bool()
    try:
        known = known.cpu().expand(shape)
    except RuntimeError:
        raise ValueError(
            f"known must be broadcastable to the images' {tuple(shape)}, got {tuple(known.shape)}"
        ) from None
    if whole := [k for k, mask in enumerate(known) if mask.all()]:
        raise ValueError(f"known must leave something to complete, and image {whole[0]} has no unknown sub-pixel")
    return known


def comes_first(known: Tensor) -> bool:
    """Whether the known sub-pixels, bool (C, H, W), all come first in raster order, channels innermost."""
    in_order = known.permute(1, 2, 0).flatten()
    return bool(in_order[: int(in_order.sum())].all())


@dataclass
class _End:
    """The result for one image."""

    draws: Tensor
    ess: float
    log_evidence: float
    accepted: int = 0


class _Work:
    """Completes all images, each with a batch of particles that is free."""

    def __init__(
        self,
        model: Autoregressive,
        images: Tensor,
        known: Tensor,
        given: tuple[Tensor | None, ...],
        options: CompletionOptions,
    ) -> None:
        self._model = model
        self._images = images
        self._known = known
        self._given = given
        self._options = options
        self.indices = range(len(images)) if options.indices is None else options.indices
        self._ends_at = options.begun + options.seconds
        self._given_up = threading.Event()  # an error, or Ctrl-C
        self._kind = particles_of(model, options.engine)
        self._free: dict[int, queue.SimpleQueue[Particles]] = {}

    def is_exact(self, k: int) -> bool:
        """Whether all known sub-pixels of an image come first, or later ones are to be ignored."""
        method = self._options.method
        return method == "raster" or (method == "auto" and comes_first(self._known[k]))

    def run(self) -> list[_End]:
        """Completes the images; with the native engine, as many at a time as there are threads."""
        options, count = self._options, len(self._images)
        workers = min(torch.get_num_threads(), count) if self._kind is NativeParticles else 1
        sizes = {self._size(k) for k in range(count)} | ({options.n} if options.moves else set())
        for size in sizes:
            self._free[size] = queue.SimpleQueue()
            for _ in range(workers):
                self._free[size].put(self._kind(self._model, self._draw(0, size)))
        inference = torch.is_inference_mode_enabled()

        def complete_one(k: int) -> _End:
            with torch.inference_mode(inference):  # a thread does not inherit it
                return self._complete(k)

        with progress_bar(f"completing {count}", count, "img", show=options.progress) as bar:
            if workers == 1:  # in this thread, which Ctrl-C stops between two operations
                ends = []
                for k in range(count):
                    ends.append(self._complete(k))
                    bar.update()
                return ends
            with concurrent.futures.ThreadPoolExecutor(workers) as pool:
                jobs = [pool.submit(complete_one, k) for k in range(count)]
                try:
                    for job in concurrent.futures.as_completed(jobs):
                        job.result()
                        bar.update()
                finally:
                    self._given_up.set()
                    for job in jobs:
                        job.cancel()
                return [job.result() for job in jobs]

    def _size(self, k: int) -> int:
        return self._options.n if self.is_exact(k) else self._options.particles

    def _draw(self, k: int, size: int, first: int = 0) -> Draw:
        """The draw of copies of image k by the uniforms of images `first ..`."""
        labels, condition = (None if each is None else each[k].expand(size, *each[k].shape) for each in self._given)
        return Draw(size, labels, self._options.seed, first=first, condition=condition)

    @contextmanager
    def _particles_of(self, size: int) -> Iterator[Particles]:
        free = self._free[size].get()
        try:
            yield free
        finally:
            self._free[size].put(free)

    def _check_goes_on(self) -> None:
        if self._given_up.is_set():
            raise concurrent.futures.CancelledError
        if time.monotonic() > self._ends_at:
            raise ValueError(f"given up after {self._options.seconds:g} s: ask for fewer particles")

    def _complete(self, k: int) -> _End:
        image, known, options, size = self._images[k], self._known[k], self._options, self._size(k)
        first = self.indices[k] * size
        ignore_later = options.method == "raster"
        while_drawing = _before_first_unknown(known) if ignore_later else known
        with self._particles_of(size) as particles:
            copies = image.expand(size, *image.shape).clone(memory_format=torch.contiguous_format)
            particles.start(copies, while_drawing.to(image.device), self._draw(k, size, first))
            end = self._walk(particles, while_drawing, k)
        if ignore_later:
            end = dataclasses.replace(
                end, draws=torch.where(known.to(image.device), image, end.draws), log_evidence=math.nan
            )
        return self._moved(end, k) if options.moves else end

    def _walk(self, particles: Particles, known: Tensor, k: int) -> _End:
        """Takes all steps, resampling in between, and chooses n draws at the end."""
        wavefront, size, options, exact = particles.wavefront, len(particles.images), self._options, self.is_exact(k)
        index = self.indices[k]
        u = decision_uniforms(options.seed, index, wavefront.steps + 1).tolist()
        flat = known.flatten(1)
        last_unknown = max(step for step in range(wavefront.steps) if not flat[:, wavefront.pixels(step)].all())
        total, least = 0.0, float(size)
        for step in range(wavefront.steps):
            self._check_goes_on()
            particles.step(step)
            if exact or not flat[:, wavefront.pixels(step)].any():
                continue
            ess = _effective_size(particles.evidence, index)
            least = min(least, ess)
            if ess < size / 2 and step < last_unknown:  # after that, nothing is drawn in which copies could differ
                total += _log_mean(particles.evidence)
                sources, targets = _survivors(particles.evidence, u[step])
                particles.copy(sources, targets)
                particles.evidence.zero_()
        if exact:
            return _End(particles.images.clone(), float(options.n), float(particles.evidence[0]))
        total += _log_mean(particles.evidence)
        chosen = _systematic(particles.evidence, options.n, u[-1])
        shuffled = permutation(options.n, options.seed, index).to(chosen.device)  # so that copies are not adjacent
        return _End(particles.images[chosen[shuffled]], least, total)

    def _moved(self, end: _End, k: int) -> _End:
        """The draws after Metropolis-Hastings moves."""
        model, options, draws, accepted = self._model, self._options, end.draws, 0
        c, h, w = model.image_shape
        for move in range(options.moves):
            self._check_goes_on()
            draw = self._draw(k, options.n, (self.indices[k] * options.moves + move) * options.n + _MOVES)
            u = decision_uniforms(draw.seed, draw.first, draw.n + 4)
            top, left = int(u[0] * h), int(u[1] * w)
            bottom, right = top + 1 + int(u[2] * (h - top)), left + 1 + int(u[3] * (w - left))
            block = torch.zeros(c, h, w, dtype=torch.bool, device="cpu")
            block[:, top:bottom, left:right] = True
            kept = (self._known[k] | ~block).to(draws.device)
            if kept.all():
                continue
            with self._particles_of(draw.n) as particles:
                particles.start(draws.clone(memory_format=torch.contiguous_format), kept, draw)
                for step in range(particles.wavefront.steps):
                    self._check_goes_on()
                    particles.step(step)
                with torch.inference_mode():
                    old = (model.unchecked_log_prob_map(draws, draw.given(model)).double() * kept).flatten(1).sum(1)
                taken = u[4:].to(draws.device).log() < particles.evidence - old
                draws = torch.where(taken.view(-1, 1, 1, 1), particles.images, draws)
            accepted += int(taken.sum())
        return dataclasses.replace(end, draws=draws, accepted=accepted)


def _before_first_unknown(known: Tensor) -> Tensor:
    """The known sub-pixels before the first unknown one in raster order."""
    in_order = known.permute(1, 2, 0)
    return in_order.flatten().cumprod(0).bool().view(in_order.shape).permute(2, 0, 1)


def _effective_size(log_weights: Tensor, k: int) -> float:
    """(sum w)^2 / sum w^2."""
    top = float(log_weights.max())
    if not top > -math.inf:
        raise ValueError(f"the known sub-pixels of image {k} have probability 0 under the model")
    weights = (log_weights - top).exp()
    return float(weights.sum() ** 2 / (weights**2).sum())


def _log_mean(log_weights: Tensor) -> float:
    return float(torch.logsumexp(log_weights, 0)) - math.log(len(log_weights))


def _systematic(log_weights: Tensor, n: int, u: float) -> Tensor:
    """N indices, drawn in proportion to the weights by one uniform number: int64, ascending."""
    ends = torch.softmax(log_weights, 0).cumsum(0)
    points = (torch.arange(n, dtype=torch.float64, device=ends.device) + u) / n * ends[-1]
    return torch.searchsorted(ends, points, right=True).clamp(max=len(ends) - 1)


def _survivors(log_weights: Tensor, u: float) -> tuple[Tensor, Tensor]:
    """Which particles are copied over which, by systematic resampling; survivors stay where they are."""
    n = len(log_weights)
    counts = torch.bincount(_systematic(log_weights, n, u), minlength=n)
    indices = torch.arange(n, device=counts.device)
    return indices.repeat_interleave((counts - 1).clamp(min=0)), indices[counts == 0]
