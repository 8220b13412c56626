"""The likelihood of images as a mixture of classes."""

import pytest
import torch

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.energies import every_image
from pixelcnn.evaluation import evaluate_parts

IMAGES = next(every_image((1, 2, 3), 2))


def model():
    generator = torch.Generator().manual_seed(3)
    return pixelcnn.GatedPixelCNN((1, 2, 3), filters=6, layers=2, num_classes=3, generator=generator).double()


def test_the_mixture_of_classes_is_a_distribution():
    each = [-pixelcnn.evaluate(model(), image[None], marginal=True).nats_per_image for image in IMAGES]
    assert torch.tensor(each, dtype=torch.float64).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_the_mixture_of_classes_follows_bayes_rule():
    network, images, labels = model(), IMAGES, torch.arange(64) % 3
    found = pixelcnn.evaluate(network, images, labels, marginal=True)
    given = torch.stack([network.log_prob(images, torch.full((64,), k)) for k in range(3)], 1).detach()
    assert found.nats_per_image == pytest.approx(-(given.exp().mean(1).log()).mean().item(), rel=1e-12)
    assert found.accuracy == (network.classify(images).argmax(1) == labels).double().mean().item()
    assert found.by_class[1].images == 21
    assert pixelcnn.evaluate(network, images, marginal=True).accuracy is None
    assert pixelcnn.evaluate(network, images, labels).accuracy is None


def test_a_model_without_classes_has_no_mixture_of_them(capsys):
    plain = pixelcnn.PixelCNN((1, 2, 3), filters=4, blocks=1)
    with pytest.raises(ValueError, match="marginal"):
        pixelcnn.evaluate(plain, IMAGES, marginal=True)
    assert main(["evaluate", "mnist-seed", "mnist:test", "--images", "2", "--classes", "marginal"]) == 2
    assert "marginal" in capsys.readouterr().err


def test_the_command_prints_what_is_classified_right(capsys):
    assert main(["evaluate", "mnist", "mnist:test", "--images", "20", "--classes", "marginal"]) == 0
    said = capsys.readouterr().out
    assert "as the mixture of 10 classes" in said
    assert "of the images, by Bayes' rule" in said


def test_images_without_a_class_are_of_none():
    network, labels = model(), torch.arange(64) % 3
    some = labels.where(torch.arange(64) < 40, -1)
    found = pixelcnn.evaluate(network, IMAGES, some, marginal=True)
    assert sum(part.images for part in found.by_class.values()) == 40
    assert found.accuracy == pixelcnn.evaluate(network, IMAGES[:40], labels[:40], marginal=True).accuracy
    without = pixelcnn.evaluate(network, IMAGES, torch.full((64,), -1), marginal=True)
    assert (without.by_class, without.accuracy) == ({}, None)


def test_labels_of_some_parts_are_refused():
    parts = [(IMAGES[:3], [0, 1, 2], None), (IMAGES[3:5], None, None)]
    with pytest.raises(ValueError, match="labels must be given for all parts or none, got them for 3 of 5 images"):
        evaluate_parts(model(), parts)
