"""Models on disk: what is refused, and that nothing half-written is left."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.datasets import open_data
from pixelcnn.files import encode_tensors, write_file
from pixelcnn.models.base import load
from pixelcnn.models.folder import shipped_models


@pytest.fixture
def model():
    return pixelcnn.PixelCNN((1, 4, 5), levels=3, filters=4, blocks=1, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))


def test_the_shipped_model():
    assert "mnist-seed" in shipped_models()
    model = load("mnist-seed")
    assert model.config == pixelcnn.PixelCNNConfig()


def test_contents(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text()) == {
        "model": "PixelCNN", "image_shape": [1, 4, 5], "levels": 3, "embedding": 0, "filters": 4, "blocks": 1,
    }  # fmt: skip
    assert "pixelcnn.load" in (folder / "README.md").read_text()


def test_saving_again_replaces_and_leaves_nothing(model, folder):
    with torch.no_grad():
        model.output.bias.fill_(5.0)
    model.save_pretrained(folder)
    assert load(folder).output.bias.eq(5).all()
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "years of work"},
        {"config.json": '{"model": "PixelCNN"}', "work.py": "years of work"},
        {"config.json": '{"name": "a web page"}'},
        {"README.md": "a project to come"},
    ],
)
def test_a_folder_of_something_else_is_not_replaced(model, tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="is not just a model's folder; it is not replaced"):
        model.save_pretrained(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_replacement_that_fails_leaves_the_earlier_model(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    rename = Path.rename

    def fail(self, target):
        if self.suffix == ".tmp":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space left on device"):
        pixelcnn.PixelCNN(filters=4, blocks=0).save_pretrained(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_a_failing_write_leaves_nothing_and_keeps_the_earlier_model(model, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for target in (folder, folder.parent / "other"):
        with pytest.raises(OSError, match="No space left"):
            model.save_pretrained(target)
    monkeypatch.undo()
    assert [p.name for p in folder.parent.iterdir()] == ["model"]
    load(folder)


def test_every_flipped_bit_and_every_truncation_is_noticed(folder):
    """Of model.safetensors and of config.json, a sample; never another model, at most the same one."""
    model = load(folder)
    chooser = random.Random(0)
    for name in ("model.safetensors", "config.json"):
        path = folder / name
        good = path.read_bytes()
        damaged = [good[:k] for k in {0, 1, 7, 8, 9, len(good) - 1, *chooser.sample(range(len(good)), 40)}]
        damaged += [
            good[:k] + bytes([good[k] ^ 1 << chooser.randrange(8)]) + good[k + 1 :]
            for k in chooser.sample(range(len(good)), min(300, len(good)))
        ]
        for content in damaged:
            path.write_bytes(content)
            try:
                loaded = load(folder)
            except ValueError:
                continue
            assert loaded.config == model.config  # white space in JSON may change
            assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
        path.write_bytes(good)
    load(folder)


def test_weights_never_load_when_flipped(folder):
    """Bytes of the tensors' values, from the first to the last tensor's."""
    path = folder / "model.safetensors"
    good = path.read_bytes()
    start = 8 + int.from_bytes(good[:8], "little")
    for k in range(start, len(good), 29):
        path.write_bytes(good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"colour": 1},
            "unknown field 'colour' for PixelCNNConfig, known: blocks, embedding, filters, image_shape, levels",
        ),
        (
            {"model": "PixelRNN"},
            "field 'model' must be one of .*PixelCNNPlusPlus.* got 'PixelRNN'",
        ),
        ({"levels": 70000}, r"levels must be in 2\.\.65536, got 70000"),
        ({"levels": "3"}, r"levels must be in 2\.\.65536, got '3'"),
        ({"image_shape": [1, 4]}, r"image_shape must be three positive integers \(C, H, W\), got \(1, 4\)"),
        ({"image_shape": [1, 4, 6]}, "is not the configuration that .* was saved with"),
        ({"filters": 8}, "is not the configuration that .* was saved with"),
    ],
)
def test_a_wrong_config(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load(folder)


@pytest.mark.parametrize("changes", [{"model": []}, {"model": [], "module": "own"}, {"model": "A", "module": "a\nb"}])
def test_a_config_of_no_class(model, folder, changes):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match="field 'model' must be one of") as found:
        load(folder)
    assert "\n" not in str(found.value)
    if "module" not in changes:
        with pytest.raises(ValueError, match="is not replaced"):
            model.save_pretrained(folder)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a", "b"), "abc", ("a", "b", 3)])
def test_names_of_classes_that_do_not_fit_are_not_saved(tmp_path, names):
    model = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=2, num_classes=3)
    model.class_names = names
    with pytest.raises(ValueError, match="class_names must be different names, one for each of the 3 classes"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_names_of_classes_need_not_be_utf_8(tmp_path):
    """As those of folders need not be."""
    model = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=2, num_classes=2)
    model.class_names = ("cats", os.fsdecode(b"d\xffgs"))
    model.save_pretrained(tmp_path / "model")
    assert load(tmp_path / "model").class_names == model.class_names
    assert r"Its classes are 0 cats, 1 d\xffgs." in (tmp_path / "model" / "README.md").read_text()


def test_a_missing_field(folder):
    (folder / "config.json").write_text('{"model": "PixelCNN", "levels": 3, "filters": 4, "blocks": 1}')
    with pytest.raises(ValueError, match=r"not the configuration that .* was saved with"):
        load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", "nonsense"])
def test_a_config_that_is_no_object(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        load(folder)


def test_missing_things(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no model 'nothing': neither a shipped model \(mnist.*\) nor a folder"):
        load("nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"is not a model's folder: it has no config\.json"):
        load(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"it has no model\.safetensors"):
        load(folder)


def rewrite(folder, change):
    """The weights changed and signed anew, as a program with other ideas of a model would write them."""
    content = (folder / "model.safetensors").read_bytes()
    tensors = safetensors.torch.load(content)
    change(tensors)
    config = json.dumps(json.loads((folder / "config.json").read_text()), sort_keys=True, separators=(",", ":"))
    write_file(folder / "model.safetensors", encode_tensors(tensors, {"config": config}))


@pytest.mark.parametrize(
    ("make", "change", "named"),
    [
        (lambda: pixelcnn.PixelCNN((1, 4, 5), filters=4, blocks=1), {"blocks": 10**9}, "asks for 1000000000 blocks"),
        (
            lambda: pixelcnn.GatedPixelCNN((1, 4, 5), filters=4, layers=1, places=True),
            {"image_shape": [1, 10**10, 10**10]},
            "image_shape=.* are too large",
        ),
        (
            lambda: pixelcnn.models.Symmetrised(pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=0), "flip"),
            {"network": {"type": "PixelCNNConfig", "image_shape": [1, 10**6, 10**6], "filters": 4, "blocks": 0}},
            "images of a mixture must have at most 134217728 pixels, got 1000000 x 1000000",
        ),
    ],
)
def test_configurations_of_what_no_memory_holds(make, change, named, tmp_path):
    """Signed like a right one, and refused before so much is made."""
    make().save_pretrained(tmp_path / "model")
    edit_config(tmp_path / "model", **change)
    rewrite(tmp_path / "model", lambda tensors: None)
    with pytest.raises(ValueError, match=named):
        load(tmp_path / "model")


def test_strict_names_shapes_and_types(folder):
    shutil.copytree(folder, folder.parent / "copy")
    cases = [
        (lambda t: t.pop("output.bias"), "tensor 'output.bias' is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "unknown tensor 'extra'"),
        (
            lambda t: t.update({"output.bias": torch.zeros(4)}),
            r"tensor 'output.bias' must have shape \(3,\), got \(4,\)",
        ),
        (lambda t: t.update({"output.bias": torch.zeros(3, dtype=torch.int32)}), "all be float32 or all float64"),
    ]
    for change, message in cases:
        shutil.rmtree(folder)
        shutil.copytree(folder.parent / "copy", folder)
        rewrite(folder, change)
        with pytest.raises(ValueError, match=message):
            load(folder)


def test_pointers_of_git_lfs(folder, capsys):
    """What a clone without Git LFS has in the place of large files."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
    images = folder.parent / "pictures"
    images.mkdir()
    files = {name: folder.parent / name for name in ("x.npy", "x.npz", "x.h5", "x.pxcn", "pictures/a.png")}
    for path in files.values():
        path.write_bytes(pointer)
    (folder / "model.safetensors").write_bytes(pointer)
    for path, command in (
        (folder / "model.safetensors", ["sample", str(folder)]),
        (files["x.npy"], ["evaluate", "mnist", str(files["x.npy"])]),
        (files["x.npz"], ["evaluate", "mnist", str(files["x.npz"])]),
        (files["x.h5"], ["convert-keras", str(files["x.h5"]), str(folder.parent / "out")]),
        (files["x.pxcn"], ["decompress", str(files["x.pxcn"])]),
        (files["x.pxcn"], ["info", str(files["x.pxcn"])]),
    ):
        assert main(command) == 2
        said = f"pixelcnn: {path} is a pointer of Git LFS and not the file itself: fetch it by `git lfs pull`\n"
        assert capsys.readouterr().err == said
    with pytest.raises(ValueError, match=r"the first is a\.png: a\.png is a pointer of Git LFS"):
        open_data(str(images), 2, progress=False)
    (folder / "config.json").write_bytes(pointer)
    with pytest.raises(ValueError, match=r"config\.json is a pointer of Git LFS"):
        load(folder)


def test_unsigned_weights_are_refused(folder):
    tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(ValueError, match="has no checksum"):
        load(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(model, folder, number):
    with torch.no_grad():
        model.output.bias[1] = number
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"^output\.bias has values that are not finite$"):
        model.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    rewrite(folder, lambda tensors: tensors["output.bias"].fill_(number))
    with pytest.raises(ValueError, match=r"model\.safetensors: output\.bias has values that are not finite"):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_kept_in_float32(model, tmp_path, dtype):
    """The same weights, card and all."""
    model.to(dtype).save_pretrained(tmp_path / "half", "a card")
    loaded = load(tmp_path / "half")
    assert loaded.dtype == torch.float32
    assert all(torch.equal(a.to(dtype), b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    assert loaded.card == "a card"
    images = model.sample(4, seed=0)
    torch.testing.assert_close(model.log_prob(images), loaded.log_prob(images), rtol=1e-2, atol=0.1)
    assert model.log_prob(images).dtype == torch.float32


def test_a_model_half_of_which_is_in_float64_is_refused(model, tmp_path):
    model.output.double()
    with pytest.raises(ValueError, match=r"tensors must all be float32 or all float64"):
        model.save_pretrained(tmp_path / "mixed")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_that_are_integers_are_kept(tmp_path, monkeypatch, dtype):
    """As numbers of the weights' type, if that holds them: float32 has no 2^24 + 1."""
    build = pixelcnn.PixelCNN.__init__

    def with_constants(self, *args, **options):
        build(self, *args, **options)
        self.register_buffer("order", torch.tensor([5, 2**24 + 1]))
        self.register_buffer("chosen", torch.tensor([True, False]))

    monkeypatch.setattr(pixelcnn.PixelCNN, "__init__", with_constants)
    own = pixelcnn.PixelCNN((1, 4, 5), levels=3, filters=4, blocks=1).to(dtype)
    if dtype == torch.float32:
        with pytest.raises(ValueError, match=r"order must hold integers that torch\.float32 holds"):
            own.save_pretrained(tmp_path / "own")
        own.order[1] = 7
    own.save_pretrained(tmp_path / "own")
    loaded = load(tmp_path / "own")
    assert torch.equal(loaded.order, own.order)
    assert torch.equal(loaded.chosen, own.chosen)


def test_the_card_says_the_type_of_images():
    assert "uint8 (4, 1, 2, 2), levels 0..255" in pixelcnn.PixelCNN((1, 2, 2), 256, filters=4, blocks=1).card
    assert "int32 (4, 1, 2, 2), levels 0..256" in pixelcnn.PixelCNN((1, 2, 2), 257, filters=4, blocks=1).card
