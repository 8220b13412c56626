"""Of a large image, compiled code keeps only what is still read: the same bits as with all of it."""

import pytest
import torch

import pixelcnn
from pixelcnn.exact import prepare
from pixelcnn.sampling import why_not_native
from pixelcnn.sampling.native import layout
from pixelcnn.sampling.native.packing import packed

MODELS = {
    "pixelcnn": (pixelcnn.PixelCNN, {"filters": 6, "blocks": 2}),
    "gated": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "first_kernel": 5, "num_classes": 2, "embedding": 3}),
    "by rows": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "context": (4, 2), "num_classes": 2}),
    "plusplus": (pixelcnn.PixelCNNPlusPlus, {"filters": 6, "blocks": 1, "mixtures": 2, "num_classes": 2}),
    "photo": (pixelcnn.PhotoPixelCNN, {"filters": 6, "blocks": 1, "mixtures": 2}),
}
pytestmark = pytest.mark.skipif(
    why_not_native(pixelcnn.PixelCNN(filters=4, blocks=1)) is not None, reason="no native engine here"
)


def results(name):
    """Draws with guidance, a completion by particles, and a stream of each of two images."""
    family, options = MODELS[name]
    model = family((3, 9, 26), levels=4, generator=torch.Generator().manual_seed(0), **options)
    given = {"labels": torch.arange(3) % 2} if "num_classes" in options else {}
    given |= {"guidance": 1.5} if given and name != "plusplus" else {}
    yield model.sample(3, seed=1, engine="native", **given)
    yield model.sample(1, seed=2, engine="native")
    known = torch.zeros(9, 26, dtype=torch.bool)
    known[3:6] = True
    images = model.sample(2, seed=3)
    found = model.complete(images, known, n=2, particles=64, seed=4, engine="native")
    yield found.images
    yield found.log_evidence
    for image in images.split(1):
        yield pixelcnn.compress(prepare(model), image)


@pytest.mark.parametrize("name", MODELS)
def test_a_ring_changes_nothing(name, monkeypatch):
    expected = list(results(name))
    sizes = []
    original = layout.Plan._image_slot
    monkeypatch.setattr(layout, "_LARGE", 0)
    monkeypatch.setattr(layout.Plan, "_image_slot", lambda plan: sizes.append(plan._size) or original(plan))
    for found, wanted in zip(results(name), expected, strict=True):
        assert torch.equal(found, wanted) if isinstance(found, torch.Tensor) else found == wanted
    assert sizes, "no plan was made anew"


@pytest.mark.parametrize("name", ["photo", "by rows"])
def test_memory_does_not_grow_with_the_longer_side(name):
    family, options = MODELS[name]
    options = options | ({"context_places": False} if "context" in options else {})
    sizes = []
    for height, width in ((100, 400), (100, 800)) if name == "photo" else ((400, 40), (800, 40)):
        model = prepare(family((3, height, width), levels=4, **options))
        network = packed(model, 8)
        sizes.append(layout.Plan(network, 1).arena().nbytes)
    assert sizes[1] < 1.1 * sizes[0]
