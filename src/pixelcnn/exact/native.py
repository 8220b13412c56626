"""The walk in compiled code: exact samples and decoding on the CPU, with the same bits as in Python.

A group of images is filled by a team of threads, each computing a share of them. A payload's symbols have one order,
so after every step of the wavefront all wait while the first one takes the symbols: little against the network.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.exact import grid
from pixelcnn.exact.prepared import PreparedModel
from pixelcnn.randomness import mixed_seed
from pixelcnn.sampling import native as sampling
from pixelcnn.sampling.native.compiler import NativeError, native_library
from pixelcnn.sampling.native.layout import plan_of
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


class _Team(ctypes.Structure):
    """`struct team` of exact.h."""

    _fields_ = [
        ("members", ctypes.c_int64),
        ("arrived", ctypes.c_int64),
        ("meetings", ctypes.c_int64),
        ("shares", ctypes.c_void_p),
        ("coder", ctypes.c_void_p),
        ("found", ctypes.c_void_p),
        ("room", ctypes.c_int64),
    ]


class NativeWalk:
    """Fills groups of n images, one at a time.

    Args:
        prepared: A twin of which `why_not_native` says None.
        n: Images of a group.
        conditional: Whether they are conditioned on something.
        threads: How many fill a group together, at most one an image.
    """

    def __init__(self, prepared: PreparedModel, n: int, *, conditional: bool, threads: int = 1) -> None:
        self._library = _library()
        network = packed(prepared.model, self._library.panel(), None, conditional=conditional, exact=True)
        self._steps = -network.schedule.prelude, network.schedule.wavefront.steps
        self._n = n
        count = min(threads, n)
        bounds = list(itertools.pairwise(k * n // count for k in range(count + 1)))
        plans = {size: plan_of(network, size) for size in {stop - start for start, stop in bounds}}
        self._members = [(start, plans[stop - start], plans[stop - start].arena()) for start, stop in bounds]
        self._room = max(plan.rows for plan in plans.values())
        self._found = np.zeros(count * self._room * self._library.distribution_size(), dtype=np.uint8)

    def sample(self, images: Tensor, condition: Tensor | None, seed: int, first: int) -> None:
        """Draws uint8 (n, C, H, W) with the uniform numbers of images `first ..` of a seed."""
        self._run(images, condition, first, mixed_seed(seed), None)

    def decode(self, images: Tensor, condition: Tensor | None, coder: Coder) -> None:
        """Decodes uint8 (n, C, H, W); if the words do not suffice, `coder.failed` is 1 and the images are anything."""
        self._run(images, condition, 0, 0, coder)

    def edges(self, images: Tensor, condition: Tensor | None) -> NDArray[np.uint32]:
        """Where the frequencies of each sub-pixel start and stop, in the order of the walk: (sub-pixels, 2)."""
        found = np.empty((images.numel(), 2), dtype=np.uint32)
        self._run(images.contiguous(), condition, 0, 0, Coder(0, None, 0, 0, 0, found.ctypes.data))
        return found

    def _run(self, images: Tensor, condition: Tensor | None, first: int, root: int, coder: Coder | None) -> None:
        assert len(images) == self._n, images.shape
        assert images.is_contiguous()
        count = len(self._members)
        shares, subpixels = (Share * count)(), images[0].numel()
        team = _Team(
            count,
            0,
            0,
            ctypes.addressof(shares),
            None if coder is None else ctypes.addressof(coder),
            self._found.ctypes.data,
            self._room,
        )
        for member, (start, plan, arena) in enumerate(self._members):
            given = None if condition is None else grid.clamped(condition[start : start + plan.images])
            plan.begin(arena, given)
            place = arena.ctypes.data, images.data_ptr() + start * subpixels
            one = 1.0  # neither temperature nor guidance
            shares[member] = Share(
                *place, plan.images, plan.n, first + start, root, one, one, None, None, ctypes.addressof(team)
            )

        all_here, lacking = threading.Event(), False

        def fill(member: int) -> None:
            all_here.wait()
            if lacking:
                return
            plan = self._members[member][1]
            job = ctypes.byref(plan.struct), ctypes.byref(shares[member])
            self._library.run_steps(*job, *map(ctypes.c_int64, self._steps))

        others = [threading.Thread(target=fill, args=(member,)) for member in range(1, count)]
        try:
            for thread in others:
                thread.start()
        except RuntimeError:  # there cannot be as many: those that have begun must not wait for the rest
            lacking = True
            raise
        finally:
            all_here.set()
        fill(0)
        for thread in others:
            thread.join()


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
    library.distribution_size.restype = ctypes.c_int64
    library.set_tables(*(ctypes.c_void_p(table.data_ptr()) for table in grid.tables()))
    return library
