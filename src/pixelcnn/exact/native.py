"""The walk in compiled code: exact samples and decoding on the CPU, by one thread, with the same bits as in Python."""

from __future__ import annotations

import ctypes
import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.exact import grid
from pixelcnn.exact.prepared import PreparedModel
from pixelcnn.randomness import mixed_seed
from pixelcnn.sampling import native as sampling
from pixelcnn.sampling.native.compiler import NativeError, native_library
from pixelcnn.sampling.native.layout import Plan
from pixelcnn.sampling.native.packing import packed
from pixelcnn.sampling.native.share import Share

__all__ = ["Coder", "NativeWalk", "encode", "why_not_native"]


class Coder(ctypes.Structure):
    """What is left of a payload: `struct coder` of exact.h."""

    _fields_ = [
        ("x", ctypes.c_uint64),
        ("words", ctypes.c_void_p),
        ("position", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("failed", ctypes.c_int64),
        ("edges", ctypes.c_void_p),
    ]


def why_not_native(prepared: PreparedModel) -> str | None:
    """Why compiled code cannot run this twin here; None if it can."""
    reason = sampling.why_not_native(prepared.model)
    if reason is not None:
        return reason
    try:
        _library()
    except NativeError as error:
        return str(error)
    return None


class NativeWalk:
    """Fills batches of n images.

    Args:
        prepared: A twin of which `why_not_native` says None.
        n: Images of a batch.
        conditional: Whether they are conditioned on something.
    """

    def __init__(self, prepared: PreparedModel, n: int, *, conditional: bool) -> None:
        self._library = _library()
        network = packed(prepared.model, self._library.panel(), None, conditional=conditional, exact=True)
        self._steps = -network.schedule.prelude, network.schedule.wavefront.steps
        self._plan = Plan(network, n)
        self._arena = self._plan.arena()

    def sample(self, images: Tensor, condition: Tensor | None, seed: int, first: int) -> None:
        """Draws uint8 (n, C, H, W) with the uniform numbers of images `first ..` of a seed."""
        self._run(images, condition, first, mixed_seed(seed), None)

    def decode(self, images: Tensor, condition: Tensor | None, coder: Coder) -> None:
        """Decodes uint8 (n, C, H, W); if the words do not suffice, `coder.failed` is 1 and the images are anything."""
        self._run(images, condition, 0, 0, ctypes.addressof(coder))

    def edges(self, images: Tensor, condition: Tensor | None) -> NDArray[np.uint32]:
        """Where the frequencies of each sub-pixel start and stop, in the order of the walk: (sub-pixels, 2)."""
        found = np.empty((images.numel(), 2), dtype=np.uint32)
        coder = Coder(0, None, 0, 0, 0, found.ctypes.data)
        self._run(images.contiguous(), condition, 0, 0, ctypes.addressof(coder))
        return found

    def _run(self, images: Tensor, condition: Tensor | None, first: int, root: int, coder: int | None) -> None:
        assert len(images) == self._plan.images, images.shape
        assert images.is_contiguous()
        self._plan.begin(self._arena, None if condition is None else grid.clamped(condition))
        share = Share(
            self._arena.ctypes.data,
            images.data_ptr(),
            len(images),
            self._plan.n,
            first,
            root,
            1.0,
            1.0,
            None,
            None,
            coder,
        )
        job = ctypes.byref(self._plan.struct), ctypes.byref(share)
        self._library.run_steps(*job, *map(ctypes.c_int64, self._steps))


def encode(edges: NDArray[np.uint32]) -> bytes:
    """What `pixelcnn.codec.entropy.encode` does, in compiled code."""
    edges = np.ascontiguousarray(edges, dtype=np.uint32)
    words = np.empty(len(edges) + 2, dtype=np.uint32)  # a symbol moves out a word at most
    places = ctypes.c_void_p(edges.ctypes.data), ctypes.c_int64(len(edges)), ctypes.c_void_p(words.ctypes.data)
    written = _library().encode(*places)
    return words[:written][::-1].astype("<u4").tobytes()


@functools.cache
def _library() -> ctypes.CDLL:
    library = native_library(torch.float64, exact=True)
    library.encode.restype = ctypes.c_int64
    library.set_tables(*(ctypes.c_void_p(table.data_ptr()) for table in grid.tables()))
    return library
