"""The encoder of maps: what a pixel sees of a map, on the grid and off it."""

import pytest
import torch

from pixelcnn.arithmetic import GRID, Arithmetic, grid
from pixelcnn.operations import ConditionMap
from pixelcnn.operations.condition_map import MapEncoder


def encoder_of(numbers=1, categories=0):
    return MapEncoder(numbers, categories, 32, 0, torch.Generator().manual_seed(1)).double()


def rows(maps):
    return torch.cat([maps.flatten(1), torch.ones(len(maps), 1, dtype=maps.dtype)], 1)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_pixel_sees_its_surroundings_on_all_sides(scale):
    """Two cells around its own, and exactly nothing beyond."""
    side = 7
    maps = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    y = ConditionMap(encoder=encoder_of()).of_images(Arithmetic(), rows(maps), side * scale, side * scale)
    assert y.shape == (1, side * scale, side * scale, 32)
    for pixel in (0, side * scale // 2):
        (gradient,) = torch.autograd.grad(y[0, pixel, pixel].sum(), maps, retain_graph=True)
        near, cell = torch.zeros(side, side, dtype=torch.bool), pixel // scale
        near[max(0, cell - 2) : cell + 3, max(0, cell - 2) : cell + 3] = True
        assert torch.equal(gradient[0, 0] != 0, near)


def test_the_grid_is_exact_and_near():
    """Multiples of 2^-12, which other batches and another order of summation reproduce."""
    encoder = encoder_of(2, 3)
    for parameter in encoder.parameters():
        parameter.data.copy_(grid.rounded(parameter.data, grid.WEIGHT_BITS))
    maps = torch.cat([torch.randn(3, 2, 4, 6), torch.randint(3, (3, 1, 4, 6))], 1).double()
    op, condition = ConditionMap(encoder=encoder), rows(maps)
    on_grid = op.of_images(GRID, condition, 8, 12)
    assert torch.equal(on_grid, grid.rounded(on_grid))
    assert torch.equal(torch.cat([op.of_images(GRID, row[None], 8, 12) for row in condition]), on_grid)
    assert (on_grid - op.of_images(Arithmetic(), condition, 8, 12)).abs().max() < 0.02
    with torch.no_grad():
        largest, total = op.bound([])
    assert on_grid.abs().max() <= largest
    assert total < 2.0**27


def test_an_image_without_a_map_has_no_features():
    maps = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    condition = rows(maps)
    condition[1] = 0
    y = ConditionMap(encoder=encoder_of()).of_images(Arithmetic(), condition, 4, 4)
    assert y[1].eq(0).all()
    assert y[0].ne(0).any()
