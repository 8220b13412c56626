"""Every family that can be conditional, conditioned on maps, through the invariants of the contract in every engine."""

import itertools

import pytest
import torch

import pixelcnn
from pixelcnn.exact import prepare
from pixelcnn.sampling import why_not_native

GATED, PLUSPLUS, PHOTO = pixelcnn.GatedPixelCNN, pixelcnn.PixelCNNPlusPlus, pixelcnn.PhotoPixelCNN
NARROW = {"filters": 4, "layers": 2, "first_kernel": 3}
CASES = {  # family, shape, size of the map, options
    "numbers": (GATED, (1, 4, 6), (2, 3), NARROW | {"condition_channels": 2}),
    "categories": (GATED, (1, 4, 6), (4, 2), NARROW | {"condition_levels": 5}),
    "both": (GATED, (1, 3, 3), (1, 1), NARROW | {"condition_channels": 1, "condition_levels": 3}),
    "colour, classes": (
        GATED, (3, 4, 4), (2, 2), NARROW | {"filters": 6, "condition_channels": 1, "num_classes": 2},
    ),
    "context": (GATED, (1, 6, 5), (6, 5), NARROW | {"context": (2,), "places": True, "condition_channels": 1}),
    "attention": (GATED, (1, 3, 4), (3, 4), NARROW | {"attention": 1, "condition_channels": 1}),
    "photo": (PHOTO, (3, 4, 4), (2, 2), {"filters": 4, "blocks": 2, "mixtures": 2, "condition_channels": 1}),
    "plusplus": (PLUSPLUS, (2, 4, 4), (2, 2), {"filters": 4, "blocks": 1, "mixtures": 2, "condition_channels": 1}),
}  # fmt: skip
ENGINES = ("eager",) if why_not_native(pixelcnn.PixelCNN((1, 2, 2), filters=4)) else ("native", "eager")


@pytest.fixture(params=CASES)
def case(request):
    """A model in float64, and the labels and the maps of three images, of which the last lacks its map."""
    family, shape, size, options = CASES[request.param]
    generator = torch.Generator().manual_seed(1)
    model = family(shape, levels=3, **options, generator=generator).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    maps = torch.randn(3, model.map_encoder.channels, *size, generator=generator, dtype=torch.float64)
    if categories := options.get("condition_levels"):
        maps[:, -1] = torch.randint(categories, (3, *size), generator=generator).double()
    maps[2] = torch.nan
    return model, torch.tensor([0, -1, 1]) if model.num_classes else None, maps


@pytest.mark.parametrize("guidance", [1.0, 1.7])
def test_all_engines_draw_the_same(case, guidance):
    model, labels, maps = case
    if guidance != 1 and isinstance(model, PLUSPLUS | PHOTO):
        pytest.skip("without logits there is no guidance")
    given = {"labels": labels, "condition": maps, "seed": 3, "guidance": guidance}
    expected = model.sample(3, engine="reference", **given)
    for engine in ENGINES:
        assert torch.equal(model.sample(3, engine=engine, **given), expected), engine
    *_, canvas = model.sample_steps(3, **given)
    assert torch.equal(canvas, expected)
    assert torch.equal(torch.cat(list(model.sample_stream(3, chunk=2, **given))), expected)


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_all_engines_agree_on_the_grid_and_in_completion(case):
    model, labels, maps = case
    if getattr(model.config, "attention", 0):
        pytest.skip("covered by the contract of exact models")
    exact, given = prepare(model), {"labels": labels, "condition": maps, "seed": 2}
    expected = exact.sample(3, engine="reference", **given)
    for engine in ENGINES:
        assert torch.equal(exact.sample(3, engine=engine, **given), expected), engine
    assert (exact.log_prob(expected, labels, condition=maps) < 0).all()
    known = torch.ones(model.image_shape, dtype=torch.bool)
    known[:, 1:3, 1:] = False
    draws = [model.complete(expected, known, 2, 8, engine=engine, **given).images for engine in ("reference", *ENGINES)]
    assert all(torch.equal(draws[0], other) for other in draws[1:])


def test_a_pixel_sees_no_later_pixel_and_some_map(case):
    """A map of zeros is a map, and none is another."""
    model, labels, maps = case
    c, h, w = model.image_shape
    labels = None if labels is None else labels[:1]
    maps = maps[:1]
    images = torch.randint(3, (1, c, h, w)).double().requires_grad_()
    params = model(images, labels, condition=maps)[0].movedim(0, 2).flatten(0, 2)
    for k in range(len(params)):
        (gradient,) = torch.autograd.grad(params[k].sum(), images, retain_graph=True)
        assert gradient[0].movedim(0, 2).flatten()[k:].eq(0).all()
    whole = images.detach().to(torch.uint8)
    zeros, none = torch.zeros_like(maps), torch.full_like(maps, torch.nan)
    unconditional = model.log_prob(whole, labels)
    assert torch.equal(model.log_prob(whole, labels, condition=none), unconditional)
    for given in (zeros, maps):
        assert (model.log_prob(whole, labels, condition=given) - unconditional).abs() > 1e-6


def test_normalised_for_each_map():
    model = GATED((1, 2, 2), levels=3, **NARROW, condition_channels=1).double()
    every = torch.tensor(list(itertools.product(range(3), repeat=4)), dtype=torch.uint8).view(-1, 1, 2, 2)
    for one in (torch.zeros(1, 1, 1, 1), torch.rand(1, 1, 2, 2), torch.full((1, 1, 1, 1), torch.nan)):
        total = model.log_prob(every, condition=one.expand(len(every), -1, -1, -1)).exp().sum()
        assert abs(float(total.detach()) - 1) < 1e-9


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.uint32, torch.bool, torch.float32])
def test_categories_are_integers_of_any_type(dtype):
    model = GATED((1, 4, 4), **NARROW, condition_levels=2)
    maps = torch.tensor([[0, 1], [1, 0]]).view(1, 1, 2, 2)
    images = model.sample(1, condition=maps, seed=0)
    assert torch.equal(model.log_prob(images, condition=maps.to(dtype)), model.log_prob(images, condition=maps))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_many_categories_are_told_apart_in_half_precision(dtype):
    """By every engine, beside classes and numbers: bfloat16 has no 513 and float16 no 4,097."""
    options = NARROW | {"condition_channels": 1, "condition_levels": 5000, "num_classes": 2}
    model = GATED((1, 2, 2), levels=3, **options, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels, maps = torch.tensor([0, 1]), torch.zeros(2, 2, 2, 2)
    maps[0, 1], maps[1, 1] = 513, 4097
    images = model.sample(2, labels, condition=maps, seed=0, engine="reference")
    assert torch.equal(model.sample(2, labels, condition=maps, seed=0, engine="eager"), images)
    expected = model.log_prob(images, labels, condition=maps)
    with torch.no_grad():
        model.map_encoder.embedding[[512, 4096]] += 10
        assert torch.equal(model.log_prob(images, labels, condition=maps), expected)
        model.map_encoder.embedding[[513, 4097]] += 10
        assert (model.log_prob(images, labels, condition=maps) != expected).all()


def test_maps_survive_storage(tmp_path):
    model = GATED((1, 4, 4), **NARROW, condition_channels=1, condition_levels=3)
    maps = torch.cat([torch.rand(2, 1, 2, 2), torch.randint(3, (2, 1, 2, 2)).float()], 1)
    images = model.sample(2, condition=maps, seed=1)
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(pixelcnn.load(tmp_path / "model").sample(2, condition=maps, seed=1), images)


@pytest.mark.parametrize("family", [pixelcnn.GatedPixelCNN, pixelcnn.PixelCNNPlusPlus])
def test_a_vector_of_zeros_is_not_none(family):
    model = family((1, 4, 6), filters=4, condition_dim=3, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(2, 1, 4, 6, dtype=torch.uint8)
    zeros, none = torch.zeros(2, 3), torch.full((2, 3), torch.nan)
    with torch.no_grad():
        given, without, neither = (model.log_prob(images, condition=each) for each in (zeros, none, None))
    assert torch.equal(without, neither)
    assert (given != without).all()


def test_bytes_are_numbers_from_0_to_1():
    model = GATED((1, 4, 4), **NARROW, condition_channels=1)
    maps = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    images = model.sample(1, condition=maps, seed=0)
    assert torch.equal(model.log_prob(images, condition=maps), model.log_prob(images, condition=maps.float() / 255))


BAD = {
    "none for one": (NARROW, torch.zeros(2, 1, 2, 2), "condition must be None.*not conditional"),
    "count": (NARROW | {"condition_channels": 1}, torch.zeros(1, 1, 2, 2), r"\(2, 1, h, w\).*\(1, 1, 2, 2\)"),
    "channels": (NARROW | {"condition_channels": 1}, torch.zeros(2, 3, 2, 2), r"\(2, 1, h, w\).*\(2, 3, 2, 2\)"),
    "sides": (NARROW | {"condition_channels": 1}, torch.zeros(2, 1, 3, 2), r"divide the images' 4 x 6.*\(2, 1, 3, 2\)"),
    "a vector": (NARROW | {"condition_channels": 1}, torch.zeros(2, 4), r"must have shape \(2, 1, h, w\).*\(2, 4\)"),
    "infinity": (NARROW | {"condition_channels": 1}, torch.full((2, 1, 2, 2), torch.inf), "finite.*image 0"),
    "beyond float32": (
        NARROW | {"condition_channels": 1}, torch.full((2, 1, 2, 2), 1e39, dtype=torch.float64), "float32.*image 0"
    ),
    "some NaN": (
        NARROW | {"condition_channels": 1}, torch.tensor([0, 0, 0, 0, 0, torch.nan, 0, 0]).view(2, 1, 2, 2),
        "NaN throughout.*image 1",
    ),
    "category": (NARROW | {"condition_levels": 4}, torch.full((2, 1, 2, 2), 4), r"categories 0\.\.3.*4"),
    "negative": (
        NARROW | {"condition_levels": 4}, torch.tensor([0, 0, 0, -1] * 2).view(2, 1, 2, 2), r"categories 0\.\.3.*-1"
    ),
    "a byte like -1": (
        NARROW | {"condition_levels": 4}, torch.full((2, 1, 2, 2), 255, dtype=torch.uint8), r"categories 0\.\.3.*255"
    ),
    "fraction": (NARROW | {"condition_levels": 4}, torch.full((2, 1, 2, 2), 0.5), r"categories 0\.\.3.*0.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_maps_that_do_not_fit(name):
    options, maps, named = BAD[name]
    model = GATED((1, 4, 6), **options)
    images = torch.zeros(2, 1, 4, 6, dtype=torch.uint8)
    for refused in (
        lambda: model.sample(2, condition=maps, seed=0),
        lambda: model.log_prob(images, condition=maps),
        lambda: model.complete(images, torch.zeros(4, 6, dtype=torch.bool), condition=maps, seed=0),
    ):
        with pytest.raises(ValueError, match=named):
            refused()


def test_a_vector_and_a_map_exclude_each_other():
    with pytest.raises(ValueError, match=r"condition_dim.*exclude each other.*2, 1 and 0"):
        GATED((1, 4, 6), **NARROW, condition_dim=2, condition_channels=1)


@pytest.mark.parametrize("chunk", [None, 2])
def test_the_codec_codes_given_maps(chunk):
    """In fewer bits than without, and only with the same maps back."""
    model = GATED((1, 4, 6), **NARROW, condition_channels=1, num_classes=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    maps, labels = torch.rand(5, 1, 2, 3), torch.arange(5) % 2
    images = model.sample(5, labels, condition=maps, seed=0)
    for given in (None, labels):
        data = pixelcnn.compress(model, images, given, condition=maps, chunk=chunk)
        assert torch.equal(pixelcnn.decompress(model, data, condition=maps), images)
        assert torch.equal(pixelcnn.decompress(model, data, condition=maps, first=3, n=1), images[3:4])
        with pytest.raises(ValueError, match="condition must be given"):
            pixelcnn.decompress(model, data)
        with pytest.raises(ValueError, match=r"is damaged, or the condition is not that of compressing: |digest"):
            pixelcnn.decompress(model, data, condition=maps.flip(0))
    with pytest.raises(ValueError, match="condition must be None"):
        pixelcnn.decompress(model, pixelcnn.compress(model, images), condition=maps)
