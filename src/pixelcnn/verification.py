"""Verification: whether a network is causal, normalised and deterministic, as an exact likelihood of images must be.

A network defines a probability of images,

    log p(x) = sum_k log p(x_k | x_1, ..., x_{k-1}),

if each factor depends on earlier sub-pixels only (rows from the top, each from the left, channels innermost), sums to 1
over the levels, and is the same function whatever else is in the batch. `verify` tests that for models of this package
and for any PyTorch module that maps images to logits or other parameters. It tests the network with its present
weights, so a network whose weights are all zero passes whatever its masks are.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from pixelcnn.arguments import ArrayLike, tensor
from pixelcnn.config.checks import check_images
from pixelcnn.levels import levels_of
from pixelcnn.likelihoods import draw, likelihood_of
from pixelcnn.models import AutoregressiveModel, MixtureModel
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import uniforms
from pixelcnn.sampling.engines import engine_named

__all__ = ["Check", "Verification", "verify"]

LogProb = Callable[[Tensor, Tensor], Tensor]
Scale = Callable[[Tensor], Tensor]

_CELLS = 2**15  # pixels that are differentiated at a time
_WAYS = 256  # at most so many ways to fill the last sub-pixels are enumerated
_SOME = 16  # positions at which the network is differentiated again after a step of training
_LEARNING_RATE = 1e-2
_SHOWN_OFFSETS = 6
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One property, and whether the network has it."""

    name: str
    """What is tested: "repeatable", "batch", "mode", "causal", "trained", "normalised", "enumerated" or "engines"."""
    ok: bool | None
    """Whether the network passed; None if it could not be tested."""
    message: str
    """What was found, in one line."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found; printed, it is a report."""

    subject: str
    """What was verified, in one line."""
    checks: tuple[Check, ...]
    """All that was tested."""
    pixel: tuple[int, int]
    """Row and column of the pixel whose view `seen` shows."""
    seen: Tensor | None
    """bool (H, W): which pixels the distribution of `pixel` depends on; None if that could not be tested. Those before
    it in raster order that it does not see are beyond its receptive field, or its blind spot."""
    seconds: float
    """How long it took."""

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.ok is False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        seen = None if self.seen is None else self.seen.tolist()
        checks = [dataclasses.asdict(check) for check in self.checks]
        return {"subject": self.subject, "ok": self.ok, "checks": checks, "pixel": list(self.pixel), "seen": seen,
                "seconds": self.seconds}  # fmt: skip

    def __str__(self) -> str:
        words = {True: "ok", False: "FAILED", None: "skipped"}
        lines = [self.subject]
        lines += [f"  {words[check.ok]:8}{check.name:12}{check.message}" for check in self.checks]
        if self.seen is not None:
            lines += self._map(self.seen)
        verdict = f"{len(self.failed)} of {len(self.checks)} checks failed" if self.failed else "all checks passed"
        return "\n".join([*lines, f"{verdict} in {self.seconds:.1f} s"])

    def _map(self, seen: Tensor) -> list[str]:
        row, column = self.pixel
        rows, columns = seen.shape

        def sign(i: int, j: int) -> str:
            if (i, j) == self.pixel:
                return "@"
            return "x" if seen[i, j] else "." if (i, j) < self.pixel else " "

        drawn = ["".join(sign(i, j) for j in range(columns)).rstrip() for i in range(rows)]
        shown = [row, *(k for k in range(rows) if "x" in drawn[k])]
        earlier = row * columns + column
        unseen = earlier - int(seen.flatten()[:earlier].sum())
        lines = [f"  what the pixel in row {row}, column {column} (@) sees (x), of the pixels before it:"]
        lines += [f"    {line}" for line in drawn[min(shown) : max(shown) + 1]]
        return [*lines, f"    it does not see (.) {unseen} of {earlier}"]

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"


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
      for networks that have no gradients with respect to images, later sub-pixels are changed
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
        images: Images at which to test, (N, C, H, W), of which at most 4 are used; random ones by default.
        progress: Show a progress bar on standard error.

    Raises:
        ValueError: If an argument does not fit the module, its outputs have another shape, or it cannot be copied.

    Examples:
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
        subject: _Subject = _model_subject(model)
    else:
        subject = _module_subject(model, image_shape, levels, scale, log_prob)
    at = _images_at(subject, images)
    checks = list(_checks(subject, at, progress))
    pixel = (subject.shape[1] // 2, subject.shape[2] // 2)
    return Verification(
        subject=subject.name,
        checks=tuple(checks),
        pixel=pixel,
        seen=_seen(subject, at, pixel) if any(check.name == "causal" for check in checks) else None,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, kw_only=True)
class _Subject:
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
        return math.prod(self.shape)

    def factors(self, module: nn.Module, images: Tensor, values: Tensor | None = None) -> Tensor:
        """Log-probabilities of all sub-pixels in raster order, (N, sub-pixels), for what the network sees: `values`, by
        default the images, int64.
        """
        values = images.to(_dtype(module)) if values is None else values
        found = self.log_prob(self.outputs(module, values), images)
        if found.shape != images.shape:
            raise ValueError(f"log_prob must return (N, C, H, W) = {tuple(images.shape)}, got {tuple(found.shape)}")
        return _raster(found)

    def copy(self, dtype: torch.dtype | None = None) -> nn.Module:
        """A copy in evaluation mode, perhaps in another type."""
        module = _copied(self.module).eval()
        return module if dtype is None else module.to(dtype)


def _model_subject(model: AutoregressiveModel) -> _Subject:
    label: Tensor | None = None
    if model.num_classes is not None:
        label = torch.zeros(1, dtype=torch.int64, device=model.device)
    elif model.condition_dim is not None:
        label = torch.linspace(-1, 1, model.condition_dim, device=model.device)[None]

    def outputs(module: nn.Module, values: Tensor) -> Tensor:
        assert isinstance(module, AutoregressiveModel)
        condition = (
            None if label is None else module.unchecked_condition_of(label.expand(len(values), *label.shape[1:]))
        )
        return module.raw_params(values, condition)

    return _Subject(
        name=_described(model, model.image_shape, model.levels),
        module=model,
        shape=model.image_shape,
        levels=model.levels,
        outputs=outputs,
        log_prob=model.likelihood.log_prob,
        model=model,
    )


def _module_subject(
    module: nn.Module,
    image_shape: Sequence[int] | None,
    levels: int | None,
    scale: Scale | None,
    log_prob: LogProb | None,
) -> _Subject:
    if not isinstance(module, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(module).__name__}")
    if image_shape is None or levels is None:
        missing = "image_shape" if image_shape is None else "levels"
        raise ValueError(f"{missing} must be given for a module that is not of this package")
    shape = tuple(image_shape)
    check_images(shape, levels)
    c, h, w = shape
    top, scaled = levels - 1, scale
    subject = _Subject(
        name=_described(module, (c, h, w), levels),
        module=module,
        shape=(c, h, w),
        levels=levels,
        outputs=lambda module, values: module(values / top if scaled is None else scaled(values)),
        log_prob=_LogitReader(levels) if log_prob is None else log_prob,
    )
    zeros = torch.zeros(2, c, h, w, dtype=torch.int64, device=_device(module))
    with torch.no_grad():
        subject.factors(subject.copy(), zeros)  # tells what does not fit
    return subject


class _LogitReader:
    """The log-probabilities of a module's outputs if these are logits in one of the usual layouts."""

    def __init__(self, levels: int) -> None:
        self._likelihood = likelihood_of(levels)

    def __call__(self, outputs: Tensor, images: Tensor) -> Tensor:
        """See `LogProb`."""
        levels, (n, c, h, w) = self._likelihood.levels, images.shape
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if levels == 2 and found == (n, c, h, w):
            return self._likelihood.log_prob(outputs.unsqueeze(-1), images)
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
        log_probs = torch.log_softmax(outputs.permute(layouts[found]).reshape(n, c, h, w, levels), -1)
        return log_probs.gather(-1, images.unsqueeze(-1)).squeeze(-1)


# Checks --------------------------------------------------------------------------------------------------------


def _checks(subject: _Subject, images: Tensor, progress: bool) -> Iterator[Check]:
    as_given = _copied(subject.module)
    repeatable = _repeatable(subject, as_given, images)
    yield repeatable
    module = subject.copy()
    if not repeatable.ok and not _repeatable(subject, module, images).ok:
        return  # nothing else can be tested
    yield _batch(subject, images)
    yield _mode(subject, images)
    with progress_bar("differentiating", subject.subpixels, "sub-pixel", show=progress) as bar:
        yield _causal(subject, images[:1], range(subject.subpixels), bar.update)
    yield _trained(subject, images[:1])
    yield _normalised(subject, images)
    yield _enumerated(subject, images[:1])
    if subject.model is not None:
        yield _engines(subject.model)


@torch.no_grad()
def _repeatable(subject: _Subject, module: nn.Module, images: Tensor) -> Check:
    first, second = subject.factors(module, images), subject.factors(module, images)
    apart = _apart(first, second)
    if apart <= _tolerance(first):
        return Check(name="repeatable", ok=True, message="the same images have the same likelihood again")
    cause = "it is in training mode, call eval()" if subject.module.training else "it draws random numbers in eval()"
    if drops := _names(subject.module, _DROPOUTS):
        cause += f", and has dropout: {drops}"
    message = f"the same images have another likelihood the second time, by {apart:.3g} nats: {cause}"
    return Check(name="repeatable", ok=False, message=message)


@torch.no_grad()
def _batch(subject: _Subject, images: Tensor) -> Check:
    others = torch.cat([images[:1], subject.levels - 1 - images[1:]])  # the first image in other company
    for mode, training in (("evaluation", False), ("training", True)):
        found = [subject.factors(_in_mode(subject, training), batch)[0] for batch in (images, others)]
        apart = _apart(*found)
        if apart > _tolerance(found[0]):
            norms = _names(subject.module, (nn.modules.batchnorm._NormBase,))
            cause = f": {norms}" if norms else ""
            message = f"in {mode} mode an image's likelihood depends on the others in the batch, by {apart:.3g} nats"
            return Check(name="batch", ok=False, message=message + cause)
    return Check(name="batch", ok=True, message="an image's likelihood does not depend on the others in the batch")


@torch.no_grad()
def _mode(subject: _Subject, images: Tensor) -> Check:
    found = [subject.factors(_in_mode(subject, training), images) for training in (False, True)]
    apart = _apart(*found)
    if apart <= _tolerance(found[0]):
        return Check(name="mode", ok=True, message="training mode, but for dropout, computes the same")
    message = f"training mode, with dropout off, computes other likelihoods, by up to {apart:.3g} nats per sub-pixel"
    return Check(name="mode", ok=False, message=message)


def _causal(
    subject: _Subject, images: Tensor, positions: Sequence[int], advance: Callable[[int], object] = lambda _: None,
    module: nn.Module | None = None, name: str = "causal", when: str = "",
) -> Check:  # fmt: skip
    module = subject.copy() if module is None else module
    rows, how = _dependence(subject, module, images, positions, advance)
    later = torch.arange(subject.subpixels, device=rows.device) >= torch.tensor(positions, device=rows.device)[:, None]
    wrong = (rows != 0) & later
    if wrong.any() and how == "Jacobian":
        wrong = _confirmed(subject, module, images, positions, rows, wrong)
    if not wrong.any():
        return Check(
            name=name,
            ok=True,
            message=f"{'' if len(positions) < subject.subpixels else 'all '}{len(positions)} sub-pixels depend on "
            f"earlier ones only{when} ({how})",
        )
    pairs = [(positions[k], source) for k, source in wrong.nonzero().tolist()]
    offsets = sorted({_offset(subject.shape, *pair) for pair in pairs})
    listed = ", ".join(map(str, offsets[:_SHOWN_OFFSETS])) + (", ..." if len(offsets) > _SHOWN_OFFSETS else "")
    what = "(rows, columns)" if subject.shape[0] == 1 else "(rows, columns, channels)"
    return Check(
        name=name,
        ok=False,
        message=f"{_named(subject.shape, pairs[0][0])} depends on {_named(subject.shape, pairs[0][1], pairs[0][0])}"
        f"{when}; {len(pairs)} such pairs, at offsets {what} of {listed} ({how})",
    )


def _trained(subject: _Subject, images: Tensor) -> Check:
    module = _in_mode(subject, True)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        return Check(name="trained", ok=None, message="no parameter requires a gradient")
    with torch.enable_grad():
        loss = -subject.factors(module, torch.cat([images, subject.levels - 1 - images])).mean()
        if not loss.isfinite() or not loss.requires_grad:
            return Check(name="trained", ok=None, message=f"the loss of random images is {loss.item():.3g}")
        torch.autograd.backward(loss)
    torch.optim.Adam(trained, lr=_LEARNING_RATE).step()
    step = -(-subject.subpixels // _SOME)
    positions = range(step // 2, subject.subpixels, step)
    return _causal(subject, images, positions, module=module.eval(), name="trained", when=" after a step of training")


@torch.no_grad()
def _normalised(subject: _Subject, images: Tensor) -> Check:
    if subject.levels > _WAYS:
        return Check(name="normalised", ok=None, message=f"more than {_WAYS} levels")
    module = _in_double(subject, images)
    outputs = subject.outputs(module, images.to(_dtype(module)))
    totals = torch.zeros(images.shape, dtype=torch.float64, device=images.device)
    for channel in range(subject.shape[0]):
        for level in range(subject.levels):
            changed = images.clone()
            changed[:, channel] = level
            totals[:, channel] += subject.log_prob(outputs, changed)[:, channel].double().exp()
    totals = _raster(totals)
    apart, at = (totals - 1).abs().nan_to_num(math.inf).max(0).values.max(0)
    if apart <= _mass_tolerance(outputs):
        return Check(name="normalised", ok=True, message=f"all levels' probabilities sum to 1, to {apart:.0e}")
    row = totals[:, at]
    total = row[(row - 1).abs().nan_to_num(math.inf).argmax()]
    message = f"the probabilities of all {subject.levels} levels of {_named(subject.shape, int(at))} sum to {total:.6g}"
    return Check(name="normalised", ok=False, message=message)


@torch.no_grad()
def _enumerated(subject: _Subject, images: Tensor) -> Check:
    if subject.levels > _WAYS:
        return Check(name="enumerated", ok=None, message=f"more than {_WAYS} levels")
    module = _in_double(subject, images)
    last = min(subject.subpixels, int(math.log(_WAYS + 0.5, subject.levels)))
    ways = torch.tensor(list(itertools.product(range(subject.levels), repeat=last)), device=images.device)
    c, h, w = subject.shape
    total = 0.0
    for part in torch.split(ways, max(1, _CELLS // (h * w))):
        filled = _raster(images).repeat(len(part), 1)
        filled[:, -last:] = part
        whole = filled.view(-1, h, w, c).permute(0, 3, 1, 2).contiguous()
        found = subject.factors(module, whole)
        total += float(found[:, -last:].double().sum(1).exp().sum())
    what = f"the {len(ways)} ways to fill the last {last} sub-pixel{'s' * (last > 1)}"
    if last == subject.subpixels:
        what = f"all {len(ways)} images"
    ok = abs(total - 1) <= _mass_tolerance(found)
    return Check(name="enumerated", ok=ok, message=f"the probabilities of {what} sum to {total:.12g}")


@torch.inference_mode()
def _engines(model: AutoregressiveModel) -> Check:
    """An engine's images are the reference sampler's if each level follows from the levels before it."""
    n, seed = 2, 0
    double = cast(AutoregressiveModel, _copied(model).eval().double())
    u = uniforms(seed, 0, n, model.subpixels).to(model.device)
    right: list[str] = []
    wrong: list[str] = []
    for name in ("native", "graph", "eager"):
        _, why_not = engine_named(name)
        if why_not(double, None, False) is not None:
            continue
        drawn = double.sample(n, seed=seed, engine=name)
        levels = draw(model.likelihood, _raster(double.raw_params(drawn.double())), u)
        (right if torch.equal(levels, _raster(drawn)) else wrong).append(name)
    if wrong:
        return Check(name="engines", ok=False, message=f"other images than the reference sampler's: {', '.join(wrong)}")
    if not right:
        _, why_not = engine_named("eager")
        return Check(
            name="engines", ok=None, message=f"only the reference sampler can run it: {why_not(double, None, False)}"
        )
    return Check(name="engines", ok=True, message=f"the reference sampler's images: {', '.join(right)}")


# What a sub-pixel depends on -------------------------------------------------------------------------------------


def _dependence(
    subject: _Subject,
    module: nn.Module,
    images: Tensor,
    positions: Sequence[int],
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Tensor, str]:
    """What the log-probabilities at some positions depend on, (positions, sub-pixels), zero for nothing, and how that
    was found: by derivatives, or by changes of the image if there are none.
    """
    c, h, w = subject.shape
    size = max(1, min(len(positions), _CELLS // (h * w)))
    if subject.model is not None and subject.model.level_embedding is not None:
        return _changes(subject, module, images, positions, size), "changed images"
    values = images.to(_dtype(module)).expand(size, c, h, w).clone().requires_grad_()
    rows = []
    with torch.enable_grad():
        grads = [parameter.requires_grad for parameter in module.parameters()]
        module.requires_grad_(False)
        factors = subject.factors(module, images.expand(size, c, h, w), values)  # one forward pass for all positions
        for start in range(0, len(positions), size) if factors.requires_grad else ():
            part = positions[start : start + size]
            chosen = factors[range(len(part)), list(part)].sum()
            (gradient,) = torch.autograd.grad(chosen, values, retain_graph=True, materialize_grads=True)
            rows.append(_raster(gradient)[: len(part)])
            advance(len(part))
        for parameter, needed in zip(module.parameters(), grads, strict=True):
            parameter.requires_grad_(needed)
    if rows and (found := torch.cat(rows)).any():
        return found, "Jacobian"
    return _changes(subject, module, images, positions, size), "changed images"


@torch.no_grad()
def _changes(subject: _Subject, module: nn.Module, images: Tensor, positions: Sequence[int], size: int) -> Tensor:
    """`_dependence` by changing one sub-pixel at a time, whatever the network does with it."""
    c, h, w = subject.shape
    found = torch.zeros(len(positions), subject.subpixels, dtype=torch.float64, device=images.device)
    whole = images.expand(size, c, h, w)
    before = subject.factors(module, whole)[:, list(positions)]
    for start in range(0, subject.subpixels, size):
        sources = range(start, min(start + size, subject.subpixels))
        flat = _raster(whole).clone()
        which = torch.arange(len(sources), device=images.device)
        flat[which, start + which] = subject.levels - 1 - flat[which, start + which]
        values = flat.view(size, h, w, c).permute(0, 3, 1, 2).contiguous().to(_dtype(module))
        change = (subject.factors(module, whole, values)[:, list(positions)] - before).double()
        change[change.abs() <= _tolerance(before)] = 0
        found[:, sources.start : sources.stop] = change[: len(sources)].t()
    return found


def _confirmed(
    subject: _Subject, module: nn.Module, images: Tensor, positions: Sequence[int], rows: Tensor, wrong: Tensor
) -> Tensor:
    """Which wrong dependences are more than rounding: those of the worst positions, computed once more in float64."""
    double = _copied(module).double()
    worst = (rows.abs() * wrong).amax(1).argsort(descending=True)[:_SOME]
    try:
        again, _ = _dependence(subject, double, images, [positions[int(k)] for k in worst])
    except RuntimeError:  # the network does not run in double precision
        return wrong & (rows.abs() > 1e-6 * rows.abs().max())
    real = (again != 0) & (again.abs() > 1e-12 * again.abs().max()) & wrong[worst]
    return wrong if real.any() else torch.zeros_like(wrong)


def _seen(subject: _Subject, images: Tensor, pixel: tuple[int, int]) -> Tensor:
    """Which pixels one pixel sees in any of the images: (H, W), bool on the CPU."""
    c, h, w = subject.shape
    first = (pixel[0] * w + pixel[1]) * c
    module = subject.copy()
    seen = torch.zeros(h, w, dtype=torch.bool)
    for image in images:
        rows, _ = _dependence(subject, module, image[None], range(first, first + c))
        seen |= rows.view(c, h, w, c).ne(0).any(3).any(0).cpu()
    return seen


# Helpers ---------------------------------------------------------------------------------------------------------


def _images_at(subject: _Subject, images: ArrayLike | None) -> Tensor:
    """The images to test at, int64 (2 to 4, C, H, W)."""
    device = _device(subject.module)
    if images is None:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(subject.levels, (4, *subject.shape), generator=generator, device="cpu")
        return drawn.to(device)
    given = levels_of("images", tensor("images", images), subject.levels).to(device, torch.int64)
    if given.shape[1:] != subject.shape or len(given) == 0:
        c, h, w = subject.shape
        raise ValueError(f"images must have shape (N, {c}, {h}, {w}), got {tuple(given.shape)}")
    return given[:4] if len(given) > 1 else torch.cat([given, subject.levels - 1 - given])


def _in_mode(subject: _Subject, training: bool) -> nn.Module:
    """A copy in a mode, without dropout."""
    module = subject.copy().train(training)
    for part in module.modules():
        if isinstance(part, _DROPOUTS):
            part.eval()
    return module


def _in_double(subject: _Subject, images: Tensor) -> nn.Module:
    """A copy in float64, if the network runs in it."""
    double = subject.copy(torch.float64)
    try:
        subject.factors(double, images[:1])
    except RuntimeError:  # it converts to another type
        return subject.copy()
    return double


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise ValueError(f"model must be copyable, {type(module).__name__} is not: {error}") from error


def _raster(images: Tensor) -> Tensor:
    """(N, C, H, W, ...) with sub-pixels in the order of drawing: (N, H * W * C, ...)."""
    return images.movedim(1, 3).flatten(1, 3)


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference; infinite if either is not a number."""
    return float((one - other).abs().nan_to_num(math.inf).max()) if not torch.equal(one, other) else 0.0


def _tolerance(values: Tensor) -> float:
    """What rounding may change in a log-probability."""
    return 1e-9 if values.dtype == torch.float64 else 1e-4


def _mass_tolerance(values: Tensor) -> float:
    """What rounding may change in a sum of probabilities, also if some of the arithmetic is in float32."""
    return 1e-6 if values.dtype == torch.float64 else 1e-4


def _names(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> str:
    found = [f"{name or 'the module itself'} ({type(part).__name__})" for name, part in module.named_modules()
             if isinstance(part, kinds)]  # fmt: skip
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _position(shape: tuple[int, int, int], k: int) -> tuple[int, int, int]:
    """Row, column and channel of a sub-pixel by its index in raster order."""
    c, _, w = shape
    return k // (c * w), k // c % w, k % c


def _offset(shape: tuple[int, int, int], target: int, source: int) -> tuple[int, ...]:
    steps = tuple(b - a for a, b in zip(_position(shape, target), _position(shape, source), strict=True))
    return steps[: 2 if shape[0] == 1 else 3]


def _named(shape: tuple[int, int, int], k: int, other: int | None = None) -> str:
    if k == other:
        return "itself"
    row, column, channel = _position(shape, k)
    return f"(row {row}, column {column}{f', channel {channel}' if shape[0] > 1 else ''})"


def _described(module: nn.Module, shape: tuple[int, int, int], levels: int) -> str:
    c, h, w = shape
    parameters = sum(p.numel() for p in module.parameters())
    return f"{type(module).__name__}, images {c} x {h} x {w} of {levels} levels, {parameters:,} parameters"
