"""MNIST: the splits, the quantisation, and damaged files."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelcnn.datasets import open_split, open_training
from pixelcnn.datasets.mnist import SPLITS, drawn_mnist, mnist, read_idx


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


def test_the_drawn_test_set_is_the_published_one():
    images, labels = drawn_mnist("test")
    published = "d84a71afdb8a7562ee1c2c1d73171b08951c068fad67949052cadfaf4350d13e"
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest() == published
    assert published in (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    assert torch.equal(labels, mnist("test")[1])
    assert torch.equal(drawn_mnist("seed-validation")[0], images[3000:])
    clean = torch.cat([drawn_mnist("train")[0], drawn_mnist("validation")[0], images])
    assert torch.equal(torch.cat([drawn_mnist("seed-train")[0], drawn_mnist("seed-validation")[0]]), clean)


def test_dynamic_as_a_data_source():
    data = open_training("mnist-dynamic", "clean", None)
    assert data.binarise
    assert data.levels == 2
    assert torch.equal(data.training, mnist("train", 256)[0])
    assert torch.equal(data.validation, drawn_mnist("validation")[0])
    assert not open_training("mnist", "clean", None).binarise
    assert len(open_training("mnist-dynamic", "seed", 2).training) == 63_000
    assert torch.equal(open_split("mnist-dynamic", 2)[0], drawn_mnist("test")[0])
    assert torch.equal(open_split("mnist-dynamic:validation", None)[0], data.validation)
    for levels in (3, 256):
        with pytest.raises(ValueError, match=f"levels must be 2 for mnist-dynamic, got {levels}"):
            open_split("mnist-dynamic:test", levels)
    with pytest.raises(ValueError, match="takes its splits from --protocol"):
        open_training("mnist-dynamic:test", "clean", 2)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"split must be one of train, validation.*got 'tset'"):
        mnist("tset")
    with pytest.raises(ValueError, match=r"levels must be in 2\.\.256, got 257"):
        mnist("test", 257)
    with pytest.raises(ValueError, match="unknown data 'cifar'"):
        open_split("cifar", 2)
    with pytest.raises(ValueError, match="takes its splits from --protocol"):
        open_training("mnist:test", "clean", 2)
    with pytest.raises(ValueError, match="protocol must be clean or seed, got 'Seed'"):
        open_training("mnist", "Seed", 2)
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
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)])
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content))
    assert np.array_equal(read_idx(path, hashlib.md5(content).hexdigest()), np.arange(6).reshape(2, 3))
