"""The same models, draws and steps on a CUDA device."""

import dataclasses

import pytest
import torch

import pixelcnn
from pixelcnn.config import PRESETS
from pixelcnn.randomness import uniforms
from pixelcnn.training.step import Stepper

pytestmark = pytest.mark.cuda


def small(levels=3, channels=3):
    return pixelcnn.PixelCNN(
        (channels, 6, 9), levels=levels, filters=12, blocks=2, generator=torch.Generator().manual_seed(0)
    ).double()


def test_uniforms_are_the_same_bits():
    assert torch.equal(uniforms(3, 5, 7, 784, "cuda").cpu(), uniforms(3, 5, 7, 784))


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_draws_are_the_same_in_float64(engine):
    model = small()
    expected = model.sample(20, seed=1)
    found = model.cuda().sample(20, seed=1, engine=engine)
    assert found.device.type == "cuda"
    assert torch.equal(found.cpu(), expected)


def test_log_prob_agrees():
    model = pixelcnn.load("mnist")
    images, _ = pixelcnn.datasets.mnist("test")
    with torch.inference_mode():
        expected = model.log_prob(images[:64])
        found = model.cuda().log_prob(images[:64].cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)


def test_a_step_is_the_same_in_float64():
    images = small().sample(8, seed=2)
    weights = []
    for device in ("cpu", "cuda"):
        model = small().to(device)
        stepper = Stepper(model, ema=0.9)
        stepper.step(images.to(device), 1e-3)
        weights.append(model.output.weight.detach().cpu())
    torch.testing.assert_close(weights[1], weights[0])


def test_a_run_trains_and_resumes(tmp_path):
    images, _ = pixelcnn.datasets.mnist("validation")
    config = dataclasses.replace(PRESETS["quick"], device="cuda", schedule="constant", batch_size=64)
    pixelcnn.train(config, images[:1000], images[1000:1200], tmp_path, progress=False)
    longer = dataclasses.replace(config, epochs=2)
    model = pixelcnn.train(longer, images[:1000], images[1000:1200], tmp_path, progress=False)
    assert model.device.type == "cuda"
    assert pixelcnn.load(tmp_path).sample(2).shape == (2, 1, 28, 28)
