"""Grids of 257 to 65,536 levels, and levels read by learned vectors, through every invariant and every engine."""

import math

import pytest
import torch

import pixelcnn
from pixelcnn.config import TrainConfig
from pixelcnn.likelihoods import LogisticMixture
from pixelcnn.models import MODELS
from pixelcnn.models.summary import layer_rows
from pixelcnn.operations import FullView
from pixelcnn.sampling import why_not_native
from pixelcnn.training.step import Stepper
from streams import engine

SIZES = {
    "PixelCNN": {"filters": 6, "blocks": 1},
    "GatedPixelCNN": {"filters": 6, "layers": 2, "num_classes": 3},
    "PixelCNNPlusPlus": {"filters": 4, "blocks": 1, "mixtures": 2, "num_classes": 3},
    "PhotoPixelCNN": {"filters": 4, "blocks": 1, "mixtures": 2, "first_kernel": 3, "linear_kernel": 3},
}
WHOLE_PICTURE = {"context": (2,), "attention": 1, "attention_heads": 2, "attention_size": 3, "places": True}
CASES = [  # name, shape, levels, embedding, what else
    *((name, (1, 3, 3), 257, 3, {}) for name in SIZES),
    *((name, (2, 2, 3), 512, 0, {}) for name in SIZES),
    *((name, (2, 3, 2), 4096, 2, {}) for name in SIZES),
    *((name, (1, 2, 2), 65_536, 2, {}) for name in SIZES),
    ("PixelCNN", (3, 2, 3), 4, 3, {}),
    ("GatedPixelCNN", (2, 4, 4), 600, 2, WHOLE_PICTURE),
    ("PixelCNNPlusPlus", (2, 4, 4), 65_536, 2, WHOLE_PICTURE),
]
EVERY = [
    pytest.param(*case, id=f"{case[0]}-{'x'.join(map(str, case[1]))}-{case[2]}-{case[3]}{'-whole' * bool(case[4])}")
    for case in CASES
]
ENGINES = ("eager",) if why_not_native(pixelcnn.PixelCNN((1, 2, 2), filters=4)) else ("native", "eager")


def build(name, shape, levels, embedding, options):
    """A model in float64 whose distributions are far from uniform."""
    generator = torch.Generator().manual_seed(1)
    model = MODELS[name](shape, levels, **SIZES[name], **options, embedding=embedding, generator=generator).double()
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.weight.mul_(2)
            layer.bias.add_(torch.randn(layer.bias.shape, generator=generator) * 0.3)
        if name == "PhotoPixelCNN":  # it is made for small differences, and begins sure of its prediction
            model.input.weight.mul_(0.1)
            model.linear.bias.mul_(0.1)
    return model.eval()


def labels_of(model, n):
    return None if model.num_classes is None else torch.arange(n) % model.num_classes


@pytest.mark.filterwarnings("ignore:the effective sample size fell")
@pytest.mark.parametrize(("name", "shape", "levels", "embedding", "options"), EVERY)
def test_engines_draw_the_same_levels(name, shape, levels, embedding, options):
    """From the model, guided and tempered, and from its exact twin; then completion, by the same engines."""
    model = build(name, shape, levels, embedding, options)
    labels = labels_of(model, 3)
    ways = [{}, {"temperature": 0.5}]
    if labels is not None and model.grouped:
        ways.append({"guidance": 2.0})
    for way in ways:
        expected = model.sample(3, labels, seed=4, engine="reference", **way)
        assert expected.dtype == (torch.uint8 if levels <= 256 else torch.int32)
        assert 0 <= expected.min() < expected.max() < levels
        for fast in ENGINES:
            assert torch.equal(model.sample(3, labels, seed=4, engine=fast, **way), expected)
    exact = [model.sample(3, labels, seed=4, engine=each, exact=True) for each in ("reference", *ENGINES)]
    assert all(torch.equal(each, exact[0]) for each in exact)
    known = torch.zeros(shape, dtype=torch.bool)
    known[:, -1, -1] = True
    completed = [
        model.complete(
            exact[0][:1], known, n=2, particles=3, labels=None if labels is None else labels[:1], engine=each, seed=0
        )
        for each in ("reference", *ENGINES)
    ]
    for each in completed:
        assert torch.equal(each.images, completed[0].images)
        torch.testing.assert_close(each.log_evidence, completed[0].log_evidence)


@pytest.mark.parametrize(("name", "shape", "levels", "embedding", "options"), EVERY)
def test_parameters_depend_on_earlier_levels_only(name, shape, levels, embedding, options):
    """Each sub-pixel's are changed by some earlier level, and by no later one; `verify` finds the same."""
    model = build(name, shape, levels, embedding, options)
    labels = labels_of(model, 1)
    images = model.sample(1, labels, seed=2)
    params = model(images, labels).movedim(1, 3).flatten(1, 3)[0].detach()
    seen = set()
    for k in range(model.subpixels):
        changed = images.permute(0, 2, 3, 1).flatten(1).clone()
        changed[0, k] = (changed[0, k] + levels // 2) % levels
        c, h, w = shape
        again = model(changed.view(1, h, w, c).permute(0, 3, 1, 2).contiguous(), labels)
        different = (again.movedim(1, 3).flatten(1, 3)[0].detach() != params).any(-1)
        assert not different[: k + 1].any()
        seen |= set(different.nonzero().flatten().tolist())
    assert len(seen) > model.subpixels // 2
    assert pixelcnn.verify(model).ok


@pytest.mark.parametrize("embedding", [0, 3])
@pytest.mark.parametrize("name", MODELS)
def test_probabilities_of_257_levels_sum_to_one(name, embedding):
    """All 66,049 images of two positions."""
    model = build(name, (1, 1, 2), 257, embedding, {})
    images = torch.cartesian_prod(torch.arange(257), torch.arange(257)).int().view(-1, 1, 1, 2)
    with torch.inference_mode():
        for label in (None,) if model.num_classes is None else (None, 2):
            labels = None if label is None else torch.full((len(images),), label)
            assert abs(torch.logsumexp(model.log_prob(images, labels), 0).exp().item() - 1) < 1e-9


@pytest.mark.parametrize(
    ("name", "levels"), [("PixelCNN", 2048), ("PixelCNNPlusPlus", 2048), ("PixelCNNPlusPlus", 65_536)]
)
def test_every_level_has_its_share(name, levels):
    """The last sub-pixel's probabilities sum to 1, and the exact twin's frequencies to 2^24."""
    model = build(name, (1, 1, 2), levels, 2, {})
    images = torch.zeros(levels, 1, 1, 2, dtype=torch.int32)
    images[:, 0, 0, 1] = torch.arange(levels)
    with torch.inference_mode():
        assert abs(model.log_prob_map(images)[:, 0, 0, 1].exp().sum().item() - 1) < 1e-9
        exact = model.prepared()
        edges = exact.edges(images, None)[:, 0, 0, 1]
        assert edges[0, 0] == 0
        assert edges[-1, 1] == 2**24
        assert torch.equal(edges[1:, 0], edges[:-1, 1])
        assert torch.equal(exact.cumulative(images[:1])[0, 0, 0, 1, :-1], edges[:, 0])


@pytest.mark.parametrize(("name", "shape", "levels", "embedding", "options"), EVERY)
def test_log_probs_and_gradients_in_parts_are_those_of_the_whole(name, shape, levels, embedding, options):
    """Logits of many levels are made for some pixels at a time, and once more in the backward pass."""
    model = build(name, shape, levels, embedding, options)
    labels = labels_of(model, 4)
    images = model.sample(4, labels, seed=3)
    found = model.log_prob_map(images, labels)
    gradients = torch.autograd.grad(found.sum(), list(model.parameters()), allow_unused=True)
    whole = model.likelihood.log_prob(model(images, labels), images)
    torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-9)
    expected = torch.autograd.grad(whole.sum(), list(model.parameters()), allow_unused=True)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other)
    with torch.inference_mode():
        torch.testing.assert_close(model.log_prob_map(images, labels), found.detach(), rtol=1e-9, atol=1e-9)


def test_no_images():
    model = build("GatedPixelCNN", (2, 3, 3), 300, 0, {})
    images = torch.zeros(0, 2, 3, 3, dtype=torch.int32)
    assert model.log_prob(images).shape == (0,)
    assert pixelcnn.exact.prepare(model).log_prob(images).shape == (0,)


@pytest.mark.parametrize(("name", "shape", "levels", "embedding", "options"), EVERY)
def test_streams_restore_the_levels(name, shape, levels, embedding, options):
    """From the same bytes by either engine; a flipped bit is found, and another number of levels refused."""
    model = build(name, shape, levels, embedding, options)
    labels = labels_of(model, 5)
    images = model.sample(5, labels, seed=6)
    images[0] = levels - 1
    data = pixelcnn.compress(model, images, labels)
    assert data[4] == (1 if levels <= 256 else 2)
    assert torch.equal(pixelcnn.decompress(model, data), images)
    with engine("eager"):
        assert pixelcnn.compress(model, images, labels) == data
        assert torch.equal(pixelcnn.decompress(model, data), images)
    damaged = bytearray(data)
    damaged[-3] ^= 4
    with pytest.raises(pixelcnn.codec.StreamError, match="damaged"):
        pixelcnn.decompress(model, bytes(damaged))
    other = build(name, shape, levels - 1, embedding, options)
    with pytest.raises(pixelcnn.codec.StreamError, match="another model"):
        pixelcnn.decompress(other, data)


def test_saved_models_with_an_embedding_are_the_same(tmp_path):
    model = build("GatedPixelCNN", (2, 3, 3), 300, 4, {})
    model.save_pretrained(tmp_path / "model")
    loaded = pixelcnn.load(tmp_path / "model")
    assert loaded.config == model.config
    assert torch.equal(loaded.level_embedding.weight, model.level_embedding.weight)
    assert torch.equal(loaded.sample(2, seed=0), model.sample(2, seed=0))


def test_the_summary_counts_the_embedding():
    model = build("GatedPixelCNN", (2, 3, 3), 300, 4, {})
    first = layer_rows(model)[0]
    assert (first.name, first.channels, first.output, first.parameters) == ("embedding", "300 -> 4", "8x3x3", 2400)
    of_classes = sum(p.numel() for name, p in model.named_parameters() if "condition" in name)  # in no row
    assert sum(row.parameters for row in layer_rows(model)) + of_classes == sum(p.numel() for p in model.parameters())


def test_a_network_without_an_embedding_has_no_trace_of_the_option():
    """Neither in its tensors nor in what its identity is made of."""
    plain = pixelcnn.GatedPixelCNN((1, 4, 4), 5, filters=4, layers=2, generator=torch.Generator().manual_seed(0))
    assert plain.level_embedding is None
    assert not any("embedding" in name for name in plain.state_dict())
    assert "embedding" not in pixelcnn.config.architecture_of(plain.config)
    assert pixelcnn.config.architecture_of(build("GatedPixelCNN", (1, 2, 2), 5, 2, {}).config)["embedding"] == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_the_highest_level_is_read_in_half_precision(name, dtype):
    """Of 65,536: float16 has no 65,535. The mixtures' means and scales are the least precise."""
    model = MODELS[name]((1, 4, 4), 65_536, **SIZES[name], generator=torch.Generator().manual_seed(0))
    images = torch.full((1, 1, 4, 4), 65_535)
    with torch.no_grad():
        expected = model.log_prob(images)
        torch.testing.assert_close(model.to(dtype).log_prob(images), expected, rtol=0.02, atol=0)
        assert float(model.read_channel(images[0, 0], 0).max()) == 1


def test_an_embedding_reads_its_own_channel():
    """Equal levels of two channels are read as different vectors."""
    model = build("PixelCNN", (2, 1, 2), 300, 3, {})
    read = model.read_levels(torch.tensor([[7, 7]]))
    assert read.shape == (1, 6)
    assert not torch.equal(read[0, :3], read[0, 3:])
    assert torch.equal(model.read_channel(torch.tensor([7]), 1)[0], read[0, 3:])


@pytest.mark.parametrize("levels", [64, 512])
def test_an_arbitrary_rule_is_learned(levels):
    """The second column is a function of the first, by a random table: within 0.01 nats of the optimum, ln(levels) / 2
    per code. A network that reads codes as numbers stays 0.6 above it.
    """
    generator = torch.Generator().manual_seed(0)
    rule = torch.randint(levels, (levels,), generator=generator)

    def codes(n):
        first = torch.randint(levels, (n, 1, 8, 1), generator=generator)
        return torch.cat([first, rule[first]], -1).to(torch.uint8 if levels <= 256 else torch.int32)

    steps, rate = 120, 0.01
    model = pixelcnn.PixelCNN((1, 8, 2), levels, filters=64, blocks=0, embedding=16 if levels == 64 else 32)
    stepper = Stepper(model, TrainConfig(model=model.config, learning_rate=rate))
    for k in range(steps):
        stepper.step(codes(levels // 8 + 56), rate * (1 + math.cos(math.pi * k / steps)) / 2)
    with torch.inference_mode():
        nats = -model.log_prob(codes(256)).mean().item() / 16
    assert nats < math.log(levels) / 2 + 0.01


def test_a_narrow_mixture_reaches_a_single_level():
    """Of 65,536: with the smallest scale, the level at the mean has nearly all of the probability, on the grid too."""
    likelihood = LogisticMixture(65_536, 1)
    x = torch.tensor([0, 1, 32_768, 65_534, 65_535])
    means = 2 * x.double() / 65_535 - 1
    params = torch.stack([torch.zeros(5), means, torch.full((5,), -30.0)], -1)
    assert (likelihood.log_prob(params.double(), x) > math.log(0.97)).all()
    weight = torch.ones(5, 1, dtype=torch.float64)
    on_grid = torch.cat([weight, (params[:, 1:2] * 2**16).round() / 2**16, torch.full((5, 1), -13.0)], -1).double()
    above, _ = likelihood.on_grid_at(on_grid, x.clamp(max=65_534))
    below, _ = likelihood.on_grid_at(on_grid, (x - 1).clamp(min=0))
    share = torch.where(x == 65_535, 1.0, above) - torch.where(x == 0, 0.0, below)
    assert (share > 0.8).all()


def test_embeddings_are_trained_where_levels_occur():
    model = build("PixelCNN", (1, 2, 2), 300, 2, {})
    model.log_prob(torch.full((2, 1, 2, 2), 299)).sum().backward()
    assert model.level_embedding.weight.grad[299].ne(0).all()
    assert model.level_embedding.weight.grad[:299].eq(0).all()


def test_the_view_is_given_what_the_network_reads():
    """A network over a view reads vectors as it reads numbers: `view.image` has their features."""
    model = build("PixelCNN", (2, 2, 2), 300, 3, {})
    image = torch.randn(1, 2, 2, 6, dtype=torch.float64).requires_grad_()
    model.network(FullView(image))[0, 1, 1].sum().backward()
    assert image.grad[0, 1, 1, 3:].eq(0).all()  # the last channel of the pixel itself
    assert image.grad[0, :1].ne(0).any()


def test_wrong_levels_are_named():
    model = build("PixelCNN", (1, 2, 2), 300, 2, {})
    images = torch.zeros(3, 1, 2, 2, dtype=torch.int64)
    images[2, 0, 1, 0] = 300
    with pytest.raises(ValueError, match=r"images must hold levels 0\.\.299, got 300 at \[2, 0, 1, 0\]"):
        model.log_prob(images)
    for wrong in (torch.full((1, 1, 2, 2), 1.5), torch.full((1, 1, 2, 2), math.nan, dtype=torch.float64)):
        for method in (model.log_prob, model):
            with pytest.raises(ValueError, match=r"images must be of dtype torch\.int32, got torch\.float"):
                method(wrong)
    for levels in (1, 65_537):
        with pytest.raises(ValueError, match=f"levels must be in 2..65536, got {levels}"):
            pixelcnn.PixelCNN((1, 2, 2), levels)
    with pytest.raises(ValueError, match=r"embedding must be an integer in 0\.\.1024, got -1"):
        pixelcnn.PixelCNN((1, 2, 2), embedding=-1)
