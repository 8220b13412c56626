"""What --condition names: shrunk images, folders and arrays of maps, categories, and what does not fit."""

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from made import shallow
from pixelcnn.cli import main
from pixelcnn.config import DataConfig
from pixelcnn.datasets import condition_fields, open_data, open_training, read_condition, read_maps, shrunk


def test_shrunk_images_are_means_in_steps_of_a_255th():
    images = torch.tensor([[[[0, 1, 1, 1], [1, 1, 0, 0]]]], dtype=torch.uint8)
    assert shrunk(images, 2, 2).tolist() == [[[[191, 128]]]]  # 3/4 and 1/2, rounded half up
    grey = torch.randint(256, (3, 2, 6, 9), dtype=torch.uint8)
    means = torch.nn.functional.avg_pool2d(grey.double(), 3)
    assert (shrunk(grey, 3, 256) - means).abs().max() <= 0.5
    with pytest.raises(ValueError, match=r"by 4.*6 x 9"):
        shrunk(grey, 4, 256)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Twelve pictures of 4 x 4, maps of 2 x 2 with their names, and labels."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(1)
    for name in ("images", "maps", "labels"):
        (tmp_path / name).mkdir()
    for k in range(12):
        small = generator.integers(0, 2, (2, 2), dtype=np.uint8)
        Image.fromarray(np.kron(small, np.ones((2, 2), np.uint8)) * 255).save(f"images/{k:02d}.png")
        Image.fromarray(small * 255).save(f"maps/{k:02d}.bmp")
        Image.fromarray(small * 3).save(f"labels/{k:02d}.png")
    return tmp_path


def test_maps_by_name_and_by_index(folders):
    names, images = ["03.png", "01.png"], torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    maps = read_condition("maps", images, 2, names)
    assert (maps.dtype, maps.shape) == (torch.uint8, (2, 1, 2, 2))
    assert torch.equal(maps[0, 0], torch.from_numpy(np.array(Image.open("maps/03.bmp"))))
    labels = read_condition("labels:labels", images, 2, names)
    assert torch.equal(labels * 85, maps.int())
    assert condition_fields("maps", maps) == {"condition_channels": 1}
    assert condition_fields("labels:labels", labels, torch.tensor([[[[6]]]])) == {"condition_levels": 7}
    assert len(read_maps("maps")) == 12
    array = np.arange(24.0, dtype=np.float32).reshape(6, 2, 2)
    np.save("maps.npy", array)
    assert read_condition("maps.npy", images, 2, ["5", "0"])[:, 0].tolist() == array[[5, 0]].tolist()
    with pytest.raises(ValueError, match="6 maps, and there are 5 images"):
        read_condition("maps.npy", images, 2, ["4", "0"], 5)
    np.save("vectors.npy", array[:, 0])
    assert condition_fields("vectors.npy", read_condition("vectors.npy", images, 2, ["5", "0"])) == {"condition_dim": 2}


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int64, bool])
def test_labels_of_any_integers(folders, dtype):
    labels = np.random.default_rng(0).integers(0, 2, (3, 2, 2))
    np.save("labels.npy", labels.astype(dtype))
    found = read_maps("labels:labels.npy")
    assert found[:, 0].tolist() == labels.tolist()
    assert condition_fields("labels:labels.npy", found) == {"condition_levels": 2}
    model = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=1, condition_levels=2)
    assert len(model.sample(3, condition=found, seed=0)) == 3


def test_labels_are_the_values_of_the_files(folders):
    """Of grey pictures of few bits and PGM files, whose values Pillow scales; upright, as the images are."""
    (folders / "few").mkdir()
    values = np.array([[0, 1, 2], [3, 2, 0]], np.uint8)
    shallow("few/a.png", values, 2)
    shallow("few/b.png", values, 4)
    for k, most in enumerate((3, 11, 255, 300)):
        content = values.tobytes() if most < 256 else values.astype(">u2").tobytes()
        (folders / "few" / f"c{k}.pgm").write_bytes(b"P5\n3 2\n%d\n" % most + content)
    Image.fromarray(values).save("few/d.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(values)).save("few/e.png", exif=exif)
    found = read_maps("labels:few")
    assert found.shape == (8, 1, 2, 3)
    assert all(each.tolist() == values.tolist() for each in found[:, 0])


def test_hidden_files_are_no_maps(folders):
    (folders / "maps" / "._00.png").write_bytes(b"metadata of a Mac")
    assert len(read_maps("maps")) == 12


def test_maps_in_grey_are_read_in_colour_for_a_model_of_such_maps(folders, capsys):
    """Whichever of the maps are looked at: those in colour need not be among the validation images' or the first."""
    Image.new("RGB", (2, 2), (200, 100, 50)).save("maps/07.bmp")
    network = ["--levels", "2", "--model", "gated", "--filters", "4", "--layers", "1", "--held-out", "0.3"]
    assert main(["train", "images", *network, "--steps", "1", "--condition", "maps", "--out", "run"]) == 0
    assert pixelcnn.load("run").config.condition_channels == 3
    assert main(["evaluate", "run", "images", "--condition", "maps", "--images", "1"]) == 0
    assert main(["sample", "run", "-n", "1", "--condition", "maps/00.bmp", "--out", "s.png"]) == 0
    assert "given maps" in capsys.readouterr().out
    grey, colour = read_maps("maps/00.bmp"), read_maps("maps/00.bmp", colour=True)
    assert torch.equal(grey.expand(1, 3, 2, 2), colour)


def test_a_picture_is_found_whatever_its_ending(folders):
    (folders / "maps" / "03.bmp").rename("maps/03.BMP")
    assert read_condition("maps", torch.zeros(1, 1, 4, 4, dtype=torch.uint8), 2, ["03.jpg"]).shape == (1, 1, 2, 2)


def test_names_with_line_breaks(folders):
    for folder in ("images", "maps"):
        for path in (folders / folder).iterdir():
            path.rename(path.with_stem(f"of\n{path.stem}"))
    data = open_data("images", 2, progress=False)
    maps = read_condition("maps", data.images, 2, data.names())
    assert torch.equal(maps // 255, data.images[:, :, ::2, ::2])


@pytest.fixture
def damaged(folders):
    """Files that hold no maps."""
    for name in ("cut", "broken", "deep", "signed", "real"):
        (folders / name).mkdir()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    image.save("whole.png")
    whole = (folders / "whole.png").read_bytes()
    half = len(whole) // 2
    (folders / "cut" / "a.png").write_bytes(whole[:half])
    (folders / "broken" / "a.png").write_bytes(whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :])
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save("deep/a.png")
    Image.fromarray(np.array([[0, -5], [2, 1]], np.int32)).save("signed/a.tif")
    Image.fromarray(np.array([[0.5, 1.7], [2, 1]], np.float32)).save("real/a.tif")
    np.savez("maps.npz", np.zeros((3, 2, 2)))
    content = (folders / "maps.npz").read_bytes()
    (folders / "cut.npz").write_bytes(content[: len(content) // 2])
    np.save("none.npy", np.zeros((0, 2, 2)))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("cut", "cut/a.png cannot be read as a picture"),
        ("broken", "broken/a.png cannot be read as a picture"),
        ("deep", "deep/a.png .*16 bits"),
        ("labels:signed", r"signed/a.tif must hold labels, .* got -5\.\.2"),
        ("labels:real", "real/a.tif must hold labels, .* got torch.float32"),
        ("cut.npz", "cut.npz is not a NumPy file"),
        ("none.npy", r"none.npy holds no maps: its shape is \(0, 1, 2, 2\)"),
    ],
)
@pytest.mark.usefixtures("damaged")
def test_what_holds_no_maps(spec, said):
    with pytest.raises(ValueError, match=said):
        read_maps(spec)


def test_a_map_of_a_picture_is_none_of_its_patches(folders):
    data = open_data("images", 2, config=DataConfig(size=2, crop="patches"))
    with pytest.raises(ValueError, match=r"png#\d is one of several images of its file"):
        read_condition("maps", data.images, 2, data.names())


@pytest.mark.parametrize(
    ("spec", "names", "said"),
    [
        ("nothing", ["0"], "no 'nothing'"),
        ("shrink:1", ["0"], "shrink:1"),
        ("shrink:x", ["0"], "shrink:x"),
        ("maps", ["77.png"], "77.png"),
        ("short.npy", ["0"], "has 0 maps"),
        ("short.npy", ["a.png"], "a folder with the names"),
        ("flat.npy", ["0"], r"\(3,\)"),
        ("labels:real.npy", ["0"], r"labels, integers in 0\.\."),
        ("images/00.png", ["00.png"], "must be a folder of pictures .* got the picture 'images/00.png'"),
        ("labels:labels/00.png", ["00.png"], "must be a folder of pictures .* got the picture 'labels:labels/00.png'"),
        ("text.npy", ["0"], "text.npy is not a NumPy file of one array: the magic string is not correct"),
    ],
)
def test_conditions_that_do_not_fit(folders, spec, names, said):
    np.save("short.npy", np.zeros((0, 2, 2)))
    np.save("flat.npy", np.zeros(3))
    np.save("real.npy", np.zeros((1, 2, 2)))
    (folders / "text.npy").write_text("0.1, 0.2, 0.3")
    with pytest.raises(ValueError, match=said):
        read_condition(spec, torch.zeros(1, 1, 4, 4, dtype=torch.uint8), 2, names)


def test_the_commands(folders, capsys):
    """A model trained with maps takes them everywhere; one of numbers takes no labels; a mistake is one line."""
    network = ["--levels", "2", "--model", "gated", "--filters", "4", "--layers", "2", "--kernel-size", "3"]
    network += ["--steps", "1", "--device", "cpu"]
    assert main(["train", "images", *network, "--condition", "maps", "--out", "run"]) == 0
    config = pixelcnn.load("run").config
    assert (config.condition_channels, config.condition_levels) == (1, 0)
    assert main(["evaluate", "run", "images", "--condition", "maps"]) == 0
    assert "given maps" in capsys.readouterr().out
    assert main(["sample", "run", "-n", "3", "--condition", "maps/00.bmp", "--guidance", "1.5", "--out", "s.png"]) == 0
    Image.open("maps/00.bmp").save("map.png")
    for arguments, said in (
        (["evaluate", "run", "images", "--condition", "labels:labels"], "numbers"),
        (["sample", "run", "--condition", "shrink:2"], "shrink:2"),
        (["sample", "run", "--condition", "maps", "--out", "folder"], "--condition is for pictures"),
        (["sample", "run", "--condition", "map.png", "--out", "map.png"], "--out must not be map.png, which is read"),
        (["sample", "run", "--condition", "maps", "--separate", "--out", "maps"], "--out must lie outside maps, whose"),
        (["evaluate", "mnist", "mnist:test", "--images", "1", "--condition", "shrink:4"], "mnist is not conditional"),
        (["train", "images", "--levels", "2", "--model", "pixelcnn", "--condition", "maps"], "--model gated"),
        (["sample", "run", "--size", "8"], "--size"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err


def test_the_maps_of_mnist_are_in_the_order_of_all_its_training_images():
    data = open_training("mnist", "clean", 2)
    assert (data.training_names()[-1], data.validation_names()[0], data.validation_names()[-1], data.total) == (
        "54999", "55000", "59999", 60_000,
    )  # fmt: skip
    assert (open_data("mnist:validation", 2).names()[0], open_data("mnist:validation", 2).total) == ("0", 5_000)


def test_an_array_of_another_length_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.save("images.npy", np.random.default_rng(0).integers(0, 2, (40, 4, 4), dtype=np.uint8))
    np.save("maps.npy", np.zeros((41, 2, 2), dtype=np.float32))
    network = ["--model", "gated", "--filters", "4", "--layers", "1", "--steps", "1", "--out", "run"]
    assert main(["train", "images.npy", "--condition", "maps.npy", *network]) == 2
    assert "maps.npy has 41 maps, and there are 40 images" in capsys.readouterr().err
    pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=1, condition_channels=1).save_pretrained("given")
    for command in (["complete", "--keep-rows", "2"], ["evaluate"], ["compress"]):
        arguments = [command[0], "given", "images.npy", *command[1:]]
        assert main([*arguments, "--condition", "maps.npy"]) == 2
        assert "maps.npy has 41 maps, and there are 40 images" in capsys.readouterr().err
