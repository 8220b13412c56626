"""Smaller pictures of images within a stream, coded before them: what a model of super-resolution is given.

Each is the mean of S x S pixels (`pixelcnn.datasets.shrunk`), in 256 grey values whatever the images' levels. They are
coded as differences from the pixel to the left and compressed by bzip2, all together: a model of them would need fewer
bytes, but they have a small share of the pixels.
"""

from __future__ import annotations

import bz2
import struct

import numpy as np
import torch
from torch import Tensor

from pixelcnn.codec.container import Header, StreamError

__all__ = ["pack_maps", "unpack_maps"]

_SIZE = struct.Struct("<HH")


def pack_maps(maps: Tensor) -> bytes:
    """Grey values, uint8 (N, C, h, w), as bytes."""
    values = maps.numpy()
    return _SIZE.pack(*values.shape[2:]) + bz2.compress(np.diff(values, axis=3, prepend=np.uint8(0)).tobytes())


def unpack_maps(payload: bytes, header: Header) -> Tensor:
    """What `pack_maps` was given, for a stream of images.

    Raises:
        StreamError: If these are no pictures of its images.
    """
    channels, height, width = header.shape
    h, w = _SIZE.unpack_from(payload) if len(payload) >= _SIZE.size else (0, 0)
    wrong = StreamError("the small pictures are damaged: they are none of the stream's images")
    if not h or not w or height % h or width % w:
        raise wrong
    size, decoder = header.count * channels * h * w, bz2.BZ2Decompressor()
    try:
        found = decoder.decompress(payload[_SIZE.size :], size + 1)
    except (OSError, OverflowError):
        raise wrong from None
    if len(found) != size or not decoder.eof or decoder.unused_data:
        raise wrong
    differences = np.frombuffer(found, np.uint8).reshape(header.count, channels, h, w)
    return torch.from_numpy(np.cumsum(differences, axis=3, dtype=np.uint8))
