"""Data sets of the `datasets` library, by a stand-in for it with the parts that are used."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from made import noise, opened
from pixelcnn.datasets import open_data


class ClassLabel:
    names = ("cat", "dog")


class Feature:
    pass


Feature.__name__ = "Image"


class Rows:
    """A split: rows of a picture and a class."""

    def __init__(self, n, seed=0, kind="RGB", features=None):
        shape = (6, 5, 3) if kind == "RGB" else (6, 5)
        self.rows = [{"img": Image.fromarray(p), "label": k % 2} for k, p in enumerate(noise(n, *shape, seed=seed))]
        self.features = features or {"img": Feature(), "label": ClassLabel()}
        self._fingerprint = f"{seed} {n} {kind}"

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        if isinstance(self.rows[k], Exception):
            raise self.rows[k]
        return self.rows[k]


@pytest.fixture
def library(monkeypatch):
    """The stand-in; what it has is set by `library.splits`."""
    library = types.ModuleType("datasets")
    library.calls, library.splits = [], {}

    def load_dataset(*arguments):
        library.calls.append(arguments)
        if arguments[0] == "none":
            raise FileNotFoundError("Dataset 'none' doesn't exist")
        return library.splits

    library.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", library)
    return library


def pixels(rows):
    return np.stack([np.asarray(row["img"]) for row in rows.rows])


def test_a_share_of_the_training_images_is_held_out(library):
    library.splits = {"train": Rows(60), "test": Rows(10, 1)}
    data = opened("hf:someone/pets@small")
    assert library.calls == [("someone/pets", "small")]
    assert len(data.training) + len(data.validation) == 60
    assert (data.classes, data.image_shape, data.levels) == (("cat", "dog"), (3, 6, 5), 256)
    assert data.description.startswith("pets@small (")
    test = open_data("hf:someone/pets@small:test", 256, progress=False)
    assert np.array_equal(test.images, pixels(library.splits["test"]).transpose(0, 3, 1, 2))
    assert test.labels.tolist() == [0, 1] * 5


def test_splits_are_taken_as_they_are(library):
    library.splits = {"train": Rows(20), "validation": Rows(7, 1)}
    data = opened("hf:pets", size=4)
    assert data.training.shape == (20, 3, 4, 4)
    assert data.validation.shape == (7, 3, 4, 4)


def test_new_data_make_a_new_cache(library):
    library.splits = {"train": Rows(20, 0, "L"), "validation": Rows(7, 1)}
    with pytest.raises(ValueError, match="validation/0 of pets is in colour and others are not: give channels"):
        opened("hf:pets")
    assert opened("hf:pets", channels=1).image_shape == (1, 6, 5)
    library.splits = {"train": Rows(30, 2), "validation": Rows(7, 1)}
    assert len(opened("hf:pets", channels=1).training) == 30


def test_bad_rows_are_skipped(library):
    library.splits = {"train": Rows(40)}
    library.splits["train"].rows[0] = OSError("image file is truncated")
    library.splits["train"].rows[3]["img"] = None
    library.splits["train"].rows[4]["label"] = -1
    with pytest.warns(UserWarning, match=r"3 pictures.*train/0: image file is truncated; train/3: it has no picture; "):
        data = opened("hf:pets")
    assert len(data.training) + len(data.validation) == 37


def test_sixteen_bits(library):
    """The depth is that of all splits."""
    library.splits = {"train": Rows(20, 0, "L"), "validation": Rows(7, 1, "L")}
    for rows, factor in ((library.splits["train"], 1), (library.splits["validation"], 16)):
        for row in rows.rows:
            row["img"] = Image.fromarray(np.asarray(row["img"]).astype(np.uint16) * np.uint16(factor))
    expected = pixels(library.splits["train"]) >> 4
    with pytest.warns(UserWarning, match=r"pets: pictures stored with 16 bits are read as 12 bits, 0\.\.4095"):
        data = opened("hf:pets")
    assert np.array_equal(data.training[:, 0], expected)


def test_wrong_data_sets(library, monkeypatch):
    with pytest.raises(ValueError, match="hf:none cannot be loaded: Dataset 'none' doesn't exist"):
        opened("hf:none")
    library.splits = {"test": Rows(3)}
    with pytest.raises(ValueError, match="hf:pets must have a split named train, got test"):
        opened("hf:pets")
    library.splits = {"train": Rows(3, features={"text": object()})}
    with pytest.raises(ValueError, match="hf:pets must have a column of images, got text"):
        opened("hf:pets")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"datasets is not installed: pip install 'pixelcnn\[datasets\]'"):
        opened("hf:pets")
