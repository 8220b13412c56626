"""Draws of every model: their frequencies, the same from every engine and in any batch."""

import itertools

import numpy as np
import pytest
import torch
from every_model import CASES, DTYPES, EVERY, FAST, TINY, build, every_image, labels_for, raster

from chi_square import p_value
from pixelcnn.models import MODELS
from pixelcnn.randomness import uniforms
from pixelcnn.sampling import engine_of


def assert_same_draws(model, found, expected, labels, seed, temperature=1.0, guidance=1.0):
    """The same integers; in float32, where sums in another order end in other digits, an image may differ if the
    uniform of its first sub-pixel that does lies within 1e-4 of a threshold, and few do."""
    different = [k for k in range(len(found)) if not torch.equal(found[k], expected[k])]
    assert model.dtype == torch.float32 or not different
    assert len(different) <= max(1, len(found) // 4)
    for k in different:
        first = raster(found[k] != expected[k]).nonzero()[0].item()
        condition = model.condition_of(labels, len(found))
        params = model.raw_params(expected[k : k + 1], None if condition is None else condition[k : k + 1])
        if guidance != 1:
            params = guidance * params + (1 - guidance) * model.raw_params(expected[k : k + 1])
        thresholds = model.likelihood.cdf(raster(params[0])[first], temperature)
        assert (thresholds - uniforms(seed, k, 1, model.subpixels)[0, first]).abs().min() < 1e-4


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize(("name", "shape", "levels"), TINY)
def test_samples_have_the_enumerated_frequencies(name, shape, levels, engine):
    """Chi-square at 1e-6: the chance of a false alarm, were the seed not fixed, for each of the cases."""
    n = 10_000 if engine == "fast" else 2_000
    model = build(name, shape, levels)
    every = every_image(shape, levels)
    labels = None if labels_for(model, 1) is None else torch.full((max(n, len(every)),), 2)
    some = (lambda k: None) if labels is None else (lambda k: labels[:k])
    probabilities = model.log_prob(every, some(len(every))).exp().detach().numpy()
    digits = model.sample(n, labels=some(n), seed=5, engine=engine).flatten(1).numpy().astype(np.int64)
    index = digits @ (levels ** np.arange(digits.shape[1])[::-1])
    counts = np.bincount(index, minlength=len(probabilities))
    assert p_value(counts, probabilities) > 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "shape", "levels"), CASES)
def test_fast_equals_reference(name, shape, levels, dtype):
    """In float64 two sums in another order differ by 1e-15, and so the draws in one of 1e12 cases. Temperatures, which
    come after the network, are tried in float64 alone."""
    model = build(name, shape, levels, dtype)
    labels = labels_for(model, 9)
    guided = labels is not None and model.grouped
    ways = [(9, labels, {"seed": 7})]
    if guided:
        ways.append((9, labels, {"seed": 7, "guidance": 2.5}))
    if dtype == torch.float64:
        ways.append((3, None, {"seed": 7, "temperature": 2.0}))
    expected = [model.sample(n, some, engine="reference", **way) for n, some, way in ways]
    for fast in FAST:
        found = [model.sample(n, some, engine=fast, **way) for n, some, way in ways]
        for (_, some, way), images, right in zip(ways, found, expected, strict=True):
            assert_same_draws(model, images, right, some, **way)
        assert found[0].unique().numel() > 1
        assert not torch.equal(found[0], model.sample(9, labels, seed=8, engine=fast))
        assert not (guided and torch.equal(found[1], found[0]))


def check_batches(model, fast):
    """Bit for bit with the native engine; see `assert_same_draws` for the eager one."""
    labels = labels_for(model, 400)
    some = (lambda k: None) if labels is None else (lambda k: labels[:k])

    def same(found, expected):
        if fast == "native":
            assert torch.equal(found, expected)
        assert_same_draws(model, found, expected, some(len(found)), 9)

    many = model.sample(64, some(64), seed=9, engine=fast)
    same(model.sample(1, some(1), seed=9, engine=fast), many[:1])
    n = engine_of(model, fast).batch(model) + 3
    labels = labels_for(model, n)
    same(model.sample(n, some(n), seed=9, engine=fast)[:64], many[:n])  # more than one batch


@pytest.mark.parametrize(
    ("fast", "dtype"), [("eager", torch.float64), *(("native", dtype) for dtype in DTYPES if "native" in FAST)]
)
@pytest.mark.parametrize(("name", "shape", "levels"), CASES)
def test_image_i_does_not_depend_on_the_batch(name, shape, levels, fast, dtype):
    check_batches(build(name, shape, levels, dtype), fast)


@pytest.mark.parametrize(("name", "shape", "levels"), CASES[::4])
def test_image_i_of_the_eager_engine_in_float32_hardly_depends_on_the_batch(name, shape, levels):
    """The same code as in float64, where not a bit does."""
    check_batches(build(name, shape, levels, torch.float32), "eager")


@pytest.mark.parametrize(("name", "shape", "levels"), CASES[::4])
def test_image_i_of_the_reference_does_not_depend_on_the_batch(name, shape, levels):
    model = build(name, shape, levels)
    many = model.sample(9, seed=9, engine="reference")
    for n in (1, 4):
        assert torch.equal(model.sample(n, seed=9, engine="reference"), many[:n])


@pytest.mark.parametrize("name", EVERY)
def test_steps_end_in_the_sample_and_only_add(name):
    model = build(name, (3, 5, 4), 3)
    labels = labels_for(model, 3)
    canvases = [canvas.clone() for canvas in model.sample_steps(3, labels, seed=1)]
    assert torch.equal(canvases[-1], model.sample(3, labels, seed=1))
    assert all(((later == earlier) | (earlier == 0)).all() for earlier, later in itertools.pairwise(canvases))
    assert not torch.is_inference_mode_enabled()
    stopped = model.sample_steps(3, seed=1)
    next(stopped)
    assert not torch.is_inference_mode_enabled(), "a generator that is held must not change its caller's mode"


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_is_fresh_unless_it_is_given(name):
    """Random numbers of 62 bits are equal in one of 2e18 cases, and images of the model's 512 then and again."""
    model = build(name, (1, 3, 3), 2)
    known = torch.eye(3, dtype=torch.bool)
    images = model.sample(1, seed=0)

    def last(steps):
        return [canvas.clone() for canvas in steps][-1]

    for draw in (
        lambda **given: model.sample(16, **given),
        lambda **given: torch.cat(list(model.sample_stream(16, **given))),
        lambda **given: last(model.sample_steps(16, **given)),
        lambda **given: model.complete(images, known, 16, 32, **given).images[0],
    ):
        torch.manual_seed(5)
        first, second = draw(), draw()
        assert not torch.equal(first, second)
        torch.manual_seed(5)
        assert torch.equal(draw(), first)
        generators = [torch.Generator().manual_seed(7) for _ in range(2)]
        assert torch.equal(draw(generator=generators[0]), draw(generator=generators[1]))
        assert torch.equal(draw(seed=3), draw(seed=3))
        with pytest.raises(ValueError, match="seed must be None if a generator is given, got 3"):
            draw(seed=3, generator=generators[0])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("exact", [False, True])
def test_no_image_is_an_empty_tensor(name, exact):
    model = build(name, (1, 3, 4), 2)
    assert model.sample(0, exact=exact, seed=0).shape == (0, 1, 3, 4)
    assert model.sample(0, exact=exact, seed=0).dtype == torch.uint8
    assert list(model.sample_stream(0, exact=exact, seed=0)) == []
    assert list(model.sample_steps(0, exact=exact, seed=0)) == []


@pytest.mark.parametrize("name", MODELS)
def test_wrong_arguments(name):
    model = build(name, (1, 3, 3), 2)
    for arguments, message in (
        ({"n": -1}, r"n must be an integer in 0\.\.2\*\*63-1, got -1"),
        ({"n": 2.5}, r"n must be an integer in 0\.\.2\*\*63-1, got 2.5"),
        ({"n": 1, "seed": -1}, r"seed must be an integer in 0\.\.2\*\*63-1, got -1"),
        ({"n": 1, "temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"n": 1, "temperature": float("nan")}, "temperature must be positive and finite, got nan"),
        ({"n": 1, "engine": "slow"}, "engine must be one of fast, native, graph, eager, reference, got 'slow'"),
        ({"n": 1, "guidance": 2.0}, r"guidance must be 1 without labels or a condition, got 2\.0"),
        ({"n": 1, "guidance": float("inf")}, "guidance must be finite, got inf"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(**arguments)
