"""The schedule of the fast sampler, and its agreement with the reference at MNIST size."""

import fractions
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn.likelihoods import draw
from pixelcnn.operations import IMAGE, Conv
from pixelcnn.randomness import uniforms
from pixelcnn.sampling import engine_of, why_not_native
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.wavefront import Wavefront
from pixelcnn.scoring import score


def test_the_seed_network_has_slope_4_and_136_steps():
    schedule = schedule_of(pixelcnn.PixelCNN())
    assert (schedule.wavefront.slope, schedule.wavefront.steps, schedule.prelude) == (4, 136, 0)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_a_vertical_stack_is_computed_ahead(layers):
    """The first vertical layer reaches 3 to the right in the row above, each later one 1 further; every one is as
    many columns ahead as the later ones reach."""
    schedule = schedule_of(pixelcnn.GatedPixelCNN((1, 28, 28), filters=4, layers=layers))
    assert schedule.wavefront.slope == 3 + (layers - 1) + 1
    assert schedule.prelude == layers - 1
    assert sorted(set(schedule.leads)) == list(range(layers))


@pytest.mark.parametrize("model", [pixelcnn.PixelCNN((1, 9, 11)), pixelcnn.GatedPixelCNN((1, 9, 31), layers=3)])
def test_everything_is_computed_before_it_is_read_and_no_smaller_slope_would_do(model):
    schedule = schedule_of(model)
    convs = [node for node in schedule.program.nodes if isinstance(node.op, Conv)]
    for node in convs:
        for tap in node.op.layer.taps:
            assert schedule.delay(node, *tap) >= (1 if node.inputs[0] == IMAGE else 0)
    with pytest.raises(ValueError, match=f"slope must be larger for this network, got {schedule.wavefront.slope - 1}"):
        schedule_of(model, schedule.wavefront.slope - 1)
    assert schedule_of(model, schedule.wavefront.slope + 3).wavefront.slope == schedule.wavefront.slope + 3


@pytest.mark.parametrize(("height", "width"), list(itertools.product((1, 2, 5), (1, 3, 4, 5, 9))))
def test_the_wavefront_visits_every_pixel_once_after_its_taps(height, width):
    taps = [(dy, dx) for dy in (-3, -2, -1) for dx in range(-3, 4)] + [(0, -3), (0, -2), (0, -1)]
    inside = [(dy, dx) for dy, dx in taps if -dy < height and dx < width]
    wavefront = Wavefront(height, width, max([0, *(dx // -dy + 1 for dy, dx in inside if dy < 0)]))
    when = {}
    for step in range(wavefront.steps):
        rows = wavefront.rows(step)
        assert len(rows) > 0
        found = list(range(height * width))[wavefront.pixels(step)]
        assert found == [i * width + step - wavefront.slope * i for i in rows]
        when |= dict.fromkeys(found, step)
    assert sorted(when) == list(range(height * width))
    for i, j in itertools.product(range(height), range(width)):
        for dy, dx in taps:
            if 0 <= i + dy < height and 0 <= j + dx < width:
                assert when[(i + dy) * width + j + dx] < when[i * width + j]


@pytest.mark.long
def test_the_shipped_model_draws_the_same_with_both_engines():
    model = pixelcnn.load("mnist-seed")
    assert torch.equal(model.sample(1, seed=0), model.sample(1, seed=0, engine="reference"))


@pytest.mark.slow
@torch.inference_mode()
def test_the_reference_would_draw_the_same_for_200_seeds():
    """Without running it: by causality one full forward of a finished image gives the parameters that the reference
    sees at every one of its steps, to the bit, so if each draw from them is the pixel itself, it draws this image."""
    model = pixelcnn.load("mnist-seed")
    half = model.sample(1, seed=0)
    half[:, :, 14:] = 0
    assert torch.equal(model(half)[:, :, :14], model(model.sample(1, seed=0))[:, :, :14])
    for seed in range(200):
        image = model.sample(1, seed=seed)
        levels = draw(model.likelihood, model(image).flatten(0, 3), uniforms(seed, 0, 1, 784)[0])
        assert torch.equal(levels, image.flatten()), seed


@pytest.mark.long
def test_200_seeds_of_mnist_size():
    """float32. For another order of summation than seen so far the chance of a false alarm is about 1 %; then the
    first sub-pixel that differs has a uniform within 1e-5 of a threshold."""
    model = pixelcnn.load("mnist-seed")
    for seed in range(200):
        assert torch.equal(model.sample(1, seed=seed), model.sample(1, seed=seed, engine="reference")), seed


def test_progress_counts_the_steps(capsys):
    model = pixelcnn.PixelCNN((1, 5, 5), filters=4, blocks=1)
    n = 2 * engine_of(model, "fast").batch(model) + 1
    model.sample(n, progress=True, seed=0)
    shown = capsys.readouterr().err
    assert f"sampling {n}" in shown
    assert "63/63" in shown  # 3 batches of 4 * 4 + 5 steps


LIKELIHOODS = {
    "Bernoulli": lambda: pixelcnn.PixelCNN((1, 3, 4), filters=6, blocks=1),
    "Categorical": lambda: pixelcnn.PixelCNN((2, 2, 3), levels=7, filters=6, blocks=1),
    "LogisticMixture": lambda: pixelcnn.PixelCNNPlusPlus((3, 2, 2), filters=4, blocks=1, mixtures=3),
}


def extreme(name, size):
    """A model in float64 whose raw parameters are of that size."""
    model = LIKELIHOODS[name]().double()
    with torch.no_grad():
        model.output.weight.mul_(size)
        model.output.bias.copy_(size * torch.randn(model.output.bias.shape, dtype=torch.float64))
    return model


@pytest.mark.parametrize("size", [1, 1e30])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_engines_draw_the_same_at_any_temperature(name, size):
    model = extreme(name, size)
    engines = ["eager"] if why_not_native(model) else ["eager", "native"]
    different = set()
    for temperature in (5e-324, 1e-305, 1.0, 1e305):
        expected = model.sample(4, seed=1, temperature=temperature, engine="reference")
        for engine in engines:
            assert torch.equal(model.sample(4, seed=1, temperature=temperature, engine=engine), expected)
        different.add(tuple(expected.flatten().tolist()))
    assert len(different) > 1


@pytest.mark.parametrize("levels", [3, 16, 256])
def test_a_mean_between_two_levels_is_so_for_all_engines(levels):
    """As an untrained mixture has it: a temperature that is low enough magnifies any rounding of where levels meet."""
    model = pixelcnn.PixelCNNPlusPlus((1, 4, 4), levels=levels, filters=4, blocks=1, mixtures=3)
    with torch.no_grad():
        model.output.weight.zero_()
        steps = torch.tensor([levels // 2, 1, levels - 2], dtype=torch.float64)
        model.double().output.bias[3:6] = (2 * steps - 1) / (levels - 1) - 1
    expected = model.sample(20, seed=1, temperature=1e-40, engine="reference")
    for engine in ["eager"] if why_not_native(model) else ["eager", "native"]:
        assert torch.equal(model.sample(20, seed=1, temperature=1e-40, engine=engine), expected)


@pytest.mark.parametrize("field", ["temperature", "guidance"])
def test_a_temperature_is_any_number_and_nothing_else(field):
    model = pixelcnn.GatedPixelCNN((1, 3, 3), filters=4, layers=2, num_classes=2)
    labels = torch.tensor([0, 1])
    expected = model.sample(2, labels, seed=0, **{field: 0.5})
    for value in (fractions.Fraction(1, 2), np.float32(0.5), torch.tensor(0.5)):
        assert torch.equal(model.sample(2, labels, seed=0, **{field: value}), expected)
    for value in ("1", None, [1], torch.ones(2), 10**400):
        with pytest.raises(ValueError, match=f"{field} must be a number, got "):
            model.sample(2, labels, seed=0, **{field: value})


def test_a_guidance_that_would_overflow_is_refused():
    model = pixelcnn.GatedPixelCNN((1, 3, 3), filters=4, layers=2, num_classes=2)
    with pytest.raises(ValueError, match=r"guidance must be in -1e6\.\.1e6, got 1e\+300"):
        model.sample(1, torch.tensor([0]), guidance=1e300, seed=0)


@pytest.mark.parametrize(("name", "number"), list(zip(LIKELIHOODS, (math.inf, math.nan, math.nan), strict=True)))
def test_weights_that_are_not_finite_are_not_used(name, number):
    """Whatever is asked of the model, and although it was used before its weights were changed."""
    model = LIKELIHOODS[name]()
    images = model.sample(2, seed=0)
    known = torch.zeros(model.image_shape, dtype=torch.bool)
    known[:, 0] = True
    uses = {
        **{engine: partial(model.sample, 2, engine=engine) for engine in ("fast", "eager", "reference")},
        "exact": partial(model.sample, 2, exact=True),
        "stream": lambda: list(model.sample_stream(2, seed=0)),
        "steps": lambda: list(model.sample_steps(2, seed=0)),
        **{
            f"complete {engine}": partial(model.complete, images, known, particles=2, engine=engine)
            for engine in ("fast", "eager", "reference")
        },
        "log_prob": partial(model.log_prob, images),
        "forward": partial(model, images),
        "evaluate": partial(pixelcnn.evaluate, model, images),
        "score": partial(score, model, images),
        "compress": partial(pixelcnn.compress, model, images),
    }
    for use in uses.values():
        use()
    with torch.no_grad():
        model.output.bias.fill_(number)
    for use in uses.values():
        with pytest.raises(ValueError, match=r"^output\.bias has values that are not finite$"):
            use()
    with torch.no_grad():
        model.output.bias.zero_()
    for use in uses.values():
        use()


def test_infinite_weights_are_not_used_although_results_are_finite():
    """Behind a ReLU minus infinity is as good as zero."""
    model = LIKELIHOODS["Bernoulli"]()
    images = model.sample(2, seed=0)
    with torch.no_grad():
        model.blocks[0].conv1.bias.fill_(-math.inf)
    for use in (model, model.log_prob, model.log_prob_map, partial(pixelcnn.evaluate, model)):
        with pytest.raises(ValueError, match=r"^blocks\.0\.conv1\.bias has values that are not finite$"):
            use(images)
