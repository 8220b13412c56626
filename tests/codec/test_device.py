"""A CUDA device computes the same integers: frequencies, streams, images and exact samples."""

import pytest
import torch

import pixelcnn
from pixelcnn.codec import decompress_with_labels
from pixelcnn.exact import prepare
from twins import MODELS, built, inputs


@pytest.mark.cuda
@pytest.mark.parametrize("name", [name for name in MODELS if name != "vector"])
def test_a_cuda_device_writes_and_reads_the_same(name):
    model = built(name)
    images, labels = inputs(model, 70)
    expected = pixelcnn.compress(model, images, labels)
    model, on_device = model.cuda(), None if labels is None else labels.cuda()
    prepared = prepare(model)
    frequencies = prepared.cumulative(images.to(prepared.model.device), on_device)
    assert torch.equal(frequencies.cpu(), prepare(built(name)).cumulative(images, labels))
    assert pixelcnn.compress(model, images.cuda(), on_device) == expected
    found, found_labels = decompress_with_labels(model, expected)
    assert torch.equal(found.cpu(), images)
    assert labels is None or torch.equal(found_labels.cpu(), labels)


@pytest.mark.cuda
@pytest.mark.parametrize("name", MODELS)
def test_a_cuda_device_draws_the_same(name):
    _, labels = inputs(built(name), 70)
    expected = built(name).sample(70, labels, seed=3, exact=True)
    on_device = None if labels is None else labels.cuda()
    assert torch.equal(built(name).cuda().sample(70, on_device, seed=3, exact=True).cpu(), expected)


@pytest.mark.cuda
def test_a_cuda_device_knows_models_of_other_sizes():
    model = pixelcnn.PhotoPixelCNN((3, 8, 8), filters=4, blocks=1, generator=torch.Generator().manual_seed(0))
    expected = prepare(model).resized((5, 9)).identity
    assert prepare(model.cuda()).resized((5, 9)).identity == expected
