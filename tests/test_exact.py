"""Exact twins: the same bits by any way of computing, causal, as good as the model, and refused where not provable."""

import copy
import fractions

import pytest
import torch
import torch.nn.functional as F

import pixelcnn
from pixelcnn.arithmetic import grid
from pixelcnn.exact import prepare
from pixelcnn.frequencies import TOTAL_BITS
from pixelcnn.operations import Condition, Conv, ExactView
from pixelcnn.scoring import score
from twins import MODELS, built, inputs


class ShuffledView(ExactView):
    """Sums in another order, and one product at a time."""

    def __call__(self, op, *inputs):
        if not isinstance(op, Conv):
            return super().__call__(op, *inputs)
        layer, x, add = op.layer, inputs[0], next(iter(inputs[1:]), None)
        n, h, w, _ = x.shape
        rows, columns = (range(0, side, layer.stride) for side in (h, w))
        y = torch.zeros(n, len(rows), len(columns), layer.out_channels, dtype=torch.float64)
        up, beside = -layer.window.top, max(-layer.window.left, layer.right_of(w), 0)
        padded = F.pad(x, (0, 0, beside, beside, up, 0))
        for dy, dx in reversed(layer.taps):
            for feature in torch.randperm(layer.in_channels).tolist():
                seen = padded[:, [up + dy + i for i in rows]][:, :, [beside + dx + j for j in columns]]
                y += seen[..., feature : feature + 1] * layer.kernel_at(dy, dx)[:, feature]
        y = grid.clamped(y + layer.bias + (0 if add is None else add))
        return y.relu_() if layer.activation == "relu" else y


@pytest.mark.parametrize("name", MODELS)
def test_order_batch_and_threads_do_not_matter(name):
    prepared = prepare(built(name))
    model = prepared.model
    images, labels = inputs(model, 7)
    expected = prepared.cumulative(images, labels)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            one = [
                prepared.cumulative(images[k : k + 1], None if labels is None else labels[k : k + 1]) for k in range(7)
            ]
            assert torch.equal(torch.cat(one), expected)
    finally:
        torch.set_num_threads(threads)
    view = images.permute(0, 2, 3, 1).double() / (model.levels - 1), model.condition_of(labels, 7)
    with torch.no_grad():
        assert torch.equal(model.network(ShuffledView(*view)), model.network(ExactView(*view)))


@pytest.mark.parametrize("name", MODELS)
def test_a_subpixel_depends_on_earlier_ones_alone(name):
    prepared = prepare(built(name))
    model = prepared.model
    images, labels = inputs(model, 1)
    c, h, w = model.image_shape
    before = prepared.cumulative(images, labels).permute(0, 2, 3, 1, 4).reshape(h * w * c, -1)
    changed = 0
    for k in range(h * w * c):
        other = images.permute(0, 2, 3, 1).reshape(1, -1).long()
        other[0, k] = (other[0, k] + 1) % model.levels
        after = prepared.cumulative(other.to(torch.uint8).view(1, h, w, c).permute(0, 3, 1, 2), labels)
        after = after.permute(0, 2, 3, 1, 4).reshape(h * w * c, -1)
        assert torch.equal(after[: k + 1], before[: k + 1])
        changed += int((after != before).any())
    assert changed > h * w * c / 2


@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_the_model_says(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    images, labels = inputs(model, 64)
    bits = prepare(model).bits(images, labels)
    with torch.no_grad():
        floating = -model.log_prob(images, labels).double() / torch.log(torch.tensor(2.0).double())
    assert abs(bits.sum() / floating.sum() - 1) < 1e-3


def test_sums_are_those_of_fractions():
    """The first layer of one pixel, in rational arithmetic."""
    prepared = prepare(built("gated"))
    model = prepared.model
    images, _ = inputs(model, 1)
    layer = model.layers[0].horizontal
    image = images.permute(0, 2, 3, 1).double() / (model.levels - 1)
    view = ExactView(image)
    found = view(Conv(layer), view.image)[0, 4, 5]
    seen = grid.rounded(image)
    for out in range(layer.out_channels):
        total = fractions.Fraction(float(layer.bias[out]))
        for dy, dx in layer.taps:
            if 0 <= 4 + dy < 5 and 0 <= 5 + dx < 6:
                total += fractions.Fraction(float(layer.kernel_at(dy, dx)[out, 0])) * fractions.Fraction(
                    float(seen[0, 4 + dy, 5 + dx, 0])
                )
        assert float(found[out]) == round(total * 4096) / 4096


@pytest.mark.parametrize(("name", "most"), [("mnist-seed", 1e-4), ("mnist", 1e-3), ("mnist-gray", 1e-3)])
def test_the_shipped_models_lose_next_to_nothing(name, most):
    model = pixelcnn.load(name)
    images = pixelcnn.datasets.mnist("test", model.levels)[0][:64]
    labels = (
        pixelcnn.datasets.mnist("test", model.levels)[1][:64] if getattr(model.config, "num_classes", None) else None
    )
    prepared = prepare(model)
    with torch.no_grad():
        floating = -model.log_prob(images, labels).double().sum() / torch.log(torch.tensor(2.0).double())
    assert abs(prepared.bits(images, labels).sum() / floating - 1) < most
    assert prepared.largest < 0.1


def test_identity_is_of_what_is_computed():
    model = built("pixelcnn")
    first = prepare(model).identity
    assert prepare(model.double()).identity == first
    with torch.no_grad():
        model.output.bias[0] = grid.rounded(model.output.bias[0], grid.WEIGHT_BITS)
        assert prepare(model).identity == first
        model.output.bias[0] += 2.0**-grid.WEIGHT_BITS
        assert prepare(model).identity != first
    assert len(first) == 64


def test_large_weights_are_refused():
    model = built("pixelcnn")
    with torch.no_grad():
        model.blocks[1].masked.weight.mul_(1e6)
    with pytest.raises(ValueError, match=r"the weights of blocks\.1\.masked are too large for exact arithmetic"):
        prepare(model)


def test_biases_of_conditions_are_counted():
    layer = torch.nn.Linear(3, 2).requires_grad_(requires_grad=False)
    layer.bias[1] = -(2.0**27)
    assert Condition(layer=layer).bound([])[1] > 2.0**27


def test_large_mixtures_are_refused():
    """Of a thousand distributions most sums depend on their order."""
    prepare(pixelcnn.PixelCNNPlusPlus((1, 2, 2), filters=4, blocks=0, mixtures=64))
    with pytest.raises(ValueError, match="a mixture is exact of at most 64 distributions, got 65"):
        prepare(pixelcnn.PixelCNNPlusPlus((1, 2, 2), filters=4, blocks=0, mixtures=65))


def test_values_that_are_not_finite_are_refused():
    model = built("pixelcnn")
    with torch.no_grad():
        model.output.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"output\.bias has values that are not finite"):
        prepare(model)


def test_frequencies_have_the_stated_total():
    prepared = prepare(built("plusplus"))
    images, labels = inputs(prepared.model, 2)
    assert (prepared.cumulative(images, labels)[..., -1] == 2**TOTAL_BITS).all()


def test_weights_in_bfloat16():
    model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1).bfloat16()
    images = model.sample(3, seed=0, exact=True)
    assert torch.equal(pixelcnn.decompress(model, pixelcnn.compress(model, images)), images)
    assert prepare(model).identity == prepare(copy.deepcopy(model).float()).identity


def test_it_is_evaluated_and_scored():
    """By its own likelihood, also at another size than the model's."""
    prepared = prepare(built("photo"))
    for size in ((4, 5), (5, 3)):
        images = prepared.resized(size).sample(3, seed=0)
        expected = prepared.resized(size).log_prob(images)
        assert pixelcnn.evaluate(prepared, images).nats_per_image == pytest.approx(-expected.mean().item(), rel=1e-12)
        assert torch.equal(score(prepared, images, method="ratio", background=prepared).log_prob, expected)
