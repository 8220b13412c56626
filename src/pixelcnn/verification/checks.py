"""The checks of a network, each of one property."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pixelcnn.likelihoods import draw
from pixelcnn.models import AutoregressiveModel
from pixelcnn.progress import progress_bar
from pixelcnn.randomness import uniforms
from pixelcnn.sampling import engine_named
from pixelcnn.verification.dependence import CELLS, confirmed, dependence, tolerance
from pixelcnn.verification.report import Check
from pixelcnn.verification.subject import DROPOUTS, Subject, copied, dtype_of, given_to, in_double, in_mode, raster

__all__ = ["checks_of"]

_WAYS = 256  # at most so many ways to fill the last sub-pixels are enumerated
_SOME = 16  # positions at which the network is differentiated again after a step of training
_LEARNING_RATE = 1e-2
_SHOWN_OFFSETS = 6


def checks_of(subject: Subject, images: Tensor, progress: bool) -> Iterator[Check]:
    """All checks of a network at some images, int64 (2 to 4, C, H, W), that can be made."""
    as_given = copied(subject.module)
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
def _repeatable(subject: Subject, module: nn.Module, images: Tensor) -> Check:
    first, second = subject.factors(module, images), subject.factors(module, images)
    apart = _apart(first, second)
    if apart <= tolerance(first):
        return Check(name="repeatable", ok=True, message="the same images have the same likelihood again")
    cause = "it is in training mode, call eval()" if subject.module.training else "it draws random numbers in eval()"
    if drops := _names(subject.module, DROPOUTS):
        cause += f", and has dropout: {drops}"
    message = f"the same images have another likelihood the second time, by {apart:.3g} nats: {cause}"
    return Check(name="repeatable", ok=False, message=message)


@torch.no_grad()
def _batch(subject: Subject, images: Tensor) -> Check:
    others = torch.cat([images[:1], subject.levels - 1 - images[1:]])  # the first image in other company
    for mode, training in (("evaluation", False), ("training", True)):
        found = [subject.factors(in_mode(subject, training), batch)[0] for batch in (images, others)]
        apart = _apart(*found)
        if apart > tolerance(found[0]):
            norms = _names(subject.module, (nn.modules.batchnorm._NormBase,))
            cause = f": {norms}" if norms else ""
            message = f"in {mode} mode an image's likelihood depends on the others in the batch, by {apart:.3g} nats"
            return Check(name="batch", ok=False, message=message + cause)
    return Check(name="batch", ok=True, message="an image's likelihood does not depend on the others in the batch")


@torch.no_grad()
def _mode(subject: Subject, images: Tensor) -> Check:
    found = [subject.factors(in_mode(subject, training), images) for training in (False, True)]
    apart = _apart(*found)
    if apart <= tolerance(found[0]):
        return Check(name="mode", ok=True, message="training mode, but for dropout, computes the same")
    message = f"training mode, with dropout off, computes other likelihoods, by up to {apart:.3g} nats per sub-pixel"
    return Check(name="mode", ok=False, message=message)


def _causal(
    subject: Subject, images: Tensor, positions: Sequence[int], advance: Callable[[int], object] = lambda _: None,
    module: nn.Module | None = None, name: str = "causal", when: str = "",
) -> Check:  # fmt: skip
    module = subject.copy() if module is None else module
    rows, how = dependence(subject, module, images, positions, advance)
    later = torch.arange(subject.subpixels, device=rows.device) >= torch.tensor(positions, device=rows.device)[:, None]
    wrong = (rows != 0) & later
    if wrong.any() and how == "Jacobian":
        wrong = confirmed(subject, module, images, positions, rows, wrong)
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


def _trained(subject: Subject, images: Tensor) -> Check:
    module = in_mode(subject, True)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        return Check(name="trained", ok=None, message="no parameter requires a gradient")
    with torch.enable_grad():
        loss = -subject.factors(module, torch.cat([images, subject.levels - 1 - images])).mean()
        if not loss.isfinite() or not loss.requires_grad:
            return Check(name="trained", ok=None, message=f"the loss of random images is {loss.item():.3g}")
        torch.autograd.backward(loss)
    with torch.no_grad():
        for parameter in trained:
            if parameter.grad is not None:  # as Adam's first step, whose small numbers vanish in float16
                parameter.sub_(parameter.grad.sgn(), alpha=_LEARNING_RATE)
    step = -(-subject.subpixels // _SOME)
    positions = range(step // 2, subject.subpixels, step)
    return _causal(subject, images, positions, module=module.eval(), name="trained", when=" after a step of training")


@torch.no_grad()
def _normalised(subject: Subject, images: Tensor) -> Check:
    if subject.levels > _WAYS:
        return Check(name="normalised", ok=None, message=f"more than {_WAYS} levels")
    module = in_double(subject, images)
    outputs = subject.outputs(module, images.to(dtype_of(module)))
    totals = torch.zeros(images.shape, dtype=torch.float64, device=images.device)
    for channel in range(subject.shape[0]):
        for level in range(subject.levels):
            changed = images.clone()
            changed[:, channel] = level
            found = subject.log_prob(outputs, changed)
            totals[:, channel] += found[:, channel].double().exp()
    totals = raster(totals)
    apart, at = (totals - 1).abs().nan_to_num(math.inf).max(0).values.max(0)
    if apart <= _mass_tolerance(found):
        return Check(name="normalised", ok=True, message=f"all levels' probabilities sum to 1, to {apart:.0e}")
    row = totals[:, at]
    total = row[(row - 1).abs().nan_to_num(math.inf).argmax()]
    message = f"the probabilities of all {subject.levels} levels of {_named(subject.shape, int(at))} sum to {total:.6g}"
    return Check(name="normalised", ok=False, message=message)


@torch.no_grad()
def _enumerated(subject: Subject, images: Tensor) -> Check:
    if subject.levels > _WAYS:
        return Check(name="enumerated", ok=None, message=f"more than {_WAYS} levels")
    module = in_double(subject, images)
    last = min(subject.subpixels, int(math.log(_WAYS + 0.5, subject.levels)))
    ways = torch.tensor(list(itertools.product(range(subject.levels), repeat=last)), device=images.device)
    c, h, w = subject.shape
    total = 0.0
    for part in torch.split(ways, max(1, CELLS // (h * w))):
        filled = raster(images).repeat(len(part), 1)
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
    double = cast(AutoregressiveModel, copied(model).eval().double())
    u = uniforms(seed, 0, n, model.subpixels).to(model.device)
    labels, condition = given_to(double, n)
    given = double.condition_of(labels, n, condition)
    right: list[str] = []
    wrong: list[str] = []
    for name in ("native", "graph", "eager"):
        _, why_not = engine_named(name)
        if why_not(double, None, False) is not None:
            continue
        drawn = double.sample(n, labels, seed=seed, engine=name, condition=condition)
        levels = draw(model.likelihood, raster(double.raw_params(drawn.double(), given)), u)
        (right if torch.equal(levels, raster(drawn)) else wrong).append(name)
    if wrong:
        return Check(name="engines", ok=False, message=f"other images than the reference sampler's: {', '.join(wrong)}")
    if not right:
        _, why_not = engine_named("eager")
        return Check(
            name="engines", ok=None, message=f"only the reference sampler can run it: {why_not(double, None, False)}"
        )
    return Check(name="engines", ok=True, message=f"the reference sampler's images: {', '.join(right)}")


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference; infinite if either is not a number."""
    return float((one - other).abs().nan_to_num(math.inf).max()) if not torch.equal(one, other) else 0.0


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
