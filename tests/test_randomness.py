"""The uniforms and the data order against a plain-integer SplitMix64."""

import pytest
import scipy.stats
import torch

from pixelcnn.randomness import binarised, mutations, part_uniforms, permutation, uniforms

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


def test_binarised_is_the_documented_function():
    images = torch.tensor([[0, 1, 100, 254, 255]] * 40, dtype=torch.uint8).view(40, 1, 1, 5)
    indices = torch.arange(3, 43)
    salt = 0x706978656C732121
    for epoch, state in ((None, mix(7 ^ salt)), (4, mix((mix(7 ^ salt) + 5 * GAMMA) & M))):
        found = binarised(images, indices, 7, epoch)
        for i in range(40):
            image = mix((state + (3 + i + 1) * GAMMA) & M)
            bits = [mix((image + (k + 1) * GAMMA) & M) >> 32 for k in range(5)]
            expected = [int(255 * b < g << 32) for b, g in zip(bits, images[i].flatten().tolist(), strict=True)]
            assert found[i].flatten().tolist() == expected
    assert torch.equal(binarised(images[5:8], indices[5:8], 7, torch.tensor(4)), found[5:8])


def test_pixels_are_white_as_often_as_they_are_bright():
    """Each grey's count within 6 standard deviations: 256 of them, less than 1e-6 that a right one fails."""
    n = 20_000
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(n, 1, 16, 16)
    p = torch.arange(256) / 255
    draws = [binarised(images, torch.arange(n), seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, None))]
    for drawn in draws:
        counts = drawn.sum(0, dtype=torch.float64).flatten()
        assert ((counts - n * p).abs() <= 6 * (n * p * (1 - p)).sqrt()).all()
        assert counts[0] == 0
        assert counts[255] == n
    assert torch.equal(draws[0], binarised(images, torch.arange(n), 0, 0))
    grey = p * (1 - p) * 2  # probability that two independent draws differ
    for a, b in ((0, 1), (0, 2), (0, 3), (1, 3)):
        different = (draws[a] != draws[b]).sum(0, dtype=torch.float64).flatten()
        assert ((different - n * grey).abs() <= 6 * (n * grey * (1 - grey)).sqrt()).all()


def test_part_uniforms_are_the_documented_function_and_not_the_pixels():
    state = mix(7 ^ 0x7061727473212121)
    found = part_uniforms(7, 5, 3)
    assert found.tolist() == [(mix((state + (5 + i + 1) * GAMMA) & M) >> 11) * 2.0**-53 for i in range(3)]
    both = torch.stack([part_uniforms(0, 0, 100_000), uniforms(0, 0, 100_000, 1)[:, 0]])
    assert scipy.stats.kstest(both[0].numpy(), "uniform").pvalue > 1e-7
    assert torch.corrcoef(both)[0, 1].abs() < 6 / 100_000**0.5


def test_mutations_replace_a_share_by_uniform_levels():
    """Counts within 6 standard deviations: a dozen of them, less than 1e-7 that a right one fails."""
    n, share, levels = 20_000, 0.3, 5
    images = torch.full((n, 2, 3, 1), 4, dtype=torch.uint8)
    indices = torch.arange(n)
    found = mutations(images, indices, share, levels, 7, 3)
    assert found.dtype == torch.uint8
    for level in range(levels):
        p = share / levels + (1 - share) * (level == 4)
        count = found.eq(level).sum().item()
        assert abs(count - 6 * n * p) <= 6 * (6 * n * p * (1 - p)) ** 0.5
    assert torch.equal(mutations(images[5:8], indices[5:8], share, levels, 7, torch.tensor(3)), found[5:8])
    other = mutations(images, indices, share, levels, 7, 4)
    both = ((found != 4) & (other != 4)).sum().item()
    p = (share * (1 - 1 / levels)) ** 2
    assert abs(both - 6 * n * p) <= 6 * (6 * n * p * (1 - p)) ** 0.5
    assert torch.equal(mutations(images, indices, 0.0, levels, 7, 3), images)
    assert mutations(images[:4], indices[:4], 1.0, 2, 7, 3).amax() <= 1


def test_no_images_are_drawn_and_mutated_as_well():
    """A process has none of a batch that has fewer images than there are processes."""
    nothing, indices = torch.zeros(0, 1, 2, 3, dtype=torch.uint8), torch.arange(0)
    assert binarised(nothing, indices, 0, 0).shape == mutations(nothing, indices, 0.5, 2, 0, 0).shape == (0, 1, 2, 3)
