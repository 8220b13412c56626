"""What pixelcnn compress keeps of picture files: modes, orientations, 16 bits, and metadata on request."""

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

import pixelcnn
from made import shallow
from pixelcnn.codec import archive, read_header
from pixelcnn.codec.manifest import entries_of
from stored import SHAPE, picture, run, same


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


def test_transparency_of_few_bits_is_refused(models, tmp_path, capsys):
    """Which Pillow does not see, since it scales the values and not the one that is transparent."""
    values = np.arange(30).reshape(SHAPE) % 4
    for transparent, said in ((1, "transparent in places"), (7, "files")):
        shallow(tmp_path / "a.png", values, 4, transparent=transparent)
        code, out, err = run(capsys, "compress", models / "gray", tmp_path / "a.png", "--out", tmp_path / "y.pxcn")
        assert (code, said in out + err) == (2 if transparent == 1 else 0, True), err


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
    assert (code, "RGB, of 12 bits" in err) == (2, True), err
    for flags, bits in ((0x0C, 8), (0x4C, 10), (0x6C, 12)):  # of AVIF files, which Pillow writes with 8 bits only
        path.write_bytes(bytes(100) + b"av1C\x81\x04" + bytes([flags, 0]))
        assert archive._coded_bits(path, "AVIF") == bits
    picture("L").save(path)
    assert archive._coded_bits(path, "JPEG2000") == 8  # in one channel, behind which other bytes follow
    path.write_bytes(b"")
    assert [archive._coded_bits(path, kind) for kind in ("AVIF", "JPEG2000", "PNG")] == [8, 0, 0]


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
    assert (code, "EXIF data" in err) == (2, True)
    assert run(capsys, *arguments)[0] == 0


def test_jpeg_is_told_what_is_kept(models, tmp_path, capsys):
    picture("RGB").save(tmp_path / "a.jpg")
    code, out, _ = run(capsys, "compress", models / "colour", tmp_path / "a.jpg", "--out", tmp_path / "s.pxcn")
    assert (code, "not kept: JPEG's coding (the pixels come back, as PNG) of 1 files" in out) == (0, True)
