"""Coding in compiled code: the frequency intervals of sub-pixels, decoding, and turning symbols into bytes."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.draws import Draw
from pixelcnn.sampling.native.compiler import native_library
from pixelcnn.sampling.native.structures import CoderStruct
from pixelcnn.sampling.native.walk import NativeWalk

__all__ = ["NativeCoder", "encode"]


class NativeCoder:
    """Codes groups of n images, one group at a time, each by a team of threads.

    Args:
        model: A model in exact arithmetic, for which `pixelcnn.sampling.native.why_not_native` returns None.
        n: Number of images per group.
        conditional: Whether they are conditioned on something.
        threads: How many threads code a group together; the walk may take fewer.
    """

    def __init__(self, model: Autoregressive, n: int, *, conditional: bool, threads: int = 1) -> None:
        self._walk = NativeWalk(model, n, conditional=conditional, threads=threads, team=True)

    def decode(self, images: Tensor, condition: Tensor | None, coder: CoderStruct) -> None:
        """Decodes uint8 (n, C, H, W); if the words run out, `coder.failed` is 1 and the images are undefined."""
        self._run(images, condition, coder)

    def edges(self, images: Tensor, condition: Tensor | None) -> NDArray[np.uint32]:
        """Start and stop of each sub-pixel's frequency interval, in the order of the walk: (sub-pixels, 2)."""
        found = np.empty((images.numel(), 2), dtype=np.uint32)
        self._run(images.contiguous(), condition, CoderStruct(edges=found.ctypes.data))
        return found

    def in_parts(
        self, images: Tensor, condition: Tensor | None, coder: CoderStruct, ends: Iterable[int]
    ) -> Iterator[None]:
        """Codes a single image a few steps at a time, and yields after each step of `ends`, its last step included: the
        coder may be changed there.
        """
        self._walk.begin(images, condition, Draw(1), coder=coder)
        start = 0
        for end in ends:
            self._steps(start, end)
            yield
            start = end

    def _run(self, images: Tensor, condition: Tensor | None, coder: CoderStruct) -> None:
        self._walk.begin(images, condition, Draw(len(images)), coder=coder)
        self._steps(0, self._walk.wavefront.steps)

    def _steps(self, start: int, end: int) -> None:
        """Runs steps start .. end - 1, by all threads."""
        all_here, lacking = threading.Event(), False

        def fill(member: int) -> None:
            all_here.wait()
            if not lacking:
                self._walk.run(start, end, member)

        others = [threading.Thread(target=fill, args=(member,)) for member in range(1, self._walk.threads)]
        try:
            for thread in others:
                thread.start()
        except BaseException:  # too many threads, or Ctrl-C: those already started must not wait for the rest
            lacking = True
            raise
        finally:
            all_here.set()
        fill(0)
        for thread in others:
            thread.join()


def encode(edges: NDArray[np.uint32]) -> bytes:
    """`pixelcnn.codec.entropy.encode` in compiled code."""
    library = native_library(torch.float64, exact=True)
    edges = np.ascontiguousarray(edges, dtype=np.uint32)
    words = np.empty(len(edges) + 2, dtype=np.uint32)  # a symbol emits at most one word
    library.encode.restype = ctypes.c_int64
    addresses = ctypes.c_void_p(edges.ctypes.data), ctypes.c_int64(len(edges)), ctypes.c_void_p(words.ctypes.data)
    written = library.encode(*addresses)
    return words[:written][::-1].astype("<u4").tobytes()
