"""MNIST: the splits, the quantisation, and damaged files."""

import gzip

import numpy as np
import pytest
import torch

from pixelcnn.datasets import open_split, open_training
from pixelcnn.datasets.mnist import SPLITS, mnist, read_idx


@pytest.mark.parametrize(
    ("split", "n"),
    [("train", 55_000), ("validation", 5_000), ("test", 10_000), ("seed-train", 63_000), ("seed-validation", 7_000)],
)
def test_splits(split, n):
    images, labels = mnist(split)
    assert images.shape == (n, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert images.unique().tolist() == [0, 1]
    assert labels.shape == (n,)
    assert labels.dtype == torch.int64
    assert labels.unique().tolist() == list(range(10))


def test_clean_splits_make_up_the_official_ones_and_seed_splits_all():
    official = torch.cat([mnist("train", 256)[0], mnist("validation", 256)[0], mnist("test", 256)[0]])
    seed = torch.cat([mnist("seed-train", 256)[0], mnist("seed-validation", 256)[0]])
    assert torch.equal(official, seed)
    assert mnist("train")[1][:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist("test")[1].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_quantisation():
    grey = mnist("test", 256)[0]
    assert torch.equal(mnist("test", 2)[0], (grey >= 0.33 * 256).to(torch.uint8))
    four = mnist("test", 4)[0]
    assert torch.equal(four, grey // 64)
    assert mnist("test", 255)[0].max() == 254


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"split must be one of train, validation.*got 'tset'"):
        mnist("tset")
    with pytest.raises(ValueError, match=r"levels must be in 2\.\.256, got 257"):
        mnist("test", 257)
    with pytest.raises(ValueError, match="unknown data 'cifar'"):
        open_split("cifar", 2)
    with pytest.raises(ValueError, match="takes its splits from --protocol"):
        open_training("mnist:test", "clean", 2)
    assert len(open_training("mnist", "seed", 2).training) == 63_000
    assert set(SPLITS) == {"train", "validation", "test", "seed-train", "seed-validation"}


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1])
    path.write_bytes(gzip.compress(content))
    good = "e17ae0ed18ff7a52d0ea9b9f0a1d1e9d"
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is damaged \(MD5"):
        read_idx(path, good)
    path.write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        read_idx(path, good)
    path.write_bytes(b"not a gzip file")
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        read_idx(path, good)
    path.unlink()
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is missing"):
        read_idx(path, good)


def test_an_intact_file_is_read(tmp_path):
    import hashlib

    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)])
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content))
    assert np.array_equal(read_idx(path, hashlib.md5(content).hexdigest()), np.arange(6).reshape(2, 3))
