"""The uniforms and the data order against a plain-integer SplitMix64."""

import pytest
import scipy.stats
import torch

from pixelcnn.randomness import permutation, uniforms

GAMMA = 0x9E3779B97F4A7C15
M = 2**64 - 1


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & M
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & M
    return z ^ (z >> 31)


def test_the_plain_generator_is_splitmix64():
    """The published first outputs for state 1234567."""
    assert [mix((1234567 + (k + 1) * GAMMA) & M) for k in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_uniforms_are_the_documented_function(seed):
    found = uniforms(seed, first=5, n=3, subpixels=4)
    for i in range(3):
        state = mix((mix(seed) + (5 + i + 1) * GAMMA) & M)
        for k in range(4):
            assert found[i, k].item() == (mix((state + (k + 1) * GAMMA) & M) >> 11) * 2.0**-53


def test_uniforms_do_not_depend_on_the_batch():
    assert torch.equal(uniforms(3, 0, 10, 20)[4:7, :9], uniforms(3, 4, 3, 9))


def test_uniforms_are_uniform_along_every_axis():
    """Kolmogorov-Smirnov at 1e-7 for each of three tests."""
    for sample in (
        uniforms(0, 0, 1, 50_000),
        uniforms(0, 0, 50_000, 1),
        torch.cat([uniforms(s, 0, 1, 1) for s in range(5000)]),
    ):
        assert scipy.stats.kstest(sample.flatten().numpy(), "uniform").pvalue > 1e-7
    u = uniforms(0, 0, 400, 400)
    correlation = torch.corrcoef(torch.stack([u[:, :-1].flatten(), u[:, 1:].flatten(), u[:, :-1].roll(1, 0).flatten()]))
    assert (correlation - torch.eye(3)).abs().max() < 6 / 400  # six standard errors


def test_permutations_are_permutations_and_differ():
    first = permutation(1000, seed=0, epoch=0)
    assert torch.equal(first.sort().values, torch.arange(1000))
    for other in (permutation(1000, 0, 1), permutation(1000, 1, 0)):
        assert (first == other).sum() < 20
    assert torch.equal(first, permutation(1000, 0, 0))
