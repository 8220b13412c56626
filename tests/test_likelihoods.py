"""Likelihoods against torch.distributions, and draws against their definition."""

import pytest
import torch

from pixelcnn.likelihoods import Bernoulli, LogisticMixture, draw, likelihood_of


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


# The mixture of logistics --------------------------------------------------------------------------------------


def mixtures(levels, kind):
    """Parameters (64, 3 m) of a kind, float32."""
    generator = torch.Generator().manual_seed(3)
    weights, means = (torch.randn(64, 5, generator=generator) for _ in range(2))
    log_scales = {
        "usual": torch.randn(64, 5, generator=generator) - 2,
        "narrow": torch.full((64, 5), -20.0),
        "wide": torch.full((64, 5), 6.0),
        "far": torch.randn(64, 5, generator=generator) - 4,
    }[kind]
    return torch.cat([weights, means * (30 if kind == "far" else 1), log_scales], 1)


@pytest.mark.parametrize("kind", ["usual", "narrow", "wide", "far"])
@pytest.mark.parametrize("levels", [2, 3, 256])
def test_a_mixtures_probabilities_sum_to_one(levels, kind):
    """In float32, as the issue of any network that is trained in it."""
    likelihood = LogisticMixture(levels, 5)
    params = mixtures(levels, kind)
    every = torch.arange(levels).expand(64, levels)
    log_prob = likelihood.log_prob(params.unsqueeze(1).expand(-1, levels, -1), every)
    assert log_prob.isfinite().all()
    torch.testing.assert_close(log_prob.double().exp().sum(1), torch.ones(64, dtype=torch.float64), rtol=0, atol=1e-5)
    exact = likelihood.log_prob(params.double().unsqueeze(1).expand(-1, levels, -1), every)
    torch.testing.assert_close(exact.exp().sum(1), torch.ones(64, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_prob.double(), exact, rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("kind", ["usual", "narrow", "wide", "far"])
def test_a_mixtures_gradients_are_finite(kind):
    params = mixtures(256, kind).requires_grad_()
    likelihood = LogisticMixture(256, 5)
    for level in (0, 1, 128, 254, 255):
        (gradient,) = torch.autograd.grad(likelihood.log_prob(params, torch.full((64,), level)).sum(), params)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", ["usual", "narrow", "wide"])
def test_a_mixtures_cdf_is_the_sum_of_its_probabilities(kind):
    likelihood = LogisticMixture(16, 5)
    params = mixtures(16, kind).double()
    every = torch.arange(16).expand(64, 16)
    probabilities = likelihood.log_prob(params.unsqueeze(1).expand(-1, 16, -1), every).exp()
    torch.testing.assert_close(likelihood.cdf(params), probabilities.cumsum(1)[:, :-1])
