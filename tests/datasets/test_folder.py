"""Folders of pictures: what is found in them, classes, channels, what is skipped."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from made import opened, picture, pictures

from pixelcnn.datasets import name_of, open_data


def everything(folder="photos", levels=None, **options):
    return open_data(folder, levels, progress=False, **options)


def test_pictures_without_classes():
    pixels = pictures("photos", 50)
    data = opened("photos")
    assert data.training.shape[1:] == data.image_shape == (3, 6, 7)
    assert (data.levels, data.classes, data.training_labels) == (256, None, None)
    found = {image.tobytes() for part in (data.training, data.validation) for image in part.numpy()}
    assert found == {p.transpose(2, 0, 1).tobytes() for p in pixels}
    held_out = len(data.validation)
    assert data.description == (
        f"photos ({50 - held_out} images for training and {held_out} for validation; held out: 0.1, by hash of the "
        "content)"
    )


def test_sub_folders_are_classes():
    expected = {}
    for label, name in enumerate(["Zebra", "ant", "bee"]):  # in the order of code points
        for k in range(20):
            path = f"{name}/deep/er/{k}.png" if k % 2 else f"{name}/{k}.png"
            expected[picture(f"photos/{path}", seed=20 * label + k).transpose(2, 0, 1).tobytes()] = path, label
    Path("photos/empty").mkdir()
    data = everything()
    assert data.classes == ("Zebra", "ant", "bee")
    assert len(data.images) == 60
    for image, label, name in zip(data.images.numpy(), data.labels.tolist(), data.names(), strict=True):
        assert expected[image.tobytes()] == (name, label)
    training = opened("photos")
    assert len(training.training_labels) == len(training.training)
    for part, labels in (
        (training.training, training.training_labels),
        (training.validation, training.validation_labels),
    ):
        for image, label in zip(part.numpy(), labels.tolist(), strict=True):
            assert expected[image.tobytes()][1] == label


def test_what_is_passed_over(tmp_path):
    pictures("photos", 3)
    picture("photos/._hidden.png")
    picture("photos/.thumbnails/x.png")
    Path("photos/README.txt").write_text("hello")
    os.symlink(Path("photos").resolve(), "photos/.again")
    assert len(everything().images) == 3


def test_links_are_followed_but_not_in_circles():
    pictures("elsewhere/linked", 3)
    Path("photos").mkdir()
    os.symlink(Path("elsewhere/linked").resolve(), "photos/linked")
    os.symlink(Path("elsewhere").resolve(), "elsewhere/linked/up")
    assert everything().classes == ("linked",)
    assert len(everything().images) == 3


def test_channels_are_those_of_the_files():
    pictures("photos", 3, (5, 5))
    assert everything().images.shape == (3, 1, 5, 5)
    picture("photos/zz.png", (5, 5, 3))
    assert everything().images.shape == (4, 3, 5, 5)
    from pixelcnn.config import DataConfig

    assert everything(config=DataConfig(channels=1)).images.shape == (4, 1, 5, 5)


def test_damaged_files_are_named_and_skipped():
    pictures("photos/a", 12)
    good = Path("photos/a/00000.png").read_bytes()
    Path("photos/a/cut.png").write_bytes(good[: len(good) // 2])
    Path("photos/a/empty.jpg").touch()
    Path("photos/a/text.gif").write_text("not a picture")
    os.symlink("nowhere", "photos/a/link.png")
    with pytest.warns(UserWarning, match=r"photos: 4 pictures were skipped: a/cut\.png: .*truncated") as told:
        data = everything()
    said = str(told[0].message)
    assert "a/empty.jpg: it is not a PNG, JPEG, WebP, TIFF or GIF file" in said
    assert "a/link.png: No such file or directory" in said
    assert len(data.images) == 12
    assert len(data.labels) == 12
    assert "skipped: 4" in opened("photos").description


def test_damage_of_any_kind_is_skipped():
    """Each format cut and with flipped bits, which decoders meet with errors of many types: none gets through."""
    random = np.random.default_rng(0)
    pictures("photos", 3, (20, 24, 3))
    for suffix in ("png", "jpg", "webp", "tif", "gif"):
        picture(f"whole.{suffix}", (20, 24, 3))
        whole = Path(f"whole.{suffix}").read_bytes()
        for k in range(60):
            damaged = bytearray(whole)
            for place in random.integers(0, min(len(whole), 200 if k % 2 else len(whole)), 4):
                damaged[place] ^= 1 << random.integers(0, 8)
            Path(f"photos/{k}.{suffix}").write_bytes(damaged[: None if k % 3 else len(damaged) // 2])
    from pixelcnn.config import DataConfig

    with pytest.warns(UserWarning, match="pictures were skipped") as told:
        data = everything(config=DataConfig(size=8))
    skipped = int(str(told[0].message).split()[1])
    assert len(data.images) + skipped == 303
    assert skipped > 100


def test_only_the_first_skipped_are_named():
    pictures("photos", 2)
    for k in range(9):
        Path(f"photos/bad{k}.png").touch()
    with pytest.warns(UserWarning, match=r"9 pictures were skipped: bad0.*bad4[^5]*; all in (.*skipped\.txt)$") as told:
        everything()
    listed = Path(str(told[0].message).rpartition(" in ")[2]).read_text().splitlines()
    assert [line[:8] for line in listed] == [f"bad{k}.png" for k in range(9)]


def test_small_pictures_have_no_patches():
    pictures("photos", 4, (9, 9))
    picture("photos/small.png", (9, 3))
    with pytest.warns(
        UserWarning, match=r"photos: 1 picture was skipped: small\.png: it is 9 x 3, smaller than a patch"
    ):
        data = opened("photos", size=4, crop="patches", held_out=0.3)
    assert len(data.training) + len(data.validation) == 16
    assert "patches of pictures" in data.description


@pytest.mark.parametrize("threads", [1, 8])
def test_the_order_does_not_depend_on_threads(monkeypatch, threads):
    pixels = pictures("photos", 40, (5, 5, 3))
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    data = everything()
    assert data.names() == sorted(data.names()[: (split := _first_drop(data.names()))]) + sorted(data.names()[split:])
    for image, name in zip(data.images.numpy(), data.names(), strict=True):
        assert np.array_equal(image, pixels[int(name[:5])].transpose(2, 0, 1))


def _first_drop(names):
    return next(k for k in range(1, len(names)) if names[k] < names[k - 1])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_odd_names():
    """Not UTF-8, a line break, a colon."""
    odd = [b"\xff.png", b"a\nb.png", b"c:train.png"]
    pictures("x:train", 1)
    for name in odd:
        Path("x:train/00000.png").rename(os.path.join("x:train", os.fsdecode(name)))
        pictures("x:train", 1)
    Path("x:train/00000.png").unlink()
    data = everything("x:train")
    assert sorted(map(os.fsencode, data.names())) == sorted([b"\xff.png", b"a b.png", b"c:train.png"])


def test_names_for_files():
    Path("photos").mkdir()
    Path("codes.npz").touch()
    Path("cifar-10-binary.tar.gz").touch()
    sources = ["mnist", "mnist:test", "photos/", "./photos", "photos:train", "codes.npz", "hf:a/b@c", "hf:mnist"]
    assert [name_of(s) for s in sources] == ["mnist", "mnist", "photos", "photos", "photos", "codes", "b-c", "mnist"]
    assert name_of(os.path.abspath("photos")) == "photos"
    assert name_of("cifar-10-binary.tar.gz") == "cifar-10-binary"
