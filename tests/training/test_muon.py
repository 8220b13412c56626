"""Muon's step, written out."""

import math

import pytest
import torch

from pixelcnn import GatedPixelCNN
from pixelcnn.training.muon import MUON_MOMENTUM, directions, is_muons
from tiny import stepper_of, stripes


@pytest.mark.parametrize("shape", [(16, 8, 1, 1), (64, 32, 3, 5), (8, 40, 1, 1), (24, 24, 2, 3)])
def test_singular_values_become_one(shape):
    """Nearly: the iteration leaves them in 0.6..1.3, for those that are not tiny beside the largest."""
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    momentum = torch.zeros_like(gradient)
    (found,) = directions([gradient], [momentum])
    assert torch.allclose(momentum, (1 - MUON_MOMENTUM) * gradient)
    matrix = found.flatten(1)
    values = torch.linalg.svdvals(matrix) / (0.2 * math.sqrt(max(matrix.shape)))
    assert values.max() < 1.3
    assert values.median() > 0.6
    u, _, v = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
    polar = u @ v
    assert (matrix * polar).sum() / matrix.norm() / polar.norm() > 0.95
    rms = found.square().mean().sqrt()
    assert 0.1 < rms < 0.3  # of Adam's size


def test_matrices_of_one_shape_are_moved_as_each_alone():
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(16, 8, 2, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    momenta = [torch.randn(16, 8, 2, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    alone = [directions([g], [m.clone()])[0] for g, m in zip(gradients, momenta, strict=True)]
    for a, b in zip(alone, directions(gradients, momenta), strict=True):
        torch.testing.assert_close(a, b)


def test_what_a_kernel_does_not_see_stays_zero_and_no_gradient_is_no_step():
    gradient = torch.randn(16, 8, 3, 3)
    gradient[:, :, 2] = 0
    momentum = torch.zeros_like(gradient)
    (found,) = directions([gradient], [momentum])
    assert (found[:, :, 2] == 0).all()
    (none,) = directions([torch.zeros(16, 8, 1, 1)], [torch.zeros(16, 8, 1, 1)])
    assert (none == 0).all()


def test_which_weights_are_muons():
    model = GatedPixelCNN(image_shape=(1, 6, 7), filters=8, layers=2, num_classes=3, places=True)
    names = {name for name, p in model.named_parameters() if is_muons(p)}
    assert "layers.1.vertical.weight" in names
    assert "layers.0.link.weight" in names
    assert not names & {"layers.0.vertical.weight", "output.weight", "layers.1.vertical.bias"}


def test_a_step_moves_hidden_weights_by_their_direction_and_the_others_as_adam():
    images, rate, decay = stripes(10), 1e-3, 0.1
    models = [
        GatedPixelCNN(image_shape=(1, 6, 7), filters=8, layers=2, generator=torch.Generator().manual_seed(0)).double()
        for _ in range(3)
    ]
    stepper_of(models[0], None, optimizer="muon", weight_decay=decay).step(images, rate)
    stepper_of(models[1], None, weight_decay=decay).step(images, rate)
    (-models[2].log_prob(images).mean() / models[2].subpixels).backward()
    for name, start in models[2].named_parameters():
        moved = dict(models[0].named_parameters())[name]
        if is_muons(start):
            (direction,) = directions([start.grad], [torch.zeros_like(start)])
            expected = start.detach() * (1 - rate * decay) - rate * direction
        else:
            expected = dict(models[1].named_parameters())[name]
        torch.testing.assert_close(moved.detach(), expected.detach(), rtol=1e-9, atol=1e-12)
