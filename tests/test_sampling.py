"""The schedule of the fast sampler, and its agreement with the reference at MNIST size."""

import itertools

import pytest
import torch

import pixelcnn
from pixelcnn.likelihoods import draw
from pixelcnn.randomness import uniforms
from pixelcnn.sampling import engine_of
from pixelcnn.sampling.program import IMAGE, Conv
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.wavefront import Wavefront


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
    convs = [op for op in schedule.program.operations if isinstance(op, Conv)]
    for op in convs:
        for tap in op.layer.taps:
            assert schedule.delay(op, *tap) >= (1 if op.source == IMAGE else 0)
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
    model.sample(n, progress=True)
    shown = capsys.readouterr().err
    assert f"sampling {n}" in shown
    assert "63/63" in shown  # 3 batches of 4 * 4 + 5 steps
