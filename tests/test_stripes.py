"""Large images in stripes: the same likelihood as in one piece, in bounded memory."""

import math

import pytest
import torch

import pixelcnn
from pixelcnn import bounded, exact
from pixelcnn.exact import prepare

MODELS = {
    "pixelcnn": (pixelcnn.PixelCNN, {"filters": 6, "blocks": 2}),
    "gated": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "kernel_size": 5}),
    "embedding": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "embedding": 2}),
    "context": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "context": (4, 3, 2), "context_places": False}),
    "plusplus": (pixelcnn.PixelCNNPlusPlus, {"filters": 6, "blocks": 1, "mixtures": 2}),
    "map": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "condition_channels": 2, "num_classes": 3}),
    "vector": (pixelcnn.GatedPixelCNN, {"filters": 6, "layers": 2, "condition_dim": 2}),
}


@pytest.fixture(params=MODELS)
def made(request):
    """A model of images of 60 x 12 pixels in float64, images, and what they are conditioned on."""
    family, options = MODELS[request.param]
    model = family((3, 60, 12), levels=4, generator=torch.Generator().manual_seed(0), **options).double()
    images = torch.randint(4, (2, 3, 60, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    given = {}
    if request.param == "map":
        given = {"condition": torch.rand(2, 2, 30, 6), "labels": torch.tensor([2, 0])}
    elif request.param == "vector":
        given = {"condition": torch.rand(2, 2)}
    return model, images, given


@pytest.fixture
def cut(monkeypatch):
    """How many stripes there were, each time that an image was cut: in one piece, the result would be the same."""
    found, in_stripes = [], bounded.in_stripes
    for module in (bounded, exact):
        monkeypatch.setattr(module, "in_stripes", lambda *given, **options: (
            found.append(len(given[2])) or in_stripes(*given, **options)
        ))  # fmt: skip
    return found


@pytest.mark.parametrize("rows", [1, 7, 32])
@torch.no_grad()
def test_the_whole_images_likelihood(made, rows, cut, monkeypatch):
    model, images, given = made
    whole = model.log_prob_map(images, **given)
    widest = max(layer.out_channels for layer in model.masked_layers if layer is not model.logit_layer)
    monkeypatch.setattr(bounded, "_STRIPE_BYTES", rows * 12 * widest * 8.0)
    condition = model.condition_of(given.get("labels"), 2, given.get("condition"))
    stripes = len(bounded.stripes_of(model, condition))
    assert stripes > 1
    assert (model.log_prob_map(images, **given) - whole).abs().max() < 1e-12
    assert set(cut) == {stripes}


@pytest.mark.parametrize("name", ["gated", "plusplus", "map"])
def test_exact_models_to_the_bit(name, cut, monkeypatch):
    family, options = MODELS[name]
    model = prepare(family((1, 40, 6), levels=3, **options))
    images = torch.randint(3, (1, 1, 40, 6), dtype=torch.uint8)
    given = {"condition": torch.rand(1, 2, 20, 3)} if name == "map" else {}
    condition = model.condition_of(None, 1, given.get("condition"))
    whole, edges = model.log_prob_map(images, **given), model.edges(images, condition)
    assert not cut
    monkeypatch.setattr(bounded, "_STRIPE_BYTES", 1.0)
    assert torch.equal(model.log_prob_map(images, **given), whole)
    assert torch.equal(model.edges(images, condition), edges)
    assert len(cut) == 2
    assert min(cut) > 1


@pytest.mark.parametrize("options", [{"places": True}, {"attention": 1}, {"context": (2,)}])
def test_networks_that_see_where_they_are_are_not_cut(options, monkeypatch):
    monkeypatch.setattr(bounded, "_STRIPE_BYTES", 1.0)
    model = pixelcnn.GatedPixelCNN((1, 40, 6), filters=4, layers=2, **options)
    assert bounded.stripes_of(model, None) == []


def test_the_stripes_are_the_image(monkeypatch):
    monkeypatch.setattr(bounded, "_STRIPE_BYTES", 1.0)
    model = pixelcnn.GatedPixelCNN((1, 41, 6), filters=4, layers=2)
    found = bounded.stripes_of(model, None)
    assert [row for stripe in found for row in stripe.own] == list(range(41))
    assert max(len(stripe.seen) for stripe in found) <= 2 * len(found[0].own)


class Even(pixelcnn.PixelCNN):
    """A network without masked convolutions: every level is as probable as the other."""

    masked_layers = ()

    def network(self, view):
        return torch.zeros_like(view.image)


@torch.no_grad()
def test_networks_without_masked_convolutions_are_not_cut():
    model, images = Even((1, 9, 6), filters=4, blocks=0), torch.zeros(3, 1, 9, 6, dtype=torch.uint8)
    assert torch.allclose(model.log_prob(images), torch.full((3,), -54 * math.log(2)))
