"""Folders of pictures: what is found in them, classes, channels, what is skipped."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made import noise, opened, picture, pictures
from pixelcnn.config import DataConfig
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


def test_what_is_passed_over():
    pictures("photos", 3)
    picture("photos/._hidden.png")
    picture("photos/.thumbnails/x.png")
    Path("photos/README.txt").write_text("hello")
    os.symlink(Path("photos").resolve(), "photos/.again")
    with pytest.warns(UserWarning, match=r"^photos: left out by their endings: 1 \.txt$"):
        assert len(everything().images) == 3


def test_files_left_out_are_counted_by_their_endings_each_time():
    """Also those in sub-folders, and those that came after the cache was made."""
    pictures("photos/a", 3)
    for name in ("photos/a/x.heic", "photos/a/deep/y.HEIC", "photos/z.csv", "photos/none"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    for opening in (everything, everything, lambda: opened("photos", held_out=0.4)):
        with pytest.warns(UserWarning, match="left out by their endings: 2 .heic, 1 without an ending, 1 .csv$"):
            opening()
    Path("photos/w.csv").touch()
    with pytest.warns(UserWarning, match="left out by their endings: 2 .csv, 2 .heic, 1 without an ending$"):
        everything()


def test_what_pillow_reads_is_taken():
    """As a folder of 6 PNG files and 30 of other formats."""
    expected = pictures("photos", 6)
    for k, suffix in enumerate(5 * ["bmp", "ppm", "tga", "pcx", "qoi", "BMP"]):
        expected.append(picture(f"photos/{k}.{suffix}", seed=100 + k))
    found = {image.tobytes() for image in everything().images.numpy()}
    assert found == {p.transpose(2, 0, 1).tobytes() for p in expected}
    assert len(found) == 36


def deep(name, top, seed=0, shape=(6, 7)):
    """A picture of 16 bits per value of which none is above `top`."""
    values = np.random.default_rng(seed).integers(0, top + 1, shape, np.uint16)
    values[0, 0] = top
    Path(name).parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(name)
    return values


@pytest.mark.parametrize(
    ("top", "bits", "kept"),
    [
        (255, 8, r"read as 8 bits, 0\.\.255 \(as many as they use; bit_depth can say how many\)$"),
        (4095, 12, r"read as 12 bits, 0\.\.4095 .*, of which the upper 8 are kept: more than 256 levels keep more$"),
        (65535, 16, r"read as 16 bits, 0\.\.65535 .*upper 8 are kept"),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_the_depth_is_that_of_all_values(top, bits, kept, suffix):
    """One picture alone need not have the brightest value."""
    values = [deep(f"photos/{k:02}.{suffix}", top if k == 7 else top // 4, k) for k in range(12)]
    plain = picture("photos/plain.png", (6, 7))
    for opening in (everything, everything, lambda: opened("photos", held_out=0.3)):
        with pytest.warns(UserWarning, match=f"^photos: pictures stored with 16 bits are {kept}"):
            opening()
    with pytest.warns(UserWarning, match="16 bits"):
        data = everything()
    expected = {(v >> (bits - 8)).astype(np.uint8).tobytes() for v in values} | {plain.tobytes()}
    assert {image.tobytes() for image in data.images.numpy()} == expected


@pytest.mark.parametrize("held_in_16", [4095, 65535])
def test_files_that_say_their_depth_are_read_with_it(held_in_16):
    """Whatever the others hold."""
    wide = deep("photos/wide.png", held_in_16)
    low = deep("low.png", 1000, 1)
    Path("photos/low.pgm").write_bytes(b"P5 7 6 4095\n" + low.astype(">u2").tobytes())
    bits = held_in_16.bit_length()
    with pytest.warns(UserWarning, match="^photos: ") as told:
        data = everything()
    said = sorted(str(each.message) for each in told)
    assert said[0].startswith(f"photos: pictures stored with 16 bits are read as {bits} bits, 0..{held_in_16} (as many")
    assert said[1].startswith("photos: pictures whose files say 12 bits are read as 12 bits, 0..4095, of which the up")
    found = dict(zip(data.names(), data.images.numpy()[:, 0], strict=True))
    assert np.array_equal(found["wide.png"], wide >> (bits - 8))
    assert np.array_equal(found["low.pgm"], low >> 4)


def test_a_depth_that_is_told():
    values = deep("photos/a.png", 4095)
    deep("photos/b.png", 5000)
    with pytest.warns(UserWarning, match="^photos: ") as told:
        data = everything(config=DataConfig(bit_depth=12))
    said = [str(each.message) for each in told]
    assert said[0] == "photos: 1 picture was skipped: b.png: it holds the value 5000, and bit_depth = 12 allows 0..4095"
    assert said[1].startswith(
        "photos: pictures stored with 16 bits are read as 12 bits, 0..4095 (as bit_depth says), of"
    )
    assert np.array_equal(data.images[0, 0], values >> 4)


def test_frames_that_are_left_out_are_counted():
    pictures("photos", 2, (4, 3))
    for name, n in (("a.gif", 3), ("b.tif", 5), ("c.png", 2)):
        frames = [Image.new("L", (3, 4), 50 + k) for k in range(n)]
        frames[0].save(f"photos/{name}", save_all=True, append_images=frames[1:])
    with pytest.warns(
        UserWarning, match="3 pictures have several frames or pages, of which the first is taken: 7 are left"
    ):
        data = everything()
    assert len(data.images) == 5
    assert {int(image[0, 0, 0]) for image, name in zip(data.images, data.names(), strict=True) if name[0] in "abc"} == {
        50
    }


def test_nearly_black_and_constant_pictures_are_told_before_training():
    for k in range(20):
        Path("masks").mkdir(exist_ok=True)
        Image.fromarray(noise(6, 7, seed=k, top=2)).save(f"masks/{k}.png")
        Path("blank").mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 7), 9, np.uint8)).save(f"blank/{k}.png")
    with pytest.warns(
        UserWarning,
        match=r"^masks: the images are nearly black: all their levels are in 0\.\.1, of 0\.\.255; .* an array$",
    ):
        assert "levels 0..1 of 256" in opened("masks", held_out=0.3).summary
    with (
        pytest.warns(
            UserWarning, match=r"^blank: every level is 0, so there is nothing to learn; .* given as an array$"
        ),
        pytest.raises(ValueError, match="blank has no training images"),  # they are one image
    ):
        opened("blank", 6)  # floor(9 * 6 / 256)
    for k in range(20):
        Image.fromarray(np.full((6, 7), 10 * k, np.uint8)).save(f"blank/{k}.png")
    assert "; levels 0..190 of 256, 20 images of one level throughout" in opened("blank", held_out=0.3).summary
    everything("masks")  # what is only looked at may be dark


def test_a_summary():
    for k in range(20):
        picture(f"pets/{'ab'[k % 2]}/{k}.png", seed=k)
    data = opened("pets", 4, test=0.2)
    n, held_out = len(data.training), len(data.validation)
    assert data.summary == (
        f"pets: images: {n} for training, {held_out} for validation, {20 - n - held_out} for test; 3 x 6 x 7 "
        "(channels, height, width); levels 0..3 of 4; 2 classes"
    )
    assert opened("mnist").summary == (
        "mnist: images: 55,000 for training, 5,000 for validation; 1 x 28 x 28 (channels, height, width); levels 0..1 "
        "of 2; 10 classes"
    )


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
    assert everything(config=DataConfig(channels=1)).images.shape == (4, 1, 5, 5)


def test_a_grey_picture_that_is_refused_makes_no_others_colour():
    picture("data/a.png", (6, 7))
    picture("data/b.png", (6, 7), seed=1)
    Image.fromarray(noise(6, 7).astype(np.float32)).save("data/c.tif")
    with pytest.warns(UserWarning, match="32 bits"):
        assert open_data("data", None, progress=False).images.shape == (2, 1, 6, 7)


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
    assert "a/empty.jpg: it is no picture of a format that is read" in said
    assert "a/link.png: No such file or directory" in said
    assert len(data.images) == 12
    assert len(data.labels) == 12
    with pytest.warns(UserWarning, match="photos: 4 pictures were skipped: "):
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
    assert sorted(map(os.fsencode, data.names())) == sorted([b"\xff.png", b"a\nb.png", b"c:train.png"])


def test_names_for_files():
    Path("photos").mkdir()
    Path("codes.npz").touch()
    Path("cifar-10-binary.tar.gz").touch()
    sources = ["mnist", "mnist:test", "photos/", "./photos", "photos:train", "codes.npz", "hf:a/b@c", "hf:mnist"]
    assert [name_of(s) for s in sources] == ["mnist", "mnist", "photos", "photos", "photos", "codes", "b-c", "mnist"]
    assert name_of(os.path.abspath("photos")) == "photos"
    assert name_of("cifar-10-binary.tar.gz") == "cifar-10-binary"
