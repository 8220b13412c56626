"""The log-likelihoods that drawing returns are those of `log_prob`."""

import pytest
import torch

import pixelcnn

SMALL = {"filters": 6, "generator": torch.Generator().manual_seed(0)}


def loud(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


MODELS = {
    "two levels": loud(pixelcnn.PixelCNN((1, 5, 4), blocks=1, **SMALL)),
    "by class": loud(pixelcnn.GatedPixelCNN((2, 4, 3), 5, layers=2, num_classes=3, **SMALL)),
    "mixtures": pixelcnn.PixelCNNPlusPlus((3, 3, 4), 16, blocks=1, mixtures=3, **SMALL).eval(),
    "float64": loud(pixelcnn.PixelCNN((1, 5, 4), blocks=1, **SMALL)).double(),
}
MODELS["symmetric"] = pixelcnn.Symmetrised(MODELS["two levels"], ("flip", "reflections"))


@pytest.mark.parametrize("engine", ["fast", "native", "eager", "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_log_prob(name, engine):
    model = MODELS[name]
    labels = torch.arange(40) % 3 if model.num_classes else None
    images, found = model.sample(40, labels, seed=3, engine=engine, first=7, with_log_prob=True)
    assert torch.equal(images, model.sample(40, labels, seed=3, engine=engine, first=7))
    expected = model.log_prob(images, labels)
    assert found.dtype == expected.dtype
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-12 if name == "float64" else 1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_in_exact_arithmetic_it_is_the_same_to_the_bit(name):
    model = MODELS[name]
    images, found = model.sample(9, seed=3, exact=True, with_log_prob=True)
    assert torch.equal(images, model.sample(9, seed=3, exact=True))
    assert torch.equal(found, model.prepared().log_prob(images))
    assert model.sample(0, exact=True, with_log_prob=True)[1].dtype == found.dtype


def test_only_of_the_models_own_distribution():
    for changed, named in (({"temperature": 0.5}, "got 0.5 and 1.0"), ({"guidance": 2.0}, "got 1.0 and 2.0")):
        with pytest.raises(ValueError, match=f"temperature and guidance must be 1, {named}"):
            MODELS["by class"].sample(2, torch.zeros(2).long(), with_log_prob=True, **changed)
