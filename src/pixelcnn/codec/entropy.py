"""The entropy coder: symbols with integer frequencies to bytes and back (asymmetric numeral systems).

A number x in [2^32, 2^64) holds what was coded so far. A symbol whose frequencies start at s and are f of 2^24 takes
x to

    (x div f) * 2^24 + s + x mod f

after the lowest 32 bits have been moved out to a word, if the result would not fit otherwise. What is coded last is
decoded first, so an encoder works backwards. A decoder that has read all symbols is back at 2^32 with no words left,
which a damaged payload hardly ever achieves.

All numbers are integers: the bytes are the same everywhere. A symbol costs log2(2^24 / f) bits. A payload costs 8 bytes
more for the final x, about 4 of which carry information.

References:
    | Asymmetric numeral systems (Duda, 2013), https://arxiv.org/abs/1311.2540
"""

from __future__ import annotations

import bisect
import ctypes
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pixelcnn.frequencies import TOTAL_BITS
from pixelcnn.sampling.native.structures import CoderStruct as Coder

__all__ = ["Decoder", "PayloadError", "encode"]

_X_MIN = 1 << 32
_WORD = (1 << 32) - 1
_SLOT = (1 << TOTAL_BITS) - 1
_NUMBERS = 2**20  # of cumulative frequencies in a list


class PayloadError(ValueError):
    """The bytes are not what an encoder made."""


def encode(edges: NDArray[np.uint32]) -> bytes:
    """The payload of symbols, in the order in which they are to be decoded.

    Args:
        edges: Where the frequencies of each symbol start and stop, in 0..2^24: (n, 2).
    """
    words: list[int] = []
    x = _X_MIN
    for start, stop in edges[::-1].tolist():
        frequency = stop - start
        if x >= frequency << (64 - TOTAL_BITS):
            words.append(x & _WORD)
            x >>= 32
        high, low = divmod(x, frequency)
        x = (high << TOTAL_BITS) + start + low
    words += [x & _WORD, x >> 32]
    return np.array(words[::-1], dtype="<u4").tobytes()


class Decoder:
    """Reads symbols from a payload.

    Raises:
        PayloadError: If it is too short, or its length is not a multiple of 4.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) < 8 or len(payload) % 4:
            raise PayloadError(f"a payload has at least 8 bytes and a multiple of 4, got {len(payload)}")
        words = np.frombuffer(payload, dtype="<u4").astype(np.uint32)
        self._x = int(words[0]) << 32 | int(words[1])
        self._words = words[2:]
        self._next = 0
        if self._x < _X_MIN:
            raise PayloadError("a payload begins with a number of at least 2^32")

    def state(self) -> Coder:
        """The state from which compiled code continues; valid as long as the decoder lives."""
        return Coder(self._x, self._words.ctypes.data, self._next, len(self._words), 0, None)

    def load(self, coder: Coder) -> None:
        """`state` into a structure whose address compiled code has."""
        ctypes.pointer(coder)[0] = self.state()

    def resume(self, state: Coder) -> None:
        """Continues from the state in which compiled code ended.

        Raises:
            PayloadError: If there were too few words.
        """
        if state.failed:
            raise PayloadError("the payload ends too early")
        self._x, self._next = state.x, state.position

    def take(self, cumulative: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next symbols, (n,), by their cumulative frequencies 0, ..., 2^24: one row each of (n, levels + 1).

        Raises:
            PayloadError: If there are too few words.
        """
        symbols = np.empty(len(cumulative), dtype=np.int64)
        x = self._x
        for k, row in enumerate(_rows(cumulative)):
            slot = x & _SLOT
            symbol = bisect.bisect_right(row, slot) - 1
            start = row[symbol]
            x = (row[symbol + 1] - start) * (x >> TOTAL_BITS) + slot - start
            if x < _X_MIN:
                if self._next == len(self._words):
                    raise PayloadError("the payload ends too early")
                x = x << 32 | int(self._words[self._next])
                self._next += 1
            symbols[k] = symbol
        self._x = x
        return symbols

    def end(self) -> None:
        """Checks, once all symbols have been taken, that nothing is left.

        Raises:
            PayloadError: If something is.
        """
        if self._x != _X_MIN or self._next != len(self._words):
            raise PayloadError("the payload does not end where its symbols do")


def _rows(cumulative: NDArray[np.int64]) -> Iterator[list[int]]:
    """The rows as lists, converted some at a time: a header may ask for any number, and most payloads end before."""
    rows = max(1, _NUMBERS // cumulative.shape[1])
    for k in range(0, len(cumulative), rows):
        yield from cumulative[k : k + rows].tolist()
