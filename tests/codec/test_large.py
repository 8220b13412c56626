"""Large images, which are coded in parts: the same images back, in every engine; damage and Ctrl-C between parts."""

import struct

import pytest
import torch

import pixelcnn
from pixelcnn.codec import Stream, StreamError, decompress_with_labels, read_header
from pixelcnn.codec.container import block, pack_header, payload_of, unpack
from pixelcnn.exact import prepare
from streams import engine

MODELS = {
    "pixelcnn": (pixelcnn.PixelCNN, {"filters": 6, "blocks": 1}),
    "given": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "num_classes": 3, "condition_channels": 1}),
    "context": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "context": (2,), "context_places": False}),
    "plusplus": (pixelcnn.PixelCNNPlusPlus, {"filters": 6, "blocks": 1, "mixtures": 2}),
}


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch):
    monkeypatch.setattr("pixelcnn.codec.stream._LARGE_SUBPIXELS", 100)
    monkeypatch.setattr("pixelcnn.codec.groups._PART_SUBPIXELS", 300)


def made(name):
    """A model, two images, and what they are conditioned on."""
    family, options = MODELS[name]
    model = prepare(family((3, 20, 16), levels=4, generator=torch.Generator().manual_seed(0), **options))
    images = torch.randint(4, (2, 3, 20, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    if name != "given":
        return model, images, None, None
    return model, images, torch.tensor([1, 2]), torch.rand(2, 1, 5, 4, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", MODELS)
def test_the_same_images_from_the_same_bytes(name):
    model, images, labels, condition = made(name)
    data = pixelcnn.compress(model, images, labels, condition=condition, chunk=2)
    assert (read_header(data).large, read_header(data).per_chunk) == (True, 1)
    with engine("eager"):
        assert pixelcnn.compress(model, images, labels, condition=condition) == data
    for which in ("native", "eager"):
        with engine(which):
            found, classes = decompress_with_labels(model, data, condition=condition)
            assert torch.equal(found, images)
            assert labels is None or torch.equal(classes, labels)
    assert torch.equal(pixelcnn.decompress(model, data, condition=condition, first=1), images[1:])
    bits = model.bits(images, labels, condition=condition).sum()
    parts = sum(len(data[start : start + length]) for start, length in unpack(data)[1])
    assert 8 * parts < bits + 2 * 6 * 8 * 12


@pytest.mark.parametrize("which", ["native", "eager"])
def test_parts_that_are_not_those_of_an_image(which):
    model, images, *_ = made("pixelcnn")
    data = pixelcnn.compress(model, images[:1])
    header, spans = unpack(data)
    payload = payload_of(data, spans[0], "it")
    assert pack_header(header) + block(payload) == data
    first = 4 + struct.unpack_from("<I", payload)[0]
    wrong = [
        payload[first:],
        payload[:first] + payload,
        payload[:-4],
        payload[:-1] + b"\1",
        payload[first:] + payload[:first],
        payload + b"\0\0\0",
    ]
    for other in wrong:
        with engine(which), pytest.raises(StreamError):
            pixelcnn.decompress(model, pack_header(header) + block(other))


def test_it_stops_between_parts():
    """As Ctrl-C does: what is called after each part may raise."""
    model, images, *_ = made("pixelcnn")
    stream, seen = Stream(model, pixelcnn.compress(model, images)), []

    def done(count):
        seen.append(count)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(stream.decode(range(2), done))
    assert sum(seen) < stream.units(2) == 2 * 20 * 16
