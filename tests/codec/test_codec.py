"""Streams: the same images back, from the same bytes however they are made, or an error."""

import io
import itertools
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.codec import Stream, StreamError, decompress_with_labels, entropy, read_header
from pixelcnn.codec.container import unpack
from pixelcnn.exact import prepare
from pixelcnn.frequencies import TOTAL_BITS
from pixelcnn.sampling.native.coding import encode
from twins import MODELS, built, inputs

GOLDEN = Path(__file__).parent / "golden"


def classes_of(labels):
    return None if labels is None or labels.is_floating_point() else labels


@pytest.mark.parametrize("engine", ["native", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_a_round_trip(name, engine, monkeypatch):
    if engine == "eager":
        monkeypatch.setattr("pixelcnn.codec.groups.why_not_native", lambda _: "not now")
    prepared = prepare(built(name))
    images, labels = inputs(prepared.model, 7)
    labels = classes_of(labels)
    data = pixelcnn.compress(prepared, images, labels)
    found, found_labels = decompress_with_labels(prepared, data)
    assert torch.equal(found, images)
    assert (found_labels is None) == (labels is None)
    assert labels is None or torch.equal(found_labels, labels)
    bits = prepared.bits(images, labels).sum()
    assert 8 * len(data) <= bits + (0 if labels is None else 7 * math.log2(3)) + 8 * 80


@pytest.mark.parametrize("name", ["pixelcnn", "gated", "plusplus"])
def test_bytes_do_not_depend_on_batch_or_threads(name, monkeypatch):
    prepared = prepare(built(name))
    images, labels = inputs(prepared.model, 9)
    expected = pixelcnn.compress(prepared, images, classes_of(labels))
    threads = torch.get_num_threads()
    try:
        for count, size, native in itertools.product((1, 2), (1, 7, 512), (True, False)):
            torch.set_num_threads(count)
            monkeypatch.setattr(type(prepared.model), "slice_size", size)
            monkeypatch.setattr(
                "pixelcnn.codec.groups.why_not_native", lambda _, native=native: None if native else "not now"
            )
            assert pixelcnn.compress(prepared, images, classes_of(labels)) == expected
            assert torch.equal(pixelcnn.decompress(prepared, expected), images)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (3, 1, 1), (1, 7, 1)])
def test_tiny_images(shape):
    """Of which more fit into a group than its number in the header can say."""
    model = pixelcnn.PixelCNN(shape, filters=6, blocks=1)
    images = torch.randint(2, (70_000 if shape == (1, 1, 1) else 50, *shape)).to(torch.uint8)
    assert torch.equal(pixelcnn.decompress(model, pixelcnn.compress(model, images)), images)


@pytest.mark.parametrize("name", ["pixelcnn", "gated"])
@pytest.mark.parametrize("chunk", [1, 5, 13, 14])
def test_several_chunks_and_groups(name, chunk, monkeypatch):
    monkeypatch.setattr("pixelcnn.codec.stream.group_size", lambda *_: 2)
    model = prepare(built(name))
    images, labels = inputs(model.model, 13)
    data = pixelcnn.compress(model, images, classes_of(labels), chunk=chunk)
    monkeypatch.undo()
    assert torch.equal(pixelcnn.decompress(model, data), images)
    for first, n in ((0, 1), (4, 2), (4, 7), (12, None), (3, None)):
        part = slice(first, None if n is None else first + n)
        found, found_labels = decompress_with_labels(model, data, first=first, n=n)
        assert torch.equal(found, images[part])
        assert classes_of(labels) is None or torch.equal(found_labels, labels[part])


def test_damage_stays_in_its_chunk():
    model = prepare(built("pixelcnn"))
    images, _ = inputs(model.model, 12)
    data = bytearray(pixelcnn.compress(model, images, chunk=4))
    _, places = unpack(bytes(data))
    data[places[1][0]] ^= 1
    assert torch.equal(pixelcnn.decompress(model, bytes(data), first=8), images[8:])
    with pytest.raises(StreamError, match="chunk 1 is damaged: the checksum does not match"):
        pixelcnn.decompress(model, bytes(data), first=2, n=3)
    lost = []
    found = dict(Stream(model, bytes(data)).decode(range(3), damaged=lambda chunk, error: lost.append((chunk, error))))
    assert [chunk for chunk, _ in lost] == [1]
    assert {chunk: torch.equal(part, images[4 * chunk : 4 * chunk + 4]) for chunk, (part, _) in found.items()} == {
        0: True,
        2: True,
    }


def test_notes_are_kept():
    model = prepare(built("pixelcnn"))
    images, _ = inputs(model.model, 3)
    notes = {"names": ["Zürich.png", "b", ""], "x": [1, None, {"y": 0.5}]}
    data = pixelcnn.compress(model, images, notes=notes)
    assert read_header(data).notes == notes
    assert torch.equal(pixelcnn.decompress(model, data), images)
    assert read_header(pixelcnn.compress(model, images)).notes == {}
    with pytest.raises(ValueError, match="notes must be representable as JSON"):
        pixelcnn.compress(model, images, notes={"x": float("nan")})
    with pytest.raises(ValueError, match="notes must be a dictionary, got list"):
        pixelcnn.compress(model, images, notes=["x"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (zlib.compress(b"[1]"), "no object of JSON"),
        (zlib.compress(b"{"), "notes are damaged"),
        (zlib.compress(b'"' + b"\xff" + b'"'), "notes are damaged"),
        (zlib.compress(b"[" * 100_000), "notes are damaged"),
        (zlib.compress(bytes(2**24 + 1)), "damaged, or too long"),
        (zlib.compress(b"{}")[:-1], "damaged, or too long"),
        (zlib.compress(b"{}") + b"x", "damaged, or too long"),
        (b"nothing", "notes are damaged"),
    ],
)
def test_bad_notes_are_refused(text, said):
    model = prepare(built("pixelcnn"))
    images, _ = inputs(model.model, 1)
    data = pixelcnn.compress(model, images, notes={"a": 1})
    (length,) = struct.unpack_from("<I", data, 56)
    changed = data[:56] + struct.pack("<II", len(text), zlib.crc32(text)) + text + data[64 + length :]
    with pytest.raises(StreamError, match=said):
        pixelcnn.decompress(model, changed)


@pytest.mark.slow
def test_without_checksums_the_coder_notices(monkeypatch):
    """A payload that was changed together with its checksum: an error or, never, other images."""
    prepared = prepare(built("gated"))
    images, _ = inputs(prepared.model, 3)
    data = pixelcnn.compress(prepared, images)
    monkeypatch.setattr("zlib.crc32", lambda _: 0)
    payload = data[56 + 8 :]
    for native, length in itertools.product((True, False), range(8, len(payload), 4)):
        cut = data[:52] + bytes(4) + length.to_bytes(4, "little") + bytes(4) + payload[:length]
        monkeypatch.setattr(
            "pixelcnn.codec.groups.why_not_native", lambda _, native=native: None if native else "not now"
        )
        with pytest.raises(StreamError, match="chunk 0 is damaged: the payload ends too early"):
            pixelcnn.decompress(prepared, cut)
    for bit in range(0, 8 * len(payload), 7):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError):
            pixelcnn.decompress(prepared, data[:52] + bytes(4) + data[56:60] + bytes(4) + bytes(damaged))


def test_what_is_refused():
    model, other = built("gated"), built("pixelcnn")
    images, labels = inputs(model, 3)
    data = pixelcnn.compress(model, images, labels)
    with pytest.raises(StreamError, match=r"the stream is of another model: it needs [0-9a-f]{32}, this one is"):
        pixelcnn.decompress(other, data)
    with pytest.raises(StreamError, match="this is no pixelcnn stream"):
        pixelcnn.decompress(model, b"GIF89a")
    with pytest.raises(StreamError, match="the images have 114 bytes, and most_bytes is 113"):
        pixelcnn.decompress(model, data, most_bytes=113)
    for wrong in ({"first": 3}, {"first": -1}, {"n": 0}, {"first": 1, "n": 3}, {"first": 0.0}, {"n": True}):
        with pytest.raises(ValueError, match=r"(first|n) must be (an integer )?in"):
            pixelcnn.decompress(model, data, **wrong)
    for wrong in (0, -1, 1.5, True, 2**32):
        with pytest.raises(ValueError, match="chunk must be an integer in 1"):
            pixelcnn.compress(model, images, chunk=wrong)
    with pytest.raises(ValueError, match="images must be at least one"):
        pixelcnn.compress(model, images[:0])
    with pytest.raises(ValueError, match="levels"):
        pixelcnn.compress(model, images + 4)
    with pytest.raises(ValueError, match="labels must be classes to be coded"):
        pixelcnn.compress(model, images, torch.tensor([0, -1, 2]))
    with pytest.raises(ValueError, match="labels must be classes to be coded"):
        pixelcnn.compress(built("vector"), torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(1, 2))
    with pytest.raises(StreamError, match="version 9"):
        pixelcnn.decompress(model, data[:4] + b"\x09" + data[5:])


def reference_decode(payload, rows):
    """The coder's definition in other words: the whole payload is one number."""
    words = np.frombuffer(payload, "<u4")[::-1].tolist()  # the least significant word, which is read last, first
    state = words.pop() << 32
    state |= words.pop()
    found = []
    for row in rows:
        slot = state % 2**TOTAL_BITS
        symbol = max(k for k in range(len(row) - 1) if row[k] <= slot)
        state = (row[symbol + 1] - row[symbol]) * (state // 2**TOTAL_BITS) + slot - row[symbol]
        if state < 2**32:
            state = (state << 32) + words.pop()
        found.append(symbol)
    assert not words
    assert state == 2**32
    return found


def test_the_coder_against_its_definition():
    generator = np.random.default_rng(0)
    for levels in (2, 3, 256):
        weights = generator.dirichlet(np.full(levels, 0.3), 500)
        inner = np.floor(weights.cumsum(1)[:, :-1] * (2**TOTAL_BITS - levels)).astype(np.int64) + np.arange(1, levels)
        rows = np.concatenate([np.zeros((500, 1), np.int64), inner, np.full((500, 1), 2**TOTAL_BITS)], 1)
        symbols = np.array([generator.choice(levels, p=w) for w in weights])
        starts, ends = rows[np.arange(500), symbols], rows[np.arange(500), symbols + 1]
        edges = np.stack([starts, ends], 1).astype(np.uint32)
        payload = entropy.encode(edges)
        assert encode(edges) == payload
        assert reference_decode(payload, rows.tolist()) == symbols.tolist()
        decoder = entropy.Decoder(payload)
        assert decoder.take(rows[:300]).tolist() + decoder.take(rows[300:]).tolist() == symbols.tolist()
        decoder.end()
        bits = (TOTAL_BITS - np.log2(ends - starts)).sum()
        assert 0 <= 8 * len(payload) - bits <= 64
    with pytest.raises(entropy.PayloadError, match="does not end"):
        entropy.Decoder(payload).end()


def golden(name):
    """A shipped model, and test images of MNIST with their classes, or a photograph."""
    model = pixelcnn.load(name)
    if name == "photos":
        with Image.open(Path(__file__).parents[2] / "docs" / "images" / "chelsea.png") as picture:
            image = torch.from_numpy(np.asarray(picture.crop((40, 30, 80, 60))).transpose(2, 0, 1)[None].copy())
        return model.fitting(image), image, None
    images, labels = pixelcnn.datasets.mnist("test", model.levels)
    count = 20 if model.levels == 2 else 4
    return model, images[:count], labels[:count] if name == "mnist" else None


@pytest.mark.parametrize("engine", ["native", "eager"])
@pytest.mark.parametrize("name", ["mnist", "mnist-gray", "mnist-seed", "photos"])
def test_golden_streams(name, engine, monkeypatch):
    """Written by the first encoder of this version: the bytes must stay, and what they decode to."""
    if engine == "eager":
        monkeypatch.setattr("pixelcnn.codec.groups.why_not_native", lambda _: "not now")
    model, images, labels = golden(name)
    prepared = prepare(model)
    data = (GOLDEN / f"{name}.pxcn").read_bytes()
    assert pixelcnn.compress(prepared, images, labels) == data
    found, found_labels = decompress_with_labels(prepared, data)
    assert torch.equal(found, images)
    assert labels is None or torch.equal(found_labels, labels)


@pytest.mark.parametrize("name", ["mnist-groups-of-18", "mnist-gray-groups-of-22", "mnist-seed-groups-of-15"])
def test_golden_streams_of_other_groups(name):
    """An encoder may choose: what it wrote with other groups decodes as well."""
    model, images, labels = golden(name[: name.index("-groups")])
    found, found_labels = decompress_with_labels(model, (GOLDEN / f"{name}.pxcn").read_bytes())
    assert torch.equal(found, images)
    assert labels is None or torch.equal(found_labels, labels)


def test_it_beats_png():
    model, images, _ = golden("mnist-seed")
    from PIL import Image

    def png(image):
        buffer = io.BytesIO()
        Image.fromarray(image[0].numpy() * 255).convert("1").save(buffer, "PNG", optimize=True)
        return len(buffer.getvalue())

    assert len(pixelcnn.compress(model, images)) < sum(map(png, images)) / 5
