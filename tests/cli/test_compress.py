"""pixelcnn compress: folders, pictures and arrays come back as they were, or nothing is written."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import pixelcnn
from pixelcnn.codec import read_header
from pixelcnn.codec.archive import picture_files
from pixelcnn.datasets.split import fraction_of
from stored import SHAPE, picture, run, same


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


def test_what_of_arrays_is_not_kept_is_counted(models, tmp_path, capsys):
    images, labels = np.zeros((2, *SHAPE), ">i4"), np.zeros(2, np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    _, said, _ = run(capsys, "compress", models / "binary", tmp_path / "a.npz", "--out", tmp_path / "s.pxcn")
    assert "not kept: the order of an array's bytes (back in this machine's) of 1 files; the labels' type" in said
    np.savez(tmp_path / "a.npz", images=images.astype("=i4"), labels=labels.astype(np.int64))
    _, said, _ = run(capsys, "compress", models / "binary", tmp_path / "a.npz", "--out", tmp_path / "s.pxcn")
    assert "not kept" not in said


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
    assert run(capsys, *arguments, "--salvage")[0] == 1
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
        (["grey.png"], "grey value"),
        (["turned.png"], "it is 6 x 5 pixels, and not 5 x 6"),
        (["colour.png"], "one channel"),
        (["clear.png"], "transparent"),
        (["deep.png"], "I;16"),
        (["frames.gif"], "several frames"),
        (["deep.ppm"], "RGB, of 10 bits"),
        (["deeper.pgm"], "I, of 10 bits"),
        (["gamma.png"], "gamma or colours"),
        (["profile.png"], "colour profile"),
        (["turned.bmp"], "orientation"),
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
    (tmp_path / "in" / "album").symlink_to(tmp_path / "models", target_is_directory=True)
    (tmp_path / "models").mkdir()
    _, _, err = run(capsys, "compress", models / "binary", tmp_path / "in", "--out", tmp_path / "o.pxcn")
    assert "album and 1 more left out: no pictures by their endings, or links to folders, which are not followed" in err


def test_the_order_of_files_is_that_of_their_names(tmp_path, monkeypatch):
    """Not that of the file system, in which 1.png and 01.png may come either way."""
    names = ["1.png", "01.png", "001.png", "10.png", "9.png"]
    for name in names:
        (tmp_path / name).touch()
    found = []
    for order in (names, names[::-1]):
        monkeypatch.setattr("os.walk", lambda folder, order=order: [(folder, [], list(order))])
        found.append([name for _, name in picture_files([str(tmp_path)])[0]])
    assert found == [["001.png", "01.png", "1.png", "9.png", "10.png"]] * 2


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


def test_the_shares_of_a_data_source(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 4, (9, 2, 6, 5), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    held_out = images[[fraction_of(image) < 0.6 for image in images]]
    command = ["compress", models / "two", f"{tmp_path / 'x.npy'}:validation", "--out", tmp_path / "x.pxcn"]
    assert run(capsys, *command, "--held-out", "0.6", "--test", "0.2")[0] == 0
    data = (tmp_path / "x.pxcn").read_bytes()
    assert np.array_equal(pixelcnn.decompress(pixelcnn.load(models / "two"), data).numpy(), held_out)


def test_a_stream_that_does_not_verify_is_not_written(models, tmp_path, capsys, monkeypatch):
    picture("1").save(tmp_path / "a.png")
    decode = pixelcnn.codec.decompress_with_labels
    monkeypatch.setattr("pixelcnn.codec.decompress_with_labels", lambda *a, **k: (1 - decode(*a, **k)[0], None))
    code, _, err = run(capsys, "compress", models / "binary", tmp_path / "a.png", "--out", tmp_path / "o.pxcn")
    assert code == 2
    assert "does not decode to the same images, so nothing is written" in err
    assert not (tmp_path / "o.pxcn").exists()


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
