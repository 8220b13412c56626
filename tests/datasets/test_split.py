"""The held-out split: a function of the content, the same everywhere."""

import numpy as np

from made import noise, opened, picture, pictures
from pixelcnn.datasets import open_data
from pixelcnn.datasets.split import fraction_of, side_of


def test_the_hash_is_what_it_says():
    """BLAKE2b of three zero bytes, by another implementation: `head -c 3 /dev/zero | b2sum -l 64`."""
    assert fraction_of(np.zeros((1, 1, 3), np.uint8)) == int("a0db1feb5e9a7f45", 16) / 2**64


def test_shares_and_nesting():
    """False alarm: 1e-6 by the normal bound of 5 standard deviations."""
    images = noise(20_000, 1, 3, 3)
    sides = np.array([side_of(image, 0.2, 0.1) for image in images])
    for side, share in enumerate((0.7, 0.2, 0.1)):
        assert abs((sides == side).mean() - share) < 5 * (share * (1 - share) / len(images)) ** 0.5
    smaller = np.array([side_of(image, 0.05, 0.1) for image in images])
    assert set(np.flatnonzero(smaller == 1)) <= set(np.flatnonzero(sides == 1))
    assert np.array_equal(smaller == 2, sides == 2)


def test_copies_do_not_leak():
    """Each picture three times, under other names and in another format: each content is on one side alone."""
    for copy in range(3):
        for k in range(40):
            picture(f"photos/{copy}-{k}.{('png', 'tif', 'gif')[copy]}", (5, 5), seed=k)
    data = opened("photos", held_out=0.3)
    training, validation = ({image.tobytes() for image in part.numpy()} for part in (data.training, data.validation))
    assert len(data.training) + len(data.validation) == 120
    assert len(training) + len(validation) == 40
    assert not training & validation


def test_what_is_added_moves_no_other():
    pictures("photos", 60)
    before = opened("photos")
    pictures("photos", 60, first=60)
    after = opened("photos")
    assert len(after.training) + len(after.validation) == 120
    for old, new in ((before.training, after.training), (before.validation, after.validation)):
        assert {i.tobytes() for i in old.numpy()} <= {i.tobytes() for i in new.numpy()}


def test_sides_by_name_are_those_of_training():
    pictures("photos", 80)
    data = opened("photos", 8, held_out=0.3, test=0.2)
    from pixelcnn.config import DataConfig

    config = DataConfig(held_out=0.3, test=0.2)
    parts = [open_data(f"photos:{side}", 8, config=config, progress=False) for side in ("train", "validation", "test")]
    assert np.array_equal(parts[0].images, data.training)
    assert np.array_equal(parts[1].images, data.validation)
    whole = open_data("photos", 8, config=config, progress=False)
    assert np.array_equal(whole.images, np.concatenate([part.images for part in parts]))
    assert whole.names() == [name for part in parts for name in part.names()]
    assert len(whole.images) == 80
    assert all(len(part.images) for part in parts)
