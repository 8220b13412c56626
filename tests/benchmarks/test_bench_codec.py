"""benchmarks/codec.py on a few images: every format gives them back, and the tables say what was measured."""

import json

import numpy as np
import pytest
import torch

import codec
import pixelcnn
from formats import formats
from pixelcnn.exact import prepare
from yardstick import yardstick


@pytest.mark.parametrize(("levels", "channels"), [(2, 1), (256, 1), (256, 3)])
def test_other_formats_give_the_images_back(levels, channels):
    """One, and several that do not fill a mosaic; higher than wide, rows of no whole number of bytes."""
    found, absent = formats(levels, channels, threads=1)
    assert {"PNG, optimised", "WebP lossless", "xz -9e", "bzip2 -9", "zlib -9"} <= {one.name for one in found}
    assert len({one.name.partition(",")[0] for one in found}) + len(absent) == 9
    images = np.random.default_rng(0).integers(0, levels, (5, 11, 6, channels)).astype(np.uint8)
    for one in found:
        for part in (images, images[:1]):
            assert np.array_equal(one.decode(one.encode(part), part.shape), part), one.name


def test_the_whole_of_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(codec, "matrix_rate", lambda _device: 100.0)  # takes a second
    codec.main(codec.Options(images=3, one_by_one=2, gray=False, coder=1, threads=1, out=tmp_path))
    text = (tmp_path / "codec.md").read_text()
    assert text in capsys.readouterr().out
    (table,) = json.loads((tmp_path / "codec.json").read_text())["tables"]
    images = pixelcnn.datasets.mnist("test")[0][:3]
    model = prepare(pixelcnn.load("mnist-seed"))
    together, each = ({m["codec"]: m for m in table[name]} for name in ("together", "each"))
    assert together["ours, `mnist-seed`"]["size"] == len(pixelcnn.compress(model, images))
    assert each["ours, `mnist-seed`"]["size"] == sum(len(pixelcnn.compress(model, images[k : k + 1])) for k in range(2))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "`mnist-seed`**" in line
    ]
    assert [row[:3] for row in rows] == [
        ["**ours, `mnist-seed`**", str(found["size"]), f"{found['size'] / n:.2f}"]
        for found, n in ((together["ours, `mnist-seed`"], 3), (each["ours, `mnist-seed`"], 2))
    ]
    assert (tmp_path / "codec.png").read_bytes().startswith(b"\x89PNG")


def test_what_does_not_come_back_is_an_error(monkeypatch):
    images, labels = (part[:2] for part in pixelcnn.datasets.mnist("test"))
    own = codec.ours("`mnist`", "mnist", images, labels)
    assert own.decode(own.encode(slice(2)), slice(2))()
    assert not own.decode(pixelcnn.compress(pixelcnn.load("mnist"), images, 9 - labels), slice(2))()
    assert not own.decode(pixelcnn.compress(pixelcnn.load("mnist"), images), slice(2))()
    swapped = pixelcnn.compress(pixelcnn.load("mnist"), images.flip(0), labels)
    assert not own.decode(swapped, slice(2))()
    monkeypatch.setattr(pixelcnn, "compress", lambda *_: swapped)
    with pytest.raises(SystemExit, match="ours, `mnist` does not give back what it was given: digits"):
        codec.measure("digits", images, 2, [own], 0, 1)


@pytest.mark.parametrize("levels", [2, 256])
def test_the_coders_come_to_the_information_content(levels):
    model = prepare(pixelcnn.PixelCNN((1, 6, 5), levels=levels, filters=4, blocks=1))
    images = torch.randint(levels, (40, 1, 6, 5), dtype=torch.uint8)
    symbols, content, rows = yardstick(model, images)
    assert symbols == 1200
    assert content == pytest.approx(model.bits(images).sum().item() / 8)
    assert rows[-1].coder.startswith(("ours, in Python", "constriction"))
    for row in rows:
        assert content - 0.5 < row.size < content + 12, row
        if row.coder.startswith("ours") or "less 1" in row.coder:
            assert row.same in ("all", "1,200 of 1,200"), row
