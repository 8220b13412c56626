"""Draws: the arguments of sampling in one form, and the parts of them that samplers serve."""

import pytest
import torch

import pixelcnn
from pixelcnn.sampling import Draw, EagerSampler


def test_a_part_is_of_its_own_images():
    labels = torch.tensor([2, 0, 1, 2])
    part = Draw(4, labels, seed=3, first=10, guidance=2.0).part(1, 3)
    assert (part.n, part.first, part.seed, part.guidance) == (2, 11, 3, 2.0)
    assert part.labels.tolist() == [0, 1]
    assert part.conditional
    assert part.guided


def test_one_sampler_serves_all_batches_of_a_size_whatever_their_labels(monkeypatch):
    model = pixelcnn.GatedPixelCNN((1, 3, 4), filters=4, layers=2, num_classes=3).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    made = []

    class Counted(EagerSampler):
        def __init__(self, model, draw):
            made.append(draw.n)
            super().__init__(model, draw)

        @staticmethod
        def batch(_model):
            return 3

    monkeypatch.setattr("pixelcnn.sampling.eager.SAMPLER", Counted)
    labels = torch.tensor([0, 2, 1, -1, 2, 0, 1])
    drawn = model.sample(7, labels, engine="eager", guidance=1.5, seed=0)
    assert made == [3, 1]
    assert torch.equal(drawn, model.sample(7, labels, engine="reference", guidance=1.5, seed=0))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"n": -1}, "n .* -1"),
        ({"first": -1}, "first .* -1"),
        ({"temperature": 0}, "temperature"),
        ({"seed": -1}, "seed .* -1"),
    ],
)
def test_numbers_out_of_range_are_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        Draw(**({"n": 1} | wrong)).plain()
