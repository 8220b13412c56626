"""Likelihoods against torch.distributions and many digits, and draws against their definition."""

import mpmath
import pytest
import torch

from pixelcnn.likelihoods import Bernoulli, Categorical, LogisticMixture, draw, likelihood_of


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


# Whatever a network says ---------------------------------------------------------------------------------------

HUGE = [sign * size for size in (0.0, 1e-3, 1.0, 20.0, 90.0, 1e3, 1e6, 1e20, 1e38) for sign in (1, -1)]
MEANS = [sign * size for size in (0.0, 0.3, 1.0, 2.0, 30.0, 1e3, 1e5, 1e6) for sign in (1, -1)]
LOG_SCALES = [-30.0, -8.0, -7.0, -5.5, -3.0, 0.0, 3.0, 8.0, 20.0, 60.0, 90.0, 99.9, 104.0, 1e38]


def value_and_gradient(likelihood, params, levels):
    params = params.clone().requires_grad_()
    value = likelihood.log_prob(params, levels)
    assert value.dtype == params.dtype
    (gradient,) = torch.autograd.grad(value.sum(), params)
    return value.detach().double(), gradient.double()


def assert_close(found, expected):
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("levels", [2, 3, 256, 65536])
def test_logits_in_float32_are_as_good_as_in_float64(levels):
    likelihood = Bernoulli() if levels == 2 else Categorical(levels)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(HUGE), (2**20 // levels + 64, likelihood.params), generator=generator)
    params = torch.tensor(HUGE)[chosen] * (1 - torch.rand(chosen.shape, generator=generator) / 8)
    every = torch.randint(levels, (len(params),), generator=generator)
    every[:4] = torch.tensor([0, levels - 1, 1, levels // 2])
    found = value_and_gradient(likelihood, params, every)
    logits = params.double().requires_grad_()
    both = torch.cat([torch.zeros_like(logits), logits], 1) if levels == 2 else logits
    expected = torch.distributions.Categorical(logits=both, validate_args=False).log_prob(every)
    (gradient,) = torch.autograd.grad(expected.sum(), logits)
    assert_close(found[0], expected.detach())
    assert_close(found[1], gradient)


def in_many_digits(levels, weights, means, log_scales, level):
    """The logarithm of a level's probability under a mixture, and its gradient, by the definition."""
    with mpmath.workdps(90):  # what cancels is at most 2 / 65535 exp(-100)

        def sigmoid(z):
            return 1 / (1 + mpmath.exp(-z))

        def slope(z):
            return sigmoid(z) * sigmoid(-z)

        least = -13 if levels == 65536 else -7  # three quarters per bit beyond 8
        x, half = mpmath.mpf(2 * level) / (levels - 1) - 1, mpmath.mpf(1) / (levels - 1)
        shares = [mpmath.exp(mpmath.mpf(w) - max(weights)) for w in weights]
        each, by_mean, by_scale = [], [], []
        for mean, log_scale in zip(means, log_scales, strict=True):
            inverse = mpmath.exp(-mpmath.mpf(min(max(log_scale, least), 100)))
            lower, upper = ((x + edge - mpmath.mpf(mean)) * inverse for edge in (-half, half))
            of_lower, of_upper = (0 if level == 0 else 1), (0 if level == levels - 1 else 1)
            if lower > 0:  # by the tails, which many digits can tell apart
                each.append((sigmoid(-lower) if of_lower else 1) - of_upper * sigmoid(-upper))
            else:
                each.append((sigmoid(upper) if of_upper else 1) - of_lower * sigmoid(lower))
            by_mean.append(-inverse * (of_upper * slope(upper) - of_lower * slope(lower)))
            free = least <= log_scale <= 100
            by_scale.append(free * (of_lower * lower * slope(lower) - of_upper * upper * slope(upper)))
        total = mpmath.fdot(shares, each)
        gradient = [share * (p / total - 1 / mpmath.fsum(shares)) for share, p in zip(shares, each, strict=True)]
        for terms in (by_mean, by_scale):
            gradient += [share * term / total for share, term in zip(shares, terms, strict=True)]
        return float(mpmath.log(total / mpmath.fsum(shares))), [float(term) for term in gradient]


@pytest.mark.parametrize("levels", [2, 3, 256, 65536])
def test_a_mixture_is_its_definition_in_many_digits(levels):
    generator = torch.Generator().manual_seed(levels)
    places = (0, 1, levels // 2, levels - 2, levels - 1)
    params, every = [], []
    for k in range(240):
        chosen = [torch.randint(len(choice), (2,), generator=generator) for choice in (HUGE, MEANS, LOG_SCALES)]
        found = [torch.tensor(choice)[at] for choice, at in zip((HUGE, MEANS, LOG_SCALES), chosen, strict=True)]
        every.append(places[k % len(places)])
        if k % 3 == 0:  # near the level, where the distribution is not flat
            found[1] = 2 * torch.tensor(every[-1]) / (levels - 1) - 1 + torch.randn(2, generator=generator) / 500
        params.append(torch.cat(found))
    params, every = torch.stack(params), torch.tensor(every)
    expected = [
        in_many_digits(levels, row[:2], row[2:4], row[4:], level)
        for row, level in zip(params.tolist(), every.tolist(), strict=True)
    ]
    likelihood = LogisticMixture(levels, 2)
    for dtype in (torch.float32, torch.float64):
        value, gradient = value_and_gradient(likelihood, params.to(dtype), every)
        assert_close(value, torch.tensor([value for value, _ in expected], dtype=torch.float64))
        assert_close(gradient, torch.tensor([slopes for _, slopes in expected], dtype=torch.float64))


def test_the_largest_means_and_scales_are_finite():
    likelihood = LogisticMixture(256, 2)
    params = torch.tensor([[0.0, 1e38, mean, -mean, scale, -scale] for mean in (0.0, 1e30) for scale in (0.0, 1e38)])
    for level in (0, 1, 254, 255):
        value, gradient = value_and_gradient(likelihood, params, torch.full((4,), level))
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("temperature", [5e-324, 1e-305, 1e-300, 1e305])
@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), Categorical(5), LogisticMixture(5, 3)], ids=lambda x: type(x).__name__
)
def test_no_temperature_overflows(likelihood, temperature):
    """A low one leaves the most probable, a high one nothing of the logits; the ends of a wide mixture have a half."""
    params = 1e4 * torch.randn(40, likelihood.params, generator=torch.Generator().manual_seed(0))
    below = likelihood.cdf(params, temperature)
    assert torch.equal(likelihood.cdf(params, torch.tensor(temperature, dtype=torch.float64)), below)
    middle = draw(likelihood, params, torch.full((40,), 0.49, dtype=torch.float64), temperature).long()
    if temperature > 1:
        uniform = torch.linspace(0, 1, likelihood.levels + 1, dtype=torch.float64)[1:-1].expand(below.shape)
        expected = torch.full_like(below, 0.5) if isinstance(likelihood, LogisticMixture) else uniform
        torch.testing.assert_close(below, expected)
    elif isinstance(likelihood, LogisticMixture):
        mean = params[:, 3:6].gather(1, params[:, :3].argmax(1, keepdim=True))[:, 0]
        assert torch.equal(middle, (mean > 0) * 4)
    else:
        logits = torch.nn.functional.pad(params, (1, 0)) if likelihood.levels == 2 else params
        assert torch.equal(middle, logits.argmax(1))
