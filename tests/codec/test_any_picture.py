"""Single pictures of any shape: the same bytes by any number of threads, which divide its rows, and any engine."""

import pytest
import torch

import pixelcnn
from pixelcnn.exact import prepare
from pixelcnn.sampling.native import why_not_native
from pixelcnn.sampling.native.walk import NativeWalk
from streams import engine, threads

KINDS = ["noise", "white", "black", "grey"]
SIZES = [*((kind, size) for kind in KINDS for size in ((1, 1), (3, 2), (40, 33)))]
SIZES += [(kind, size) for kind in KINDS[:2] for size in ((1, 5000), (5000, 1))]


def model():
    return pixelcnn.PhotoPixelCNN(filters=4, blocks=1, mixtures=2, generator=torch.Generator().manual_seed(0))


def picture(kind, size):
    if kind == "noise":
        return torch.randint(256, (1, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return torch.full((1, 3, *size), {"white": 255, "black": 0, "grey": 77}[kind], dtype=torch.uint8)


@pytest.mark.parametrize(("kind", "size"), SIZES, ids=str)
def test_any_picture_comes_back(kind, size):
    prepared, image = prepare(model()).resized(size), picture(kind, size)
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(pixelcnn.compress(prepared, image))
            assert torch.equal(pixelcnn.decompress(prepared, found[0]), image)
    assert found[1:] == found[:1] * 2


def test_by_any_engine():
    prepared, image = prepare(model()).resized((20, 17)), picture("noise", (20, 17))
    data = pixelcnn.compress(prepared, image)
    with engine("eager"):
        assert pixelcnn.compress(prepared, image) == data
        assert torch.equal(pixelcnn.decompress(prepared, data), image)


FAMILIES = {
    "pixelcnn": (pixelcnn.PixelCNN, {"filters": 6, "blocks": 2}),
    "gated": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 3, "num_classes": 3}),
    "wide": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "first_kernel": 9, "kernel_size": 7, "places": True}),
    "map": (pixelcnn.PixelCNNPlusPlus, {"filters": 4, "blocks": 1, "mixtures": 2, "condition_channels": 1}),
    "context": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "context": (2,)}),
    "photo": (pixelcnn.PhotoPixelCNN, {"filters": 6, "blocks": 2, "mixtures": 2, "kernel_size": 5}),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("part", [300, pytest.param(2**18, marks=pytest.mark.slow)])
def test_threads_divide_the_rows_of_one_picture(name, part, monkeypatch):
    """Of every family: features computed ahead, which later rows read in the same step, are waited for."""
    monkeypatch.setattr("pixelcnn.codec.stream._LARGE_SUBPIXELS", 10 * part)
    monkeypatch.setattr("pixelcnn.codec.groups._PART_SUBPIXELS", part)
    family, options = FAMILIES[name]
    prepared = prepare(family((3, 30, 28), levels=4, generator=torch.Generator().manual_seed(0), **options))
    image = torch.randint(4, (1, 3, 30, 28), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    given = {"labels": torch.tensor([1])} if prepared.num_classes else {}
    condition = torch.rand(1, 1, 15, 14, generator=torch.Generator().manual_seed(2)) if name == "map" else None
    found = []
    for count in (1, 2, 3, 7):
        with threads(count):
            found.append(pixelcnn.compress(prepared, image, condition=condition, **given))
            assert torch.equal(pixelcnn.decompress(prepared, found[-1], condition=condition), image)
    assert found[1:] == found[:1] * 3


@pytest.mark.skipif(why_not_native(pixelcnn.PixelCNN((1, 2, 2), filters=4)) is not None, reason="no compiled code")
def test_a_team_has_as_many_threads_as_rows_at_most():
    prepared = prepare(model()).resized((2, 30))
    assert NativeWalk(prepared, 1, threads=8, team=True).threads == 2
    assert NativeWalk(prepared, 3, threads=2, team=True).threads == 2
    assert NativeWalk(prepared, 1, threads=8).threads == 1
