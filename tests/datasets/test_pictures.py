"""Pictures of every kind become the levels that are asked for."""

import numpy as np
import pytest
from made import noise, picture
from PIL import Image

from pixelcnn.config import DataConfig
from pixelcnn.datasets.pictures import SUFFIXES, is_grey, open_picture, to_levels

PLAIN = DataConfig()


def levels_of(image, channels=1, levels=256, config=PLAIN):
    if not isinstance(image, Image.Image):
        with open_picture(image) as file:
            return to_levels(file, channels, levels, config)
    return to_levels(image, channels, levels, config)


def test_lossless_formats_keep_every_value(tmp_path):
    for suffix in (".png", ".tif", ".tiff"):
        pixels = picture(tmp_path / f"x{suffix}", (5, 8, 3))
        assert np.array_equal(levels_of(tmp_path / f"x{suffix}", 3)[0], pixels.transpose(2, 0, 1))
    pixels = noise(5, 8, 3)
    Image.fromarray(pixels).save(tmp_path / "x.webp", lossless=True)
    assert np.array_equal(levels_of(tmp_path / "x.webp", 3)[0], pixels.transpose(2, 0, 1))
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif"} == set(SUFFIXES)


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


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_refused(mode):
    with pytest.raises(ValueError, match="its pixels have 32 bits; save it with 8 or 16"):
        levels_of(Image.new(mode, (4, 4)))


def test_exif_turns_upright(tmp_path):
    pixels = noise(4, 6)
    for dtype in (np.uint8, np.uint16):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise
        scale = 1 if dtype == np.uint8 else 257
        Image.fromarray(pixels.astype(dtype) * dtype(scale)).save(tmp_path / "x.png", exif=exif)
        assert np.array_equal(levels_of(tmp_path / "x.png")[0, 0], np.rot90(pixels, -1))


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
