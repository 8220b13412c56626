"""Models of users' own: registered they are saved, loaded, trained and used by commands, or it is said why not."""

import dataclasses
import re
import warnings

import pytest
import torch

import own_models
import pixelcnn
from pixelcnn.cli import main
from pixelcnn.config import FAMILIES, TrainConfig, from_dict, to_dict
from pixelcnn.models import MODELS, OrderEnsemble, model_of
from pixelcnn.models.summary import receptive_field
from pixelcnn.operations import Activation, Conv
from pixelcnn.sampling.program import record

SHAPE = (1, 5, 6)


@pytest.fixture(autouse=True)
def _put_back(monkeypatch):
    monkeypatch.setattr(pixelcnn.AutoregressiveModel, "classes", dict(pixelcnn.AutoregressiveModel.classes))


def images(n=20):
    return torch.randint(2, (n, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("without_curves")
@pytest.mark.parametrize("cls", [own_models.Plain, own_models.Normed])
def test_it_is_saved_loaded_and_trained(tmp_path, cls):
    config = TrainConfig(model=cls.Config(image_shape=SHAPE), epochs=1, batch_size=8, sample_images=2)
    assert from_dict(TrainConfig, to_dict(config), "here") == config
    with warnings.catch_warnings(action="ignore"):
        model = pixelcnn.train(config, images(), images(6), tmp_path / "run", progress=False)
    assert type(model) is cls
    again = cls.from_pretrained(tmp_path / "run")
    assert type(again) is cls
    assert torch.equal(again.log_prob(images()), model.log_prob(images()))
    assert "1 epoch, 3 steps" in again.card
    again.save_pretrained(tmp_path / "run" / "model")  # replaces its own


def test_the_codec_and_completion_work(tmp_path):
    model = own_models.Plain(SHAPE, levels=3)
    drawn = model.sample(4, seed=1)
    assert torch.equal(pixelcnn.decompress(model, pixelcnn.compress(model, drawn)), drawn)
    known = torch.ones(SHAPE[1:], dtype=torch.bool)
    known[2:] = False
    assert model.complete(drawn, known, particles=4, seed=0).images.shape == (4, 1, *SHAPE)
    both = OrderEnsemble([model, model], ["right-down", "left-up"])
    both.save_pretrained(tmp_path / "both")
    assert torch.equal(pixelcnn.load(tmp_path / "both").log_prob(drawn), both.log_prob(drawn))


@pytest.mark.usefixtures("without_curves")
def test_the_command_line_knows_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    import numpy as np

    np.save("codes.npy", images(40)[:, 0].numpy())
    (tmp_path / "unfinished.py").write_text("from pixelcnn import (\n")
    (tmp_path / "outdated.py").write_text("from pixelcnn.config import Bygone\n")
    command = ["train", "codes.npy", "--import", "own_models", "--model", "plain", "--width", "4", "--epochs", "1"]
    assert main([*command, "--sample-images", "0", "--out", "run"]) == 0
    assert pixelcnn.load("run").config == own_models.PlainConfig(image_shape=SHAPE, width=4)
    for arguments in (["info", "run"], ["sample", "run", "-n", "2", "--out", "drawn.png"], ["verify", "run"]):
        assert main([*arguments, "--import=own_models"]) == 0
    capsys.readouterr()
    assert main(["--import", "no_such_module", "info", "run"]) == 2
    assert "no_such_module" in capsys.readouterr().err
    for name, said in (("unfinished", "unfinished.py, line 1"), ("outdated", "Bygone")):
        assert main(["--import", name, "info", "run"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"pixelcnn: --import {name}: ")
        assert said in error
    for path in ("./own_models.py", "."):
        assert main(["--import", path, "info", "run"]) == 2
        assert f"--import must be followed by a module's name, got '{path}'" in capsys.readouterr().err


def test_what_needs_an_unknown_class_says_which(tmp_path):
    own_models.Plain(SHAPE).save_pretrained(tmp_path / "model")
    del pixelcnn.AutoregressiveModel.classes["Plain"]
    with pytest.raises(ValueError, match=r"class Plain of the module own_models: .*pixelcnn\.register\(Plain\)"):
        pixelcnn.load(tmp_path / "model")
    with pytest.raises(ValueError, match=r"pixelcnn\.register\(Plain\)"):
        own_models.Plain(SHAPE).save_pretrained(tmp_path / "other")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DerivedConfig(pixelcnn.PixelCNNConfig):
    pass


def test_a_derived_configuration_is_never_its_parents():
    with pytest.raises(ValueError, match=r"_DerivedConfig.*known: PixelCNNConfig"):
        model_of(_DerivedConfig(image_shape=SHAPE))
    with pytest.raises(ValueError, match="_DerivedConfig"):
        pixelcnn.train(TrainConfig(model=_DerivedConfig(image_shape=SHAPE)), images(), images(), "run", progress=False)


def test_a_model_of_another_configuration_is_not_saved(tmp_path):
    class Derived(pixelcnn.PixelCNN):  # its constructor makes a PixelCNNConfig
        Config = _DerivedConfig

    pixelcnn.register(Derived)
    try:
        with pytest.raises(ValueError, match="_DerivedConfig for Derived, got one of class PixelCNNConfig"):
            Derived(SHAPE, filters=4, blocks=1).save_pretrained(tmp_path / "model")
        with pytest.raises(ValueError, match="_DerivedConfig"):
            model_of(_DerivedConfig(image_shape=SHAPE))
    finally:
        del FAMILIES["_DerivedConfig"]


def test_what_cannot_be_registered_is_refused():
    class NoConfig(pixelcnn.PixelCNN):
        pass

    class Thawed(own_models.Plain):
        Config = dataclasses.make_dataclass("ThawedConfig", [])

    class Shapeless(own_models.Plain):
        Config = dataclasses.make_dataclass("ShapelessConfig", [("levels", int, 2)], frozen=True)

    class Fewer(own_models.Plain):
        Config = dataclasses.make_dataclass(
            "FewerConfig", [("image_shape", tuple, SHAPE), ("levels", int, 2), ("depth", int, 3)], frozen=True
        )

    class Gated(own_models.Plain):
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Config(own_models.PlainConfig):
            family = "gated"

    class Borrowed(own_models.Plain):
        Config = own_models.PlainConfig

    taken = type(
        "PixelCNN", (own_models.Plain,), {"Config": dataclasses.make_dataclass("TakenConfig", [], frozen=True)}
    )
    for cls, named in (
        (3, "got 3"),
        (torch.nn.Linear, "Linear"),
        (NoConfig, "NoConfig must have a Config"),
        (Thawed, "frozen dataclass"),
        (Shapeless, "image_shape"),
        (Fewer, "'depth'"),
        (Gated, "family must be Gated's own, 'gated' is that of GatedPixelCNN"),
        (Borrowed, "PlainConfig is the name of Plain's"),
        (taken, "PixelCNN is that of pixelcnn"),
    ):
        with pytest.raises(ValueError, match=named):
            pixelcnn.register(cls)
    assert set(MODELS) <= set(pixelcnn.AutoregressiveModel.classes)


def test_a_class_that_is_defined_again_replaces_itself():
    again = type("Plain", (own_models.Plain,), {"Config": own_models.PlainConfig, "__module__": "own_models"})
    again.__qualname__ = "Plain"
    assert pixelcnn.register(again) is again
    assert type(model_of(own_models.PlainConfig(image_shape=SHAPE))) is again


def test_a_class_that_is_defined_again_may_call_its_family_otherwise(monkeypatch):
    monkeypatch.setattr("pixelcnn.config.own.FAMILIES", found := dict(FAMILIES))
    for family in ("earlier", "later"):
        config = dataclasses.make_dataclass(
            "RenamedConfig",
            [],
            bases=(own_models.PlainConfig,),
            frozen=True,
            kw_only=True,
            namespace={"family": family},
        )
        pixelcnn.register(type("Renamed", (own_models.Plain,), {"Config": config}))
    assert found == {**FAMILIES, "later": config}


def test_tied_weights_are_saved(tmp_path):
    class Tied(own_models.Plain):
        Config = dataclasses.make_dataclass(
            "TiedConfig", [], bases=(own_models.PlainConfig,), frozen=True, kw_only=True
        )

        def __init__(self, **options):
            super().__init__(**options)
            self.again = self.first

        def between(self, x):
            return x + torch.stack([self.again.bias]).sum(0)

    try:
        pixelcnn.register(Tied)
        model = Tied(image_shape=SHAPE)
        model.save_pretrained(tmp_path / "tied")
        again = pixelcnn.load(tmp_path / "tied")
        assert again.again is again.first
        assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    finally:
        del FAMILIES["TiedConfig"]


@pytest.mark.parametrize("look", [torch.Tensor.tolist, torch.Tensor.numpy])
def test_a_constructor_may_look_at_numbers(look, tmp_path):
    """As for the rates of stochastic depth, although sizes are found out on a device that has none."""

    class Rates(own_models.Plain):
        Config = dataclasses.make_dataclass(
            "RatesConfig", [], bases=(own_models.PlainConfig,), frozen=True, kw_only=True
        )

        def __init__(self, **options):
            super().__init__(**options)
            self.rates = look(torch.linspace(0, 0.1, 3))

    try:
        pixelcnn.register(Rates)
        model = Rates(image_shape=SHAPE)
        model.save_pretrained(tmp_path / "rates")
        assert torch.equal(pixelcnn.load(tmp_path / "rates").log_prob(images()), model.eval().log_prob(images()))
        assert model.any_size
        assert receptive_field(model).sum() == len(model.first.taps)
    finally:
        del FAMILIES["RatesConfig"]


@pytest.mark.parametrize("size", [(4, 8), (12, 8)])
def test_a_network_whose_depth_depends_on_the_size_has_one(size):
    class Deep(own_models.Plain):
        def __init__(self, image_shape=SHAPE, levels=2, width=6, num_classes=None, *, generator=None):
            super().__init__(image_shape, levels, width, num_classes, generator=generator)
            self.more = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(self.image_shape[1] // 4))

    model = Deep((1, 8, 8))
    with pytest.raises(ValueError, match=r"size must be \(8, 8\).* network's more\.\d\.weight is for that size"):
        model.resized(size)
    assert not model.any_size


def test_what_cannot_be_recorded_is_said_once_and_by_line():
    model = own_models.Normed(SHAPE)
    with pytest.warns(UserWarning, match="slower") as warned:
        drawn = model.sample(2, seed=3)
    said = str(warned[0].message)
    assert re.search(r"own_models\.py line \d+, `return torch\.nn\.functional\.normalize\(x, dim=-1\)`", said)
    assert "one full forward pass for each sub-pixel" in said
    with warnings.catch_warnings(action="error"):
        assert torch.equal(model.sample(2, seed=3), drawn)
    with pytest.raises(ValueError, match=r"own_models\.py line"):
        pixelcnn.compress(model, drawn)
    assert "one full forward pass for each of its 30" in pixelcnn.models.base._card_of(model)


def test_groups_that_disagree_are_said():
    """An operation on the features of three colours, of which it does not know that they are three."""

    class Forgetful(own_models.Plain):
        def network(self, view):
            return view(Conv(self.last), view(Activation(kind="gelu"), view(Conv(self.first), view.image)))

    with pytest.raises(ValueError, match=r"test_own\.py line .*Activation has groups=1, and its input 3"):
        record(Forgetful((3, 4, 4), width=6))
