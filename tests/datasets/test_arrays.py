"""Integer arrays: every layout and type that is taken, and in which way."""

from pathlib import Path

import numpy as np
import pytest
import torch

from made import noise, opened
from pixelcnn.config import DataConfig
from pixelcnn.datasets import arrays, open_data, open_for_model


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
@pytest.mark.parametrize("shape", [(40, 4, 5), (40, 4, 4), (40, 1, 5, 4), (40, 3, 2, 5)])
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
    values = noise(37, 2, 3, 5)
    for name in ("x.npy", "x.npz"):
        save(name, images=values.astype(np.int16), labels=np.arange(37))
        assert np.array_equal(by_name(open_data(name, 256, progress=False)), values)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_layout_says_what_the_axes_are(name, dtype):
    values = noise(40, 4, 6, 3, top=5)
    save(name, images=values.astype(dtype))
    for layout, axes in (("nhwc", (0, 3, 1, 2)), ("nchw", (0, 1, 2, 3))):
        data = open_data(name, None, config=DataConfig(layout=layout), progress=False)
        assert np.array_equal(by_name(data), values.transpose(axes))
        training = opened(name, layout=layout)
        assert training.image_shape == values.transpose(axes).shape[1:]
    save("y.npy", images=noise(48, 64, 3))
    assert opened("y.npy", layout="nhw").image_shape == (1, 64, 3)
    with pytest.raises(ValueError, match=r"must have shape \(N, H, W, C\), got \(48, 64, 3\)"):
        opened("y.npy", layout="nhwc")


@pytest.mark.parametrize(
    ("shape", "image_shape", "axes"),
    [
        ((20, 8, 4, 4), (8, 4, 4), (0, 1, 2, 3)),
        ((20, 8, 4, 4), (4, 8, 4), (0, 3, 1, 2)),
        ((20, 5, 6, 3), (3, 5, 6), (0, 3, 1, 2)),
        ((20, 1, 5, 3), (1, 5, 3), (0, 1, 2, 3)),
        ((20, 1, 5, 3), (3, 1, 5), (0, 3, 1, 2)),
    ],
)
def test_a_models_shape_says_what_the_axes_are(shape, image_shape, axes):
    values = noise(*shape)
    save("x.npy", images=values)
    data = open_for_model("x.npy", image_shape, 256, progress=False)
    assert np.array_equal(by_name(data), values.transpose(axes))


def test_shapes_that_a_model_does_not_have():
    save("x.npy", images=noise(20, 5, 6, 3))
    with pytest.raises(
        ValueError, match=r"x\.npy has images of \(5, 6, 3\) or \(3, 5, 6\), and the model \(3, 6, 5\) \(C, H, W\)"
    ):
        open_for_model("x.npy", (3, 6, 5), 256, progress=False)
    save("y.npy", images=noise(20, 5, 64, 3)[:, 0])
    assert open_for_model("y.npy", (1, 64, 3), 256, progress=False).images.shape == (20, 1, 64, 3)
    save("z.npy", images=noise(20, 3, 3, 3))
    with pytest.raises(
        ValueError, match=r"20 images of 3 channels and 3 x 3 pixels \(--layout nchw\), or of 3 channels"
    ):
        open_for_model("z.npy", (3, 3, 3), 256, progress=False)
    found = open_for_model("z.npy", (3, 3, 3), 256, layout="nhwc", progress=False).images
    assert np.array_equal(found[0, :, 0, 1], np.load("z.npy")[0, 0, 1])


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("dtype", ["<u2", ">i4", "i4", "<i8"])
def test_codes_of_many_levels(name, dtype):
    """Above 256 levels images are int32; where they have few, they are uint8 whatever the file's type is."""
    values = noise(40, 4, 5, top=255).astype(np.int64) * 257
    save(name, images=values.astype(dtype))
    data = open_data(name, None, progress=False)
    assert (data.images.dtype, data.levels) == (torch.int32, values.max() + 1)
    assert np.array_equal(by_name(data)[:, 0], values)
    assert open_data(name, 65_536, progress=False).levels == 65_536
    save(name, images=(values // 257).astype(dtype))
    assert open_data(name, None, progress=False).images.dtype == torch.uint8
    assert open_data(name, 300, progress=False).images.dtype == torch.int32


def test_the_split_does_not_depend_on_the_number_of_levels():
    """The hash is of the levels themselves, in whichever type they are held."""
    save("x.npy", images=noise(60, 4, 4).astype(np.int32))
    few, many = (opened("x.npy", levels) for levels in (256, 300))
    assert few.validation.dtype != many.validation.dtype
    assert torch.equal(few.validation.int(), many.validation)
