"""Coding in compiled code: where the frequencies of sub-pixels lie, decoding, and the entropy coder's symbols to
bytes.
"""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.sampling.autoregressive import Autoregressive
from pixelcnn.sampling.native.compiler import native_library
from pixelcnn.sampling.native.structures import CoderStruct
from pixelcnn.sampling.native.walk import NativeWalk

__all__ = ["NativeCoder", "encode"]


class NativeCoder:
    """Codes groups of n images, one at a time, each by a team of threads.

    Args:
        model: In exact arithmetic, of which `pixelcnn.sampling.native.why_not_native` says None.
        n: Images of a group.
        conditional: Whether they are conditioned on something.
        threads: How many code a group together, at most one for each image.
    """

    def __init__(self, model: Autoregressive, n: int, *, conditional: bool, threads: int = 1) -> None:
        self._threads = min(threads, n)
        self._walk = NativeWalk(model, n, conditional=conditional, threads=threads, team=True)

    def decode(self, images: Tensor, condition: Tensor | None, coder: CoderStruct) -> None:
        """Decodes uint8 (n, C, H, W); if the words do not suffice, `coder.failed` is 1 and the images are anything."""
        self._run(images, condition, coder)

    def edges(self, images: Tensor, condition: Tensor | None) -> NDArray[np.uint32]:
        """Where the frequencies of each sub-pixel start and stop, in the order of the walk: (sub-pixels, 2)."""
        found = np.empty((images.numel(), 2), dtype=np.uint32)
        self._run(images.contiguous(), condition, CoderStruct(edges=found.ctypes.data))
        return found

    def _run(self, images: Tensor, condition: Tensor | None, coder: CoderStruct) -> None:
        walk = self._walk
        walk.begin(images, condition, coder=coder)
        all_here, lacking = threading.Event(), False

        def fill(member: int) -> None:
            all_here.wait()
            if not lacking:
                walk.run(0, walk.wavefront.steps, member)

        others = [threading.Thread(target=fill, args=(member,)) for member in range(1, self._threads)]
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
    library = native_library(torch.float64, exact=True)
    edges = np.ascontiguousarray(edges, dtype=np.uint32)
    words = np.empty(len(edges) + 2, dtype=np.uint32)  # a symbol moves out a word at most
    library.encode.restype = ctypes.c_int64
    addresses = ctypes.c_void_p(edges.ctypes.data), ctypes.c_int64(len(edges)), ctypes.c_void_p(words.ctypes.data)
    written = library.encode(*addresses)
    return words[:written][::-1].astype("<u4").tobytes()
