"""Attention: against its definition, its place in the schedule, and where its blocks stand."""

import pytest
import torch

import pixelcnn
from pixelcnn.benchmark import multiply_adds
from pixelcnn.layers import MaskedConv2d, PositionTable
from pixelcnn.models.attention import attention_blocks
from pixelcnn.models.summary import receptive_field, summary
from pixelcnn.operations import Attention, Conv, FullView, Gate, Position
from pixelcnn.sampling import why_not_native
from pixelcnn.sampling.program import record
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.training.dropout import DropoutView


def attend_all(query, keys, values, heads, groups, precision=None):
    view = FullView(query, precision=precision)
    return view(Attention(heads=heads, groups=groups), query, keys, values)


def gated(shape=(2, 4, 5), **options):
    options = {"filters": 8, "layers": 4, "attention": 2, "attention_heads": 2, "attention_size": 3} | options
    return pixelcnn.GatedPixelCNN(shape, levels=3, **options, generator=torch.Generator().manual_seed(0))


def features(*sizes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 4, size, dtype=dtype, generator=generator).requires_grad_() for size in sizes]


def by_definition(query, keys, values, heads, groups, rounded=lambda x: x):
    """One pixel, head and colour group at a time."""
    n, h, w, _ = query.shape
    q = rounded(query).reshape(n, h * w, groups, heads, -1)
    k, v = (rounded(x).reshape(n, h * w, heads, -1) for x in (keys, values))
    found = torch.zeros_like(q)
    for p in range(1, h * w):
        for g in range(groups):
            for head in range(heads):
                scores = torch.einsum("nd,npd->np", q[:, p, g, head], k[:, :p, head]) / q.shape[-1] ** 0.5
                found[:, p, g, head] = torch.einsum("np,npd->nd", rounded(scores.softmax(-1)), v[:, :p, head])
    return found.reshape(query.shape)


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (2, 1), (2, 3)])
def test_it_is_what_the_definition_says(heads, groups):
    query, keys, values = features(groups * heads * 5, heads * 5, heads * 5)
    found = attend_all(query, keys, values, heads, groups)
    torch.testing.assert_close(found, by_definition(query, keys, values, heads, groups))
    assert found[:, 0, 0].eq(0).all()
    single = [x.detach().float() for x in (query, keys, values)]
    torch.testing.assert_close(attend_all(*single, heads, groups).double(), found, rtol=1e-4, atol=1e-5)


def test_bf16_rounds_the_operands_of_both_products():
    query, keys, values = (x.detach() for x in features(12, 12, 12, dtype=torch.float32))
    doubles = [x.double() for x in (query, keys, values)]
    expected = by_definition(*doubles, 3, 1, lambda x: x.float().bfloat16().double())
    torch.testing.assert_close(attend_all(query, keys, values, 3, 1, "bf16").double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_not_a_number(dtype, precision):
    """The first pixel has nothing to attend to, and a single pixel is a first one."""
    for shape in ((1, 1), (1, 2), (3, 1)):
        tensors = [torch.full((2, *shape, 6), 30.0, dtype=dtype, requires_grad=True) for _ in range(3)]
        found = attend_all(*tensors, 2, 1, precision)
        assert found.shape == (2, *shape, 6)
        assert found[:, 0, 0].eq(0).all()
        for gradient in torch.autograd.grad(found.sum(), tensors):
            assert gradient.isfinite().all()


def test_gradients():
    assert torch.autograd.gradcheck(lambda *x: attend_all(*x, 2, 2), features(8, 4, 4))


def test_a_place_is_its_row_and_its_column():
    table = PositionTable(3, 4, 5)
    places = FullView(torch.zeros(2, 3, 4, 1))(Position(table=table))
    assert places.shape == (1, 3, 4, 5)
    assert torch.equal(places[0, 2, 1], table.rows[2] + table.columns[1])


def test_mask_all_sees_the_whole_own_pixel():
    layer = MaskedConv2d(7, 5, 1, mask_type="all", groups=(3, 1))
    assert layer.mask.eq(1).all()
    assert layer.seen == [7]


@pytest.mark.parametrize("build", [gated, lambda shape: pixelcnn.PixelCNNPlusPlus(shape, 5, filters=4, attention=2)])
def test_it_forces_raster_order_and_keys_come_a_step_after_their_pixel(build):
    model = build((2, 6, 28))
    schedule = schedule_of(model)
    assert (schedule.wavefront.slope, schedule.wavefront.steps) == (28, 6 * 28)
    attentions = [node for node in schedule.program.nodes if isinstance(node.op, Attention)]
    assert len(attentions) == 2
    assert {schedule.ahead(value, node.target) for node in attentions for value in node.inputs[1:]} == {-1}
    with pytest.raises(ValueError, match="slope must be larger for this network, got 27"):
        schedule_of(model, 27)
    assert schedule_of(model, 30).wavefront.slope == 30


class Above(pixelcnn.GatedPixelCNN):
    """Attends to features that see the rows above only: they are there early, and pixels are drawn two at a time."""

    def network(self, view):
        v = view(Conv(self.layers[0].vertical), view.image)
        found = view(Attention(heads=2), v, v, v)
        return view(Conv(self.output), view(Conv(self.head), view(Gate(), found)))


@pytest.mark.parametrize("engine", ["eager", "fast"])
def test_several_pixels_at_a_time_each_see_their_own_past(engine):
    model = Above((1, 5, 9), levels=3, filters=6, layers=1, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    wavefront = schedule_of(model).wavefront
    assert max(len(wavefront.rows(step)) for step in range(wavefront.steps)) == 2
    assert torch.equal(model.sample(8, engine=engine, seed=0), model.sample(8, engine="reference", seed=0))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (2, 2, 1)])
def test_smallest_images(shape):
    model = gated(shape).double()
    for engine in ("eager", "fast"):
        assert torch.equal(model.sample(5, engine=engine, seed=0), model.sample(5, engine="reference", seed=0))
    model.log_prob(model.sample(2, seed=0)).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_engines_agree_in_bf16():
    model = gated((1, 4, 9), num_classes=3)
    labels = torch.tensor([0, 1, 2, 2, -1])
    for options in ({}, {"labels": labels}, {"labels": labels, "guidance": 1.5}):
        options |= {"seed": 3, "precision": "bf16"}
        assert torch.equal(model.sample(5, engine="eager", **options), model.sample(5, engine="reference", **options))


def test_the_native_engine_knows_it():
    assert why_not_native(gated()) == why_not_native(pixelcnn.PixelCNN())


@pytest.mark.parametrize(("layers", "blocks", "places"), [(10, 1, [5]), (10, 2, [3, 6]), (4, 3, [1, 2, 3]), (7, 0, [])])
def test_blocks_are_spread_evenly(layers, blocks, places):
    config = pixelcnn.GatedPixelCNNConfig(layers=layers, attention=blocks)
    assert list(attention_blocks(config, layers, 8, 1, None)) == places


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": 4}, r"attention must be an integer in 0\.\.3, got 4"),
        ({"attention": -1}, r"attention must be .* got -1"),
        ({"attention": True}, r"attention must be .* got True"),
        ({"attention_heads": 0}, r"attention_heads must be an integer in 1\.\.1024, got 0"),
        ({"attention_size": 2.0}, r"attention_size must be an integer in 1\.\.1024, got 2\.0"),
    ],
)
def test_wrong_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        gated(**options)


def test_plusplus_has_room_for_as_many_as_its_second_stream_has_blocks():
    with pytest.raises(ValueError, match=r"attention must be an integer in 0\.\.2, got 3"):
        pixelcnn.PixelCNNPlusPlus((1, 4, 4), filters=4, blocks=1, attention=3)
    assert len(pixelcnn.PixelCNNPlusPlus((1, 4, 4), filters=4, blocks=1, attention=2).attention) == 2


def test_dropout_reaches_what_attention_finds():
    model = gated((1, 4, 5))
    image = torch.rand(3, 4, 5, 1)
    calls = []

    class Counting(DropoutView):
        def dropout(self, x):
            calls.append(x.shape[-1])
            return super().dropout(x)

    dropped = model.network(Counting(image, rate=0.5, seed=0, step=0, first=0))
    assert calls.count(6) == 2, "heads times features, of two blocks"
    assert not torch.equal(dropped, model.network(FullView(image)))
    kept = model.network(DropoutView(image, rate=0.0, seed=0, step=0, first=0))
    torch.testing.assert_close(kept, model.network(FullView(image)))


def test_info():
    text = summary(gated((1, 6, 7)))
    assert "every pixel before the own one, through attention (2 blocks)" in text
    assert "wavefront: slope 7, 42 steps of sampling, at most one pixel each" in text
    assert torch.equal(receptive_field(gated((1, 6, 7))), receptive_field(gated((1, 6, 7), attention=0)))


def test_multiply_adds_of_attention():
    model = gated((1, 4, 5))
    convolutions = sum(int(layer.mask.sum()) for layer in model.masked_layers) * 20
    pairs = sum(range(20))
    assert multiply_adds(model) == convolutions + 2 * pairs * 2 * (2 * 3)


def test_it_is_recorded_once_a_block():
    assert sum(isinstance(node.op, Attention) for node in record(gated()).nodes) == 2
