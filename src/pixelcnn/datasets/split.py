"""The held-out split: which images validate and test is a function of the content of each image alone.

    fraction = BLAKE2b(levels of the image, as bytes, or as int32 if one is above 255; 8 bytes) / 2^64
    validation   if fraction < held_out
    test         if fraction >= 1 - test
    train        otherwise

So copies of an image are on the same side, whatever their files are called; the split is the same on every machine;
images that are added or removed move no other; and a smaller held_out holds out a part of what a larger one does. The
shares are met as by coin flips: of N images, within about sqrt(N held_out).

Near duplicates, such as the next frame of a film, are not recognised, nor are two patches of one picture.
"""

from __future__ import annotations

import hashlib

import numpy as np

from pixelcnn.levels import array_dtype

__all__ = ["SIDES", "fraction_of", "side_of"]

SIDES = ("train", "validation", "test")


def fraction_of(image: np.ndarray) -> float:
    """The hash of an image's levels, uint8 or int32 (C, H, W), as a number in 0..1."""
    image = image.astype(array_dtype(int(image.max()) + 1 if image.size else 2).newbyteorder("<"), copy=False)
    return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "big") / 2**64


def side_of(image: np.ndarray, held_out: float, test: float = 0.0) -> int:
    """The side of an image, as an index of `SIDES`.

    Args:
        image: Levels (C, H, W).
        held_out: Share of the validation images, in 0..1.
        test: Share of the test images, in 0..1; held_out + test is at most 1.
    """
    fraction = fraction_of(image)
    if fraction < held_out:
        return 1
    return 2 if fraction >= 1 - test else 0
