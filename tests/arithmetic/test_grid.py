"""The grid's functions, tried at every argument that they have."""

import decimal

import pytest
import torch

from pixelcnn.arithmetic import grid

EVERY = torch.arange(-(40 << 12), (40 << 12) + 1, dtype=torch.float64) * 2.0**-12
POSITIVE = EVERY[EVERY >= 0]


def test_the_exponential_never_rises():
    e = grid.exp_negative(POSITIVE)
    assert (e.diff() <= 0).all()
    assert (e[0], e[-1]) == (1, 0)
    assert torch.equal(e * 2.0**grid.EXP_BITS, (e * 2.0**grid.EXP_BITS).round())
    assert (e - torch.exp(-POSITIVE)).abs().max() < 1e-6  # its second table has 19 bits


def test_the_tables_are_the_nearest_integers():
    with decimal.localcontext(prec=60):
        for step, count, bits in ((64, 2048, 33), (1, 64, 19)):
            for k, found in enumerate(grid._powers(step, count, bits)):
                exact = (decimal.Decimal(-k * step) / 4096).exp() * 2**bits
                assert found == int(exact.to_integral_value(decimal.ROUND_HALF_UP)), (step, k)


def test_the_tables_are_those_of_the_format():
    assert grid.tables_digest() == "e28aab6bd8e671667e257d0e4dff3b5217d9d6a8e90cd764be737d62a4636464"


@pytest.mark.parametrize(
    ("ours", "real", "bits", "error"),
    [
        (grid.sigmoid, torch.sigmoid, 24, 1e-6),
        (grid.tanh, torch.tanh, 24, 2e-6),
        (grid.elu, torch.nn.functional.elu, 12, 1.3e-4),
    ],
)
def test_functions(ours, real, bits, error):
    y = ours(EVERY)
    assert torch.equal(y * 2.0**bits, (y * 2.0**bits).round())
    assert (y.diff() >= 0).all()
    assert (y - real(EVERY)).abs().max() < error


def test_symmetries():
    assert torch.equal(grid.sigmoid(-EVERY), 1 - grid.sigmoid(EVERY))
    assert torch.equal(grid.tanh(-EVERY), -grid.tanh(EVERY))


def test_rounding_is_half_to_even_and_held():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, 1e6], dtype=torch.float64) * 2.0**-12
    assert torch.equal(grid.rounded(x) * 2.0**12, torch.tensor([0, 2, 2, 0, 1e6], dtype=torch.float64))
    assert torch.equal(grid.clamped(torch.tensor([2000.0, -2000.0]).double()), torch.tensor([1024.0, -1024.0]).double())
