"""The same models, draws and steps on a CUDA device."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.config import PRESETS, GatedPixelCNNConfig, TrainConfig
from pixelcnn.models import model_of
from pixelcnn.operations import Conv
from pixelcnn.randomness import uniforms
from pixelcnn.sampling import engine_of
from pixelcnn.sampling.graph import GraphSampler, _captures
from pixelcnn.sampling.reference import ReferenceSampler
from pixelcnn.training.batches import Batches
from pixelcnn.training.resident import ResidentStepper
from pixelcnn.training.step import Stepper
from pixelcnn.training.steppers import steps_of

pytestmark = pytest.mark.cuda


def small(levels=3, channels=3, size=(6, 9)):
    return pixelcnn.PixelCNN(
        (channels, *size), levels=levels, filters=12, blocks=2, generator=torch.Generator().manual_seed(0)
    ).double()


@pytest.fixture(autouse=True)
def _nothing_kept():
    """No capture of an earlier test takes memory."""
    _captures._results.clear()
    torch.cuda.empty_cache()


def first_difference(model, image, other, u):
    """How far the uniform of the first different sub-pixel is from a threshold, in float64 on the CPU."""
    c, _, w = image.shape
    k = int((image != other).permute(1, 2, 0).flatten().nonzero()[0])
    params = model(image[None])[0, k % c, k // c // w, k // c % w]
    return (model.likelihood.cdf(params) - u[k]).abs().min().item()


@torch.inference_mode()
def explained(model, images, others, seed):
    """How many images differ; every one where a uniform lies within 1e-5 of a threshold."""
    exact = copy.deepcopy(model).double()
    u = uniforms(seed, 0, len(images), images[0].numel())
    different = (images != others).flatten(1).any(1).nonzero().flatten().tolist()
    for k in different:
        assert first_difference(exact, images[k], others[k], u[k]) <= 1e-5, k
    return len(different)


def test_uniforms_are_the_same_bits():
    assert torch.equal(uniforms(3, 5, 7, 784, "cuda").cpu(), uniforms(3, 5, 7, 784))


@pytest.mark.parametrize("engine", ["fast", "graph", "eager", "reference"])
def test_draws_are_the_same_in_float64(engine):
    model = small()
    expected = model.sample(20, seed=1)
    found = model.cuda().sample(20, seed=1, engine=engine)
    assert found.device.type == "cuda"
    assert torch.equal(found.cpu(), expected)


def test_log_prob_agrees():
    model = pixelcnn.load("mnist-seed")
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
        stepper = Stepper(model, TrainConfig(ema=0.9))
        stepper.step(images.to(device), 1e-3)
        weights.append(model.output.weight.detach().cpu())
    torch.testing.assert_close(weights[1], weights[0])


RECIPE = TrainConfig(
    model=GatedPixelCNNConfig(image_shape=(1, 6, 7), filters=8, layers=3, num_classes=3), batch_size=8,
    clip_norm=0.05, weight_decay=0.1, dropout=0.3, shift=2, accumulate=2, ema=0.9,
)  # fmt: skip


@pytest.mark.parametrize("bf16", [False, True])
def test_resident_steps_are_the_steppers(bf16):
    """Compiled and captured, with every option of a recipe: two epochs of 21 images, the last batch smaller."""
    images = torch.randint(0, 2, (21, 1, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(21) % 3
    told = []
    for compiled in (None, False, True):
        model = model_of(RECIPE.model, generator=torch.Generator().manual_seed(0))
        if compiled is None:
            batches = Batches(RECIPE, model, images, labels)
            stepper = Stepper(model, RECIPE)
        else:
            batches = Batches(RECIPE, model.cuda(), images, labels)
            assert batches.resident
            stepper = ResidentStepper(model, RECIPE, batches, bf16=bf16, compiled=compiled)
        results = [r for epoch in range(2) for r in steps_of(stepper, batches, epoch, 0, 3, lambda step: 1e-2)]
        told.append(([r.nats for r in results], [r.gradient_norm for r in results], stepper.tensors()))
    initial = model_of(RECIPE.model, generator=torch.Generator().manual_seed(0)).state_dict()
    for nats, norms, tensors in told[1:]:
        assert nats == pytest.approx(told[0][0], rel=5e-3 if bf16 else 1e-4)
        assert norms == pytest.approx(told[0][1], rel=5e-2 if bf16 else 1e-3)
        for kind in ("model.", "adam.exp_avg.", "adam.exp_avg_sq.", "ema."):
            names = [name for name in tensors if name.startswith(kind)]
            moved, expected = (
                torch.cat(
                    [
                        (
                            of[name].cpu() - (initial[name.removeprefix(kind)] if kind in ("model.", "ema.") else 0)
                        ).flatten()
                        for name in names
                    ]
                )
                for of in (tensors, told[0][2])
            )
            assert (moved - expected).norm() < (0.2 if bf16 else 1e-2) * expected.norm(), kind


def test_a_run_trains_and_resumes(tmp_path):
    images, _ = pixelcnn.datasets.mnist("validation")
    config = dataclasses.replace(PRESETS["quick"], device="cuda", schedule="constant", batch_size=64)
    pixelcnn.train(config, images[:1000], images[1000:1200], tmp_path, progress=False)
    longer = dataclasses.replace(config, epochs=2)
    model = pixelcnn.train(longer, images[:1000], images[1000:1200], tmp_path, progress=False)
    assert model.device.type == "cuda"
    assert pixelcnn.load(tmp_path).sample(2, seed=0).shape == (2, 1, 28, 28)


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize(
    ("shape", "levels"),
    [((1, 6, 9), 2), ((3, 6, 9), 3), ((1, 1, 7), 5), ((2, 7, 1), 2), ((1, 12, 40), 2), ((1, 3, 4), 256)],
)
def test_draws_are_explained_in_float32(engine, shape, levels):
    """Fronts of more rows than a tile, odd features, many levels; numbers of images for every tile."""
    model = small(levels, shape[0], shape[1:]).float()
    expected = model.sample(300, seed=1)
    on_gpu = copy.deepcopy(model).cuda()
    for n in (1, 7, 300):
        found = on_gpu.sample(n, seed=1, engine=engine).cpu()
        assert explained(model, expected[:n], found, seed=1) <= 1


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_digits_are_explained(engine):
    """Of the shipped model, more than a batch: about one in ten to a hundred thousand differs."""
    model = pixelcnn.load("mnist-seed")
    n = 300
    expected = model.sample(n, seed=5)
    found = copy.deepcopy(model).cuda().sample(n, seed=5, engine=engine).cpu()
    assert explained(model, expected, found, seed=5) <= 3


def test_sums_and_a_network_that_cannot_be_recorded():
    class Plain(pixelcnn.PixelCNN):
        def network(self, view):
            h = view(Conv(self.input), view.image)
            a = self.blocks[0].forward(h, view)
            return view(Conv(self.output), (a + h) + h)

    class Foreign(pixelcnn.PixelCNN):
        def network(self, view):
            return view(Conv(self.output), torch.tanh(view(Conv(self.input), view.image)))

    for cls, sampler in ((Plain, GraphSampler), (Foreign, ReferenceSampler)):
        model = cls((1, 5, 6), filters=8, blocks=1)
        expected = model.sample(20, seed=2)
        on_gpu = copy.deepcopy(model).cuda()
        assert engine_of(on_gpu, "fast") is sampler
        assert explained(model, expected, on_gpu.sample(20, seed=2).cpu(), seed=2) <= 1


def test_fast_is_graph():
    model = small().cuda()
    assert (
        engine_of(model, "fast") is engine_of(model.float(), "fast") is engine_of(model, "fast", "bf16") is GraphSampler
    )


def gated(shape, classes):
    return pixelcnn.GatedPixelCNN(
        shape, levels=3, filters=12, layers=3, num_classes=classes, generator=torch.Generator().manual_seed(0)
    )  # fmt: skip


def attentive(shape, classes):
    generator = torch.Generator().manual_seed(0)
    return pixelcnn.GatedPixelCNN(
        shape, levels=3, filters=12, layers=3, attention=2, num_classes=classes, generator=generator
    )  # fmt: skip


def plusplus(shape, classes):
    generator = torch.Generator().manual_seed(0)
    return pixelcnn.PixelCNNPlusPlus(shape, 9, 8, blocks=1, mixtures=3, num_classes=classes, generator=generator)


@pytest.mark.parametrize("engine", ["fast", "graph", "eager", "reference"])
@pytest.mark.parametrize("build", [gated, plusplus, attentive])
@pytest.mark.parametrize("shape", [(1, 6, 9), (3, 5, 4)])
def test_values_ahead_conditions_and_guidance_are_the_same_in_float64(build, shape, engine):
    """Labels, their number and the guidance change between batches of one capture."""
    model = build(shape, 5).double()
    on_gpu = copy.deepcopy(model).cuda()
    assert engine_of(on_gpu, "fast") is GraphSampler
    for n, shift, guidance in ((20, 0, 1.0), (17, 1, 1.0), (20, 0, 2.0), (20, 0, 0.5)):
        if guidance != 1 and build is plusplus:
            continue  # mixtures have no guidance
        options = {"labels": (torch.arange(n) + shift) % 6 - 1, "guidance": guidance, "seed": 1}
        found = on_gpu.sample(n, engine=engine, **options)
        assert torch.equal(found.cpu(), model.sample(n, **options))
    found = on_gpu.sample(20, seed=1, engine=engine)
    assert torch.equal(found.cpu(), model.sample(20, seed=1)), "unconditional"


@pytest.mark.parametrize("build", [gated, plusplus])
def test_bf16_of_conditions(build):
    """The CPU's by definition, up to sums on the other side of a rounding."""
    model = build((1, 6, 9), 5)
    labels = torch.arange(100) % 5
    expected = model.sample(100, labels, seed=6, precision="bf16")
    on_gpu = copy.deepcopy(model).cuda()
    for engine in ("graph", "eager", "reference"):
        found = on_gpu.sample(100, labels, seed=6, precision="bf16", engine=engine).cpu()
        assert (found != expected).flatten(1).any(1).float().mean() < 0.1
    with torch.inference_mode():
        nats = on_gpu.log_prob(expected.cuda(), labels, precision="bf16").cpu()
    torch.testing.assert_close(nats, model.log_prob(expected, labels, precision="bf16").detach(), rtol=0, atol=0.1)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_changed_weights_are_seen(engine):
    model = small(channels=1).float().cuda()
    before = model.sample(40, seed=3, engine=engine)
    assert torch.equal(model.sample(40, seed=3, engine=engine), before)
    model.output.bias.data += torch.linspace(-3, 3, len(model.output.bias), device="cuda")
    after = model.sample(40, seed=3, engine=engine)
    assert not torch.equal(after, before)
    model.cpu()
    assert explained(model, model.sample(40, seed=3), after.cpu(), seed=3) <= 1
    assert torch.equal(model.cuda().sample(40, seed=3, engine=engine), after), "the same weights at other addresses"


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_bf16(engine):
    """The CPU's by definition; a sum on the other side of a rounding is not as rare as in float32."""
    model = pixelcnn.load("mnist-seed")
    expected = model.sample(200, seed=6, precision="bf16")
    on_gpu = copy.deepcopy(model).cuda()
    found = on_gpu.sample(200, seed=6, precision="bf16", engine=engine)
    assert (found.cpu() != expected).flatten(1).any(1).float().mean() < 0.1
    assert torch.equal(on_gpu.sample(200, seed=6, precision="bf16", engine=engine), found)
    with torch.inference_mode():
        nats = on_gpu.log_prob(found, precision="bf16").cpu()
        torch.testing.assert_close(nats, model.log_prob(found.cpu(), precision="bf16"), rtol=0, atol=0.5)


@pytest.mark.parametrize("engine", ["fast", "graph", "eager", "reference"])
def test_settings_come_back(engine):
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "tf32"
        model = small().float().cuda()
        model.sample(3, engine=engine, seed=0)
        model.sample(3, engine=engine, precision="bf16", seed=0)
        assert [setting.fp32_precision for setting in settings] == ["tf32", "tf32"]
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_memory_does_not_grow_with_the_images(engine, precision):
    model = pixelcnn.load("mnist-seed").cuda()
    n = engine_of(model, engine).batch(model)
    peaks = []
    for images in (n, 5 * n + 1):
        torch.cuda.reset_peak_memory_stats()
        model.sample(images, engine=engine, precision=precision, seed=0)
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < 2**30
    assert peaks[1] - peaks[0] < 2**28 + 5 * n * 784, "the images themselves, and a capture for the rest"


def test_steps_end_in_the_sample():
    model = small()
    expected = model.sample(3, seed=1)
    canvases = [canvas.cpu().clone() for canvas in model.cuda().sample_steps(3, seed=1)]
    assert torch.equal(canvases[-1], expected)
    assert len(canvases) > 10


@pytest.mark.parametrize("engine", ["fast", "graph"])
def test_the_command(tmp_path, engine):
    command = [
        "sample",
        "mnist-seed",
        "-n",
        "4",
        "--out",
        str(tmp_path / "a.png"),
        "--device",
        "cuda",
        "--engine",
        engine,
    ]
    assert main(command) == 0
    assert main(["sample", "mnist-seed", "-n", "4", "--out", str(tmp_path / "b.png"), "--device", "cpu"]) == 0
    a, b = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert (a == b).mean() > 0.99
