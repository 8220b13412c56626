"""Pictures of every kind become the levels that are asked for."""

import itertools
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from made import noise, picture, png, shallow
from pixelcnn.config import DataConfig
from pixelcnn.datasets.pictures import SUFFIXES, is_grey, open_picture, to_levels

PLAIN = DataConfig()


def levels_of(image, channels=1, levels=256, config=PLAIN):
    if not isinstance(image, Image.Image):
        with open_picture(image) as file:
            return to_levels(file, channels, levels, config)
    return to_levels(image, channels, levels, config)


def test_lossless_formats_keep_every_value(tmp_path):
    lossless = [".png", ".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pnm", ".pcx", ".tga", ".qoi", ".sgi", ".rgb"]
    for suffix in lossless:
        pixels = picture(tmp_path / f"x{suffix}", (5, 8, 3))
        assert np.array_equal(levels_of(tmp_path / f"x{suffix}", 3)[0], pixels.transpose(2, 0, 1)), suffix
        if suffix != ".qoi":
            pixels = picture(tmp_path / f"y{suffix}", (5, 8))
            assert np.array_equal(levels_of(tmp_path / f"y{suffix}")[0, 0], pixels), suffix
    pixels = noise(5, 8, 3)
    Image.fromarray(pixels).save(tmp_path / "x.webp", lossless=True)
    assert np.array_equal(levels_of(tmp_path / "x.webp", 3)[0], pixels.transpose(2, 0, 1))
    Image.fromarray(pixels).save(tmp_path / "x.jp2", irreversible=False)
    assert np.array_equal(levels_of(tmp_path / "x.jp2", 3)[0], pixels.transpose(2, 0, 1))
    black_and_white = Image.fromarray(noise(5, 8, top=2) * np.uint8(255)).convert("1")
    for suffix in (".pbm", ".xbm"):
        black_and_white.save(tmp_path / f"x{suffix}")
        assert np.array_equal(levels_of(tmp_path / f"x{suffix}", 1, 2)[0, 0], np.asarray(black_and_white)), suffix
    tried = {*lossless, ".webp", ".jp2", ".pbm", ".xbm", ".jpg", ".gif"}
    assert set(SUFFIXES) - tried == {".jpeg", ".jpe", ".jfif", ".pgm", ".rgba", ".bw", ".ras", ".j2k", ".avif"}


def test_what_has_no_mark_is_told_by_its_ending(tmp_path):
    """A TGA file begins with anything, so nothing else is taken for one."""
    picture(tmp_path / "x.tga")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.tga").read_bytes())
    with pytest.raises(OSError, match="cannot identify image file"):
        open_picture(tmp_path / "x.png")


def test_jpeg_is_near(tmp_path):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (16, 1))
    Image.fromarray(ramp).save(tmp_path / "x.jpg", quality=95)
    assert np.abs(levels_of(tmp_path / "x.jpg")[0, 0].astype(int) - ramp).max() <= 8


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("L", (4, 3), value) for value in (10, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (levels_of(tmp_path / "x.gif") == 10).all()


@pytest.mark.parametrize("levels", [2, 3, 8, 255, 256])
def test_levels_are_floors(levels):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = [value * levels // 256 for value in range(256)]
    assert levels_of(Image.fromarray(grey), 1, levels).ravel().tolist() == expected


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    wide = np.random.default_rng(0).integers(0, 2**16, (5, 6)).astype(np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(wide).save(tmp_path / f"x.{suffix}")
        with open_picture(tmp_path / f"x.{suffix}") as image:
            assert is_grey(image)
            assert np.array_equal(to_levels(image, 1, 256, PLAIN)[0, 0], wide >> 8)


def test_one_picture_uses_the_bits_of_its_largest_value(tmp_path):
    for top, bits in ((0, 8), (200, 8), (256, 9), (1023, 10), (32767, 15), (40000, 16)):
        wide = np.linspace(0, top, 30).round().astype(np.uint16).reshape(5, 6)
        Image.fromarray(wide).save(tmp_path / "x.png")
        assert np.array_equal(levels_of(tmp_path / "x.png")[0, 0], wide >> (bits - 8)), top
        told = np.minimum(wide >> 7, 255)
        if top < 2**15:
            assert np.array_equal(levels_of(tmp_path / "x.png", config=DataConfig(bit_depth=15))[0, 0], told)
    with pytest.raises(ValueError, match=r"it holds the value 40000, and bit_depth = 15 allows 0\.\.32767"):
        levels_of(tmp_path / "x.png", config=DataConfig(bit_depth=15))


def test_files_that_say_their_depth(tmp_path):
    """The largest value of a PGM, the bits of a TIFF: dark pictures stay dark."""
    values = np.array([[0, 1, 1000], [16, 17, 300]], ">u2")
    (tmp_path / "x.pgm").write_bytes(b"P5 3 2 4095\n" + values.tobytes())
    assert np.array_equal(levels_of(tmp_path / "x.pgm")[0, 0], values >> 4)
    (tmp_path / "full.pgm").write_bytes(b"P5 3 2 65535\n" + values.tobytes())
    assert np.array_equal(levels_of(tmp_path / "full.pgm")[0, 0], values >> 2)  # 16 bits say little
    (tmp_path / "few.pgm").write_bytes(b"P5 3 1 3\n" + bytes([0, 1, 3]))
    assert levels_of(tmp_path / "few.pgm").ravel().tolist() == [0, 85, 255]
    (tmp_path / "x.tif").write_bytes(twelve_bits(values[:, :2]))
    assert np.array_equal(levels_of(tmp_path / "x.tif")[0, 0], values[:, :2] >> 4)


def test_colours_that_say_their_depth(tmp_path):
    """Pillow scales those of a PPM file by its largest value."""
    values = np.array([[[0, 16, 4095], [300, 17, 1000]]], ">u2")
    (tmp_path / "x.ppm").write_bytes(b"P6 2 1 4095\n" + values.tobytes())
    expected = np.rint(values[0].T * (255 / 4095))
    for depth in (None, 12):
        assert np.array_equal(levels_of(tmp_path / "x.ppm", 3, config=DataConfig(bit_depth=depth))[0, :, 0], expected)
    with pytest.raises(ValueError, match="stored with 12 bits and use 14, and only the upper 8 of 12 can be read"):
        levels_of(tmp_path / "x.ppm", 3, config=DataConfig(bit_depth=14))


def twelve_bits(values):
    """A TIFF file of 12 bits per value, packed, of an even width."""
    height, width = values.shape
    pairs = values.astype(int).reshape(-1, 2).tolist()
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    tags = [(256, 3, width), (257, 3, height), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1),
            (278, 3, height), (279, 4, len(packed))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + packed


def sixteen_bit_colours(values):
    """A PNG file of 16 bits per value; values are uint16 (H, W, 3)."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 2, rows)


def test_sixteen_bits_of_colour(tmp_path):
    """Pillow gives the upper 8 bits: dark pictures would lose nearly all, and are refused."""
    wide = np.random.default_rng(0).integers(0, 2**16, (5, 6, 3)).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(sixteen_bit_colours(wide))
    assert np.array_equal(levels_of(tmp_path / "x.png", 3)[0], (wide >> 8).transpose(2, 0, 1))
    for shift, bits in ((4, 12), (8, 8)):
        (tmp_path / "x.png").write_bytes(sixteen_bit_colours(wide >> shift))
        with pytest.raises(
            ValueError, match=f"stored with 16 bits and use {bits}, and only the upper 8 of 16 can be read"
        ):
            levels_of(tmp_path / "x.png", 3)
    told = levels_of(tmp_path / "x.png", 3, config=DataConfig(bit_depth=16))
    assert not told.any()


def test_white_is_zero_in_sixteen_bits(tmp_path):
    values = np.array([[0, 20000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.tif", tiffinfo={262: 0})
    assert levels_of(tmp_path / "x.tif").ravel().tolist() == [255, (65535 - 20000) >> 8, 0]


def test_transparency_in_sixteen_bits_is_black(tmp_path):
    values = np.array([[60000, 20000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png", transparency=60000)
    assert levels_of(tmp_path / "x.png").ravel().tolist() == [0, 20000 >> 8, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_refused(mode):
    with pytest.raises(ValueError, match="its pixels have 32 bits; save it with 8 or 16"):
        levels_of(Image.new(mode, (4, 4)))


def test_exif_turns_upright(tmp_path):
    pixels = noise(4, 6)
    for dtype, suffix in itertools.product((np.uint8, np.uint16), ("png", "tif")):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise
        scale = 1 if dtype == np.uint8 else 257
        Image.fromarray(pixels.astype(dtype) * dtype(scale)).save(tmp_path / f"x.{suffix}", exif=exif)
        assert np.array_equal(levels_of(tmp_path / f"x.{suffix}")[0, 0], np.rot90(pixels, -1))


def test_transparency_is_black(tmp_path):
    pixels = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]], np.uint8)
    found = levels_of(Image.fromarray(pixels), 3)[0].transpose(1, 2, 0)
    assert found[0].tolist()[:2] == [[200, 100, 50], [0, 0, 0]]
    assert np.abs(found[0, 2].astype(int) - [100, 50, 25]).max() <= 1
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 70, 80, 90])
    palette.putdata([0, 1])
    palette.save(tmp_path / "x.png", transparency=0)
    assert levels_of(tmp_path / "x.png", 3)[0, :, 0].T.tolist() == [[0, 0, 0], [70, 80, 90]]


def test_transparency_of_few_bits_is_black(tmp_path):
    """Pillow scales the values, but not the one that is transparent."""
    for bits, step in ((2, 85), (4, 17)):
        shallow(tmp_path / "x.png", [[0, 1, 2, 3]], bits, transparent=2)
        assert levels_of(tmp_path / "x.png").ravel().tolist() == [0, step, 0, 3 * step]


def test_grey_of_colour_is_luma():
    colour = Image.new("RGB", (2, 2), (10, 200, 60))
    assert (levels_of(colour) == round(0.299 * 10 + 0.587 * 200 + 0.114 * 60)).all()
    assert [is_grey(Image.new(mode, (1, 1))) for mode in ("1", "L", "LA", "RGB", "P", "CMYK")] == [True] * 3 + [
        False
    ] * 3


def test_centre_crop():
    """A wide picture of three vertical bands: the middle one is left, with no trace of the others."""
    bands = np.repeat(np.array([[0, 90, 255]], np.uint8), 30, axis=1).repeat(30, axis=0)
    found = levels_of(Image.fromarray(bands), config=DataConfig(size=10))
    assert found.shape == (1, 1, 10, 10)
    assert (found[0, 0, :, 3:-3] == 90).all()
    assert levels_of(Image.fromarray(bands), config=DataConfig(size=(5, 8))).shape == (1, 1, 5, 8)


def test_scaling_down_averages():
    """A checkerboard of single pixels becomes grey, not stripes."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    found = levels_of(Image.fromarray(board), config=DataConfig(size=8))
    assert np.abs(found.astype(int) - 127).max() <= 12


def test_the_right_size_is_left_alone():
    pixels = noise(9, 9)
    assert np.array_equal(levels_of(Image.fromarray(pixels), config=DataConfig(size=9))[0, 0], pixels)


def test_patches():
    pixels = noise(7, 11, 3)
    found = levels_of(Image.fromarray(pixels), 3, config=DataConfig(size=(3, 5), crop="patches"))
    assert found.shape == (4, 3, 3, 5)
    for k in range(4):
        y, x = k // 2 * 3, k % 2 * 5
        assert np.array_equal(found[k], pixels[y : y + 3, x : x + 5].transpose(2, 0, 1))
    with pytest.raises(ValueError, match="it is 7 x 11, smaller than a patch of 8 x 8"):
        levels_of(Image.fromarray(pixels), 3, config=DataConfig(size=8, crop="patches"))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_more_than_256_levels_are_the_values_of_deep_grey(tmp_path, ending):
    """With as many levels as the bits have values; fewer cut them; the picture is scaled and turned like any other."""
    values = np.random.default_rng(0).integers(0, 4096, (6, 8)).astype(np.uint16)
    values[0, 0] = 4095
    path = tmp_path / f"x.{ending}"
    Image.fromarray(values).save(path)
    twelve = DataConfig(bit_depth=12)
    found = levels_of(path, levels=4096, config=twelve)
    assert (found.dtype, found.shape) == (np.int32, (1, 1, 6, 8))
    assert np.array_equal(found[0, 0], values)
    assert np.array_equal(levels_of(path, levels=4096)[0, 0], values)  # 12 bits by its largest value
    assert np.array_equal(levels_of(path, levels=1000, config=twelve)[0, 0], values.astype(int) * 1000 >> 12)
    assert np.array_equal(levels_of(path, levels=65_536, config=DataConfig(bit_depth=16))[0, 0], values)
    tiles = levels_of(path, levels=4096, config=DataConfig(bit_depth=12, size=(3, 4), crop="patches"))
    assert np.array_equal(tiles[0, 0], values[:3, :4])
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(values).save(path, exif=turned)
    assert np.array_equal(levels_of(path, levels=4096, config=twelve)[0, 0], np.rot90(values, -1))


def test_deep_grey_is_scaled_with_all_its_bits():
    """The mean of each four pixels of a plane; at the edges the filter sees one side alone."""
    rows, columns = np.mgrid[:6, :8]
    values = (600 * rows + 150 * columns).astype(np.uint16)
    half = levels_of(Image.fromarray(values), levels=4096, config=DataConfig(bit_depth=12, size=(3, 4)))[0, 0]
    assert np.abs(half - values.reshape(3, 2, 4, 2).mean((1, 3))).max() < 20
    assert (half % 16).any()


def test_eight_bits_or_colour_are_too_few_for_more_than_256_levels(tmp_path):
    with pytest.raises(ValueError, match="its values have at most 8 bits, and 4096 levels need more"):
        levels_of(Image.new("L", (4, 4)), levels=4096)
    (tmp_path / "x.png").write_bytes(sixteen_bit_colours(np.full((4, 4, 3), 40_000, np.uint16)))
    with pytest.raises(ValueError, match="in colour or transparent, of which 8 bits can be read"):
        levels_of(tmp_path / "x.png", 3, levels=4096)
