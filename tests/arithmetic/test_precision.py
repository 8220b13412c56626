"""bf16: its definition, and one likelihood for what is drawn by it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pixelcnn
from pixelcnn.arithmetic import Arithmetic
from pixelcnn.arithmetic.precision import exact_products
from pixelcnn.cli import main
from pixelcnn.layers import MaskedConv2d
from pixelcnn.operations import Condition, Conv, FullView
from pixelcnn.sampling import Draw, blank
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.shards import write_shards


def small(shape=(2, 5, 6), levels=3, **sizes):
    generator = torch.Generator().manual_seed(0)
    model = pixelcnn.PixelCNN(shape, levels=levels, **({"filters": 12, "blocks": 2} | sizes), generator=generator)
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.bias.add_(torch.randn(layer.bias.shape, generator=generator) * 0.1)
    return model


def test_operands_are_rounded_and_nothing_else():
    """Against the definition, in float64: products of numbers of 8 bits."""
    layer = MaskedConv2d(3, 4, 3, mask_type="B", activation="none")
    x = torch.randn(2, 5, 6, 3)
    layer.bias.data = torch.randn(4)
    weight, operand = (tensor.bfloat16().double() for tensor in (layer.weight.detach() * layer.mask, x))
    expected = F.conv2d(operand.permute(0, 3, 1, 2), weight, layer.bias.detach().double(), padding=1).permute(
        0, 2, 3, 1
    )
    found = FullView(x, precision="bf16")(Conv(layer), x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    assert not torch.equal(found, FullView(x)(Conv(layer), x))
    assert torch.equal(Arithmetic().operand(x), x)


@pytest.mark.parametrize("shape", [(1, 4, 9), (3, 3, 4), (1, 1, 7), (2, 5, 1)])
def test_engines_agree(shape):
    """A sum in another order, on the other side of a rounding, is rare: here none of a few images shows it."""
    model = small(shape)
    expected = model.sample(6, seed=3, engine="reference", precision="bf16")
    for engine in ("eager", "fast"):
        assert torch.equal(model.sample(6, seed=3, engine=engine, precision="bf16"), expected)
    assert torch.equal(model.sample(6, seed=3, precision="float32"), model.sample(6, seed=3))


def test_conditions_are_operands_too():
    """A vector and the weights that read it, rounded in the same way whole and at the front."""
    torch.manual_seed(0)
    model = pixelcnn.GatedPixelCNN((1, 3, 4), filters=6, layers=2, condition_dim=5)
    draw = Draw(4, torch.randn(4, 5), precision="bf16")
    condition = draw.given(model)
    (*_, layer) = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    expected = condition.bfloat16().double() @ layer.weight.detach().bfloat16().double().T
    found = FullView(torch.zeros(4, 3, 4, 1), condition, "bf16")(Condition(layer=layer))[:, 0, 0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    sampler = EagerSampler(model, draw)
    next(sampler.run(blank(model, 4), draw))
    front = sampler._walks[0]._front
    (at_front,) = (values for op, values in front._conditions.values() if op.layer is layer)
    torch.testing.assert_close(at_front.double(), expected, rtol=1e-6, atol=1e-6)


CONDITIONAL = {
    "gated": lambda shape: pixelcnn.GatedPixelCNN(shape, levels=3, filters=6, layers=3, num_classes=4),
    "plusplus": lambda shape: pixelcnn.PixelCNNPlusPlus(shape, 5, filters=6, blocks=1, mixtures=2, num_classes=4),
}


@pytest.mark.parametrize("name", CONDITIONAL)
@pytest.mark.parametrize("shape", [(1, 4, 9), (3, 3, 4)])
def test_engines_agree_on_values_that_are_ahead_and_on_conditions(name, shape):
    torch.manual_seed(1)
    model = CONDITIONAL[name](shape)
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.weight.mul_(2)
            layer.bias.add_(torch.randn(layer.bias.shape) * 0.1)
    labels = torch.tensor([0, 3, 1, -1, 2, 2])
    for options in ({}, {"labels": labels}, {"labels": labels, "guidance": 1.5 if name == "gated" else 1.0}):
        options |= {"seed": 3, "precision": "bf16"}
        expected = model.sample(6, engine="reference", **options)
        assert torch.equal(model.sample(6, engine="eager", **options), expected)
        (*_, last) = model.sample_steps(6, **options)
        assert torch.equal(last, expected)
    rounded = model(expected, labels, precision="bf16")
    assert not torch.equal(rounded, model(expected, labels))
    torch.testing.assert_close(rounded, model(expected, labels), rtol=0.2, atol=0.2)


def test_it_is_a_model_of_its_own():
    model = small((1, 2, 3), levels=2)
    images = torch.tensor([[(k >> b) & 1 for b in range(6)] for k in range(64)], dtype=torch.uint8).view(64, 1, 2, 3)
    log_prob = model.log_prob(images, precision="bf16").double()
    assert abs(log_prob.logsumexp(0).item()) < 1e-5, "its probabilities sum to one"
    assert not torch.equal(log_prob.float(), model.log_prob(images))
    torch.testing.assert_close(log_prob.float(), model.log_prob(images), rtol=0, atol=0.05)
    assert torch.equal(model.log_prob_map(images, precision="bf16").flatten(1).sum(1), log_prob.float())


def test_gradients_pass_the_rounding():
    model = small((1, 3, 4))
    model.log_prob(model.sample(4, seed=0), precision="bf16").sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in model.masked_layers)


@pytest.mark.parametrize("method", ["sample", "log_prob", "forward"])
def test_wrong_precisions(method):
    argument = 1 if method == "sample" else torch.zeros(1, 2, 5, 6, dtype=torch.uint8)
    with pytest.raises(ValueError, match="precision must be float32, bf16 or None, got 'tf32'"):
        getattr(small(), method)(argument, precision="tf32")
    for precision in ("bf16", "float32"):
        with pytest.raises(ValueError, match=r"precision must be None for a model in torch\.float64, got '"):
            getattr(small().double(), method)(argument, precision=precision)


def test_shards_of_it_are_not_mixed_with_others(tmp_path):
    model = small()
    for options in ({}, {"engine": "eager"}):
        write_shards(model, 5, tmp_path, seed=2, precision="bf16", **options)
        found = torch.from_numpy(np.load(tmp_path / "images-000000000.npy"))
        assert torch.equal(found, model.sample(5, seed=2, precision="bf16"))
    with pytest.raises(ValueError, match="holds samples with precision = 'bf16', not None"):
        write_shards(model, 6, tmp_path, seed=2)


def test_the_command_draws_in_it(tmp_path):
    small((1, 5, 6), levels=2).save_pretrained(tmp_path / "model")
    command = ["sample", str(tmp_path / "model"), "-n", "3", "--device", "cpu", "--precision", "bf16"]
    for out in ("grid.png", "shards", "growing.gif"):
        assert main([*command, "--out", str(tmp_path / out), *(["--steps"] if out.endswith("gif") else [])]) == 0
    found = torch.from_numpy(np.load(tmp_path / "shards" / "images-000000000.npy"))
    assert torch.equal(found, pixelcnn.load(tmp_path / "model").sample(3, precision="bf16", seed=0))
    assert main([*command, "--out", str(tmp_path / "b.png"), "--engine", "native"]) == 2


def test_the_native_engine_refuses_it():
    with pytest.raises(ValueError, match=r"engine 'native' cannot run this model here: .*not in bf16"):
        small().sample(1, engine="native", precision="bf16", seed=0)


@pytest.mark.parametrize("before", ["none", "tf32", "ieee"])
def test_settings_come_back(before):
    """They can be set without a GPU."""
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    saved = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = before
        for precision, inside in ((None, "ieee"), ("bf16", "tf32")):
            with exact_products(precision, torch.device("cuda")):
                assert [setting.fp32_precision for setting in settings] == [inside] * 2
            assert [setting.fp32_precision for setting in settings] == [before] * 2
    finally:
        for setting, value in zip(settings, saved, strict=True):
            setting.fp32_precision = value
