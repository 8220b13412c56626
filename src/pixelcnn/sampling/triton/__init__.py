"""The triton engine: one launch of one kernel draws a whole batch on a CUDA device.

Images are independent, so a program (a CTA, at most one a multiprocessor at a time) takes a group of them through all
steps alone and nothing ever waits for the others: no launch, no synchronisation and no Python within a batch. Few
images are spread over all multiprocessors, one each; many form groups that fill a matrix product's tile. `kernel.py`
does the arithmetic; `tables.py` lays out what it reads.

It samples from models in float32, in float32 or in bf16, whose network is convolutions, ReLU and sums, none of them
ahead of the pixels, and whose likelihood is Bernoulli or categorical.
With TRITON_INTERPRET=1 in the environment, triton runs the same kernel on the CPU, slowly: the tests do.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pixelcnn.likelihoods import Bernoulli, Categorical
from pixelcnn.precision import Precision
from pixelcnn.randomness import image_states
from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.kept import Kept
from pixelcnn.sampling.program import RecordingError
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.triton.tables import Tables, operations_of

__all__ = ["TritonSampler", "why_not_triton"]

_MOST_BYTES = 5 * 2**27  # of features, for all programs of a launch together
_MOST_DRAWN = 4096  # numbers of a cumulative distribution that a program holds at a time
_INTERPRETED = 2  # programs at a time where the CPU interprets them


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A product's tile, and how a program is compiled for it: chosen by registers and shared memory of what is compiled
    for an H100, and waiting for a measurement.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


_TILES = {
    torch.float32: (
        Tile(rows=8, columns=64, depth=64, warps=4, stages=2),
        Tile(rows=16, columns=64, depth=32, warps=4, stages=3),
        Tile(rows=32, columns=64, depth=32, warps=4, stages=3),
        Tile(rows=64, columns=64, depth=32, warps=8, stages=3),
    ),
    torch.bfloat16: (
        Tile(rows=16, columns=64, depth=64, warps=4, stages=3),
        Tile(rows=32, columns=64, depth=64, warps=4, stages=3),
        Tile(rows=64, columns=64, depth=64, warps=4, stages=3),
        Tile(rows=128, columns=64, depth=64, warps=8, stages=3),
    ),
}


def why_not_triton(model: Autoregressive, precision: Precision | None = None, conditional: bool = False) -> str | None:
    """Why the triton engine cannot sample from a model here; None if it can."""
    if model.device.type != "cuda" and not _interpreted():
        return f"the model is on {model.device}"
    if not _installed():
        return "triton is not installed"
    if (reason := _unknown(model, conditional)) is not None:
        return reason
    needed = _tables(model, precision, _tiles(precision)[0], 1).bytes
    return None if needed <= _MOST_BYTES else f"one image's features take {needed >> 20} MiB of {_MOST_BYTES >> 20}"


def _unknown(model: Autoregressive, conditional: bool) -> str | None:
    """What the kernel does not know of a model, wherever it runs."""
    if model.dtype != torch.float32:
        return f"it computes for models in float32, not in {model.dtype}"
    if conditional:
        return "it does not know conditions"
    if type(model.likelihood) not in (Bernoulli, Categorical):
        return f"it does not know the likelihood {type(model.likelihood).__name__}"
    if not model.grouped:
        return "it draws channels from parameters of their own only"
    try:
        operations_of(schedule_of(model), model.image_shape[0])
    except (RecordingError, ValueError) as error:
        return str(error)
    return None


class TritonSampler:
    """Draws batches of `n` images.

    Args:
        model: A model of which `why_not_triton` says None; its weights are copied.
        n: Images of a batch.
        condition: None; it does not know conditions.
        guidance: 1.
        precision: What operands are rounded to, see `pixelcnn.precision`.
        tile: By default the smallest that draws n images in one round, or the largest.
        product: How float32 is multiplied: "ieee", or "tf32x3", three products on the tensor cores that together keep
            about 22 bits; which of the two, waits for a measurement.
    """

    name = "triton"

    def __init__(
        self,
        model: Autoregressive,
        n: int,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        precision: Precision | None = None,
        *,
        tile: Tile | None = None,
        product: str = "ieee",
    ) -> None:
        assert condition is None, "it does not know conditions"
        assert guidance == 1, guidance
        each = -(-n // _processors(model.device))
        front = _front(model)
        self._tile = tile or _tile(front, each, precision)
        group = min(each, _group(front, self._tile))
        self._tables = _tables(model, precision, self._tile, group)
        self._product = product
        self._params = model.likelihood.params
        self._programs = min(-(-n // group), _processors(model.device), max(1, _MOST_BYTES // self._tables.bytes))
        self.steps = self._tables.steps
        """Steps of a batch."""

    @staticmethod
    def batch(model: Autoregressive, precision: Precision | None = None) -> int:
        """The best `n` for many images: a group of the largest tile for every multiprocessor."""
        tile = _tiles(precision)[-1]
        group = _group(_front(model), tile)
        fitting = max(1, _MOST_BYTES // _tables(model, precision, tile, group).bytes)
        return group * min(_processors(model.device), fitting)

    @torch.inference_mode()
    def run(self, images: Tensor, seed: int, first: int, temperature: float) -> Iterator[None]:
        """Fills `images`, uint8 (n, C, H, W), with images `first ..` of the seed; then yields once a step."""
        from pixelcnn.sampling.triton.kernel import draw_images

        assert images.is_contiguous()
        tables, tile, device = self._tables, self._tile, images.device
        with torch.cuda.device(device if device.type == "cuda" else -1):
            draw_images[(self._programs,)](
                images,
                image_states(seed, first, len(images), device),
                torch.tensor([temperature], dtype=torch.float64, device=device),
                tables.scale,
                tables.weights,
                tables.biases,
                torch.empty(self._programs * tables.operand_numbers, dtype=tables.weights.dtype, device=device),
                torch.empty(self._programs * tables.sum_numbers, dtype=tables.biases.dtype, device=device),
                tables.plan,
                len(images),
                **constants(tile, tables.unit, self._params, self._product),
                num_warps=tile.warps,
                num_stages=tile.stages,
            )
        for _ in range(self.steps):
            yield


def constants(tile: Tile, unit: int, params: int, product: str) -> dict[str, int | str]:
    """What the kernel is compiled for."""
    width = 1 << (params - 1).bit_length()
    drawn = {"PARAMS": params, "WIDTH": width, "DRAWS": min(tile.rows, max(1, _MOST_DRAWN // width))}
    sizes = {"ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth, "UNIT": unit}
    return {**sizes, **drawn, "PRODUCT": product}


_kept: Kept[Tables] = Kept(most=8)


def _tables(model: Autoregressive, precision: Precision | None, tile: Tile, group: int) -> Tables:
    key = (precision == "bf16", tile, group)
    return _kept.get(model, key, lambda: Tables(model, precision, group, tile.rows, tile.depth))


def _tile(front: int, images: int, precision: Precision | None) -> Tile:
    """The smallest tile that holds the fronts of so many images, or the largest."""
    tiles = _tiles(precision)
    return next((tile for tile in tiles if _group(front, tile) >= images), tiles[-1])


def _group(front: int, tile: Tile) -> int:
    """Images whose fronts, of so many pixels at most, fit into a tile."""
    return max(1, tile.rows // front)


def _front(model: Autoregressive) -> int:
    """Pixels of the longest front."""
    wavefront = schedule_of(model).wavefront
    return max(len(wavefront.rows(step)) for step in range(wavefront.steps))


def _tiles(precision: Precision | None) -> tuple[Tile, ...]:
    return _TILES[torch.bfloat16 if precision == "bf16" else torch.float32]


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _INTERPRETED
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
