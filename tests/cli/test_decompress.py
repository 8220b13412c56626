"""pixelcnn decompress: by which model, what of a damaged stream, and into which folder."""

from pathlib import Path

import numpy as np
import pytest

import pixelcnn
from pixelcnn.codec import restore, separated
from pixelcnn.codec.container import unpack
from stored import picture, run


def test_published_data_and_the_model_by_its_identity(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = pixelcnn.datasets.mnist("test")[0][:30]
    np.save(tmp_path / "some.npy", images.numpy())
    code, out, err = run(capsys, "compress", "mnist", "some.npy", "--no-verify")
    assert code == 0, err
    assert "not verified" in out
    code, out, err = run(capsys, "decompress", "some.pxcn")
    assert code == 0, err
    assert "30 images in 1 files, decoded with mnist: some" in out
    assert np.array_equal(np.load("some/some.npy"), images.numpy())
    code, _, err = run(capsys, "decompress", "mnist-gray", "some.pxcn", "--out", "more")
    assert code == 2
    assert "needs the model of identity" in err
    assert "called 'mnist' where it was compressed" in err
    assert "it is the shipped model mnist" in err
    assert not (tmp_path / "more").exists()
    photos = pixelcnn.load("photos").resized((4, 3))
    Path("photo.pxcn").write_bytes(pixelcnn.compress(photos, photos.sample(1, seed=0)))
    assert "it is the shipped model photos" in run(capsys, "decompress", "mnist", "photo.pxcn")[2]


def test_without_notes_an_array_comes_out(models, tmp_path, capsys):
    model = pixelcnn.load(models / "two")
    images = model.sample(3, seed=0)
    (tmp_path / "x.pxcn").write_bytes(pixelcnn.compress(model, images))
    assert run(capsys, "decompress", models / "two", tmp_path / "x.pxcn", "--out", tmp_path / "x")[0] == 0
    assert np.array_equal(np.load(tmp_path / "x" / "images.npy"), images.numpy())


def test_salvage(models, tmp_path, capsys):
    for k in range(9):
        picture("1", k).save(tmp_path / f"{k}.png")
    np.save(tmp_path / "x.npy", np.stack([np.asarray(picture("1", k)) for k in range(4)]))
    files = [*(tmp_path / f"{k}.png" for k in range(9)), tmp_path / "x.npy"]
    assert run(capsys, "compress", models / "binary", *files, "--out", tmp_path / "s.pxcn", "--chunk", "3")[0] == 0
    data = bytearray((tmp_path / "s.pxcn").read_bytes())
    _, places = unpack(bytes(data))
    for chunk in (1, 4):
        data[places[chunk][0] + 1] ^= 4
    (tmp_path / "s.pxcn").write_bytes(data)
    code, _, err = run(capsys, "decompress", models / "binary", tmp_path / "s.pxcn", "--out", tmp_path / "back")
    assert code == 2
    assert "chunk 1 is damaged" in err
    assert "--salvage" in err
    assert not (tmp_path / "back").exists()
    again = ["decompress", models / "binary", tmp_path / "s.pxcn", "--out", tmp_path / "back", "--salvage"]
    code, out, err = run(capsys, *again)
    assert code == 1
    assert "chunk 1 is damaged" in err
    assert "chunk 4 is damaged" in err
    assert "1 of 4 images of x.npy" in err
    assert "9 images in 7 files, 4 images lost" in out
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [
        "0.png", "1.png", "2.png", "6.png", "7.png", "8.png", "x.npy",
    ]  # fmt: skip
    assert len(np.load(tmp_path / "back" / "x.npy")) == 3


def test_salvage_of_what_ends_early(models, tmp_path, capsys):
    """Chunks before a cut, or before a length that is damaged; and the streams before one whose header is."""
    for k, size in enumerate([(6, 5)] * 6 + [(7, 5)] * 2 + [(8, 5)]):
        picture("1", k, size).save(tmp_path / f"{k}.png")
    files = [tmp_path / f"{k}.png" for k in range(9)]
    one, joined = tmp_path / "one.pxcn", tmp_path / "joined.pxcn"
    assert run(capsys, "compress", models / "binary", *files[:6], "--out", one, "--chunk", "2")[0] == 0
    assert run(capsys, "compress", models / "binary", *files, "--out", joined, "--chunk", "2")[0] == 0
    whole = one.read_bytes()
    arguments = "decompress", models / "binary", one, "--out", tmp_path / "all", "--salvage"
    code, out, _ = run(capsys, *arguments)
    assert (code, "lost" in out) == (0, False)
    _, spans = unpack(whole)
    length = bytearray(whole)
    length[spans[1][0] - 6] = 1
    header = bytearray(joined.read_bytes())
    header[-len(separated(bytes(header))[2]) + 20] ^= 1
    for k, (data, kept, lost, said) in enumerate([
        (whole[:-3], 4, "2 images", "the stream ends within chunk 2 of 3"),
        (whole[: spans[0][0] + 3], 0, "", "nothing of the stream"),
        (bytes(length), 2, "4 images", "the stream ends within chunk 1 of 3"),
        (joined.read_bytes()[:-3], 8, "1 images", "the stream ends within chunk 0 of 1"),
        (joined.read_bytes()[:-90], 8, "1 streams", "stream 3 of 3 of"),
        (bytes(header), 8, "1 streams", "the header is damaged"),
    ]):  # fmt: skip
        (tmp_path / "cut.pxcn").write_bytes(data)
        arguments = "decompress", models / "binary", tmp_path / "cut.pxcn", "--out", tmp_path / f"out{k}"
        assert run(capsys, *arguments)[0] == 2
        code, out, err = run(capsys, *arguments, "--salvage")
        assert (code, said in err) == (1 if kept else 2, True), err
        assert [path.name for path in sorted(tmp_path.glob(f"out{k}/*"))] == [f"{k}.png" for k in range(kept)]
        assert not kept or out.startswith(f"{kept} images in {kept} files, {lost} lost, ")


def test_what_cannot_be_decompressed(models, tmp_path, capsys):
    picture("1").save(tmp_path / "a.png")
    stream = tmp_path / "s.pxcn"
    assert run(capsys, "compress", models / "binary", tmp_path / "a.png", "--out", stream)[0] == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "cut.pxcn").write_bytes(stream.read_bytes()[:-3])
    for arguments, said in (
        ([], "FILE must be a stream"),
        ([tmp_path / "none.pxcn"], "there is no file"),
        ([tmp_path / "a.png"], "this is no pixelcnn stream"),
        ([models / "binary", tmp_path / "cut.pxcn"], "the stream is too short for its 1 chunks"),
        ([models / "gray", models / "colour", stream], "none of"),
        ([models / "binary", stream, "--out", tmp_path / "full"], "is not an empty folder"),
        ([models / "binary", stream, "--out", tmp_path / "a.png"], "is not an empty folder"),
    ):
        where = [] if "--out" in arguments else ["--out", tmp_path / "back"]
        code, _, err = run(capsys, "decompress", *arguments, *where)
        assert code == 2, arguments
        assert said in err, (said, err)
        assert len([line for line in err.splitlines() if line.startswith("pixelcnn:")]) == 1
        assert not (tmp_path / "back").exists()
    assert (tmp_path / "full" / "x").read_text() == "mine"


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [["x.npz", "uint8", 2, 4]], "labels": [10**30, 1]},
        {"files": [["x.npz", "uint8", 2, 4]], "labels": [-1, 1]},
        {"files": [["a.png", "L"], ["b.png", "L"]], "metadata": [[0, -1, "ZXhpZmV4aWZleGlm"]]},
    ],
)
def test_notes_that_no_file_can_have_are_one_line(models, tmp_path, capsys, changes):
    model = pixelcnn.load(models / "binary")
    (tmp_path / "s.pxcn").write_bytes(pixelcnn.compress(model, model.sample(2, seed=0), notes=changes))
    code, _, err = run(capsys, "decompress", models / "binary", tmp_path / "s.pxcn", "--out", tmp_path / "out")
    assert (code, err.splitlines()[-1].startswith("pixelcnn: ")) == (2, True)
    assert not (tmp_path / "out").exists()


def test_what_others_put_into_the_folder_stays(models, tmp_path, capsys, monkeypatch):
    picture("1").save(tmp_path / "a.png")
    stream, out = tmp_path / "s.pxcn", tmp_path / "out"
    assert run(capsys, "compress", models / "binary", tmp_path / "a.png", "--out", stream)[0] == 0
    out.mkdir()
    restored = restore.restored_files

    def meanwhile(*arguments):
        (out / "mine").write_text("mine")
        yield from restored(*arguments)

    monkeypatch.setattr(restore, "restored_files", meanwhile)
    code, _, err = run(capsys, "decompress", models / "binary", stream, "--out", out)
    assert (code, err.endswith(f"\npixelcnn: Directory not empty: {out}\n")) == (2, True), err
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert not list(tmp_path.glob(".*"))


def test_more_than_a_decoder_takes_by_default_comes_back(models, tmp_path, capsys, monkeypatch):
    """2 GiB, which 60 photographs have: the limit is for what calls `decompress`."""
    picture("1").save(tmp_path / "a.png")
    stream = tmp_path / "s.pxcn"
    assert run(capsys, "compress", models / "binary", tmp_path / "a.png", "--out", stream)[0] == 0
    monkeypatch.setitem(pixelcnn.codec.decompress_with_labels.__kwdefaults__, "most_bytes", 10)
    assert run(capsys, "decompress", models / "binary", stream, "--out", tmp_path / "out")[0] == 0


def test_models_are_loaded_once_for_streams_of_many_sizes(models, tmp_path, capsys, monkeypatch):
    for k in range(4):
        picture("1", k, (6 + k, 5)).save(tmp_path / f"{k}.png")
    stream, load, loaded = tmp_path / "s.pxcn", pixelcnn.load, []
    assert run(capsys, "compress", models / "binary", tmp_path, "--out", stream)[0] == 0
    monkeypatch.setattr("pixelcnn.codec.stream.load", lambda name: loaded.append(name) or load(name))
    names = [str(models / "gray"), str(models / "binary")]
    assert run(capsys, "decompress", *names, stream, "--out", tmp_path / "out")[0] == 0
    assert loaded == names


def test_a_full_disk_leaves_nothing(models, tmp_path, capsys, monkeypatch):
    picture("1").save(tmp_path / "a.png")
    stream = tmp_path / "s.pxcn"
    assert run(capsys, "compress", models / "binary", tmp_path / "a.png", "--out", stream)[0] == 0

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("pixelcnn.files.write_file", full)
    code, _, err = run(capsys, "decompress", models / "binary", stream, "--out", tmp_path / "back")
    assert code == 2
    assert "No space left on device" in err
    assert not list(tmp_path.glob("*back*"))
    before = stream.read_bytes()
    assert run(capsys, "compress", models / "binary", tmp_path / "a.png", "--out", stream)[0] == 2
    assert stream.read_bytes() == before
