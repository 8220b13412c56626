"""Timings of sampling on this machine: what `pixelcnn bench` prints and the published benchmarks build on.

Speed is the necessary arithmetic, the multiply-adds that no mask removes, divided by the time taken, and is compared
with the rate at which the machine multiplies large matrices. Two timings are comparable if they were taken in turns on
an otherwise idle machine.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelcnn.models.base import AutoregressiveModel
from pixelcnn.operations import Attention, Conv
from pixelcnn.progress import progress_bar
from pixelcnn.sampling import Draw, Engine, blank, engine_of
from pixelcnn.sampling.program import record
from pixelcnn.sampling.reference import ReferenceSampler

__all__ = ["Row", "bench", "matrix_rate", "multiply_adds", "reference_seconds", "sampling_seconds"]

_MAX_REFERENCE = 16  # images


@dataclass(frozen=True, kw_only=True)
class Row:
    """Timings of one batch size."""

    n: int
    seconds: float
    """Median time to draw the batch."""
    fastest: float
    slowest: float
    gflops: float
    """1e9 operations per second that no mask removes; an addition and a multiplication are two operations."""
    reference_seconds: float | None
    """Time for as many images by one full forward pass per sub-pixel, or None if it was not measured. Scaled from the
    first passes of at most 16 images: each pass costs the same, and so does each image of a larger batch."""


def multiply_adds(model: AutoregressiveModel) -> int:
    """Multiply-adds of one image that no mask removes, without biases: 363,648 per pixel for the seed network.

    Each is needed once per image. Kernel taps beyond the image's edge are counted, and so are attention's products of
    queries with keys and of weights with values, for each pair of a pixel and one before it.
    """
    _, h, w = model.image_shape
    program = record(model)
    scales = program.scales
    convolutions = sum(
        int(node.op.layer.mask.sum()) * -(-h // scales[node.target]) * -(-w // scales[node.target])
        for node in program.nodes
        if isinstance(node.op, Conv)
    )
    attentions = [node for node in program.nodes if isinstance(node.op, Attention)]
    pairs = h * w * (h * w - 1) // 2
    return convolutions + pairs * sum(
        program.features[node.inputs[0]] + program.features[node.target] for node in attentions
    )


def matrix_rate(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 0.5) -> float:
    """1e9 operations per second in large products, the best of several timings: what the machine can do.

    The products are of square matrices and, on a CPU, 5 x 5 convolutions: of the two libraries with which PyTorch
    multiplies there, MKL is half as fast on AMD processors, and only convolutions always use the other one, oneDNN.
    """
    on_host = torch.device(device).type == "cpu"
    side = 1024 if on_host else 8192
    a = torch.rand(side, side, device=device, dtype=dtype)
    b = torch.rand(side, side, device=device, dtype=dtype)
    best = 2 * side**3 / min(_times(lambda: torch.mm(a, b), a.device, seconds, most=1000))
    if on_host and dtype in (torch.float32, torch.bfloat16):
        x = torch.rand(16, 128, 28, 28, dtype=dtype).to(memory_format=torch.channels_last)
        w = torch.rand(128, 128, 5, 5, dtype=dtype).to(memory_format=torch.channels_last)
        operations = 2 * 16 * 24 * 24 * w.numel()
        with torch.no_grad():
            best = max(best, operations / min(_times(lambda: F.conv2d(x, w), a.device, seconds, most=1000)))
    return best / 1e9


def reference_seconds(model: AutoregressiveModel, n: int, forwards: int = 2) -> float:
    """Time to draw n images by one full forward pass per sub-pixel, scaled from `forwards` passes after a first one."""
    sampler = ReferenceSampler(model, Draw(n))
    steps = sampler.run(blank(model, n), Draw(n))
    next(steps)
    _wait(model.device)
    start = time.perf_counter()
    done = sum(1 for _ in itertools.islice(steps, forwards))
    _wait(model.device)
    taken = time.perf_counter() - start
    return taken / max(done, 1) * sampler.steps


def sampling_seconds(
    model: AutoregressiveModel, n: int, labels: Tensor | None = None, *, engine: Engine = "fast", seconds: float = 1.0
) -> list[float]:
    """Durations of at least three calls that draw n images, for about `seconds`, after two calls to warm up."""
    return _times(functools.partial(model.sample, n, labels, engine=engine), model.device, seconds)


def bench(
    model: AutoregressiveModel, batches: list[int], *, engine: Engine, reference: bool, seconds: float, progress: bool
) -> list[Row]:
    """Times an engine with each batch size.

    Args:
        model: Any model; its device is where it runs.
        batches: Numbers of images drawn by one call of `sample`.
        engine: See `AutoregressiveModel.sample`.
        reference: Whether to time a few full forward passes of the same batch as well.
        seconds: Time for each batch size, about; at least three calls are made, after two to warm up.
        progress: Show a progress bar on standard error.
    """
    operations = 2 * multiply_adds(model)
    rows = []
    engine_of(model, engine)
    with progress_bar("timing", len(batches), "batch", show=progress) as bar:
        for n in batches:
            times = sampling_seconds(model, n, engine=engine, seconds=seconds)
            median, m = statistics.median(times), min(n, _MAX_REFERENCE)
            rows.append(
                Row(
                    n=n,
                    seconds=median,
                    fastest=min(times),
                    slowest=max(times),
                    gflops=n * operations / median / 1e9,
                    reference_seconds=reference_seconds(model, m) * n / m if reference else None,
                )
            )
            bar.update()
    return rows


def _times(function: Callable[[], object], device: torch.device, seconds: float, most: int = 50) -> list[float]:
    """Durations of at least three calls, for about `seconds`, after two calls to warm up."""
    function()
    function()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < most):
        _wait(device)
        start = time.perf_counter()
        function()
        _wait(device)
        times.append(time.perf_counter() - start)
    return times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
