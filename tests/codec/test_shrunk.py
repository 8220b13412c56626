"""Streams that hold smaller pictures of their images, and these given them."""

import bz2
import dataclasses
import struct

import pytest
import torch

import pixelcnn
from pixelcnn.codec import StreamError, decompress_with_labels, read_header
from pixelcnn.codec.container import block, maps_of, pack_header, pack_maps, unpack, unpack_maps
from pixelcnn.datasets import shrunk
from streams import engine


@pytest.fixture(scope="module")
def made():
    """A model, images, and the stream of both."""
    model = pixelcnn.GatedPixelCNN((3, 12, 8), 5, filters=6, layers=2, num_classes=3, condition_channels=3)
    images = torch.randint(5, (7, 3, 12, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(7) % 3
    return model, images, labels, pixelcnn.compress(model, images, labels, condition="shrink:4", chunk=3)


def with_maps(data, maps):
    """The stream with other smaller pictures."""
    header, spans = unpack(data)
    return pack_header(header, maps) + data[spans[0][0] - 8 :]


def test_the_images_come_back_without_anything_else(made):
    model, images, labels, data = made
    header = read_header(data)
    assert (header.shrunk, header.conditioned) == (True, False)
    for which in ("native", "eager"):
        with engine(which):
            found, classes = decompress_with_labels(model, data)
            assert torch.equal(found, images)
            assert torch.equal(classes, labels)
    assert torch.equal(pixelcnn.decompress(model, data, first=4, n=2), images[4:6])
    small = shrunk(images, 4, 5)
    assert torch.equal(unpack_maps(data, header), small)
    given = pixelcnn.compress(model, images, labels, condition=small, chunk=3)
    assert len(given) == len(data) - len(maps_of(data)) - 8
    with pytest.raises(StreamError, match="condition must be None"):
        pixelcnn.decompress(model, data, condition=small)


def test_large_images_too(made, monkeypatch):
    model, images, labels, _ = made
    monkeypatch.setattr("pixelcnn.codec.stream._LARGE_SUBPIXELS", 10)
    monkeypatch.setattr("pixelcnn.codec.groups._PART_SUBPIXELS", 50)
    data = pixelcnn.compress(model, images, labels, condition="shrink:2")
    assert read_header(data).large
    assert torch.equal(pixelcnn.decompress(model, data), images)


@pytest.mark.parametrize(
    "maps",
    [
        b"",
        b"\0\0\0\0",
        struct.pack("<HH", 5, 2) + bz2.compress(bytes(7 * 3 * 10)),
        struct.pack("<HH", 3, 2) + bz2.compress(bytes(7 * 3 * 6 - 1)),
        struct.pack("<HH", 3, 2) + bz2.compress(bytes(7 * 3 * 6 + 1)),
        struct.pack("<HH", 3, 2) + bz2.compress(bytes(7 * 3 * 6))[:-1],
        struct.pack("<HH", 3, 2) + b"no bzip2",
        struct.pack("<HH", 3, 2) + bz2.compress(bytes(7 * 3 * 6)) + b"more",
    ],
)
def test_pictures_that_are_not_of_these_images(made, maps):
    model, *_, data = made
    with pytest.raises(StreamError, match="small pictures are damaged"):
        pixelcnn.decompress(model, with_maps(data, maps))


def test_other_pictures_are_noticed(made):
    model, images, _, data = made
    assert with_maps(data, pack_maps(shrunk(images, 4, 5))) == data
    with pytest.raises(StreamError):
        pixelcnn.decompress(model, with_maps(data, pack_maps(255 - shrunk(images, 4, 5))))


def test_damage_and_headers_that_contradict_themselves(made):
    model, *_, data = made
    header, spans = unpack(data)
    damaged = bytearray(data)
    damaged[spans[0][0] - 12] ^= 1
    with pytest.raises(StreamError, match="the small pictures are damaged: the checksum"):
        pixelcnn.decompress(model, bytes(damaged))
    both = dataclasses.replace(header, conditioned=True)
    with pytest.raises(StreamError, match="values that no encoder writes"):
        read_header(pack_header(both, b"") + block(b""))


@pytest.mark.parametrize(
    ("spec", "named"), [("shrink:1", "shrink:S"), ("shrink:5", "multiples, got 12 x 8"), ("maps", "shrink:S.*'maps'")]
)
def test_what_cannot_be_shrunk(made, spec, named):
    model, images, *_ = made
    with pytest.raises(ValueError, match=named):
        pixelcnn.compress(model, images, condition=spec)


def test_models_without_maps():
    model = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=2)
    with pytest.raises(ValueError, match="condition must be None"):
        pixelcnn.compress(model, model.sample(2), condition="shrink:2")


def test_all_small_pictures_count_as_memory(made):
    model, images, _, data = made
    chunk, small = 3 * (3 * 12 * 8 + 8), 7 * 3 * 3 * 2
    assert torch.equal(pixelcnn.decompress(model, data, n=1, most_bytes=chunk + small), images[:1])
    with pytest.raises(StreamError, match=f"the images have {chunk + small} bytes, and most_bytes is {chunk}"):
        pixelcnn.decompress(model, data, n=1, most_bytes=chunk)
