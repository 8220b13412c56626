"""The names, kinds and metadata of files in a stream: few bytes, and nothing that could write elsewhere."""

import io
import json
import struct
import zlib

import pytest

import pixelcnn
from pixelcnn.codec import StreamError
from pixelcnn.codec.container import Header
from pixelcnn.codec.manifest import Entry, entries_of, names_of, notes_of
from stored import SHAPE


def noted(files, count, shape=(1, *SHAPE), **more):
    return Header(
        identity=bytes(16), shape=shape, levels=2, count=count, per_chunk=count, per_group=1, labelled=False,
        digest=bytes(8), notes={"files": files, **more},
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x.png", "a/../../x", "a//b", "", ".", "a\\b", "a\nb", "a\0b", "x" * 256, "a/" * 2100 + "b",
     "\ud800.png", "\x1b[31m.png", "\u2028.png", "a/" * 1500 + "b"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(StreamError, match=r"is no name for a file|is too long|in more than 255 folders"):
        entries_of(noted([[name, "1"]], 1))


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ([["a.png", "1"]], 2), ([["a.png", "CMYK"]], 1), ([["a.png"]], 1), (["a.png"], 1), ("a.png", 1), (None, 1),
        ([["a.npy", "object", 1, 4]], 1), ([["a.npy", "uint8", 1, 5]], 1), ([["a.npy", "uint8", -1, 4]], 1),
        ([["a.png", "1", 2]], 2), ([["1.png", "1", 2], ["2.png", "1"]], 3),
        ([["a", "1"], ["a!b", "1"], ["A/b/c", "1"]], 3),
        ([["a.png", "1", 1, 9]], 1), ([["a.png", "1", 1, 1]], 1), ([["a.png", "1", 2, 6]], 2),
        ([["a.npy", "1", 1, "nhwc"]], 1),
        ([["\xe9.png", "1"], ["E\u0301.png", "1"]], 2),
        ([["A.png", "1"], ["a.png", "1"]], 2), ([["1.png", "1", 10**30]], 3), ([["x.npy", "uint8", True, 4]], 2),
        ([["a/" * 100 + "1.png", "1", 2**22]], 2**22),
        ([["1.png", "1", 2**23]], 2**23), ([["1.png", "1", 2**22], ["a", "L"]], 2**22 + 1),
    ],
)  # fmt: skip
def test_files_that_cannot_be_are_refused(files, count):
    with pytest.raises(StreamError):
        entries_of(noted(files, count))


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


def test_a_condition_is_found_by_the_names_of_the_images():
    names = ["a.jpg.png", "b.png", "c.tif.png", "d.PNG.png", "e.bmp", "f.x.png"]
    found = names_of([Entry(name, "1") for name in names] + [Entry("g.npy", "uint8", 2, 3)])
    assert found == ["a.jpg", "b.png", "c.tif.png", "d.PNG.png", "e.bmp", "f.x.png", "6", "7"]


def test_notes_add_to_a_stream_what_they_deflate_to_and_two_words():
    model = pixelcnn.PixelCNN((1, *SHAPE), filters=4, blocks=1)
    images = model.sample(2, seed=0)
    bare = pixelcnn.compress(model, images)
    notes = {"files": [["a.png", "1"], ["b.png", "1"]]}
    with_notes = pixelcnn.compress(model, images, notes=notes)
    text = json.dumps(notes, separators=(",", ":")).encode()
    assert len(with_notes) - len(bare) == 8 + len(zlib.compress(text, 9))
    assert struct.unpack_from("<B", with_notes, 5) == (2,)
    assert io.BytesIO(with_notes).read(4) == b"PXCN"


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


def test_a_file_may_be_called_like_the_beginning_of_a_folder():
    names = ["a!b", "a.b", "a/b", "a/c/d", "a0"]
    assert [entry.name for entry in entries_of(noted([[name, "1"] for name in names], 5))] == names
