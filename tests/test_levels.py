"""The types that hold levels."""

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn.levels import GREY_LEVELS, MAX_LEVELS, array_dtype, checked_levels, level_dtype, levels_of


@pytest.mark.parametrize(("levels", "name"), [(2, "uint8"), (GREY_LEVELS, "uint8"), (GREY_LEVELS + 1, "int32")])
def test_numpy_and_torch_hold_levels_in_the_same_type(levels, name):
    assert array_dtype(levels) == np.dtype(name)
    assert level_dtype(levels) == getattr(torch, name)
    found = levels_of("images", torch.tensor([0, levels - 1], dtype=torch.int64), levels)
    assert found.dtype == level_dtype(levels)
    assert found.tolist() == [0, levels - 1]


def test_drawn_images_have_the_type_of_their_levels():
    model = pixelcnn.PixelCNN((1, 2, 3), levels=MAX_LEVELS, filters=4, blocks=0)
    for engine in ("fast", "eager", "reference"):
        assert model.sample(1, engine=engine, seed=0).dtype == level_dtype(MAX_LEVELS)


def test_too_many_levels_are_refused():
    assert checked_levels(MAX_LEVELS) == MAX_LEVELS
    with pytest.raises(ValueError, match=rf"levels .*2\.\.{MAX_LEVELS}.* {MAX_LEVELS + 1}"):
        checked_levels(MAX_LEVELS + 1)
