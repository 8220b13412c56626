"""The codec's entropy coder beside constriction's: the same symbols with the same frequencies.

constriction takes weights as floating-point numbers and makes frequencies of them, integers that sum to 2^24. It is
given ours in two ways: divided by 2^24, which is what its documentation has in mind, converted fast (`perfect=False`)
and as well as it can (`perfect=True`); and each less by 1: its fast conversion of today gives every symbol a frequency
of 1 and shares out the rest, so that these come out as they were.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixelcnn.codec import entropy
from pixelcnn.exact import PreparedModel
from pixelcnn.frequencies import TOTAL_BITS
from pixelcnn.sampling.native.coding import encode
from pixelcnn.sampling.native.compiler import NativeError
from table import markdown, short

__all__ = ["Row", "text_of", "yardstick"]

_SHARE = 16_000  # symbols whose weights are there at a time
_LOOKED_AT = 5_000  # symbols whose frequencies are compared
_COMPILED = "ours, compiled"
_DIVIDED, _LESS_BY_1 = "/ 2^24", "less 1"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A coder on all symbols."""

    coder: str
    size: int
    """Bytes."""
    encode: float
    """Seconds."""
    decode: float | None = None
    same: str = ""
    """How many of the frequencies came out as they were given."""


def yardstick(prepared: PreparedModel, images: Tensor) -> tuple[int, float, list[Row]]:
    """What each coder makes of images (N, C, H, W): the symbols, their information content in bytes, a row a coder.

    Raises:
        SystemExit: If one does not give the symbols back.
    """
    size = prepared.slice_size
    parts = [prepared.cumulative(images[k : k + size]).flatten(0, 3).numpy() for k in range(0, len(images), size)]
    cumulative: NDArray[np.int64] = np.concatenate(parts)
    symbols = images.numpy().reshape(-1).astype(np.int32)
    each = np.arange(len(symbols))
    edges = np.stack([cumulative[each, symbols], cumulative[each, symbols + 1]], -1)
    bits = float((TOTAL_BITS - np.log2((edges[:, 1] - edges[:, 0]).astype(np.float64))).sum())
    rows = [*_ours(edges.astype(np.uint32), cumulative, symbols), *_constriction(cumulative, symbols)]
    return len(symbols), bits / 8, rows


def text_of(symbols: int, content: float, rows: list[Row]) -> str:
    """As Markdown."""
    lines = [["information content", f"{content:,.1f}", "", "", "", ""]]
    for row in rows:
        more = f"{row.size - content:+,.1f} ({100 * (row.size / content - 1):.4f} %)"
        took = ["" if s is None else f"{short(1e9 * s / symbols)} ns" for s in (row.encode, row.decode)]
        lines.append([row.coder, f"{row.size:,}", more, *took, row.same])
    header = ["coder", "bytes", "excess", "encode, per symbol", "decode, per symbol", "frequencies as given"]
    missing = [] if any(row.coder.startswith("constriction") for row in rows) else ["constriction is not installed"]
    if not any(row.coder == _COMPILED for row in rows):
        missing.append("ours is not compiled here")
    return "\n".join([markdown(header, lines), *(f"\n- not here: {each}." for each in missing)])


def _ours(edges: NDArray[np.uint32], cumulative: NDArray[np.int64], symbols: NDArray[np.int32]) -> Iterator[Row]:
    """In Python, and where it can be compiled as `compress` has it; `decompress` has the decoder within the network."""
    started = time.perf_counter()
    payload = entropy.encode(edges)
    encoded = time.perf_counter() - started
    started, decoder = time.perf_counter(), entropy.Decoder(payload)
    found = [decoder.take(cumulative[k : k + _SHARE]) for k in range(0, len(symbols), _SHARE)]
    decoded = time.perf_counter() - started
    decoder.end()
    _check("ours", np.concatenate(found), symbols)
    try:
        encode(edges[:1])  # compiles it
    except NativeError:
        pass
    else:
        started = time.perf_counter()
        same = encode(edges)
        yield Row(coder=_COMPILED, size=len(same), encode=time.perf_counter() - started, same="all")
        if same != payload:
            raise SystemExit("compiled code and Python do not write the same bytes")
    yield Row(coder="ours, in Python", size=len(payload), encode=encoded, decode=decoded, same="all")


def _constriction(cumulative: NDArray[np.int64], symbols: NDArray[np.int32]) -> Iterator[Row]:
    """Both of its coders; nothing where it is not installed."""
    try:
        stream: Any = importlib.import_module("constriction").stream
    except ImportError:
        return
    version = importlib.metadata.version("constriction")
    ways = [("range coder", _DIVIDED, False), ("ANS", _DIVIDED, False), ("ANS", _DIVIDED, True)]
    for kind, how, perfect in [*ways, ("ANS", _LESS_BY_1, False)]:
        family = stream.model.Categorical(perfect=perfect)
        parts = [slice(k, k + _SHARE) for k in range(0, len(symbols), _SHARE)]
        encoder = stream.queue.RangeEncoder() if kind == "range coder" else stream.stack.AnsCoder()
        encode = encoder.encode if kind == "range coder" else encoder.encode_reverse
        encoded = decoded = 0.0
        for part in parts if kind == "range coder" else reversed(parts):
            weights = _weights(cumulative[part], how)
            started = time.perf_counter()
            encode(symbols[part], family, weights)
            encoded += time.perf_counter() - started
        words = encoder.get_compressed()
        decoder = stream.queue.RangeDecoder(words) if kind == "range coder" else stream.stack.AnsCoder(words)
        found = []
        for part in parts:
            weights = _weights(cumulative[part], how)
            started = time.perf_counter()
            found.append(decoder.decode(family, weights))
            decoded += time.perf_counter() - started
        name = f"constriction {version}, {kind}, {how}, {'perfect' if perfect else 'fast'}"
        _check(name, np.concatenate(found), symbols)
        same = _came_out(stream, family, cumulative, symbols, how)
        yield Row(coder=name, size=words.nbytes, encode=encoded, decode=decoded, same=same)


def _weights(cumulative: NDArray[np.int64], how: str) -> NDArray[np.float64]:
    frequencies = np.diff(cumulative).astype(np.float64)
    return frequencies / 2**TOTAL_BITS if how == _DIVIDED else frequencies - 1


def _came_out(stream: Any, family: Any, cumulative: NDArray[np.int64], symbols: NDArray[np.int32], how: str) -> str:
    """How many of the frequencies of symbols, spread evenly over all, constriction has as they were given.

    An empty ANS coder is at 0; what one symbol takes it to is where the frequencies of that symbol start.
    """

    def start(k: int, symbol: int) -> int:
        if symbol == cumulative.shape[1] - 1:
            return 1 << TOTAL_BITS
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(np.array([symbol], dtype=np.int32), family, _weights(cumulative[k : k + 1], how))
        words = coder.get_compressed()
        return int(words[0]) if len(words) else 0

    looked_at = np.linspace(0, len(symbols) - 1, min(_LOOKED_AT, len(symbols))).astype(int).tolist()
    off = []
    for k in looked_at:
        symbol = int(symbols[k])
        given = int(cumulative[k, symbol + 1] - cumulative[k, symbol])
        off.append(abs(start(k, symbol + 1) - start(k, symbol) - given))
    same = sum(d == 0 for d in off)
    return f"{same:,} of {len(off):,}" + ("" if same == len(off) else f", off by at most {max(off)}")


def _check(name: str, found: NDArray[np.integer[Any]], symbols: NDArray[np.int32]) -> None:
    if not np.array_equal(found, symbols):
        raise SystemExit(f"{name} does not give the symbols back")
