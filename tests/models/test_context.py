"""What lets a network see the whole picture: kernels, places and coarse contexts, and the order of drawing."""

import pytest
import torch

import pixelcnn
from pixelcnn.exact import prepare
from pixelcnn.models.context import CoarseContext, FirstLayerTerms
from pixelcnn.models.summary import summary
from pixelcnn.operations import FullView, Position, Upsample
from pixelcnn.sampling import Draw
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.native import NativeSampler, why_not_native
from pixelcnn.sampling.schedule import schedule_of

WHOLE = {"filters": 6, "layers": 2, "kernel_size": 1, "first_kernel": 3}


def seen_by(module, image_shape, row, column, scale):
    """The pixels, bool (H, W), on which the features added at a pixel depend."""
    _, h, w = image_shape
    image = torch.rand(1, h, w, 1, dtype=torch.float64, requires_grad=True)
    view = FullView(image)
    (found,) = module.forward(view)
    features = view(Upsample(cell=scale), found)[0, row, column]
    (gradient,) = torch.autograd.grad(features.sum(), image)
    return gradient[0, ..., 0] != 0


@pytest.mark.parametrize(("scale", "shape"), [(2, (1, 11, 9)), (4, (1, 30, 41)), (3, (1, 20, 20))])
def test_a_context_sees_the_rows_of_cells_above_and_none_of_its_own(scale, shape):
    """Six rows of cells, four cells to both sides; whatever the sides, and the same from each pixel of a cell."""
    torch.manual_seed(0)
    config = pixelcnn.GatedPixelCNNConfig(image_shape=shape, filters=4, context=(scale,))
    context = CoarseContext(config, scale, [(5, 1)], None).double()
    for layer in context.modules():
        if hasattr(layer, "masked_weight"):
            torch.nn.init.constant_(layer.weight, 0.1)  # nothing cancels, and no ReLU is off
    _, h, w = shape
    for row, column in ((0, 0), (scale - 1, w - 1), (scale, 0), (h // 2, w // 2), (h - 1, w - 1)):
        seen = seen_by(context, shape, row, column, scale)
        expected = torch.zeros(h, w, dtype=torch.bool)
        top, left = row // scale, column // scale
        expected[max(0, top - 6) * scale : top * scale, max(0, left - 4) * scale : (left + 5) * scale] = True
        assert torch.equal(seen, expected), (row, column)


@pytest.mark.parametrize("family", [pixelcnn.GatedPixelCNN, pixelcnn.PixelCNNPlusPlus])
def test_options_leave_the_other_initial_weights_alone(family):
    sizes = {"filters": 6} | ({"layers": 3} if family is pixelcnn.GatedPixelCNN else {"blocks": 1})
    plain, more = (
        family((1, 6, 7), levels=4, **sizes, **options, generator=torch.Generator().manual_seed(0)).state_dict()
        for options in ({}, {"places": True, "context": (2,)})
    )
    assert all(torch.equal(more[name], tensor) for name, tensor in plain.items())
    assert {name.split(".")[0] for name in more.keys() - plain.keys()} == {"terms"}


def test_finer_contexts_take_in_what_coarser_ones_add():
    """Where a scale divides the next coarser one; else each goes to the pixels by itself. The sum is the same."""
    torch.manual_seed(0)
    for scales in ((4, 2), (2, 4), (3, 2), (8, 4, 3)):
        config = pixelcnn.GatedPixelCNNConfig(image_shape=(1, 9, 10), filters=4, context=scales)
        terms = FirstLayerTerms(config, ((5, 1), (7, 1)), None).double()
        view = FullView(torch.rand(2, 9, 10, 1, dtype=torch.float64))
        found = terms.forward(view)
        for k, features in enumerate((5, 7)):
            separately = sum(view(Upsample(cell=c.scale), c.forward(view)[k]) for c in terms.contexts)
            assert found[k].shape == (2, 9, 10, features)
            torch.testing.assert_close(found[k], separately)


def test_what_sees_only_rows_above_is_computed_by_rows():
    model = pixelcnn.GatedPixelCNN((1, 8, 9), **WHOLE, places=True, context=(4,), num_classes=3)
    schedule = schedule_of(model, conditional=True)
    assert schedule.wavefront.steps == 72
    assert not any(schedule.leads)
    grids = {schedule.grid(node.target) for node in schedule.program.nodes if isinstance(node.op, Position | Upsample)}
    assert grids == {(2, 3, 4), (8, 9, 1)}
    by_pixel = [node for node in schedule.program.nodes if node.target not in schedule.rows]
    names = {id(module): name for name, module in model.named_modules()}
    layers = [names[id(node.op.layer)] for node in by_pixel if hasattr(node.op, "layer")]
    assert layers == [
        "layers.0.horizontal", "layers.0.skip", "layers.0.residual", "layers.1.horizontal", "layers.1.skip",
        "head", "output",
    ]  # fmt: skip


def test_a_slope_other_than_raster_order_is_refused():
    model = pixelcnn.GatedPixelCNN((1, 8, 9), **WHOLE, context=(2,))
    assert schedule_of(model, 9).wavefront.slope == 9
    with pytest.raises(ValueError, match="slope must be 9, raster order, for a network with a coarse context, got 13"):
        schedule_of(model, 13)


def test_places_alone_keep_the_wavefront():
    plain, placed = (
        schedule_of(pixelcnn.GatedPixelCNN((1, 28, 28), filters=4, layers=10, places=places)).wavefront
        for places in (False, True)
    )
    assert plain == placed


@pytest.mark.parametrize("engine", [NativeSampler, EagerSampler])
def test_a_sampler_draws_the_same_again(engine):
    """Its caches hold what the batch before left there."""
    model = pixelcnn.GatedPixelCNN((1, 9, 7), filters=8, layers=3, places=True, context=(4, 2))
    if engine is NativeSampler and (reason := why_not_native(model)):
        pytest.skip(reason)
    sampler = engine(model, Draw(5))
    drawn = []
    for seed in (3, 4, 3):
        images = torch.zeros(5, 1, 9, 7, dtype=torch.uint8)
        assert sum(sampler.run(images, Draw(5, seed=seed))) == 63
        drawn.append(images)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_kernel": 4}, r"first_kernel must be an odd integer in 3\.\.31, got 4"),
        ({"first_kernel": 33}, r"first_kernel must be an odd integer in 3\.\.31, got 33"),
        ({"kernel_size": 2}, r"kernel_size must hold odd integers in 1\.\.31, got 2"),
        ({"kernel_size": (3, 5)}, r"kernel_size must be one integer or layers - 1 = 3 of them, got \(3, 5\)"),
        ({"kernel_size": (3, 5, -1)}, r"kernel_size must hold odd integers in 1\.\.31, got \(3, 5, -1\)"),
        ({"places": 1}, "places must be True or False, got 1"),
        ({"context": (1,)}, r"context must hold integers in 2\.\.16, got \(1,\)"),
        ({"context": (4, 17)}, r"context must hold integers in 2\.\.16, got \(4, 17\)"),
        ({"context": (4, 4)}, r"context must hold each scale once, got \(4, 4\)"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        pixelcnn.GatedPixelCNN(layers=4, **options)


def test_saved_and_loaded(tmp_path):
    model = pixelcnn.PixelCNNPlusPlus(
        (3, 5, 6), levels=8, filters=4, blocks=1, kernel_size=[3, 5], places=True, context=[2]
    )
    model.save_pretrained(tmp_path / "model")
    loaded = pixelcnn.load(tmp_path / "model")
    assert loaded.config == model.config
    assert (loaded.config.kernel_size, loaded.config.context) == ((3, 5), (2,))
    assert torch.equal(loaded.sample(2, seed=1), model.sample(2, seed=1))


def test_a_model_saved_before_there_were_these_options_keeps_its_identity():
    """The shipped `mnist-seed`, as commit f9710e9 identified it before there were any; so its streams decode."""
    prepared = prepare(pixelcnn.load("mnist-seed"))
    assert prepared.identity == "99e3dc3fb5d9722c55a6465ec196711fe9e995c04df9c2233feb15028d473e4a"


def test_the_summary_of_a_wide_network():
    """Its field is found although its kernels add up many pixels; contexts and places are told beside it."""
    model = pixelcnn.GatedPixelCNN(
        filters=4, layers=3, first_kernel=31, kernel_size=(31, 5), places=True, context=(4, 2)
    )
    text = summary(model)
    assert "pixels in 32 rows above and the own row" in text
    assert "and the picture above, at 1/4 and 1/2 of its resolution" in text
    assert "order: 784 pixels one by one, what sees only rows above a row at a time" in text
