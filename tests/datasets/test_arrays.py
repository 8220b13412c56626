"""Integer arrays: every layout and type that is taken, and in which way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made import noise, opened

from pixelcnn.datasets import arrays, open_data


def save(name, **stored):
    if name.endswith(".npy"):
        np.save(name, stored["images"])
    else:
        np.savez_compressed(name, **stored)
    return name


def by_name(data):
    """Images in the order of the file."""
    return data.images[np.argsort([int(name) for name in data.names()])].numpy()


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i4", "<i8", "u8", "?"])
@pytest.mark.parametrize("shape", [(40, 5, 4), (40, 1, 5, 4), (40, 3, 2, 5), (40, 3, 3, 3)])
def test_types_and_shapes(name, dtype, shape):
    values = noise(*shape, top=2)
    save(name, images=values.astype(dtype))
    data = open_data(name, None, progress=False)
    assert data.images.dtype == torch.uint8
    expected = values[:, None] if len(shape) == 3 else values
    assert np.array_equal(by_name(data), expected)
    training = opened(name)
    assert len(training.training) + len(training.validation) == 40
    assert training.levels == 2


def test_levels_are_those_of_the_data_or_given():
    save("x.npy", images=noise(50, 4, 4, top=7) + np.int64(0))
    assert opened("x.npy").levels == 7
    assert opened("x.npy", 9).levels == 9
    assert opened("x.npy", 9).training.max() == 6  # levels, not grey values
    save("zeros.npy", images=np.stack([np.full((2, 2), k % 2) for k in range(50)]) * 0)
    assert open_data("zeros.npy", None, progress=False).levels == 2


def test_labels():
    values, labels = noise(60, 4, 4), np.arange(60) % 3
    save("x.npz", images=values, labels=labels.astype(np.int16))
    data = open_data("x.npz", 256, progress=False)
    assert data.classes == ("0", "1", "2")
    order = np.argsort([int(name) for name in data.names()])
    assert data.labels.dtype == torch.int64
    assert np.array_equal(data.labels[order], labels)
    training = opened("x.npz")
    assert len(training.validation_labels) == len(training.validation)


def test_the_only_array_may_have_any_name():
    save("x.npz", codes=noise(30, 4, 4), labels=np.zeros(30, int))
    assert len(open_data("x.npz", 256, progress=False).images) == 30


def test_bytes_are_used_in_place(tmp_path):
    """Nothing is copied, and writing to the tensor does not reach the file."""
    values = noise(30, 4, 4)
    save("x.npy", images=values)
    before = Path("x.npy").read_bytes()
    data = open_data("x.npy", 256, progress=False)
    assert not (tmp_path / "cache").exists()
    data.images.zero_()
    assert Path("x.npy").read_bytes() == before
    save("y.npy", images=values.astype(int))
    open_data("y.npy", 256, progress=False)
    assert (tmp_path / "cache").exists()


def test_chunks(monkeypatch):
    """What does not fit into a chunk is read in several, compressed or not, the last one shorter."""
    monkeypatch.setattr(arrays, "_CHUNK", 100)
    values = noise(37, 2, 3, 4)
    for name in ("x.npy", "x.npz"):
        save(name, images=values.astype(np.int16), labels=np.arange(37))
        assert np.array_equal(by_name(open_data(name, 256, progress=False)), values)
