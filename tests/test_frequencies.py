"""Frequencies: rising, complete, and close to the probabilities that they stand for."""

import pytest
import torch

import pixelcnn
from pixelcnn.arithmetic import grid
from pixelcnn.arithmetic.mixture import mixture_of
from pixelcnn.frequencies import TOTAL_BITS, Frequencies
from pixelcnn.likelihoods import Bernoulli, Categorical, LogisticMixture


def checked(cumulative, levels):
    assert cumulative.shape[-1] == levels + 1
    assert (cumulative[..., 0] == 0).all()
    assert (cumulative[..., -1] == 2**TOTAL_BITS).all()
    assert (cumulative.diff() >= 1).all()
    return cumulative


def on_grid(likelihood, params):
    """What the likelihood reads in exact arithmetic, of grey images."""
    if not isinstance(likelihood, LogisticMixture):
        return params
    mixture = mixture_of(params, torch.zeros(len(params), 1), 0, likelihood.mixtures, likelihood.levels)
    return torch.cat([mixture.weights, mixture.means, mixture.log_scales], -1)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Categorical(3), Categorical(256), LogisticMixture(256, 10)])
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0, 30.0, 1000.0])
def test_they_rise_and_are_complete(likelihood, spread):
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(200, likelihood.params, generator=generator, dtype=torch.float64) * spread
    checked(Frequencies(likelihood).cumulative(on_grid(likelihood, grid.clamped(params))), likelihood.levels)


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), Categorical(5), Categorical(256), LogisticMixture(256, 5), LogisticMixture(2, 3)]
)
def test_they_are_the_likelihoods_probabilities(likelihood):
    generator = torch.Generator().manual_seed(0)
    params = grid.rounded(torch.randn(500, likelihood.params, generator=generator, dtype=torch.float64))
    found = checked(Frequencies(likelihood).cumulative(on_grid(likelihood, params)), likelihood.levels)
    expected = likelihood.cdf(params).view(500, -1)
    torch.testing.assert_close(found[:, 1:-1].double() * 2.0**-TOTAL_BITS, expected, atol=1e-4, rtol=0)


def test_later_channels_of_a_mixture_know_the_earlier_ones():
    """Against the model's own parameters, by which the mixture's weights move."""
    model = pixelcnn.PixelCNNPlusPlus((3, 4, 4), levels=32, filters=4, blocks=1, mixtures=4).double()
    generator = torch.Generator().manual_seed(0)
    raw = grid.rounded(torch.randn(300, 4 * (1 + 6 + 3), generator=generator, dtype=torch.float64))
    x = torch.randint(32, (300, 3), generator=generator).to(torch.uint8)
    for channel in range(3):
        found = checked(Frequencies(model.likelihood).cumulative(model.subpixel_params_on_grid(raw, x, channel)), 32)
        expected = model.likelihood.cdf(model.subpixel_params(raw, x, channel))
        torch.testing.assert_close(found[:, 1:-1].double() * 2.0**-TOTAL_BITS, expected, atol=3e-3, rtol=0)


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(TypeError, match="no frequencies are known for the likelihood object"):
        Frequencies(object())
