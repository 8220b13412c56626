"""Streams that were flipped, cut or made up: an error of the library, in little time and memory, or the same images."""

import itertools
import json
import os
import re
import struct
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz import MOST_BYTES, Target

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.codec import StreamError, container, decompress_with_labels
from pixelcnn.codec.entropy import Decoder, PayloadError
from pixelcnn.exact import prepare
from streams import (
    any_digest,
    block,
    blocks_of,
    engine,
    flipped,
    groups_of,
    header_of,
    random_payload,
    repaired,
    with_header,
)  # fmt: skip
from twins import MODELS, built, inputs

CODED = [name for name in MODELS if name != "vector"]  # whose classes are vectors
WAYS = [{}, {"chunk": 2}, {"chunk": 3, "notes": {"names": ["a", "b"]}}]
EACH = [(name, k, k == at % len(WAYS)) for at, name in enumerate(CODED) for k in range(len(WAYS))]
ONCE = [*EACH, ("pixelcnn", 3, True), ("gated", 3, True)]  # each kind of model in one way, the others in the long tests
SMALL = [pytest.param(name, k, marks=() if soon else pytest.mark.long) for name, k, soon in ONCE]
WHOLE = [  # two of them at once, the others in the slow tests
    pytest.param(name, k, marks=() if k == 3 else pytest.mark.slow if soon else pytest.mark.long)
    for name, k, soon in ONCE
]


def stream_of(name, way):
    """A small stream of 2 to 7 images: one or several chunks, groups, classes, notes."""
    prepared = prepare(built(name))
    images, labels = inputs(prepared.model, 2 + way + (way == 3) * 2)
    labels = labels if way < 3 else None
    with groups_of(2):
        data = pixelcnn.compress(prepared, images, labels, **WAYS[way % len(WAYS)])
    return prepared, data, images, labels


def refused_or_right(prepared, data, images, labels):
    """Whether it is refused; if not, it must be the same."""
    try:
        found, found_labels = decompress_with_labels(prepared, data)
    except StreamError:
        return True
    assert torch.equal(found, images)
    assert labels is None or torch.equal(found_labels, labels)
    return False


@pytest.mark.parametrize(("name", "way"), WHOLE)
def test_every_flip_and_cut_of_small_streams(name, way):
    prepared, data, images, labels = stream_of(name, way)
    assert not refused_or_right(prepared, data, images, labels)
    for bit in range(8 * len(data)):
        assert refused_or_right(prepared, flipped(data, bit), images, labels), bit
    for length in range(len(data)):
        assert refused_or_right(prepared, data[:length], images, labels), length
    for more in (b"\0", data[-4:], data[56:], data):
        assert refused_or_right(prepared, data + more, images, labels)


@pytest.mark.parametrize(("name", "way"), SMALL)
def test_every_flip_of_a_header_whose_checksum_is_right(name, way):
    """A group or chunk that is larger than what is there changes nothing; all else is an error."""
    prepared, data, images, labels = stream_of(name, way)
    for bit in range(8 * 52):
        if not refused_or_right(prepared, repaired(flipped(data, bit)), images, labels):
            assert bit // 8 in range(38, 44)


def check_payloads(name, way, step):
    """Flips and cuts of payloads whose checksums are right: the coder or the digest notices."""
    prepared, data, images, labels = stream_of(name, way)
    blocks = blocks_of(data)[bool(header_of(data)["flags"] & 2) :]
    for start, end in blocks:
        for bit in range(8 * start, 8 * end, step):
            assert refused_or_right(prepared, repaired(flipped(data, bit)), images, labels), bit
        for length in range(start, end, max(1, step // 4)):
            cut = data[: start - 8] + block(data[start:length]) + data[end:]
            assert refused_or_right(prepared, cut, images, labels), length
        twice = data[: start - 8] + block(data[start:end] * 2) + data[end:]
        assert refused_or_right(prepared, twice, images, labels)
    for one, other in itertools.combinations(blocks, 2):
        swapped = bytearray(data)
        swapped[one[0] - 8 : other[1]] = (
            data[other[0] - 8 : other[1]] + data[one[1] : other[0] - 8] + data[one[0] - 8 : one[1]]
        )
        assert refused_or_right(prepared, bytes(swapped), images, labels)


@pytest.mark.parametrize(("name", "way"), SMALL)
def test_payloads_whose_checksums_are_right(name, way):
    check_payloads(name, way, 29)


@pytest.mark.long
@pytest.mark.parametrize("how", ["native", "eager"])
@pytest.mark.parametrize(("name", "way"), SMALL)
def test_every_flip_and_cut_of_payloads_whose_checksums_are_right(name, way, how):
    with engine(how):
        check_payloads(name, way, 1 if how == "native" else 61)


@pytest.mark.parametrize("name", CODED)
def test_payloads_of_no_encoder_are_refused_without_the_digest(name):
    """One in 2^32 ends where it should."""
    prepared = prepare(built(name))
    images, labels = inputs(prepared.model, 3)
    data = pixelcnn.compress(prepared, images, labels)
    with any_digest():
        for words in (2, 3, 4, 5, 6, 8, 12, 20, 40):
            for k in range(12):
                with pytest.raises(StreamError):
                    decompress_with_labels(prepared, data[:56] + block(random_payload(k, words)))
        assert decompress_with_labels(prepared, data)[0].equal(images)


LARGE = {
    "pixelcnn": (3000, {"chunk": 700}),
    "gated": (2000, {}),
    "plusplus": (1500, {"chunk": 100, "notes": {"names": [f"{k}.png" for k in range(1500)]}}),
}


def damaged(data, generator):
    """A flip, a cut, bytes put in, taken out, doubled, moved or made zeros, somewhere."""
    at, other = (int(k) for k in generator.integers(len(data), size=2))
    n, bit = int(generator.integers(1, 64)), int(generator.integers(8))
    before, within, after = data[:at], data[at : at + n], data[at + n :]
    kinds = (
        flipped(data, 8 * at + bit),
        before,
        before + generator.bytes(n) + within + after,
        before + after,
        before + within + within + after,
        before + data[other : other + n] + after,
        before + bytes(len(within)) + after,
    )
    return kinds[generator.integers(len(kinds))]


def check_large(name, count, repair):
    """Each sample in seconds."""
    prepared = prepare(built(name))
    n, options = LARGE[name]
    images, labels = inputs(prepared.model, n)
    data = pixelcnn.compress(prepared, images, labels, **options)
    generator, refused, slowest = np.random.default_rng(0), 0, 0.0
    while refused < count:
        changed = damaged(data, generator)
        if changed == data or (repair and repaired(changed) == data):
            continue
        started = time.perf_counter()
        assert refused_or_right(prepared, repaired(changed) if repair else changed, images, labels), refused
        slowest = max(slowest, time.perf_counter() - started)
        refused += 1
    print(f"{name}: {refused} of {len(data)} bytes refused, the slowest in {slowest:.2f} s")
    assert slowest < 60


@pytest.mark.parametrize(("name", "count"), [("pixelcnn", 200), ("gated", 700), ("plusplus", 100)])
def test_1000_samples_of_large_streams(name, count):
    check_large(name, count, repair=False)


@pytest.mark.long
@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("name", LARGE)
def test_thousands_of_samples_of_large_streams(name, repair):
    check_large(name, 1000, repair)


def test_what_no_encoder_writes():
    prepared, data, _, _ = stream_of("gated", 1)
    for changes, said in (
        ({"count": 2**64 - 1}, "too short for its"),
        ({"count": 0}, "no encoder writes"),
        ({"count": 2**64 - 1, "per_chunk": 2**32 - 1}, "too short for its"),
        ({"count": 2**32 - 1, "per_chunk": 2**32 - 1}, r"follow the stream's end"),
        ({"per_group": 0}, "no encoder writes"),
        ({"per_group": 3}, "no encoder writes"),
        ({"levels": 257}, "no encoder writes"),
        ({"levels": 3}, "no encoder writes for this model"),
        ({"width": 65535, "height": 65535, "channels": 65535}, "no encoder writes"),
        ({"width": 0}, "no encoder writes"),
        ({"flags": 8}, "no encoder writes"),
    ):
        with pytest.raises(StreamError, match=said):
            pixelcnn.decompress(prepared, with_header(data, **changes))
    with pytest.raises(StreamError, match=f"^{len(data)} bytes follow the stream's end; a file holds one stream"):
        pixelcnn.decompress(prepared, data + data)
    with pytest.raises(StreamError, match=r"^1 byte follows"):
        pixelcnn.decompress(prepared, data + b"0")
    large = pixelcnn.PixelCNN((1, 28, 28), filters=16, blocks=1)
    many = with_header(pixelcnn.compress(large, large.sample(2, seed=0)), per_chunk=20000, per_group=20000)
    with pytest.raises(StreamError, match="no encoder writes for this model"):  # 4 GB
        pixelcnn.decompress(large, many)
    for length in (2**31, 2**32 - 1, 2**16):
        with pytest.raises(StreamError, match="ends within chunk 0"):
            pixelcnn.decompress(prepared, data[:56] + struct.pack("<I", length) + data[60:])


def test_a_single_class():
    """It has all of the frequencies, which compiled code once shifted out of its 64 bits: no payload to be read."""
    model = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=2, num_classes=1)
    images, labels = model.sample(5, seed=0), torch.zeros(5, dtype=torch.int64)
    written = []
    for how in ("native", "eager"):
        with engine(how):
            written.append(pixelcnn.compress(model, images, labels))
            assert torch.equal(pixelcnn.decompress(model, written[-1]), images)
    assert written[0] == written[1]


def test_what_could_not_be_decoded_is_not_written():
    model = built("gated")
    images, _ = inputs(model, 3)
    with pytest.raises(ValueError, match="labels must be classes to be coded: neither vectors nor -1"):
        pixelcnn.compress(model, images, torch.tensor([0, -1, 2]))
    wide = pixelcnn.PixelCNN((1, 1, 2**16), filters=2, blocks=0)
    with pytest.raises(ValueError, match=r"images must have sizes below 65536 to be coded, got \(1, 1, 65536\)"):
        pixelcnn.compress(wide, torch.zeros(1, 1, 1, 2**16, dtype=torch.uint8))
    few = pixelcnn.PixelCNN((1, 1, 1), filters=2, blocks=0)
    with pytest.raises(ValueError, match="notes may have 16,777,216 bytes as JSON and 1,048,576 commas"):
        pixelcnn.compress(few, torch.zeros(1, 1, 1, 1, dtype=torch.uint8), notes={"a": [0] * 2**22})


SCRIPT = """
    import json, re, resource, struct, sys, time, zlib
    import numpy as np, torch
    sys.path[:0] = json.loads(sys.argv[1])
    import pixelcnn
    from pixelcnn.codec import StreamError, read_header
    from pixelcnn.exact import prepare
    from streams import block, engine, random_payload, with_header

    GIB = 2**30

    def status(key):
        return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

    def small(model):
        prepared = prepare(model)
        image = torch.zeros(2, *model.image_shape, dtype=torch.uint8)
        labels = torch.zeros(2, dtype=torch.int64) if getattr(model.config, "num_classes", None) else None
        data = pixelcnn.compress(prepared, image, labels)
        pixelcnn.decompress(prepared, data)
        return prepared, data

    torch.set_num_threads(2)
    one = small(pixelcnn.PixelCNN((1, 1, 1), levels=256, filters=4, blocks=1))
    classes = small(pixelcnn.GatedPixelCNN((1, 1, 1), levels=256, filters=4, layers=1, num_classes=10))
    mixture = small(pixelcnn.PixelCNNPlusPlus((1, 1, 1), levels=256, filters=4, blocks=1, mixtures=10))
    colour = small(pixelcnn.PixelCNNPlusPlus((3, 8, 8), levels=256, filters=8, blocks=1, mixtures=10))
    large = small(pixelcnn.PixelCNN((1, 28, 28), filters=16, blocks=1))
    few, many = random_payload(0, 4), random_payload(1, 2**17)
    noted = b'{"a":[' + b"[]," * 2**22 + b"0]}"
    cases = {
        "a chunk of all": (one, dict(count=2 * GIB, per_chunk=2 * GIB, per_group=1), block(few)),
        "groups as large as can be": (one, dict(count=2 * GIB, per_chunk=2 * GIB, per_group=65535), block(few)),
        "chunks of one": (one, dict(count=2**17, per_chunk=1, per_group=1), block(few) * 2**17),
        "empty chunks": (one, dict(count=2**17, per_chunk=1, per_group=1), block(b"") * 2**17),
        "classes": (classes, dict(count=2 * GIB // 9, per_chunk=2 * GIB // 9, per_group=1), block(few)),
        "classes that are there": (classes, dict(count=2**17, per_chunk=2**17, per_group=65535), block(many)),
        "a mixture": (mixture, dict(count=65535, per_chunk=65535, per_group=65535), block(few)),
        "colour": (colour, dict(count=2000, per_chunk=2000, per_group=2000), block(few)),
        "large images": (large, dict(count=1000, per_chunk=1000, per_group=1000), block(few)),
        "notes": (one, dict(count=1, per_chunk=1, per_group=1, flags=2), block(zlib.compress(noted)) + block(few)),
    }
    found = {}
    limit = status("VmSize") + 6 * GIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with engine(sys.argv[2]):
        for name, ((prepared, data), changes, rest) in cases.items():
            stream = with_header(data, **changes)[:56] + rest
            open("/proc/self/clear_refs", "w").write("5")
            before, started = status("VmRSS"), time.perf_counter()
            try:
                pixelcnn.decompress(prepared, stream)
                said = None
            except StreamError as error:
                said = str(error)
            found[name] = said, status("VmHWM") - before, time.perf_counter() - started
    print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's peak of memory")
@pytest.mark.parametrize("how", ["native", pytest.param("eager", marks=pytest.mark.long)])
def test_hostile_headers_take_little_memory(how):
    """Made up with right checksums, asking for all that a header can: at most what docs/format.md says."""
    folders = json.dumps([str(Path(__file__).parents[1] / "helpers")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), folders, how], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 10
    for name, (said, grown, seconds) in found.items():
        print(f"{how}, {name}: {grown / 2**20:.0f} MiB, {seconds:.2f} s: {said}")
        assert said is not None, name
        most = {"a mixture": 1.5, "classes": 0.1, "a chunk of all": 0.1, "chunks of one": 0.1}.get(name, 1.2)
        assert grown < most * 2**30, (name, grown)
        assert seconds < 60, name
    assert re.search("damaged: the payload ends too early", found["a chunk of all"][0])
    assert found["notes"][0] == "the notes have too many values"
    assert found["empty chunks"][0] == "the stream is too short for its 131072 chunks"


def test_many_classes_take_little_memory():
    """A list of all 1024 rows would take 2 GiB."""
    rows = np.broadcast_to(np.arange(2**16 + 1, dtype=np.int64) * 2**8, (1024, 2**16 + 1))
    decoder = Decoder(np.array([1, 0], dtype="<u4").tobytes())
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError, match="ends too early"):
            decoder.take(rows)
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_a_block_is_shorter_than_its_length_can_say():
    class Long(bytes):
        def __len__(self):
            return 2**32

    with pytest.raises(ValueError, match="chunk must be smaller: a block of a stream has less than 4294967296 bytes"):
        container.block(Long())


def test_joined_streams_are_at_least_one(tmp_path, capsys):
    begin = struct.pack("<4sBI", b"PXCS", 1, 0)
    (tmp_path / "none.pxcn").write_bytes(begin + struct.pack("<I", zlib.crc32(begin)))
    for command in ("info", "decompress"):
        assert main([command, str(tmp_path / "none.pxcn")]) == 2
        assert "must be at least one, got none" in capsys.readouterr().err


def test_a_bomb_of_notes_is_refused_in_little_time():
    prepared, data, _, _ = stream_of("pixelcnn", 0)
    for text in (b"[" * 2**26, b'{"a":' * 2**22 + b"}" * 2**22, b"1" * 2**25, b'{"a":' + b"9" * 2**20 + b"}"):
        started = time.perf_counter()
        noted = with_header(data, flags=header_of(data)["flags"] | 2)[:56] + block(zlib.compress(text)) + data[56:]
        with pytest.raises(StreamError, match="notes"):
            pixelcnn.decompress(prepared, noted)
        assert time.perf_counter() - started < 30


@pytest.mark.parametrize("mode", MOST_BYTES)
def test_what_make_fuzz_calls(mode, monkeypatch):
    """It takes its own seeds, decodes them, and lets through what is no StreamError."""
    target = Target(mode)
    seeds = list(target.seeds())
    for data in seeds:
        target(data)
        target(data[: len(data) // 2])
    assert target.calls == 2 * len(seeds)
    assert target.decoded >= len(seeds) - 2
    monkeypatch.setattr("pixelcnn.codec.stream.payload_of", lambda *_: b"1"[1])
    with pytest.raises(IndexError):
        target(seeds[-1])
