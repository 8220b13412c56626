"""Every kind of bad input has its message: one line, exit code 2, and no cache is left."""

import csv
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import pixelcnn
from made import noise, opened, picture, pictures
from pixelcnn.cli import main
from pixelcnn.config import DataConfig, from_dict, to_dict
from pixelcnn.datasets import cache, folder, open_data

DAMAGED = b"\x89PNG\r\n\x1a\n and no more"


def empty():
    Path("data").mkdir()


def no_pictures():
    empty()
    Path("data/notes.txt").touch()
    Path("data/more").mkdir()


def mixed_sizes():
    picture("data/a.png", (6, 7))
    picture("data/b.png", (6, 8))


def one_damaged():
    pictures("data", 5)
    Path("data/00002.png").write_bytes(DAMAGED)


def all_damaged():
    empty()
    for name in ("a.png", "b.jpg"):
        Path("data", name).write_bytes(DAMAGED)


def top_and_below():
    picture("data/a.png")
    picture("data/cats/b.png")


def splits_for_classes():
    picture("data/train/a.png")
    picture("data/Test/b.png")


def small_pictures():
    pictures("data", 3, (6, 7))


def other_files():
    pictures("data", 3)
    for name in ("a.HEIC", "b.heic", "notes.txt", ".hidden"):
        Path("data", name).touch()


def array(values, name="data.npy"):
    return lambda: np.save(name, values)


def archive(**arrays):
    return lambda: np.savez("data.npz", **arrays)


def content(name, data):
    return lambda: Path(name).write_bytes(data)


def headed(shape, kind="'|u1'"):
    """An array whose header was changed."""

    def make():
        header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
        Path("data.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(128))

    return make


def truncated(name="data.npy"):
    def make():
        (np.save if name.endswith("npy") else np.savez)(name, noise(50, 8, 8).astype(np.int16))
        os.truncate(name, Path(name).stat().st_size // 2)

    return make


def flipped(method=zipfile.ZIP_STORED, position=1000):
    def make():
        with zipfile.ZipFile("data.npz", "w", method) as file, file.open("images.npy", "w") as member:
            np.save(member, noise(50, 8, 8))
        whole = bytearray(Path("data.npz").read_bytes())
        whole[position] ^= 0x10
        Path("data.npz").write_bytes(whole)

    return make


def objects():
    np.save("data.npy", np.array([{"a": 1}] * 3), allow_pickle=True)


def a_value(value, dtype=np.int64):
    values = np.zeros((50, 4, 5), dtype)
    values[3, 1, 2] = value
    return array(values)


LABELS = noise(50, top=3).astype(int)
SPINS = np.tile([-1, 1], (9, 4, 2))
CASES = {
    "missing path": (None, "nowhere", {}, "unknown data 'nowhere'; known: mnist .*no such file or folder"),
    "a file of no kind": (content("data.csv", b"1,2"), "data.csv", {}, "unknown data 'data.csv'.* a file of none of"),
    "empty folder": (empty, "data", {}, "data holds no pictures: it is empty"),
    "no pictures": (no_pictures, "data", {}, r"data holds no pictures: none of its 1 files ends in \.png, \.jpg, "),
    "mixed sizes": (mixed_sizes, "data", {}, r"b\.png of data is 6 x 8, but a\.png is 6 x 7: give a size"),
    "damaged, strict": (one_damaged, "data", {"strict": True}, r"00002\.png of data cannot be used: .*without strict"),
    "all damaged": (all_damaged, "data", {}, r"none of the 2 pictures of data can be used; the first is a\.png: "),
    "top and below": (top_and_below, "data", {}, r"holds pictures \(a\.png\) beside sub-folders with.*\(cats/b\.png\)"),
    "splits for classes": (splits_for_classes, "data", {}, "sub-folders Test and train, which are splits and not cl"),
    "small pictures": (
        small_pictures,
        "data",
        {"size": 8, "crop": "patches"},
        r"none of the 3 pictures of data can be used; the first is 00000\.png: it is 6 x 7, smaller than a patch of 8",
    ),
    "small, strict": (
        small_pictures,
        "data",
        {"size": 8, "crop": "patches", "strict": True},
        r"00000\.png of data cannot be used: it is 6 x 7, smaller than a patch of 8 x 8",
    ),
    "split named": (small_pictures, "data:train", {}, "training takes its splits from --held-out, so DATA has none"),
    "nothing held out": (
        small_pictures,
        "data",
        {"held_out": 1e-6},
        r"data has no validation images: held_out = 1e-06 leaves none of its 3, .* try a larger held_out, or more",
    ),
    "all held out": (
        small_pictures,
        "data",
        {"held_out": 0.999999},
        r"data has no training images: held_out = 0\.999999 leaves none of its 3, .* try a smaller held_out",
    ),
    "over the levels": (
        a_value(9),
        "data.npy",
        {"levels": 9},
        r"data\.npy holds 9 at \[3, 1, 2\], but levels are 0\.\.8",
    ),
    "over all levels": (
        a_value(65536),
        "data.npy",
        {},
        r"holds 65536 at \[3, 1, 2\], .* a model has at most 65536 levels",
    ),
    "spins": (array(SPINS), "data.npy", {}, r"holds -1 at \[0, 0, 0\].*spins .* become levels by \(x \+ 1\) // 2"),
    "negative": (a_value(-1, np.int8), "data.npy", {}, r"holds -1 at \[3, 1, 2\].*by x\.astype\(int\) - x\.min\(\)"),
    "floating point": (
        array(np.zeros((9, 4, 4))),
        "data.npy",
        {},
        r"must hold integers, got float64; whole numbers are saved as x\.astype\('int32'\), values from 0 to 1 as ",
    ),
    "text": (array(np.full((9, 4, 4), "x")), "data.npy", {}, "must hold integers, got <U1"),
    "two dimensions": (
        array(noise(9, 4)),
        "data.npy",
        {},
        r"shape \(N, H, W\), \(N, C, H, W\) or \(N, H, W, C\), got \(9, 4\); one image is saved as x\[None\], seq",
    ),
    "five dimensions": (array(noise(9, 1, 1, 4, 4)), "data.npy", {}, r"got \(9, 1, 1, 4, 4\)"),
    "no dimension": (array(np.uint8(3)), "data.npy", {}, r"got \(\)"),
    "channels last": (
        array(noise(9, 8, 8, 3)),
        "data.npy",
        {},
        r"the shape \(9, 8, 8, 3\): are these 9 images of 8 channels and 8 x 3 pixels \(--layout nchw\), or of 3 "
        r"channels and 8 x 8 pixels \(--layout nhwc\)\?",
    ),
    "channels last, few rows": (array(noise(40, 4, 4, 3)), "data.npy", {}, "3 channels and 4 x 4 pixels"),
    "one channel last": (array(noise(40, 4, 4, 1)), "data.npy", {}, "of 1 channels and 4 x 4 pixels"),
    "perhaps one image": (
        array(noise(48, 64, 3)),
        "data.npy",
        {},
        r"48 images of one channel and 64 x 3 pixels \(--layout nhw\), or one image of 3 channels \(then save x\[None",
    ),
    "layout of a folder": (
        small_pictures,
        "data",
        {"layout": "nhw"},
        "layout must be left out for data, which is no arr",
    ),
    "layout of MNIST": (None, "mnist", {"layout": "nhw"}, "layout must be left out for mnist, which is no array, got"),
    "bit depth of an array": (
        array(noise(9, 5, 5)),
        "data.npy",
        {"bit_depth": 9},
        "bit_depth must be left out for data",
    ),
    "other files, strict": (
        other_files,
        "data",
        {"strict": True},
        r"not read, 2 \.heic, 1 \.txt: without strict they are",
    ),
    "an archive": (content("a.zip", b"PK"), "a.zip", {}, r"from the archive 'a\.zip': unpack it, and give"),
    "a picture": (content("a.TIF", b"II"), "a.TIF", {}, r"got the picture 'a\.TIF': put it into a folder"),
    "no name": (None, "", {}, "unknown data ''; known: mnist"),
    "no images": (array(noise(0, 8, 8)), "data.npy", {}, r"data\.npy holds no images: its shape is \(0, 8, 8\)"),
    "no pixels": (array(noise(9, 0, 8)), "data.npy", {}, r"images of at least one value, got the shape \(9, 0, 8\)"),
    "Fortran order": (array(np.asfortranarray(noise(9, 8, 8))), "data.npy", {}, r"save np\.ascontiguousarray\(x\)"),
    "truncated array": (truncated(), "data.npy", {}, r"data\.npy is truncated: it ends in image 24"),
    "truncated archive": (truncated("data.npz"), "data.npz", {}, r"data\.npz is damaged or not a NumPy file"),
    "flipped bit": (flipped(), "data.npz", {}, r"data\.npz\[images\] is damaged.*Bad CRC-32"),
    "flipped bit under LZMA": (flipped(zipfile.ZIP_LZMA, 60), "data.npz", {}, r"data\.npz\[images\] is damaged"),
    "flipped bit under bzip2": (flipped(zipfile.ZIP_BZIP2, 60), "data.npz", {}, r"data\.npz\[images\] is damaged"),
    "empty file": (content("data.npy", b""), "data.npy", {}, r"data\.npy is damaged or not a NumPy file"),
    "no type": (headed((2, 8, 8), kind="()"), "data.npy", {}, r"data\.npy is damaged or not a NumPy file"),
    "less than no images": (headed((-2, 8, 8)), "data.npy", {}, r"data\.npy is damaged.* has the shape \(-2, 8, 8\)"),
    "more than any images": (headed((2**63, 8, 8)), "data.npy", {}, r"data\.npy is damaged.* has the shape \(92"),
    "not an array": (content("data.npy", DAMAGED), "data.npy", {}, r"data\.npy is damaged or not a NumPy file"),
    "not an archive": (content("data.npz", DAMAGED), "data.npz", {}, r"data\.npz is damaged or not a NumPy file"),
    "objects": (objects, "data.npy", {}, "data.npy holds Python objects, which are never read"),
    "two arrays": (archive(a=LABELS, b=LABELS), "data.npz", {}, "must hold an array named images,.* got a, b"),
    "labels alone": (archive(labels=LABELS), "data.npz", {}, "must hold an array named images,.* got labels"),
    "too few labels": (
        archive(images=noise(50, 4, 4), labels=LABELS[:49]),
        "data.npz",
        {},
        r"data\.npz\[labels\] must have shape \(50,\), one label per image, got \(49,\)",
    ),
    "labels of floats": (
        archive(images=noise(50, 4, 4), labels=LABELS / 2),
        "data.npz",
        {},
        r"float64; number them by np\.unique",
    ),
    "too many classes": (
        archive(images=noise(50, 4, 4), labels=LABELS + 65535),
        "data.npz",
        {},
        r"labels\] must be in 0\.\.65535, since a model has at most 65536 classes, got 65537",
    ),
    "negative labels": (archive(images=noise(50, 4, 4), labels=LABELS - 1), "data.npz", {}, r"0\.\.65535.*, got -1"),
    "size of an array": (array(noise(50, 4, 4)), "data.npy", {"size": 8}, "size must be left out for data, which is"),
    "size of MNIST": (None, "mnist", {"size": 8}, "size must be left out for mnist, which is taken as it is, got 8"),
    "levels": (small_pictures, "data", {"levels": 65537}, r"levels must be in 2\.\.65536, got 65537"),
    "levels beyond the pictures' bits": (
        small_pictures,
        "data",
        {"levels": 257},
        "at most 8 bits, and 257 levels need more",
    ),
}


@pytest.mark.parametrize(("make", "data", "options", "message"), CASES.values(), ids=CASES)
def test_each_is_refused_with_a_message(make, data, options, message):
    if make is not None:
        make()
    with pytest.raises(ValueError, match=message):
        opened(data, **options)
    if cache.cache_folder().exists() and "held_out" not in options:
        assert not list(cache.cache_folder().iterdir())


ON_THE_COMMAND_LINE = ["missing path", "empty folder", "all damaged", "floating point", "truncated array", "objects"]


@pytest.mark.parametrize("case", ON_THE_COMMAND_LINE)
def test_the_command_line_says_so_in_one_line(case, capsys):
    make, data, _, _ = CASES[case]
    if make is not None:
        make()
    assert main(["train", data]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("pixelcnn: ")
    assert "Traceback" not in captured.err


def test_too_many_classes_of_a_folder(monkeypatch):
    monkeypatch.setattr(folder, "MAX_CLASSES", 2)
    for name in "abc":
        picture(f"data/{name}/x.png")
    with pytest.raises(
        ValueError, match="data has more than 2 sub-folders with pictures, which are classes; a model has"
    ):
        opened("data")


def test_a_folder_that_cannot_be_read(monkeypatch):
    pictures("data/cats", 2)
    scan = os.scandir

    def refused(path):
        if str(path).endswith("cats"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="data/cats"):
        opened("data")


def test_unknown_splits():
    pictures("data", 3)
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'tset'"):
        open_data("data:tset", 256, progress=False)
    with pytest.raises(ValueError, match=r"data has no test images: test = 0 leaves none of its 3"):
        open_data("data:test", 256, progress=False)


def test_values_in_place_are_checked_too():
    a_value(9, np.uint8)()
    with pytest.raises(ValueError, match=r"data\.npy holds 9 at \[3, 1, 2\], but levels are 0\.\.8"):
        open_data("data.npy", 9, progress=False)
    assert open_data("data.npy", 10, progress=False).images.max() == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size must be an integer in 1\.\.65536, or two of them, or None, got 0"),
        ({"size": (3, 2, 1)}, "size must be"),
        ({"size": 2.5}, "size must be"),
        ({"channels": 2}, "channels must be 1, 3 or None, got 2"),
        ({"crop": "center"}, "crop must be 'centre' or 'patches', got 'center'"),
        ({"crop": "patches"}, "size must be given for patches, got None"),
        ({"layout": "hwc"}, "layout must be 'nhw', 'nchw', 'nhwc' or None, got 'hwc'"),
        ({"bit_depth": 7}, r"bit_depth must be an integer in 8\.\.16, got 7"),
        ({"bit_depth": True}, "bit_depth must be an integer"),
        ({"strict": 1}, "strict must be True or False, got 1"),
        ({"held_out": 0.0}, "held_out must lie strictly between 0 and 1, got 0.0"),
        ({"held_out": 1.0}, "held_out must lie strictly between 0 and 1, got 1.0"),
        ({"test": 0.95}, r"test must be at least 0 and less than 1 - held_out = 0\.9, got 0\.95"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**options)


def test_options_survive_json():
    for config in (
        DataConfig(),
        DataConfig(size=(3, 4), channels=1),
        DataConfig(size=9, crop="patches"),
        DataConfig(layout="nhwc", bit_depth=12),
    ):
        assert from_dict(DataConfig, to_dict(config), "here") == config


def test_classes_in_another_order_are_known_by_their_names(capsys):
    """Those of the model are in the order in which it learned them, those of a folder in that of their names."""
    built = pixelcnn.GatedPixelCNN((3, 6, 7), levels=4, filters=6, layers=2, num_classes=3)
    built.class_names = ("c", "a", "b")
    built.save_pretrained("model")
    for k, name in enumerate("abc"):
        picture(f"data/{name}/x.png", seed=k)
    data = open_data("data", 4, progress=False)
    numbers = torch.tensor([built.class_names.index(data.classes[k]) for k in data.labels.tolist()])
    with torch.no_grad():
        expected = -built.log_prob(data.images, numbers)
        likely = built.classify(data.images).argmax(1).tolist()
    assert main(["evaluate", "model", "data", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nats_per_image"] == pytest.approx(expected.mean().item(), abs=1e-3)
    for k, number in enumerate(numbers.tolist()):
        assert found["by_class"]["cab"[number]]["nats_per_image"] == pytest.approx(expected[k].item(), abs=1e-3)
    assert main(["score", "model", "data", "--labels", "--classify"]) == 0
    with open("scores.csv") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["log_prob"]) for line in lines] == pytest.approx((-expected).tolist(), abs=1e-3)
    assert [line["class"] for line in lines] == ["cab"[k] for k in likely]
    known = torch.zeros(6, 7, dtype=torch.bool)
    known[:4] = True
    assert main(["complete", "model", "data", "--keep-rows", "4", "-n", "1", "--arrays", "all.npz"]) == 0
    drawn = built.complete(data.images, known, 1, labels=numbers, seed=0)
    assert np.load("all.npz")["log_evidence"] == pytest.approx(drawn.log_evidence.numpy(), abs=1e-3)


def test_evaluating_on_other_classes(capsys):
    built = pixelcnn.GatedPixelCNN((3, 6, 7), levels=4, filters=6, layers=2, num_classes=3)
    built.save_pretrained("model")
    for name in "ab":
        pictures(f"data/{name}", 4)
    assert main(["evaluate", "model", "data"]) == 2
    said = capsys.readouterr().err
    assert "pixelcnn: data has 2 classes, but the model 3; --classes none evaluates without them" in said
    assert main(["evaluate", "model", "data", "--classes", "none"]) == 0
    assert "model on 8 images of data\n" in capsys.readouterr().out
    picture("data/c/x.png", seed=50)
    assert main(["evaluate", "model", "data"]) == 0
    data = open_data("data", 4, progress=False)
    nats = -built.log_prob(data.images, data.labels).mean().item()
    printed = capsys.readouterr().out
    assert "model on 9 images of data, given their classes" in printed
    assert f"nats/image      {nats:.3f}" in printed
    assert data.labels.dtype == torch.int64
