"""Verification: every seeded fault is found and named, and correct networks pass, ours and others."""

import json

import pytest
import torch

import faulty
import pixelcnn
from pixelcnn.cli import main


@pytest.fixture(autouse=True)
def _seeded():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # hundreds of tiny operations
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def checks(report):
    return {check.name: check for check in report.checks}


def mixture():
    """Six outputs per pixel: two distributions' weights, means and scales."""
    return torch.nn.Sequential(faulty.Masked("A", 1, 8, 3), torch.nn.Tanh(), torch.nn.Conv2d(8, 6, 1))


FAULTS = {
    "mask B first": (lambda f: faulty.Network(fault=f), "causal", "depends on itself"),
    "transposed mask": (lambda f: faulty.Network(fault=f), "causal", "(1, -1)"),
    "batch normalisation": (lambda f: faulty.Network(fault=f), "batch", "norm (BatchNorm2d)"),
    "look-ahead by padding": (faulty.Stacks, "causal", "(0, 0), (0, 1)"),
    "channel order": (lambda f: faulty.Network((3, 3, 3), 4, f), "causal", "(0, 0, 1)"),
    "unmasked after a step": (lambda f: faulty.Network(fault=f), "trained", "after a step of training"),
    "off-by-one shift": (faulty.Stacks, "causal", "offsets (rows, columns) of (0, 0) "),
    "unnormalised mixture": (lambda f: mixture(), "normalised", "256 levels"),
    "clamp at level 255": (lambda f: mixture(), "normalised", "sum to 0."),
    "dropout left on": (lambda f: faulty.Network(fault=f), "repeatable", "random numbers in eval()"),
}


def verified(module, fault=None):
    shape, levels = getattr(module, "shape", (1, 6, 6)), getattr(module, "levels", 2)
    if isinstance(module, torch.nn.Sequential):
        read = faulty.logistic_mixture(fault)
        return pixelcnn.verify(module.eval(), (1, 2, 2), 256, scale=lambda x: x / 127.5 - 1, log_prob=read)
    return pixelcnn.verify(module.eval(), shape, levels)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_named(fault):
    build, check, phrase = FAULTS[fault]
    report = verified(build(fault), fault)
    assert not report.ok
    assert check in report.failed
    assert phrase in checks(report)[check].message


@pytest.mark.parametrize(
    "build",
    [
        faulty.Network,
        lambda: faulty.Network((3, 3, 3), 4),
        faulty.Stacks,
        mixture,
    ],
)
def test_a_correct_network_of_others_passes(build):
    report = verified(build())
    assert report.ok, report


def test_a_network_without_gradients_is_tested_by_changes():
    options = {"image_shape": (1, 3, 4), "levels": 3, "scale": lambda images: images.long()}
    right = pixelcnn.verify(faulty.Embedded().eval(), **options)
    assert right.ok, right
    assert "changed images" in checks(right)["causal"].message
    assert "causal" in pixelcnn.verify(faulty.Embedded("B").eval(), **options).failed


def test_derivatives_that_are_not_finite_hide_no_fault():
    """The square root's is infinite at 0: the fault is found by changes of the image, and where there is none, none."""

    class Root(faulty.Network):
        def forward(self, x):
            return super().forward(x.sqrt())

    assert "causal" in pixelcnn.verify(Root(fault="mask B first").eval(), (1, 4, 4), 2).failed
    report = pixelcnn.verify(Root().eval(), (1, 4, 4), 2)
    assert report.ok, report


def test_every_level_of_an_odd_number_is_changed():
    """The middle one of three too, which is not changed by exchanging the lowest and the highest."""

    class First(faulty.Embedded):
        def forward(self, x):
            outputs = super().forward(x).clone()
            outputs[:, :, 0, 0] += self.table(x[:, 0, -1, -1])[:, :3]
            return outputs

    images = torch.ones(2, 1, 3, 4, dtype=torch.int64)
    report = pixelcnn.verify(First().eval(), (1, 3, 4), 3, scale=lambda x: x.long(), images=images)
    assert "causal" in report.failed


def test_dropout_within_attention_and_recurrent_layers_is_off_as_well():
    class Causal(torch.nn.Module):
        def __init__(self, attention):
            super().__init__()
            self.input, self.output = torch.nn.Linear(1, 8), torch.nn.Linear(8, 1)
            if attention:
                self.layer = torch.nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
            else:
                self.layer = torch.nn.LSTM(8, 8, 2, dropout=0.5, batch_first=True)

        def forward(self, x):
            y = self.input(torch.nn.functional.pad(x.flatten(1)[:, :-1], (1, 0)).unsqueeze(-1))
            later = torch.ones(y.shape[1], y.shape[1], dtype=torch.bool).triu(1)
            attends = isinstance(self.layer, torch.nn.MultiheadAttention)
            y, _ = self.layer(y, y, y, attn_mask=later) if attends else self.layer(y)
            return self.output(y).view_as(x)

    for attention in (True, False):
        module = Causal(attention).eval()
        report = pixelcnn.verify(module, (1, 3, 3), 2)
        assert report.ok, report
        assert module.layer.dropout == 0.5


def test_outputs_may_be_several_tensors():
    class Pair(faulty.Network):
        def forward(self, x):
            logits = super().forward(x)
            return torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)

    def log_prob(outputs, images):
        return torch.where(images == 1, *outputs)

    report = pixelcnn.verify(Pair().eval(), (1, 3, 3), 2, log_prob=log_prob)
    assert report.ok, report


@torch.inference_mode()
def test_inference_mode_does_not_matter():
    report = pixelcnn.verify(pixelcnn.PixelCNN((1, 3, 3), filters=4, blocks=1))
    assert "Jacobian" in checks(report)["causal"].message
    assert checks(report)["trained"].ok


def test_dropout_in_training_mode_is_no_fault_in_evaluation():
    module = torch.nn.Sequential(faulty.Network(), torch.nn.Dropout(0.5))
    assert pixelcnn.verify(module.eval(), (1, 3, 3), 2).ok
    report = pixelcnn.verify(module.train(), (1, 3, 3), 2)
    assert report.failed == ("repeatable",)
    assert "call eval()" in checks(report)["repeatable"].message
    assert module.training


@pytest.mark.parametrize(
    "build",
    [
        lambda: pixelcnn.PixelCNN((1, 5, 5), filters=6, blocks=1),
        lambda: pixelcnn.GatedPixelCNN((2, 3, 4), 3, filters=6, layers=2, num_classes=3, attention=1),
        lambda: pixelcnn.GatedPixelCNN((1, 5, 5), 3, filters=6, layers=2).half(),  # a step in float16 has small numbers
        lambda: pixelcnn.PixelCNNPlusPlus((3, 2, 3), 7, filters=4, blocks=1, condition_dim=2),
        lambda: pixelcnn.GatedPixelCNN((1, 4, 4), 3, filters=6, layers=2, condition_channels=2, condition_levels=3),
    ],
)
def test_models_of_the_package_pass(build):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = pixelcnn.verify(model)
    assert report.ok, report
    assert "eager" in checks(report)["engines"].message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("options", [{"num_classes": 3}, {"condition_dim": 2}, {"condition_channels": 1}])
def test_a_fault_that_shows_only_given_a_condition_is_found(options, monkeypatch):
    model = pixelcnn.GatedPixelCNN((1, 4, 4), filters=6, layers=2, **options)
    raw_params = pixelcnn.GatedPixelCNN.raw_params

    def leaking(self, images, condition=None, *more):
        found = raw_params(self, images, condition, *more)
        return found if condition is None else found + images.flip(2).unsqueeze(-1).to(found)

    monkeypatch.setattr(pixelcnn.GatedPixelCNN, "raw_params", leaking)
    assert "causal" in pixelcnn.verify(model).failed


def test_an_engine_that_draws_other_images_is_found(monkeypatch):
    model = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1)
    drawn = pixelcnn.PixelCNN.sample
    monkeypatch.setattr(pixelcnn.PixelCNN, "sample", lambda self, n, *_, seed, **__: 1 - drawn(self, n, seed=seed))
    assert pixelcnn.verify(model).failed == ("engines",)


def test_the_blind_spot_is_drawn():
    """A 5x5 layer and a 3x3 layer see two columns to the right of the pixel in the row above, three to its left."""
    report = pixelcnn.verify(faulty.Network((1, 9, 9), filters=20).eval(), (1, 9, 9), 2)
    assert report.pixel == (4, 4)
    assert report.seen[4].tolist() == [False] + [True] * 3 + [False] * 5
    assert report.seen[3].tolist() == [False] + [True] * 6 + [False] * 2
    assert not report.seen[0].any()
    assert "\n    .xxx@\n" in str(report)
    assert "<pre>" in report._repr_html_()


def test_what_does_not_fit_is_refused():
    module = torch.nn.Conv2d(1, 5, 1)
    for arguments, named in (
        (((1, 4, 4),), "levels must be given"),
        ((None, 2), "image_shape must be given"),
        (((1, 4), 2), r"\(1, 4\)"),
        (((1, 4, 4), 3), r"\(2, 5, 4, 4\)"),
    ):
        with pytest.raises(ValueError, match=named):
            pixelcnn.verify(module, *arguments)
    with pytest.raises(ValueError, match="log_prob"):
        pixelcnn.verify(module, (1, 4, 4), 5, log_prob=lambda outputs, images: outputs)
    with pytest.raises(ValueError, match="images"):
        pixelcnn.verify(module, (1, 4, 4), 5, images=torch.zeros(2, 1, 3, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="levels"):
        pixelcnn.verify(pixelcnn.PixelCNN((1, 4, 4), filters=4), levels=2)
    with pytest.raises(ValueError, match="Module"):
        pixelcnn.verify(None, (1, 4, 4), 5)


def test_the_command(tmp_path, capsys, monkeypatch):
    pixelcnn.PixelCNN((1, 3, 3), filters=4, blocks=1).save_pretrained(tmp_path / "model")
    assert main(["verify", str(tmp_path / "model")]) == 0
    assert "all checks passed" in capsys.readouterr().out
    drawn = pixelcnn.PixelCNN.sample
    monkeypatch.setattr(pixelcnn.PixelCNN, "sample", lambda self, n, *_, seed, **__: 1 - drawn(self, n, seed=seed))
    assert main(["verify", str(tmp_path / "model"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert [check["name"] for check in found["checks"] if not check["ok"]] == ["engines"]
