"""MNIST, from the four original IDX files inside the package.

Splits:

    seed-train       first 63,000 of train and test concatenated: the Keras example's training set
    seed-validation  last 7,000: the example's validation set (all of them official test images)
    train            first 55,000 of the official training set
    validation       last 5,000 of the official training set
    test             the official 10,000 test images

The `seed` splits exist for parity: they train on 3,000 official test images. Report results on the others.

In the literature, black-and-white MNIST is mostly not thresholded but drawn, each pixel white with a probability of
grey / 255. `drawn_mnist` gives each split drawn once and for all, to validate and to test on; training draws its images
anew in each epoch (`pixelcnn.randomness.binarised`). The fixed draw that part of the literature uses (the "static" one
of Larochelle and Murray) is a file that is not in this package.

References:
    | Gradient-based learning applied to document recognition (LeCun et al., 1998).
    | On the quantitative analysis of deep belief networks (Salakhutdinov and Murray, 2008): binary MNIST, drawn.
    | The neural autoregressive distribution estimator (Larochelle and Murray, 2011): the fixed draw.
    | The data: LeCun, Cortes and Burges, CC BY-SA 3.0.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelcnn.levels import GREY_LEVELS, array_dtype, checked_levels, quantised
from pixelcnn.randomness import binarised

__all__ = ["SPLITS", "drawn_mnist", "mnist", "read_idx"]

_FOLDER = Path(__file__).parent / "data"
_MD5 = {  # of the unpacked files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_THRESHOLD = 0.33 * GREY_LEVELS
_RANGES = {  # of the splits among all 70,000 images, the official training images first
    "train": slice(0, 55_000),
    "validation": slice(55_000, 60_000),
    "test": slice(60_000, 70_000),
    "seed-train": slice(0, 63_000),
    "seed-validation": slice(63_000, 70_000),
}
SPLITS = tuple(_RANGES)


def mnist(split: str = "train", levels: int = 2) -> tuple[Tensor, Tensor]:
    """Images and labels of a split.

    Args:
        split: "train", the first 55,000 of the official training images; "validation", their last 5,000; "test", the
            10,000 official test images; or the Keras example's: "seed-validation", the last 7,000 of all 70,000, of
            which the official training images come first, and "seed-train", the 63,000 before them.
        levels: Number of levels, 2..256: 2 thresholds the grey value at 0.33 * 256, as the Keras example does; 256
            keeps it; any other number quantises it uniformly, to floor(grey * levels / 256).

    Returns:
        Images, uint8 (N, 1, 28, 28) holding 0 .. levels-1 with the background 0, and labels, int64 (N,), 0..9.

    Raises:
        ValueError: If an argument is out of range, or a data file is damaged; the file is named.

    Examples:
        >>> images, labels = mnist("test", levels=4)
        >>> images.shape, images.max(), labels[:4]
        (torch.Size([10000, 1, 28, 28]), tensor(3, dtype=torch.uint8), tensor([7, 2, 1, 0]))
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    levels = checked_levels(levels)
    files, chosen = ["train", "t10k"], _RANGES[split]
    if split == "test":
        files, chosen = ["t10k"], slice(None)  # the other files need not be read
    grey, labels = (np.concatenate(parts)[chosen] for parts in zip(*map(_official, files), strict=True))
    images = (grey >= _THRESHOLD).astype(array_dtype(levels)) if levels == 2 else quantised(grey, levels)
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def drawn_mnist(split: str = "test") -> tuple[Tensor, Tensor]:
    """Binary images of a split, drawn once and for all, and their labels.

    A pixel is 1 with probability grey / 255, by `pixelcnn.randomness.binarised` with seed 0, no epoch, and the image's
    index among all 70,000, so an image is the same in every split. docs/results.md publishes the test set's SHA-256.

    Args:
        split: As for `mnist`.

    Returns:
        Images, uint8 (N, 1, 28, 28), 0 or 1, and labels, int64 (N,), 0..9.

    Raises:
        ValueError: As for `mnist`.

    Examples:
        >>> images, labels = drawn_mnist("test")
        >>> images.shape, images.sum(), labels[:4]
        (torch.Size([10000, 1, 28, 28]), tensor(1038736), tensor([7, 2, 1, 0]))
    """
    grey, labels = mnist(split, GREY_LEVELS)
    first = _RANGES[split].start
    indices = torch.arange(first, first + len(grey), device="cpu")
    parts = zip(torch.split(grey, 1000), torch.split(indices, 1000), strict=True)  # in bounded memory
    return torch.cat([binarised(*part, seed=0) for part in parts]), labels


def read_idx(path: Path, md5: str) -> np.ndarray:
    """The array of a gzipped IDX file of unsigned bytes.

    Args:
        path: The file.
        md5: MD5 of the unpacked content, in hexadecimal.

    Raises:
        ValueError: If the file is missing, cannot be unpacked or has other content; it is named.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"the data file {path} is missing; install the package again") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"the data file {path} is damaged ({error}); install the package again") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(f"the data file {path} is damaged (MD5 {found}, not {md5}); install the package again")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


@functools.cache
def _official(name: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = f"{name}-images-idx3-ubyte", f"{name}-labels-idx1-ubyte"
    return tuple(read_idx(_FOLDER / f"{file}.gz", _MD5[file]) for file in (images, labels))  # type: ignore[return-value]
