"""Likelihoods against torch.distributions, and draws against their definition."""

import pytest
import torch

from pixelcnn.likelihoods import Bernoulli, draw, likelihood_of


def test_likelihood_of_levels():
    assert isinstance(likelihood_of(2), Bernoulli)
    assert likelihood_of(3).params == 3


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_log_prob_and_cdf_agree_with_torch(levels):
    likelihood = likelihood_of(levels)
    params = 3 * torch.randn(50, likelihood.params, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = torch.cat([torch.zeros(50, 1), params], 1) if levels == 2 else params
    reference = torch.distributions.Categorical(logits=logits)
    values = torch.arange(levels).expand(50, levels)
    torch.testing.assert_close(
        likelihood.log_prob(params[:, None].expand(-1, levels, -1), values), reference.logits.log_softmax(-1)
    )
    torch.testing.assert_close(likelihood.cdf(params), reference.probs.cumsum(-1)[:, :-1])
    half = torch.distributions.Categorical(logits=logits / 2)
    torch.testing.assert_close(likelihood.cdf(params, temperature=2.0), half.probs.cumsum(-1)[:, :-1])


@pytest.mark.parametrize("levels", [2, 5])
def test_draw_inverts_the_cdf(levels):
    likelihood = likelihood_of(levels)
    params = torch.randn(1, likelihood.params, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    thresholds = likelihood.cdf(params)[0]
    for k, threshold in enumerate(thresholds):
        below = torch.nextafter(threshold, torch.tensor(0.0, dtype=torch.float64))
        assert draw(likelihood, params, below.view(1)) == k
        assert draw(likelihood, params, threshold.view(1)) == k + 1
    assert draw(likelihood, params, torch.zeros(1, dtype=torch.float64)) == 0
    assert draw(likelihood, params, torch.full((1,), 1 - 2**-53, dtype=torch.float64)) == levels - 1


@pytest.mark.parametrize("levels", [2, 3])
def test_certain_parameters_are_finite(levels):
    likelihood = likelihood_of(levels)
    params = torch.full((1, likelihood.params), -200.0)
    params[..., -1] = 200.0
    assert torch.isfinite(likelihood.log_prob(params, torch.zeros(1, dtype=torch.uint8))).all()
    assert draw(likelihood, params, torch.tensor([2.0**-53], dtype=torch.float64)) == levels - 1
