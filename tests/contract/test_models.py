"""Every model of the package through every invariant of an exact, causal, normalised image model."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch

import pixelcnn
from pixelcnn.likelihoods import LogisticMixture
from pixelcnn.models import MODELS
from pixelcnn.models.base import load
from pixelcnn.randomness import uniforms
from pixelcnn.sampling import engine_of, why_not_native

SIZES = {  # small enough for thousands of passes
    "PixelCNN": {"filters": 13, "blocks": 2},  # colour groups of unequal size
    "GatedPixelCNN": {"filters": 12, "layers": 3, "num_classes": 4},
    "PixelCNNPlusPlus": {"filters": 5, "blocks": 1, "mixtures": 3, "num_classes": 4},
    "PhotoPixelCNN": {"filters": 5, "blocks": 1, "mixtures": 2, "first_kernel": 5, "linear_kernel": 3},
}
ATTENTION = {"attention": 2, "attention_heads": 2, "attention_size": 3}
FIELDS = {  # what a pixel sees, by option
    "kernels": {"first_kernel": 5, "kernel_size": (5, 3)},
    "places": {"places": True},
    "context": {"context": (4,)},
    "everything": {"first_kernel": 5, "kernel_size": (1, 5), "places": True, "context": (3, 2)} | ATTENTION,
}
WITH_ATTENTION = {
    "GatedPixelCNN with attention": SIZES["GatedPixelCNN"] | ATTENTION,
    "PixelCNNPlusPlus with attention": SIZES["PixelCNNPlusPlus"] | ATTENTION | {"attention_heads": 1},
}
VARIANTS = WITH_ATTENTION | {  # a model's name, and what it is with: through fewer shapes
    f"{name} with {option}": SIZES[name] | fields
    for name in ("GatedPixelCNN", "PixelCNNPlusPlus")
    for option, fields in FIELDS.items()
}
VARIANTS["GatedPixelCNN with narrow kernels"] = SIZES["GatedPixelCNN"] | {"first_kernel": 3, "kernel_size": 1}
EVERY = SIZES | VARIANTS

LEVELS = (2, 3, 256)
CHANNELS = (1, 3)
SHAPES = ((5, 5), (1, 7), (7, 1), (4, 9), (3, 2))
ODD = ((2, 1, (4, 5)), (3, 1, (1, 7)), (256, 1, (7, 1)), (2, 1, (6, 9)), (2, 3, (3, 4)), (3, 3, (1, 4)))
ALWAYS = {2: ((5, 5), (1, 7), (7, 1)), 3: ((3, 2),), 256: ((1, 7), (3, 2)), ("PhotoPixelCNN", 2): ((4, 9),)}
"""Shapes that `make test` goes through for images of so many levels; `make test-long` goes through the others, too."""
CASES = [
    pytest.param(
        *(name, (c, *shape), levels),
        id=f"{name}-{c}x{shape[0]}x{shape[1]}-{levels}",
        marks=[] if always else [pytest.mark.slow if name in VARIANTS else pytest.mark.long],
    )
    for name, levels, c, shape, always in [
        *(
            (*case, shape, shape in ALWAYS.get((case[0], case[1]), ALWAYS[case[1]]))
            for case in itertools.product(SIZES, LEVELS, CHANNELS)
            for shape in SHAPES
        ),
        *((name, *case, case in ODD[::2] or name.endswith("everything")) for name in VARIANTS for case in ODD),
    ]
]
TINY = [
    pytest.param(name, shape, levels, id=f"{name}-{'x'.join(map(str, shape))}-{levels}")
    for name in EVERY
    for shape, levels in (((1, 2, 3), 2), ((3, 1, 2), 2), ((1, 2, 2), 3), ((2, 2, 1), 3), ((1, 1, 1), 7))
    if name in SIZES or levels == 2
]


@pytest.fixture(autouse=True)
def _one_thread():
    """Thousands of tiny operations: sharing each out between threads costs more than it gains."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(name, shape, levels, dtype=torch.float64):
    """A model whose weights are large enough for the probabilities to be far from uniform."""
    generator = torch.Generator().manual_seed(1)
    model = MODELS[name.split()[0]](image_shape=shape, levels=levels, **EVERY[name], generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        for name_of, parameter in model.named_parameters():
            if name_of.startswith("terms.") and "condition" not in name_of:
                parameter.mul_(0.2)
        for layer in model.masked_layers:
            if layer.activation == "relu":
                layer.bias.add_(0.3)  # few are off
            elif name == "PixelCNN":
                layer.weight.mul_(0.3)
        if name == "PhotoPixelCNN":  # it is made for small differences, and begins sure of its prediction
            model.input.weight.mul_(0.1)
            model.linear.bias.mul_(0.2)
            model.linear.weight.mul_(0.2)
    return model.to(dtype).eval()


def labels_for(model, n):
    """A class for each image, or None for a model without classes."""
    classes = getattr(model.config, "num_classes", None)
    return None if classes is None else torch.arange(n) % classes


FAST = ("eager",) if why_not_native(pixelcnn.PixelCNN((1, 2, 2), filters=4)) else ("native", "eager")
"""Each engine that "fast" can stand for; without a C compiler there is only one."""
DTYPES = (torch.float32, torch.float64)


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


def every_image(shape, levels):
    """All images of a shape, uint8 (levels ** subpixels, C, H, W)."""
    values = list(itertools.product(range(levels), repeat=int(np.prod(shape))))
    return torch.tensor(values, dtype=torch.uint8).view(-1, *shape)


def raster(tensor):
    """(C, H, W, ...) with the sub-pixels in the order of drawing, (H * W * C, ...)."""
    return tensor.movedim(0, 2).flatten(0, 2)


@pytest.mark.parametrize(("name", "shape", "levels"), CASES)
def test_jacobian_is_exactly_causal(name, shape, levels):
    model = build(name, shape, levels)
    generator = torch.Generator().manual_seed(2)
    images = (torch.rand(1, *shape, generator=generator) * (levels - 1)).double().requires_grad_()
    params = raster(model(images, labels_for(model, 1))[0])
    projected = (params * torch.randn(params.shape[-1], generator=generator, dtype=torch.float64)).sum(-1)
    seen = []
    for k in range(len(projected)):
        (gradient,) = torch.autograd.grad(projected[k], images, retain_graph=True)
        gradient = raster(gradient[0])
        assert gradient[k:].eq(0).all(), f"sub-pixel {k} depends on itself or a later one"
        seen.append(gradient[:k].ne(0).sum().item())
    assert seen[0] == 0
    blind = seen.count(0)  # the first, and a few whose ReLUs are all off
    assert blind <= 1 + len(seen) // 10, "most sub-pixels see no earlier one: the test above proves nothing"


@pytest.mark.parametrize("name", WITH_ATTENTION)
@pytest.mark.parametrize("shape", [(1, 9, 11), (3, 6, 7)])
def test_attention_sees_every_earlier_pixel(name, shape):
    """The last pixel does, all channels, where the same network without attention sees less."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(1, *shape, generator=generator).double().requires_grad_()

    def seen(name):
        params = build(name, shape, 2)(images)[0, 0, -1, -1].sum()
        (gradient,) = torch.autograd.grad(params, images)
        return gradient[0].ne(0).flatten(1)

    with_attention, without = seen(name), seen(name.split()[0])
    assert with_attention[:, :-1].all()
    assert not with_attention[:, -1].any()
    assert not without[:, :-1].all()


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_without_attention_blocks_it_is_the_network_that_it_was(name):
    """The weights that both have begin with the same values."""
    with_attention, without = (
        MODELS[name.split()[0]](
            (3, 4, 4), 3, **(EVERY[name] | {"attention": blocks}), generator=torch.Generator().manual_seed(0)
        ).state_dict()
        for blocks in (2, 0)
    )
    assert all(torch.equal(with_attention[key], tensor) for key, tensor in without.items())
    assert {key.split(".")[0] for key in with_attention.keys() - without.keys()} == {"attention"}


@pytest.mark.parametrize(("name", "shape", "levels"), TINY)
def test_probabilities_sum_to_one(name, shape, levels):
    model = build(name, shape, levels)
    images = every_image(shape, levels)
    conditions = [None] if labels_for(model, 1) is None else [None, 0, 3]
    totals = set()
    for label in conditions:
        labels = None if label is None else torch.full((len(images),), label)
        log_prob = model.log_prob(images, labels)
        assert abs(torch.logsumexp(log_prob, dim=0).exp().item() - 1) < 1e-9
        totals.add(log_prob[0].item())
    assert len(totals) == len(conditions), "each class has its own distribution"


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

    observed, expected = [0.0], [0.0]
    for k in np.argsort(probabilities):  # the rarest images are pooled until each cell expects at least 5
        if expected[-1] >= 5:
            observed.append(0.0)
            expected.append(0.0)
        observed[-1] += counts[k]
        expected[-1] += probabilities[k] * n
    assert min(expected) >= 5
    assert len(expected) > 1
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-6


@pytest.mark.parametrize(("name", "shape", "levels"), CASES)
def test_log_prob_map_sums_to_log_prob(name, shape, levels, monkeypatch):
    model = build(name, shape, levels, torch.float32)
    images = model.sample(5, seed=3)
    labels = labels_for(model, 5)
    log_prob, log_prob_map = model.log_prob(images, labels), model.log_prob_map(images, labels)
    assert log_prob.shape == (5,)
    assert log_prob.dtype == torch.float32
    assert log_prob_map.shape == images.shape
    assert (log_prob_map <= 0).all()
    torch.testing.assert_close(log_prob_map.sum((1, 2, 3)), log_prob)
    assert build(name, shape, levels).log_prob(images).dtype == torch.float64
    monkeypatch.setattr(type(model), "slice_size", 2)
    with torch.no_grad():  # in slices
        torch.testing.assert_close(model.log_prob(images, labels), log_prob.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "shape", "levels"), CASES)
def test_log_prob_is_what_forward_says(name, shape, levels):
    model = build(name, shape, levels)
    images, labels = model.sample(4, seed=4), labels_for(model, 4)
    params = model(images, labels)
    assert params.shape == (4, *shape, model.likelihood.params)
    if isinstance(model.likelihood, LogisticMixture):
        below = model.likelihood.cdf(params)
        ends = torch.zeros_like(below[..., :1])
        probs = torch.cat([ends, below, ends + 1], -1).diff(dim=-1)
        distribution = torch.distributions.Categorical(probs=probs)
    else:
        logits = torch.cat([torch.zeros_like(params), params], -1) if levels == 2 else params
        distribution = torch.distributions.Categorical(logits=logits)
    expected = distribution.log_prob(images.long())
    torch.testing.assert_close(model.log_prob_map(images, labels).exp(), expected.exp(), rtol=1e-9, atol=1e-12)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "shape", "levels"), CASES[::5])
def test_a_saved_model_is_the_same(name, shape, levels, dtype, tmp_path):
    model = build(name, shape, levels, dtype)
    model.save_pretrained(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not loaded.training
    for (key, tensor), (loaded_key, loaded_tensor) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert key == loaded_key
        assert torch.equal(tensor, loaded_tensor)
        assert tensor.dtype == loaded_tensor.dtype
    assert torch.equal(loaded.sample(2, seed=0), model.sample(2, seed=0))


@pytest.mark.parametrize("name", EVERY)
def test_gradients_reach_every_unmasked_weight_and_no_masked_one(name):
    model = build(name, (3, 5, 6), 4)
    images = model.sample(16, seed=1)
    model.log_prob(images, labels_for(model, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.ne(0).any() for p in model.parameters()), "nothing is left untrained"
    for layer in model.masked_layers:
        assert layer.weight.grad[layer.mask == 0].eq(0).all()
        # some ReLUs are off, and most taps of a coarse context lie outside of so small an image
        assert layer.weight.grad[layer.mask == 1].ne(0).float().mean() > (0.5 if layer.stride == 1 else 0.05)
        assert layer.bias.grad.ne(0).any()


@pytest.mark.parametrize("name", EVERY)
def test_masked_weights_do_not_matter(name):
    """Weights saved by the Keras example can hold masked entries that are not zero."""
    model = build(name, (3, 4, 4), 3)
    images = model.sample(3, seed=1)
    before = model.log_prob(images)
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.weight[layer.mask == 0] = 100.0
    assert torch.equal(model.log_prob(images), before)
    assert torch.equal(model.sample(3, seed=1), images)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 4, 5, dtype=torch.uint8), r"images must have shape \(N, 3, 4, 4\), got \(2, 1, 4, 5\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"images must have shape \(N, 3, 4, 4\), got \(3, 4, 4\)"),
        ("images", r"images must be a torch\.Tensor or an array of numbers, got str"),
        (torch.zeros(2, 3, 4, 4), "images must be of dtype torch.uint8, got torch.float32"),
        (torch.full((2, 3, 4, 4), 3, dtype=torch.uint8), r"images must hold levels 0\.\.2, got 3"),
    ],
)
def test_wrong_images(name, images, message):
    model = build(name, (3, 4, 4), 3, torch.float32)
    for method in (model.log_prob, model.log_prob_map):
        with pytest.raises(ValueError, match=message):
            method(images)


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


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 4]), r"labels must be in 0\.\.3, got 0\.\.4"),
        (torch.tensor([0, -2]), r"labels must be in 0\.\.3, got -2\.\.0"),
        (torch.tensor([0]), r"labels must be torch\.int64 of shape \(2,\), got torch\.int64 \(1,\)"),
        (torch.tensor([0.0, 1.0]), r"labels must be torch\.int64 of shape \(2,\), got torch\.float32 \(2,\)"),
        (["0", "1"], r"labels must be a torch\.Tensor or an array of numbers, got list"),
    ],
)
def test_wrong_labels(name, labels, message):
    model = build(name, (1, 3, 3), 2)
    if labels_for(model, 1) is None:
        message = "labels must be None: the model is unconditional and has no classes"
    images = model.sample(2, seed=0)
    for method in (model, model.log_prob, model.log_prob_map):
        with pytest.raises(ValueError, match=message):
            method(images, labels)
    for method in (model.sample, model.sample_steps):
        with pytest.raises(ValueError, match=message):
            method(2, labels)
