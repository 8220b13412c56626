"""pixelcnn compress and decompress: the files come back as they were, or nothing is written."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.codec import StreamError, archive, read_header, restore, separated
from pixelcnn.codec.container import Header, unpack
from pixelcnn.codec.manifest import Entry, entries_of, notes_of

SHAPE = (6, 5)  # rows, columns


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of an untrained model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    for name, model in {
        "binary": pixelcnn.PixelCNN((1, *SHAPE), filters=4, blocks=1),
        "gray": pixelcnn.PixelCNN((1, *SHAPE), 256, filters=4, blocks=1),
        "colour": pixelcnn.PixelCNNPlusPlus((3, *SHAPE), filters=6, blocks=1, mixtures=2),
        "classes": pixelcnn.GatedPixelCNN((1, *SHAPE), 4, filters=4, layers=2, num_classes=3),
        "two": pixelcnn.PixelCNN((2, *SHAPE), 4, filters=4, blocks=1),
        "placed": pixelcnn.GatedPixelCNN((1, *SHAPE), filters=4, layers=2, places=True),
    }.items():
        model.save_pretrained(folder / name)
    return folder


def picture(mode, seed=0, size=SHAPE):
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    if mode == "1":
        return Image.fromarray((values[..., 0] > 127).astype(np.uint8) * 255).convert("1")
    return Image.fromarray(values[..., 0] if mode == "L" else values)


def run(capsys, *arguments):
    code = main([*map(str, arguments), "--device", "cpu"])
    said = capsys.readouterr()
    return code, said.out, said.err


def same(a, b):
    return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()


def test_a_folder_comes_back(models, tmp_path, capsys):
    source = tmp_path / "in"
    kinds = {
        "1.png": "1", "2.png": "1", "10.png": "1", "deep/er/scan.bmp": "1", "deep/page.tiff": "1", "x.pbm": "1",
        "L.png": "L", "g.pgm": "L", "Grün.png": "L",
    }  # fmt: skip
    pictures = {name: picture(kind, k) for k, (name, kind) in enumerate(kinds.items())}
    for name, each in pictures.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        each.save(source / name)
    code, out, err = run(capsys, "compress", models / "gray", source, "--out", tmp_path / "s.pxcn")
    assert code == 0, err
    assert f"9 images of 1 x 6 x 5 in 256 levels, 9 files: {tmp_path / 's.pxcn'}" in out
    assert "decoded again and compared" in out
    assert f"{(tmp_path / 's.pxcn').stat().st_size:,} bytes" in out
    code, out, err = run(capsys, "decompress", models / "gray", tmp_path / "s.pxcn", "--out", tmp_path / "back")
    assert code == 0, err
    found = {str(path.relative_to(tmp_path / "back")) for path in (tmp_path / "back").rglob("*") if path.is_file()}
    assert found == set(kinds)
    for name, each in pictures.items():
        with Image.open(tmp_path / "back" / name) as again, Image.open(source / name) as before:
            assert same(again, before), name
            assert again.format == before.format
            assert again.mode == kinds[name]
        assert each.size == again.size


def test_modes_that_become_others(models, tmp_path, capsys):
    """What has no place of its own in a stream keeps its pixels."""
    grey, colour = picture("L"), picture("RGB")
    palette = colour.quantize(8)
    opaque = colour.convert("RGBA")
    both = Image.merge("RGB", [grey] * 3)
    palette.save(tmp_path / "p.gif")
    opaque.save(tmp_path / "a.png")
    colour.save(tmp_path / "w.webp", lossless=True)
    grey.save(tmp_path / "g.png")
    colour.save(tmp_path / "j.jpg")
    names = ["p.gif", "a.png", "w.webp", "g.png", "j.jpg"]
    files = [tmp_path / name for name in names]
    assert run(capsys, "compress", models / "colour", *files, "--out", tmp_path / "s.pxcn")[0] == 0
    assert run(capsys, "decompress", models / "colour", tmp_path / "s.pxcn", "--out", tmp_path / "back")[0] == 0
    for name, stored in {"p.gif": "p.gif.png", "a.png": "a.png", "w.webp": "w.webp.png", "j.jpg": "j.jpg.png"}.items():
        with Image.open(tmp_path / "back" / stored) as again, Image.open(tmp_path / name) as before:
            assert (again.format, again.mode) == ("PNG", "RGB")
            assert again.tobytes() == before.convert("RGB").tobytes(), name
    with Image.open(tmp_path / "back" / "g.png") as again:
        assert same(again, grey)
    both.save(tmp_path / "both.png")  # in colour that is grey: a model of grey images takes it
    assert run(capsys, "compress", models / "gray", tmp_path / "both.png", "--out", tmp_path / "t.pxcn")[0] == 0
    assert run(capsys, "decompress", models / "gray", tmp_path / "t.pxcn", "--out", tmp_path / "again")[0] == 0
    with Image.open(tmp_path / "again" / "both.png") as again:
        assert same(again, both)


def test_turned_pictures_come_back(models, tmp_path, capsys):
    """The pixels that the file holds and its orientation; the image is the upright one, as in training."""
    (tmp_path / "in").mkdir()
    for k in range(1, 9):
        raw = picture("L", k, SHAPE[::-1] if k >= 5 else SHAPE)
        exif = Image.Exif()
        exif[0x0112] = k
        for name in (f"{k}.png", f"{k}.tif", f"{k}.webp"):
            raw.save(tmp_path / "in" / name, exif=exif, lossless=True)
    stream = tmp_path / "s.pxcn"
    assert run(capsys, "compress", models / "colour", tmp_path / "in", "--out", stream)[0] == 0
    back = run(capsys, "decompress", models / "colour", stream, "--out", tmp_path / "back")
    assert back[0] == 0, back
    images = pixelcnn.decompress(pixelcnn.load(models / "colour"), stream.read_bytes())
    entries = entries_of(read_header(stream.read_bytes()))
    assert [entry.orientation for entry in entries] == [k for k in range(1, 9) for _ in range(3)]
    for entry, image in zip(entries, images, strict=True):
        name = entry.name.replace(".webp.png", ".webp")
        before = Image.open(io.BytesIO((tmp_path / "in" / name).read_bytes()))
        again = Image.open(io.BytesIO((tmp_path / "back" / entry.name).read_bytes()))
        assert again.getexif().get(0x0112, 1) == before.getexif().get(0x0112, 1) == entry.orientation, name
        if before.format == "TIFF":  # the tags say what is in the file, Pillow turns it
            assert [again.tag_v2[k] for k in (256, 257)] == [before.tag_v2[k] for k in (256, 257)]
        assert np.array_equal(np.asarray(again.convert("RGB")), np.asarray(before.convert("RGB"))), name
        upright = ImageOps.exif_transpose(before).convert("RGB")
        assert np.array_equal(image.numpy().transpose(1, 2, 0), np.asarray(upright)), name


def test_an_orientation_of_another_type_is_kept(models, tmp_path, capsys):
    """A rational 6 / 1, by which Pillow turns a picture."""
    entry = struct.pack("<HHII", 0x0112, 5, 1, 26)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<III", 0, 6, 1)
    raw = picture("RGB", size=SHAPE[::-1])
    raw.save(tmp_path / "a.png", exif=exif)
    assert run(capsys, "compress", models / "colour", tmp_path / "a.png", "--out", tmp_path / "s.pxcn")[0] == 0
    assert run(capsys, "decompress", models / "colour", tmp_path / "s.pxcn", "--out", tmp_path / "out")[0] == 0
    with Image.open(tmp_path / "out" / "a.png") as again:
        assert same(again, raw)
        assert again.getexif()[0x0112] == 6


def test_what_is_not_kept_is_said(models, tmp_path, capsys):
    picture("L").quantize(4).save(tmp_path / "p.png")
    picture("L").convert("LA").save(tmp_path / "a.png")
    (tmp_path / "f.pgm").write_bytes(b"P5 5 6 15\n" + bytes(range(15)) * 2)
    code, out, err = run(capsys, "compress", models / "gray", tmp_path, "--out", tmp_path / "s.pxcn")
    assert code == 0, err
    expected = "values of fewer bits (back with 8) of 1 files; a palette (back in RGB) of 1 files"
    assert f"not kept: an opaque alpha channel of 1 files; {expected}\n" in out
    picture("L").save(tmp_path / "b.png")
    assert (
        "not kept" not in run(capsys, "compress", models / "gray", tmp_path / "b.png", "--out", tmp_path / "t.pxcn")[1]
    )


def test_what_is_not_kept_of_arrays_is_said(models, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 2, (3, *SHAPE)).astype("uint8")
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(3))
    np.savez(tmp_path / "b.npz", images=images, labels=np.arange(3), ids=np.arange(3))
    np.savez(tmp_path / "c.npz", codes=images)
    for name, dropped in (("a", None), ("b", "arrays besides images and labels"), ("c", "the array's name")):
        code, out, err = run(
            capsys, "compress", models / "binary", tmp_path / f"{name}.npz", "--out", tmp_path / "s.pxcn"
        )
        assert code == 0, err
        assert ("not kept" in out, f"not kept: {dropped}" in out) == (dropped is not None,) * 2


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_arrays_with_channels_last_come_back(models, tmp_path, capsys, dtype):
    values = np.random.default_rng(0).integers(0, 256, (7, *SHAPE, 3)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    assert run(capsys, "compress", models / "colour", tmp_path / "a.npy", "--out", tmp_path / "s.pxcn")[0] == 0
    assert run(capsys, "decompress", models / "colour", tmp_path / "s.pxcn", "--out", tmp_path / "back")[0] == 0
    again = np.load(tmp_path / "back" / "a.npy")
    assert again.dtype == values.dtype
    assert np.array_equal(again, values)
    assert run(capsys, "compress", models / "colour", tmp_path / "a.npy", "--layout", "nchw")[0] == 2


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
@pytest.mark.parametrize("dimensions", [3, 4])
def test_arrays_come_back(models, tmp_path, capsys, dtype, dimensions):
    array = np.random.default_rng(0).integers(0, 2, (7, 1, *SHAPE)).astype(dtype)
    array = array[:, 0] if dimensions == 3 else array
    labels = np.array([5, 0, 1, 2, 9, 9, 3], dtype=np.int64)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", images=array, labels=labels)
    picture("1").save(tmp_path / "c.png")
    sources = [tmp_path / name for name in ("a.npy", "b.npz", "c.png")]
    code, said, _ = run(capsys, "compress", models / "binary", *sources, "--out", tmp_path / "s.pxcn", "--chunk", "4")
    assert code == 0
    assert run(capsys, "decompress", models / "binary", tmp_path / "s.pxcn", "--out", tmp_path / "back")[0] == 0
    again = np.load(tmp_path / "back" / "a.npy")
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)
    with np.load(tmp_path / "back" / "b.npz") as both:
        assert np.array_equal(both["images"], array)
        assert "labels" not in both.files  # the other files have none
    assert "not kept: labels (other files have none) of 1 files" in said
    assert run(capsys, "compress", models / "binary", tmp_path / "b.npz", "--out", tmp_path / "t.pxcn")[0] == 0
    assert run(capsys, "decompress", models / "binary", tmp_path / "t.pxcn", "--out", tmp_path / "more")[0] == 0
    with np.load(tmp_path / "more" / "b.npz") as both:
        assert np.array_equal(both["labels"], labels)


def test_classes(models, tmp_path, capsys):
    model = pixelcnn.load(models / "classes")
    labels = torch.tensor([0, 2, 1, 1, 0, 2]).repeat(10)
    images = model.sample(60, labels, seed=0)
    np.savez(tmp_path / "x.npz", images=images.numpy(), labels=labels.numpy())
    np.save(tmp_path / "x.npy", images.numpy())
    for source, choice, coded in (("x.npz", "given", True), ("x.npz", "none", False), ("x.npz", "best", True),
                                  ("x.npy", "given", False), ("x.npy", "best", True)):  # fmt: skip
        out, back = tmp_path / f"{source}-{choice}.pxcn", tmp_path / f"{source}-{choice}"
        code, _, err = run(capsys, "compress", models / "classes", tmp_path / source, "--classes", choice, "--out", out)
        assert code == 0, err
        assert read_header(out.read_bytes()).labelled == coded
        assert run(capsys, "decompress", models / "classes", out, "--out", back)[0] == 0
        with np.load(back / source) if source == "x.npz" else open(back / source, "rb") as again:
            if source == "x.npz":
                assert np.array_equal(again["images"], images.numpy())
                assert np.array_equal(again["labels"], labels.numpy())
            else:
                assert np.array_equal(np.load(again), images.numpy())
    best = pixelcnn.codec.decompress_with_labels(model, (tmp_path / "x.npy-best.pxcn").read_bytes())[1]
    assert torch.equal(best, model.classify(images).argmax(1))


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


def test_info_tells_what_a_stream_is(tmp_path, capsys, models):
    for k in range(23):
        picture("1", k).save(tmp_path / f"{k}.png")
    stream = tmp_path / "s.pxcn"
    assert run(capsys, "compress", models / "binary", tmp_path, "--out", stream, "--chunk", "10")[0] == 0
    assert main(["info", str(stream)]) == 0
    said = capsys.readouterr().out
    assert f"{stream}: {stream.stat().st_size:,} bytes" in said
    assert f"model    {read_header(stream.read_bytes()).identity.hex()}, called {str(models / 'binary')!r}" in said
    assert "images   23 of 1 x 6 x 5 in 2 levels\n" in said
    assert "chunks   3 of 10 images" in said
    assert "19.png (mode 1)\n         and 3 more" in said
    picture("1", size=(7, 5)).save(tmp_path / "23.png")
    one = stream.read_bytes()
    stream.unlink()
    assert run(capsys, "compress", models / "binary", tmp_path, "--out", stream)[0] == 0
    assert main(["info", str(stream)]) == 0
    said = capsys.readouterr().out
    assert f"{stream}: {stream.stat().st_size:,} bytes in 2 streams, {stream.stat().st_size / 24:.2f} per image" in said
    assert "images   23 of 1 x 6 x 5 in 2 levels\n" in said
    assert "images   1 of 1 x 7 x 5 in 2 levels\n" in said
    assert said.endswith("\nfiles    1\n         23.png (mode 1)\n")
    stream.write_bytes(one[:-1])
    assert main(["info", str(stream)]) == 2
    assert "the stream ends within chunk 2 of 3" in capsys.readouterr().err


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
    assert code == 0
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
    _, spans = unpack(whole)
    length = bytearray(whole)
    length[spans[1][0] - 6] = 1
    header = bytearray(joined.read_bytes())
    header[-len(separated(bytes(header))[2]) + 20] ^= 1
    for k, (data, kept, said) in enumerate([
        (whole[:-3], 4, "the stream ends within chunk 2 of 3"), (whole[: spans[0][0] + 3], 0, "nothing of the stream"),
        (bytes(length), 2, "the stream ends within chunk 1 of 3"),
        (joined.read_bytes()[:-3], 8, "the stream ends within chunk 0 of 1"),
        (joined.read_bytes()[:-90], 8, "stream 3 of 3 of"), (bytes(header), 8, "the header is damaged"),
    ]):  # fmt: skip
        (tmp_path / "cut.pxcn").write_bytes(data)
        arguments = "decompress", models / "binary", tmp_path / "cut.pxcn", "--out", tmp_path / f"out{k}"
        assert run(capsys, *arguments)[0] == 2
        code, out, err = run(capsys, *arguments, "--salvage")
        assert (code, said in err) == (0 if kept else 2, True), err
        assert [path.name for path in sorted(tmp_path.glob(f"out{k}/*"))] == [f"{k}.png" for k in range(kept)]
        assert not kept or out.startswith(f"{kept} images in {kept} files")


def test_pictures_of_any_size(models, tmp_path, capsys):
    """A network without places compresses each in its own size; a damaged byte is confined to one of them."""
    sizes = [(6, 5), (1, 9), (12, 4), (6, 5), (7, 1)]
    (tmp_path / "odd").mkdir()
    for k, size in enumerate(sizes):
        picture("1", k, size).save(tmp_path / "odd" / f"{k}.png")
    stream = tmp_path / "odd.pxcn"
    code, out, _ = run(capsys, "compress", models / "binary", tmp_path / "odd", "--out", stream)
    assert code == 0
    assert out.startswith("5 images of 4 sizes in 2 levels, 5 files")
    assert run(capsys, "decompress", models / "binary", stream, "--out", tmp_path / "again")[0] == 0
    for k in range(len(sizes)):
        pair = [np.asarray(Image.open(tmp_path / folder / f"{k}.png")) for folder in ("odd", "again")]
        assert np.array_equal(*pair)
    data = bytearray(stream.read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged.pxcn").write_bytes(data)
    arguments = "decompress", models / "binary", tmp_path / "damaged.pxcn", "--out", tmp_path / "rest"
    assert run(capsys, *arguments)[0] == 2
    assert run(capsys, *arguments, "--salvage")[0] == 0
    assert len(list((tmp_path / "rest").iterdir())) == 4
    for place in (5, 12, 60):  # the number of streams, a length, and a stream's own header
        data = bytearray(stream.read_bytes())
        data[place] ^= 1
        (tmp_path / "damaged.pxcn").write_bytes(data)
        assert run(capsys, "decompress", models / "binary", tmp_path / "damaged.pxcn", "--out", tmp_path / "no")[0] == 2
        assert not (tmp_path / "no").exists()
    assert run(capsys, "compress", models / "placed", tmp_path / "odd", "--out", stream)[0] == 2


def bad_sources(folder):
    """What cannot be compressed, and why."""
    picture("L").save(folder / "grey.png")
    picture("1", size=(5, 6)).save(folder / "turned.png")
    picture("RGB").save(folder / "colour.png")
    Image.fromarray(np.full((*SHAPE, 4), 100, np.uint8)).save(folder / "clear.png")
    Image.fromarray(np.full(SHAPE, 700, np.uint16)).save(folder / "deep.png")
    picture("1").save(folder / "frames.gif", save_all=True, append_images=[picture("1", 1)])
    (folder / "deep.ppm").write_bytes(b"P6 5 6 1000\n" + bytes(180))
    (folder / "deeper.pgm").write_bytes(b"P5 5 6 1000\n" + bytes(60))
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100_000))
    picture("1").save(folder / "gamma.png", pnginfo=info)
    picture("1").save(folder / "profile.png", icc_profile=b"Display P3")
    exif = Image.Exif()
    exif[0x0112] = 3
    picture("1").save(folder / "turned.bmp", "PNG", exif=exif)
    (folder / "text.png").write_text("no picture")
    picture("1").save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:-40])
    (folder / "empty").mkdir()
    (folder / "twice").mkdir()
    picture("1").save(folder / "twice" / "whole.png")
    np.save(folder / "wrong.npy", np.zeros((2, 3, 3), np.uint8))
    np.save(folder / "large.npy", np.full((2, *SHAPE), 2, np.uint8))
    return [
        (["grey.png"], "has the grey value"),
        (["turned.png"], "it is 6 x 5 pixels, and not 5 x 6"),
        (["colour.png"], "is in colour, and the model's images have one channel"),
        (["clear.png"], "it is transparent in places"),
        (["deep.png"], "its pixels are stored as I;16"),
        (["frames.gif"], "several frames"),
        (["deep.ppm"], "its pixels are stored as RGB, of 10 bits"),
        (["deeper.pgm"], "its pixels are stored as I, of 10 bits"),
        (["gamma.png"], "it has a gamma or colours other than sRGB's"),
        (["profile.png"], "it has a colour profile other than sRGB"),
        (["turned.bmp"], "it has an orientation, which files of its ending do not have"),
        (["text.png"], "cannot be compressed"),
        (["cut.png"], "cannot be compressed"),
        (["empty"], "holds no pictures"),
        (["whole.png", "twice/whole.png"], "two files would be called 'whole.png'"),
        (["wrong.npy"], "has images of"),
        (["large.npy"], "but levels are 0..1"),
        (["missing.png"], "unknown data"),
        ([], "IN must be files, folders or data"),
        (["whole.png", "--classes", "best"], "has no classes"),
        (["whole.png", "--chunk", "0"], "chunk must be an integer in 1"),
    ]


def test_what_cannot_be_kept_is_refused(models, tmp_path, capsys):
    for arguments, said in bad_sources(tmp_path):
        given = [tmp_path / each if k == 0 or "." in str(each) else each for k, each in enumerate(arguments)]
        code, _, err = run(capsys, "compress", models / "placed", *given, "--out", tmp_path / "out.pxcn")
        assert code == 2, arguments
        lines = [line for line in err.splitlines() if line.startswith("pixelcnn: ")]
        assert len(lines) == 1, err
        assert said in lines[0], (arguments, lines)
        assert not list(tmp_path.glob("*out.pxcn*")), arguments
    for profile in (b"sRGB IEC61966-2.1", "sRGB".encode("utf-16-be")):
        picture("1").save(tmp_path / "s.png", icc_profile=profile)
        assert run(capsys, "compress", models / "binary", tmp_path / "s.png", "--out", tmp_path / "s.pxcn")[0] == 0
    picture("1").save(tmp_path / "w.png")
    code, _, err = run(capsys, "compress", models / "two", tmp_path / "w.png", "--out", tmp_path / "out.pxcn")
    assert code == 2
    assert "2 channels: give it arrays" in err


@pytest.mark.filterwarnings("default")
def test_other_files_of_a_folder_are_told(models, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    picture("1").save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / ".hidden").write_text("x")
    code, _, err = run(capsys, "compress", models / "binary", tmp_path / "in", "--out", tmp_path / "o.pxcn")
    assert code == 0
    assert "notes.txt left out: no pictures by their endings" in err
    assert "hidden" not in err


def test_files_that_are_read_are_not_replaced(models, tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((3, *SHAPE), np.uint8))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "link").symlink_to("a.npy")
    for out in ("a.npy", "link"):
        code, _, err = run(capsys, "compress", models / "binary", tmp_path / "a.npy", "--out", tmp_path / out)
        assert code == 2
        assert f"--out must not be {tmp_path / 'a.npy'}, which is read and would be replaced" in err
    assert (tmp_path / "a.npy").read_bytes() == content


def test_a_layout_is_for_arrays(models, tmp_path, capsys):
    picture("1").save(tmp_path / "a.png")
    for source, said in ((tmp_path / "a.png", "pictures"), ("mnist:test", "mnist")):
        code, _, err = run(capsys, "compress", models / "binary", source, "--layout", "nhw", "--out", tmp_path / "o.x")
        assert code == 2
        assert f"layout must be left out for {said}, which" in err


def test_a_stream_that_does_not_verify_is_not_written(models, tmp_path, capsys, monkeypatch):
    picture("1").save(tmp_path / "a.png")
    decode = pixelcnn.codec.decompress_with_labels
    monkeypatch.setattr("pixelcnn.codec.decompress_with_labels", lambda *a, **k: (1 - decode(*a, **k)[0], None))
    code, _, err = run(capsys, "compress", models / "binary", tmp_path / "a.png", "--out", tmp_path / "o.pxcn")
    assert code == 2
    assert "does not decode to the same images, so nothing is written" in err
    assert not (tmp_path / "o.pxcn").exists()


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


def noted(files, count, shape=(1, *SHAPE), **more):
    return Header(
        identity=bytes(16), shape=shape, levels=2, count=count, per_chunk=count, per_group=1, labelled=False,
        digest=bytes(8), notes={"files": files, **more},
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x.png", "a/../../x", "a//b", "", ".", "a\\b", "a\nb", "a\0b", "x" * 256, "a/" * 2100 + "b",
     "\ud800.png", "\x1b[31m.png", "\u2028.png"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(StreamError, match=r"is no name for a file|is too long"):
        entries_of(noted([[name, "1"]], 1))


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ([["a.png", "1"]], 2), ([["a.png", "CMYK"]], 1), ([["a.png"]], 1), (["a.png"], 1), ("a.png", 1), (None, 1),
        ([["a.npy", "object", 1, 4]], 1), ([["a.npy", "uint8", 1, 5]], 1), ([["a.npy", "uint8", -1, 4]], 1),
        ([["a.png", "1", 2]], 2), ([["1.png", "1", 2], ["2.png", "1"]], 3), ([["a", "1"], ["a/b", "1"]], 2),
        ([["a.png", "1", 1, 9]], 1), ([["a.png", "1", 1, 1]], 1), ([["a.png", "1", 2, 6]], 2),
        ([["a.npy", "1", 1, "nhwc"]], 1),
        ([["A.png", "1"], ["a.png", "1"]], 2), ([["1.png", "1", 10**30]], 3), ([["x.npy", "uint8", True, 4]], 2),
        ([["1.png", "1", 2**23]], 2**23), ([["1.png", "1", 2**22], ["a", "L"]], 2**22 + 1),
    ],
)  # fmt: skip
def test_files_that_cannot_be_are_refused(files, count):
    with pytest.raises(StreamError):
        entries_of(noted(files, count))


def test_names_of_all_languages_come_back(models, tmp_path, capsys):
    """Spaces of other widths, as in macOS's names of screenshots, joiners, and what Unicode has not assigned yet."""
    names = [
        "at 3.45.12\u202fPM.png",
        "\u5199\u771f\u3000\u4e00.png",
        "a\xa0b.png",
        "\u0645\u06cc\u200c.png",
        "\u0378.png",
    ]
    (tmp_path / "in").mkdir()
    for k, name in enumerate(names):
        picture("1", k).save(tmp_path / "in" / name)
    code, _, err = run(capsys, "compress", models / "binary", tmp_path / "in", "--out", tmp_path / "s.pxcn")
    assert code == 0, err
    assert run(capsys, "decompress", models / "binary", tmp_path / "s.pxcn", "--out", tmp_path / "out")[0] == 0
    for k, name in enumerate(names):
        assert same(Image.open(tmp_path / "out" / name), picture("1", k))


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


def test_names_that_count_up_take_no_room():
    names = [f"train/{k:05d}.png" for k in range(8, 12)] + ["x9.png", "x10.png", "x010.png", "y"]
    entries = [Entry(name, "1") for name in names] + [Entry("z.npy", "uint8", 2, 3)]
    notes = notes_of(entries, None, "m")
    assert notes["files"][:2] == [["train/00008.png", "1", 4], ["x9.png", "1", 2]]
    assert entries_of(noted(json.loads(json.dumps(notes["files"])), 10)) == entries
    turned = [Entry(f"{k}.png", "L", orientation=6) for k in range(3)] + [Entry("3.png", "L"), Entry("4.png", "L")]
    notes = notes_of([*turned, Entry("n.npy", "uint8", 2, 4, channels_last=True)], None, "m")
    assert notes["files"] == [["0.png", "L", 3, 6], ["3.png", "L", 2], ["n.npy", "uint8", 2, "nhwc"]]
    assert entries_of(noted(json.loads(json.dumps(notes["files"])), 7))[:5] == turned
    long = notes_of([Entry(f"{k}.png", "1") for k in range(10_000)], None, "m")
    assert len(zlib.compress(json.dumps(long).encode())) < 100


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


def test_pictures_are_kept_by_their_own_bytes(tmp_path):
    """What the notes add to a stream is what they deflate to, and two words."""
    model = pixelcnn.PixelCNN((1, *SHAPE), filters=4, blocks=1)
    images = model.sample(2, seed=0)
    bare = pixelcnn.compress(model, images)
    notes = {"files": [["a.png", "1"], ["b.png", "1"]]}
    with_notes = pixelcnn.compress(model, images, notes=notes)
    text = json.dumps(notes, separators=(",", ":")).encode()
    assert len(with_notes) - len(bare) == 8 + len(zlib.compress(text, 9))
    assert struct.unpack_from("<B", with_notes, 5) == (2,)
    assert io.BytesIO(with_notes).read(4) == b"PXCN"


def test_pictures_of_sixteen_bits_come_back(models, tmp_path, capsys):
    """PNG and TIFF files whose values are the model's levels, turned ones too; others are refused."""
    source, model = tmp_path / "in", tmp_path / "deep"
    source.mkdir()
    pixelcnn.PixelCNNPlusPlus((1, *SHAPE), 4096, filters=4, blocks=1, mixtures=2).save_pretrained(model)
    values = np.random.default_rng(0).integers(0, 4096, (3, *SHAPE)).astype(np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(values[0]).save(source / "1.png")
    Image.fromarray(values[1]).save(source / "2.tiff")
    Image.fromarray(np.ascontiguousarray(np.rot90(values[2]))).save(source / "3.png", exif=turned)
    code, out, _ = run(capsys, "compress", model, source, "--out", tmp_path / "x.pxcn")
    assert code == 0, out
    assert (tmp_path / "x.pxcn").read_bytes()[4] == 2
    assert run(capsys, "decompress", model, tmp_path / "x.pxcn", "--out", tmp_path / "out")[0] == 0
    for path in source.iterdir():
        before, after = Image.open(path), Image.open(tmp_path / "out" / path.name)
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert before.getexif().get(0x0112) == after.getexif().get(0x0112)
    Image.fromarray(values[0] + 4096).save(source / "1.png")
    assert "has the value" in run(capsys, "compress", model, source, "--out", tmp_path / "y.pxcn")[2]
    picture("L").save(source / "1.png")
    assert "8 bits" in run(capsys, "compress", model, source, "--out", tmp_path / "y.pxcn")[2]
    assert "of 16 bits" in run(capsys, "compress", models / "gray", source / "2.tiff", "--out", tmp_path / "y.pxcn")[2]
    (tmp_path / "x.pnm").write_bytes(b"P5 5 6 1000\n" + values[0].astype(">u2").tobytes())  # Pillow scales its values
    said = run(capsys, "compress", model, tmp_path / "x.pnm", "--out", tmp_path / "y.pxcn")[2]
    assert "16 bits are kept in PNG and TIFF files" in said
    assert not (tmp_path / "y.pxcn").exists()


def test_colours_of_more_bits_are_refused(models, tmp_path, capsys):
    """Of which Pillow gives the upper 8, and says nothing."""
    path = tmp_path / "a.jp2"
    picture("RGB").save(path)
    assert run(capsys, "compress", models / "colour", path, "--out", tmp_path / "x.pxcn")[0] == 0
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\x4f\xff\x51") + 42
    content[start : start + 9 : 3] = b"\x0b" * 3
    path.write_bytes(content)
    code, _, err = run(capsys, "compress", models / "colour", path, "--out", tmp_path / "y.pxcn")
    assert (code, "its pixels are stored as RGB, of 12 bits" in err) == (2, True), err
    for flags, bits in ((0x0C, 8), (0x4C, 10), (0x6C, 12)):  # of AVIF files, which Pillow writes with 8 bits only
        path.write_bytes(bytes(100) + b"av1C\x81\x04" + bytes([flags, 0]))
        assert archive._coded_bits(path, "AVIF") == bits
    picture("L").save(path)
    assert archive._coded_bits(path, "JPEG2000") == 8  # in one channel, behind which other bytes follow
    path.write_bytes(b"")
    assert [archive._coded_bits(path, kind) for kind in ("AVIF", "JPEG2000", "PNG")] == [8, 0, 0]


def test_a_condition_is_kept_if_it_comes_from_the_images(models, tmp_path, capsys):
    pixelcnn.GatedPixelCNN((1, 8, 6), filters=4, layers=2, condition_channels=1).save_pretrained(models / "given")
    folder, maps = tmp_path / "in" / "deep", tmp_path / "maps" / "deep"
    folder.mkdir(parents=True)
    maps.mkdir(parents=True)
    for k, suffix in enumerate(("png", "gif", "bmp")):
        picture("1", k, (8, 6)).save(folder / f"{k}.{suffix}")
        picture("L", k, (4, 3)).save(maps / f"{k}.png")
    stream = tmp_path / "shrunk.pxcn"
    code, out, err = run(
        capsys, "compress", models / "given", tmp_path / "in", "--condition", "shrink:2", "--out", stream
    )
    assert (code, "bytes are those of the small pictures" in out) == (0, True), err
    code, _, err = run(capsys, "decompress", models / "given", stream, "--out", tmp_path / "a")
    assert code == 0, err
    for k, name in enumerate(("0.png", "1.gif.png", "2.bmp")):
        with Image.open(tmp_path / "a" / "deep" / name) as found:
            assert same(found.convert("1"), picture("1", k, (8, 6)))

    stream, spec = tmp_path / "given.pxcn", ("--condition", tmp_path / "maps")
    assert run(capsys, "compress", models / "given", tmp_path / "in", *spec, "--out", stream)[0] == 0
    for extra, code in ((spec, 0), ((), 2), (("--condition", tmp_path / "none"), 2)):
        found, _, err = run(
            capsys, "decompress", models / "given", stream, *extra, "--out", tmp_path / f"b{len(extra)}{code}"
        )
        assert (found, err.count("--condition")) == (code, int(code == 2))
    code, _, err = run(capsys, "decompress", models / "given", tmp_path / "shrunk.pxcn", *spec, "--out", tmp_path / "c")
    assert (code, "--condition must be left out" in err) == (2, True)
    (maps / "1.png").unlink()
    code, _, err = run(capsys, "decompress", models / "given", stream, *spec, "--out", tmp_path / "d")
    assert (code, "no picture for the image deep/1.gif" in err) == (2, True)


@pytest.mark.parametrize(
    ("model", "spec", "named"),
    [
        ("binary", "shrink:2", "binary is not conditional"),
        ("mapped", "shrink:4", "multiples, got 6 x 5"),
        ("mapped", "nowhere", "nowhere"),
        ("mapped", "labels:nowhere", "numbers, without labels:"),
    ],
)
def test_conditions_that_do_not_fit(models, tmp_path, capsys, model, spec, named):
    pixelcnn.GatedPixelCNN((1, *SHAPE), filters=4, layers=2, condition_channels=1).save_pretrained(models / "mapped")
    picture("1").save(tmp_path / "a.png")
    code, _, err = run(
        capsys, "compress", models / model, tmp_path / "a.png", "--condition", spec, "--out", tmp_path / "x"
    )
    assert (code, named in err.splitlines()[-1]) == (2, True), err
    assert not (tmp_path / "x").exists()


def test_a_folder_gets_a_stream_for_each_picture(models, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"in/a.png": 1, "in/deep/b.bmp": 2}
    for name, seed in names.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture("RGB", seed).save(tmp_path / name)
    code, out, err = run(capsys, "compress", models / "colour", "in", "--out", "streams")
    assert code == 0, err
    streams = [tmp_path / "streams" / name for name in ("a.png.pxcn", "deep/b.bmp.pxcn")]
    size = sum(stream.stat().st_size for stream in streams)
    assert "a.png: " in out
    assert f"2 images of 3 x 6 x 5 in 256 levels, 2 files: streams\n{size:,} bytes" in out
    code, out, err = run(capsys, "decompress", models / "colour", *streams, "--out", "back")
    assert (code, out) == (0, f"2 images in 2 files, decoded with {models / 'colour'}: back\n"), err
    for name, seed in names.items():
        assert same(Image.open(tmp_path / "back" / name.removeprefix("in/")), picture("RGB", seed))
    assert run(capsys, "decompress", models / "colour", streams[0])[0] == 0
    assert same(Image.open("a.png/a.png"), picture("RGB", 1))
    code, _, err = run(capsys, "decompress", models / "colour", *streams)
    assert (code, "--out" in err) == (2, True)
    code, _, err = run(capsys, "compress", models / "colour", "in/a.png", "back/a.png", "--out", "both")
    assert (code, "two files would be called 'a.png'; rename one" in err) == (2, True)
    assert not (tmp_path / "both").exists()
    np.save("c.npy", np.zeros((2, *SHAPE, 3), np.uint8))
    code, _, err = run(capsys, "compress", models / "colour", "c.npy", "--out", "streams")
    assert (code, "a folder for --out takes pictures" in err) == (2, True)
    streams[1].write_bytes(streams[1].read_bytes()[:-3])
    code, _, err = run(capsys, "decompress", models / "colour", *streams, "--out", "again")
    assert code == 2
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_metadata_are_kept_on_request(models, tmp_path, capsys, name):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    made, exif = Image.Exif(), Image.Exif()
    made[ExifTags.Base.Make], made[ExifTags.Base.Orientation] = "Acme", 6
    made.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    exif.load(made.tobytes())  # as of a file
    turned = picture("RGB", size=SHAPE[::-1])
    options = {"lossless": True} if name == "a.webp" else {}
    turned.save(tmp_path / name, icc_profile=profile, exif=exif, **options)
    picture("RGB").save(tmp_path / "plain.png")
    sources = [tmp_path / name, tmp_path / "plain.png"]
    code, _, err = run(capsys, "compress", models / "colour", *sources, "--out", tmp_path / "s.pxcn")
    assert (code, "keep it with --metadata" in err) == (2, True)
    assert run(capsys, "compress", models / "colour", *sources, "--metadata", "--out", tmp_path / "s.pxcn")[0] == 0
    assert run(capsys, "decompress", models / "colour", tmp_path / "s.pxcn", "--out", tmp_path / "back")[0] == 0
    found = Image.open(tmp_path / "back" / (name + ".png" * (name == "a.webp")))
    assert found.info["icc_profile"] == profile
    assert {tag: found.getexif()[tag] for tag in made} == dict(made)
    assert dict(found.getexif().get_ifd(ExifTags.IFD.GPSInfo)) == {ExifTags.GPS.GPSLatitudeRef: "N"}
    assert found.tobytes() == Image.open(tmp_path / name).tobytes()  # Pillow turns TIFF files itself
    plain = Image.open(tmp_path / "back" / "plain.png")
    assert "icc_profile" not in plain.info
    assert not plain.getexif()


def test_metadata_that_a_file_cannot_have_are_refused(models, tmp_path, capsys):
    """A JPEG file that is called a BMP file, as which it would be restored."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Acme"
    picture("RGB").save(tmp_path / "a.bmp", "JPEG", exif=exif)
    arguments = "compress", models / "colour", tmp_path / "a.bmp", "--out", tmp_path / "s.pxcn"
    code, _, err = run(capsys, *arguments, "--metadata")
    assert (code, "it has a colour profile or EXIF data, which files of its ending do not have" in err) == (2, True)
    assert run(capsys, *arguments)[0] == 0


def test_damaged_metadata_are_refused():
    entry = Entry("a.png", "RGB", profile=b"profile", exif=b"exif")
    notes = notes_of([Entry("0.png", "RGB"), entry], None, "m")

    def header(**changes):
        return Header(
            identity=bytes(16), shape=(3, 6, 5), levels=256, count=2, per_chunk=2, per_group=1, labelled=False,
            digest=bytes(8), notes=notes | changes,
        )  # fmt: skip

    assert entries_of(header()) == [Entry("0.png", "RGB"), entry]
    for changes in (
        {"profiles": 3}, {"profiles": ["?"]}, {"profiles": [3]}, {"metadata": {}}, {"metadata": [[2, 0, ""]]},
        {"metadata": [[0, 1, ""]]}, {"metadata": [[0, 0, "é"]]}, {"metadata": [[0, 0]]}, {"metadata": ["a"]},
    ):  # fmt: skip
        with pytest.raises(StreamError, match="notes are damaged"):
            entries_of(header(**changes))


def test_jpeg_is_told_what_is_kept(models, tmp_path, capsys):
    picture("RGB").save(tmp_path / "a.jpg")
    code, out, _ = run(capsys, "compress", models / "colour", tmp_path / "a.jpg", "--out", tmp_path / "s.pxcn")
    assert (code, "not kept: JPEG's coding (the pixels come back, as PNG) of 1 files" in out) == (0, True)
