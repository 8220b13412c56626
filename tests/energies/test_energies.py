"""Energies against sums over bonds written out, and exact partition functions against each other."""

import itertools
import math

import numpy as np
import pytest
import torch

from pixelcnn.energies import (
    EdwardsAnderson,
    Ising,
    Potts,
    SherringtonKirkpatrick,
    energies_of,
    enumerated_log_z,
    every_image,
    kaufman_log_z,
    magnetisation,
    transfer_log_z,
    uniform_images,
)

CRITICAL = math.log(1 + math.sqrt(2)) / 2


def bonds(height, width, boundary):
    """Each bond once, as ("right" or "down", site, neighbour)."""
    for i, j in itertools.product(range(height), range(width)):
        for kind, (y, x) in (("right", (i, j + 1)), ("down", (i + 1, j))):
            if boundary == "periodic" and (width if kind == "right" else height) > 1:
                yield kind, (i, j), (y % height, x % width)
            elif y < height and x < width:
                yield kind, (i, j), (y, x)


@pytest.mark.parametrize("boundary", ["periodic", "free"])
@pytest.mark.parametrize("shape", [(3, 4), (1, 5), (2, 1)])
def test_lattices_are_sums_over_bonds(boundary, shape):
    coupling = {"right": torch.randn(*shape).double(), "down": torch.randn(*shape).double()}
    field = torch.randn(*shape).double()
    images = uniform_images(20, (1, *shape), 2, seed=1)
    ising = Ising((coupling["right"], coupling["down"]), field, boundary)(images)
    states = uniform_images(20, (1, *shape), 3, seed=2)
    potts = Potts((coupling["right"].numpy(), coupling["down"].tolist()), [0.5, 0, -1], boundary)(states)
    for k in range(20):
        s, x = 2 * images[k, 0].double() - 1, states[k, 0]
        expected = -(field * s).sum()
        levels = -torch.tensor([0.5, 0, -1])[x.long()].sum().double()
        for kind, site, other in bonds(*shape, boundary):
            expected -= coupling[kind][site] * s[site] * s[other]
            levels -= coupling[kind][site] * float(x[site] == x[other])
        assert ising[k] == pytest.approx(expected.item(), abs=1e-12)
        assert potts[k] == pytest.approx(levels.item(), abs=1e-12)


def test_spin_glasses():
    glass = EdwardsAnderson((4, 6), seed=3)
    couplings = torch.stack(glass.bonds(4, 6))
    assert set(couplings.flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(couplings, torch.stack(EdwardsAnderson((4, 6), seed=3).bonds(4, 6)))
    assert not torch.equal(couplings, torch.stack(EdwardsAnderson((4, 6), seed=4).bonds(4, 6)))
    assert abs(torch.stack(EdwardsAnderson((100, 100)).bonds(100, 100)).mean()) < 5 / math.sqrt(20_000)  # 5 sigma

    glass = SherringtonKirkpatrick(6, seed=1)
    images = uniform_images(10, (1, 2, 3), 2)
    for image, energy in zip(images, glass(images), strict=True):
        s = 2 * image.flatten().double() - 1
        pairs = itertools.combinations(range(6), 2)
        assert energy == pytest.approx(-sum((glass.couplings[i, j] * s[i] * s[j]).item() for i, j in pairs), abs=1e-12)
    scale = SherringtonKirkpatrick(200).couplings.triu(1)
    assert scale.square().sum() / (200 * 199 / 2) * 200 == pytest.approx(1, abs=5 * math.sqrt(2 / 19_900))  # 5 sigma


def test_magnetisation_and_uniform_images():
    images = uniform_images(3, (1, 2, 2), 2)
    images[:] = 0
    images[1], images[2, 0, 0] = 1, 1
    assert magnetisation(images).tolist() == [-1, 1, 0]
    counts = torch.bincount(uniform_images(100, (2, 10, 10), 5).flatten(), minlength=5).double()
    assert ((counts - 4000) ** 2 / 4000).sum() < 42  # chi-square of 4 degrees: 1.7e-8


def test_every_image_comes_once():
    images = torch.cat(list(every_image((1, 2, 2), 3, chunk=10)))
    assert len({tuple(image.flatten().tolist()) for image in images}) == len(images) == 81
    with pytest.raises(ValueError, match=r"at most 2\*\*24 images, got 2\*\*25"):
        next(every_image((1, 5, 5), 2))


@pytest.mark.parametrize("beta", [0.2, CRITICAL, 0.9])
@pytest.mark.parametrize("shape", [(2, 2), (3, 4), (4, 3)])
def test_the_references_agree(beta, shape):
    expected = enumerated_log_z(Ising(), (1, *shape), 2, beta)
    assert transfer_log_z(Ising(), *shape, beta) == pytest.approx(expected, rel=1e-12)
    assert kaufman_log_z(*shape, beta) == pytest.approx(expected, rel=1e-12)
    assert kaufman_log_z(*shape, beta / 2, coupling=2) == pytest.approx(expected, rel=1e-12)


def test_the_transfer_matrix_takes_any_couplings():
    field = torch.randn(3, 4)
    for glass in (EdwardsAnderson((3, 4), 1, field), EdwardsAnderson((3, 4), 2, field, "free"), Ising(-0.3, 1.5)):
        expected = enumerated_log_z(glass, (1, 3, 4), 2, 0.7)
        assert transfer_log_z(glass, 3, 4, 0.7) == pytest.approx(expected, rel=1e-12)
    assert transfer_log_z(Ising(boundary="free"), 1, 1, 3.0) == pytest.approx(math.log(2), rel=1e-12)
    assert transfer_log_z(Ising(), 6, 6, 0.5) == pytest.approx(kaufman_log_z(6, 6, 0.5), rel=1e-12)
    assert enumerated_log_z(Potts(boundary="free"), (1, 1, 3), 3, 0.5) == pytest.approx(
        math.log(3 * (math.exp(0.5) + 2) ** 2), rel=1e-12
    )


@pytest.mark.parametrize("beta", [19.9, 20.1, 800.0])
def test_the_references_agree_near_zero_temperature(beta):
    for energy in (Ising(), Ising((1.0, -1.0), 0.7, "free"), EdwardsAnderson((3, 4), 1)):
        expected = enumerated_log_z(energy, (1, 3, 4), 2, beta)
        assert transfer_log_z(energy, 3, 4, beta) == pytest.approx(expected, rel=1e-12)
    assert kaufman_log_z(3, 4, beta) == pytest.approx(enumerated_log_z(Ising(), (1, 3, 4), 2, beta), rel=1e-12)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: Ising(boundary="open"), "boundary must be 'periodic' or 'free', got 'open'"),
        (lambda: Ising(math.nan), "coupling must be a number or an array .*, finite, got nan"),
        (lambda: Ising((1.0, 1.0, 1.0)), "coupling must be .* got 3"),
        (lambda: Ising(field=torch.ones(2, 2))(uniform_images(1, (1, 2, 3), 2)), r"field .* \(2, 3\), got \(2, 2\)"),
        (lambda: Ising()(uniform_images(1, (2, 2, 3), 2)), r"images must have shape \(N, 1, H, W\).*\(1, 2, 2, 3\)"),
        (lambda: Ising()(torch.full((1, 1, 2, 2), 2)), r"images of spins must hold levels 0\.\.1, got 2"),
        (lambda: SherringtonKirkpatrick(4)(torch.full((1, 1, 2, 2), 2)), r"must hold levels 0\.\.1, got 2"),
        (lambda: magnetisation(torch.full((1, 1, 2, 2), 2)), r"must hold levels 0\.\.1, got 2"),
        (lambda: Potts(field=[0, 1])(torch.full((1, 1, 1, 1), 2)), "field must have .* got 2 and a level 2"),
        (lambda: EdwardsAnderson((0, 4)), "shape must be an integer of at least 1, got 0"),
        (lambda: EdwardsAnderson(4), "shape must be a height and a width, got 4"),
        (lambda: EdwardsAnderson((4, 4, 4)), r"shape must be a height and a width, got \(4, 4, 4\)"),
        (lambda: transfer_log_z(Ising(), 4, -2, 1.0), "width must be an integer of at least 1, got -2"),
        (lambda: SherringtonKirkpatrick(4)(uniform_images(1, (1, 2, 3), 2)), "images must have 4 sub-pixels, got 6"),
        (lambda: transfer_log_z(Ising(), 4, 11, 1.0), r"width must be an integer in 1\.\.10, got 11"),
        (lambda: transfer_log_z(Ising(boundary="free"), 4, 17, 1.0), r"width must be an integer in 1\.\.16, got 17"),
        (lambda: enumerated_log_z(Ising(), (1, 2, 2), 2, -0.1), "beta must be at least 0 and finite, got -0.1"),
        (lambda: kaufman_log_z(1, 4, 0.5), "height must be an integer of at least 2, got 1"),
        (lambda: kaufman_log_z(4, 4, 0.0), r"beta \* coupling must be positive, got 0\.0"),
    ],
)
def test_wrong_arguments(wrong, named):
    with pytest.raises(ValueError, match=named):
        wrong()


@pytest.mark.parametrize(
    ("energy", "named"),
    [
        (lambda images: images.flatten(1).float(), r"shape \(3,\) on cpu, got torch.float32 \(3, 4\) on cpu"),
        ("ising", "energy must be a function of images, got 'ising'"),
        (lambda images: np.zeros(3), "one number per image.* got ndarray"),
        (lambda images: torch.tensor([0, math.nan, 0]), "energy must be finite, got nan for image 1 of 3"),
        (lambda images: torch.zeros(3, device="meta"), r"on cpu, got torch.float32 \(3,\) on meta"),
    ],
)
def test_what_an_energy_may_return(energy, named):
    with pytest.raises(ValueError, match=named):
        energies_of(energy, uniform_images(3, (1, 2, 2), 2))
    assert energies_of(lambda images: images.sum((1, 2, 3)), uniform_images(3, (1, 2, 2), 2)).dtype == torch.float64
