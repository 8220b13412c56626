"""Files that are damaged, shuffled, foreign or malicious: one line, exit code 2, and nothing is written."""

import io
import json
import os
import pickle
import random
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelcnn.cli import main
from pixelcnn.keras import read_weights, savedmodel

h5py = pytest.importorskip("h5py")

FILES = ["keras3.weights.h5", "keras3.keras", "keras3.h5", "keras2.weights-only.h5"]
FOLDERS = ["keras3-export", "keras3-saved", "keras2-saved"]


@pytest.fixture
def refused(tmp_path, capsys):
    """Says that a file is refused; returns the line."""

    def check(path):
        out = tmp_path / "out" / "model"
        assert main(["convert-keras", str(path), str(out)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert not out.parent.exists()
        return printed.err

    return check


@pytest.mark.parametrize("name", FILES)
def test_truncated_files(name, written, tmp_path, refused):
    content = (written / name).read_bytes()
    for part in (0, 1, 7, 100, len(content) // 3, len(content) // 2, len(content) - 1000):
        path = tmp_path / name
        path.write_bytes(content[:part])
        assert str(path) in refused(path)


@pytest.mark.parametrize("name", FOLDERS)
def test_truncated_folders(name, written, tmp_path, refused):
    for file in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        folder = tmp_path / "saved"
        shutil.copytree(written / name, folder, dirs_exist_ok=True)
        content = (folder / file).read_bytes()
        for part in (0, len(content) // 2, len(content) - 1):
            (folder / file).write_bytes(content[:part])
            refused(folder)
        (folder / file).unlink()
        assert file.split("/")[-1] in refused(folder)
        (folder / file).write_bytes(content)


def test_a_saved_model_without_a_graph(written, tmp_path, refused):
    shutil.copytree(written / "keras3-saved", tmp_path / "saved")
    for content in (b"", b"\x08\x01"):  # nothing; the version alone
        (tmp_path / "saved" / "saved_model.pb").write_bytes(content)
        assert "saved_model.pb is damaged: it holds no graph" in refused(tmp_path / "saved")


@pytest.mark.parametrize("name", FILES + FOLDERS)
def test_flipped_bytes(name, written, tmp_path):
    """HDF5 has no checksum: there a changed weight is not noticed. The others are refused, or say the same."""
    original = read_weights(str(written / name))  # by its name, too
    path = tmp_path / name
    shutil.copytree(written / name, path) if (written / name).is_dir() else shutil.copy(written / name, path)
    files = [path] if path.is_file() else [path / "variables" / "variables.index", *path.glob("variables/*.data*")]
    draws = random.Random(name)
    refusals = 0
    for file in files:
        content = file.read_bytes()
        for _ in range(40):
            place, bits = draws.randrange(len(content)), draws.randrange(1, 256)
            file.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
            try:
                weights = read_weights(path)
            except ValueError:
                refusals += 1
                continue
            if not name.endswith(".h5"):
                for one, other in zip(weights.convolutions, original.convolutions, strict=True):
                    assert np.array_equal(one.kernel, other.kernel)
                    assert np.array_equal(one.bias, other.bias)
        file.write_bytes(content)
    assert refusals > 0


def swap(path, one, other):
    with h5py.File(path, "r+") as file:
        file.move(one, "aside")
        file.move(other, one)
        file.move("aside", other)


KERAS3 = "layers/residual_block/{}/vars/0"
LEGACY = "model_weights/residual_block/residual_block/{}/kernel"


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("keras3.weights.h5", KERAS3.format("conv1"), KERAS3.format("conv2")),
        ("keras3.weights.h5", KERAS3.format("conv1"), KERAS3.format("pixel_conv/conv")),
        ("keras3.weights.h5", KERAS3.format("conv1"), "layers/residual_block/conv1/vars/1"),
        ("keras3.weights.h5", "layers/pixel_conv_layer", "layers/pixel_conv_layer_1"),
        ("keras3.weights.h5", "layers/conv2d", "layers/pixel_conv_layer_2"),
        ("keras3.h5", LEGACY.format("conv2d_1"), LEGACY.format("conv2d_3")),
        ("keras3.h5", LEGACY.format("conv2d_1"), LEGACY.format("pixel_conv_layer_1/conv2d_2")),
        ("keras3.h5", "model_weights/conv2d_9", "model_weights/pixel_conv_layer"),
    ],
)
def test_shuffled_tensors(name, one, other, written, tmp_path, refused):
    path = tmp_path / name
    shutil.copy(written / name, path)
    swap(path, one, other)
    refused(path)


def test_a_lost_layer(written, tmp_path, refused):
    path = tmp_path / "lost.weights.h5"
    for name, missing in (("residual_block", "residual_block/conv1/vars/0"), ("conv2d", "conv2d/vars/0")):
        shutil.copy(written / "keras3.weights.h5", path)
        with h5py.File(path, "r+") as file:
            del file[f"layers/{name}"]
        assert f"{missing!r} is missing" in refused(path)
    shutil.copy(written / "keras3.weights.h5", path)
    with h5py.File(path, "r+") as file:
        del file["layers/residual_block_1/conv2/vars/1"]
    assert "'residual_block_1/conv2/vars/1' is missing" in refused(path)
    with h5py.File(path, "r+") as file:
        file["layers/residual_block_1/conv2/vars/1"] = np.array([0, 1, np.nan, 2], np.float32)
    assert "conv2 holds values that are not finite" in refused(path)
    with h5py.File(path, "r+") as file:
        del file["layers/residual_block_1/conv2/vars/1"]
        file["layers/residual_block_1/conv2/vars/1"] = np.arange(4)
    assert "must be a tensor of floating-point numbers" in refused(path)


def test_links_to_elsewhere(written, tmp_path, refused):
    """A file must not make this read others."""
    path = tmp_path / "links.weights.h5"
    shutil.copy(written / "keras3.weights.h5", path)
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d"]
        file["layers/conv2d"] = h5py.ExternalLink(str(written / "keras3.weights.h5"), "layers/conv2d")
    assert "is a link, which is not followed" in refused(path)
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d"]
        file.create_group("layers/conv2d/vars")["1"] = np.zeros(1, np.float32)
        source = [(str(written / "images.npy"), 128, 16)]
        file["layers/conv2d/vars"].create_dataset("0", (1, 1, 4, 1), np.float32, external=source)
    assert "lies in another file" in refused(path)


@pytest.mark.parametrize("name", ["keras3.weights.h5", "keras3.h5"])
def test_the_tensors_of_a_file_have_a_limit_together(name, written, refused, monkeypatch):
    """Many names may stand for the same bytes, and HDF5 stores nothing for zeros."""
    monkeypatch.setattr("pixelcnn.keras.network._MAX_BYTES", 900)
    assert "its tensors have" in refused(written / name)


def table(*blocks, again=1):
    """A table of blocks of keys, given as (shared, own bytes), each listed `again` times."""

    def varints(*numbers):
        found = b""
        for number in numbers:
            while number > 127:
                found, number = found + bytes([number & 127 | 128]), number >> 7
            found += bytes([number])
        return found

    def stored(entries):
        block = b"".join(varints(shared, len(own), len(value)) + own + value for shared, own, value in entries)
        block += bytes(4)
        return block + b"\0" + savedmodel._checksum(block + b"\0").to_bytes(4, "little")

    content, handles = b"", []
    for entries in blocks:
        block = stored([(shared, own, b"") for shared, own in entries])
        handles += [(0, b"", varints(len(content), len(block) - 5))] * again
        content += block
    index = stored(handles)
    footer = varints(0, 0, len(content), len(index) - 5)
    return content + index + footer.ljust(40, b"\0") + savedmodel._MAGIC


def test_a_small_index_takes_little_memory_and_time(monkeypatch):
    keys = [(0, b"ab"), (1, b"c")]
    assert [key for key, _ in savedmodel._table(table(keys, keys))] == [b"ab", b"ac"] * 2
    with pytest.raises(savedmodel.KerasFileError, match="its blocks overlap"):
        list(savedmodel._table(table(keys, again=2)))
    monkeypatch.setattr(savedmodel, "_read_whole", lambda _: table([(k, b"a") for k in range(300)]))
    monkeypatch.setattr(savedmodel, "_MAX_BYTES", 10_000)
    monkeypatch.setattr("pathlib.Path.is_file", lambda _: True)
    with pytest.raises(savedmodel.KerasFileError, match="its keys have 10,011 bytes"):
        savedmodel._Bundle(Path("variables"))


class Bomb:
    def __reduce__(self):
        return sys.exit, ("it was unpickled",)


def test_foreign_files(tmp_path, refused):
    path = tmp_path / "foreign"
    for content in (b"", b"hello", pickle.dumps(Bomb()), np.zeros(9).tobytes()):
        path.write_bytes(content)
        assert "is not a Keras file" in refused(path)
    torch.save({"weight": torch.zeros(3)}, path)
    assert "it has no config.json" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.pkl", pickle.dumps(Bomb()))
    assert "it has no config.json" in refused(path)
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((3, 3))
    assert "neither layers nor layer_names" in refused(path)
    path.unlink()
    assert f"{path} is missing" in refused(path)
    path.mkdir()
    assert "it has no saved_model.pb" in refused(path)


def archive_with(written, path, change, name="config.json"):
    """The .keras file with another configuration, or another part."""
    with zipfile.ZipFile(written / "keras3.keras") as old, zipfile.ZipFile(path, "w") as new:
        for part in old.namelist():
            content = old.read(part)
            new.writestr(part, change(content) if part == name else content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(class_name="Lambda"), "is of class Lambda, whose code is not run"),
        (lambda c: c["config"].update(strides=2), "has strides 2"),
        (lambda c: c["config"].update(activation="tanh"), "its activations are tanh"),
        (lambda c: c["config"].update(mask_type="B"), "its masks are B, B, B"),
        (lambda c: c.update(class_name="Conv3D"), "is of class Conv3D, whose code is not run"),
        (lambda c: c.clear(), "its configuration cannot be read"),
    ],
)
def test_other_configurations(change, said, written, tmp_path, refused):
    def changed(content):
        config = json.loads(content)
        change(config["config"]["layers"][1])
        return json.dumps(config)

    archive_with(written, tmp_path / "changed.keras", changed)
    assert said in refused(tmp_path / "changed.keras")


def test_archives_of_something_else(written, tmp_path, refused):
    path = tmp_path / "changed.keras"
    for part in ("config.json", "model.weights.h5"):
        archive_with(written, path, lambda content: pickle.dumps(Bomb()), part)
        assert "is damaged" in refused(path)
    colour = lambda content: content.replace(b"[null, 7, 6, 1]", b"[null, 7, 6, 3]", 1)  # noqa: E731
    archive_with(written, path, colour)
    assert "images must have one channel" in refused(path)
    other = io.BytesIO()
    with h5py.File(other, "w") as file:
        file.create_group("layers")
    archive_with(written, path, lambda content: other.getvalue(), "model.weights.h5")
    assert "'pixel_conv_layer/conv/vars/0' is missing in /layers" in refused(path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf_8_is_escaped_in_the_card(written, tmp_path):
    file = tmp_path / os.fsdecode(b"\xff.keras")
    file.write_bytes((written / "keras3.keras").read_bytes())
    assert main(["convert-keras", str(file), str(tmp_path / "model")]) == 0
    assert "the file `\\xff.keras`" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_a_folder_that_is_not_a_model_is_kept(written, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert main(["convert-keras", str(written / "keras3.keras"), str(tmp_path / "mine")]) == 2
    assert "it is not replaced" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_without_h5py(written, tmp_path, monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert refused(written / "keras3.keras") == ("pixelcnn: Keras's HDF5 files need h5py: pip install 'pixelcnn[h5]'\n")
    assert main(["convert-keras", str(written / "keras3-saved"), str(tmp_path / "model")]) == 0
