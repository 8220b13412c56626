"""What the distribution of a sub-pixel depends on, by derivatives or by changes of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pixelcnn.verification.subject import Subject, copied, dtype_of, raster

__all__ = ["CELLS", "confirmed", "dependence", "seen_by", "tolerance"]

CELLS = 2**15  # pixels that are computed at a time
_SOME = 16  # positions that are computed again in float64


def dependence(
    subject: Subject,
    module: nn.Module,
    images: Tensor,
    positions: Sequence[int],
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Tensor, str]:
    """What the log-probabilities at some positions depend on, (positions, sub-pixels), zero for nothing, and how that
    was found: by derivatives, or by changes of the image if there are none, or not all are finite.
    """
    c, h, w = subject.shape
    size = max(1, min(len(positions), CELLS // (h * w)))
    if subject.model is not None and subject.model.level_embedding is not None:
        return _changes(subject, module, images, positions, size), "changed images"
    values = images.to(dtype_of(module)).expand(size, c, h, w).clone().requires_grad_()
    rows = []
    with torch.enable_grad():
        grads = [parameter.requires_grad for parameter in module.parameters()]
        module.requires_grad_(False)
        factors = subject.factors(module, images.expand(size, c, h, w), values)  # one forward pass for all positions
        for start in range(0, len(positions), size) if factors.requires_grad else ():
            part = positions[start : start + size]
            chosen = factors[range(len(part)), list(part)].sum()
            (gradient,) = torch.autograd.grad(chosen, values, retain_graph=True, materialize_grads=True)
            rows.append(raster(gradient)[: len(part)])
            advance(len(part))
        for parameter, needed in zip(module.parameters(), grads, strict=True):
            parameter.requires_grad_(needed)
    if rows and (found := torch.cat(rows)).any() and found.isfinite().all():
        return found, "Jacobian"
    return _changes(subject, module, images, positions, size), "changed images"


@torch.no_grad()
def _changes(subject: Subject, module: nn.Module, images: Tensor, positions: Sequence[int], size: int) -> Tensor:
    """`dependence` by changing one sub-pixel at a time, whatever the network does with it."""
    c, h, w = subject.shape
    found = torch.zeros(len(positions), subject.subpixels, dtype=torch.float64, device=images.device)
    whole = images.expand(size, c, h, w)
    before = subject.factors(module, whole)[:, list(positions)]
    for start in range(0, subject.subpixels, size):
        sources = range(start, min(start + size, subject.subpixels))
        flat = raster(whole).clone()
        which = torch.arange(len(sources), device=images.device)
        flat[which, start + which] = (flat[which, start + which] + (subject.levels + 1) // 2) % subject.levels
        values = flat.view(size, h, w, c).permute(0, 3, 1, 2).contiguous().to(dtype_of(module))
        after = subject.factors(module, whole, values)[:, list(positions)]
        change = (after - before).double()
        change[(after == before) | (change.abs() <= tolerance(before))] = 0  # equal: what is impossible may stay so
        found[:, sources.start : sources.stop] = change[: len(sources)].t()
    return found


def confirmed(
    subject: Subject, module: nn.Module, images: Tensor, positions: Sequence[int], rows: Tensor, wrong: Tensor
) -> Tensor:
    """Which wrong dependences are more than rounding: those of the worst positions, computed once more in float64."""
    double = copied(module).double()
    worst = (rows.abs() * wrong).amax(1).argsort(descending=True)[:_SOME]
    try:
        again, _ = dependence(subject, double, images, [positions[int(k)] for k in worst])
    except RuntimeError:  # the network does not run in double precision
        return wrong & (rows.abs() > 1e-6 * rows.abs().max())
    real = (again != 0) & (again.abs() > 1e-12 * again.abs().max()) & wrong[worst]
    return wrong if real.any() else torch.zeros_like(wrong)


def seen_by(subject: Subject, images: Tensor, pixel: tuple[int, int]) -> Tensor:
    """Which pixels one pixel sees in any of the images: (H, W), bool on the CPU."""
    c, h, w = subject.shape
    first = (pixel[0] * w + pixel[1]) * c
    module = subject.copy()
    seen = torch.zeros(h, w, dtype=torch.bool, device="cpu")
    for image in images:
        rows, _ = dependence(subject, module, image[None], range(first, first + c))
        seen |= rows.view(c, h, w, c).ne(0).any(3).any(0).cpu()
    return seen


def tolerance(values: Tensor) -> float:
    """What rounding may change in a log-probability."""
    return 1e-9 if values.dtype == torch.float64 else 1e-4
