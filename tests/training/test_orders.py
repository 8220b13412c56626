"""Runs on images that are drawn anew and rearranged in each epoch."""

import dataclasses
import shutil

import numpy as np
import pytest
import scipy.stats
import torch

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.config import GatedPixelCNNConfig
from pixelcnn.models import OrderEnsemble, model_of
from pixelcnn.models.ensemble import network_of_orders
from pixelcnn.orders import ORDERS, rearranged
from pixelcnn.randomness import binarised, mutations, scan_orders
from pixelcnn.training.batches import Batches
from tiny import TINY, metrics_of, result, stripes, tiny_model

CONFIG = dataclasses.replace(
    TINY,
    model=GatedPixelCNNConfig(image_shape=(1, 6, 7), filters=6, layers=2, num_classes=4),
    orders=4,
    binarise=True,
)


def greys(n):
    return torch.randint(256, (n, 1, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def run(out, config=CONFIG, **options):
    return pixelcnn.train(config, greys(60), stripes(20, 1), out, progress=False, **options)


def test_scan_orders_are_equally_probable_and_differ_between_epochs():
    """Chi-square at 1e-7."""
    images = torch.arange(100_000)
    which = scan_orders(images, 8, 3, 5)
    assert scipy.stats.chisquare(which.bincount(minlength=8).numpy()).pvalue > 1e-7
    other = scan_orders(images, 8, 3, 6)
    joint = torch.stack([which, other]).numpy()
    table = np.histogram2d(*joint, bins=8)[0]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-7
    assert torch.equal(scan_orders(images[7:9], 8, 3, torch.tensor(5)), which[7:9])


def test_batches_are_drawn_rearranged_and_told():
    model = model_of(CONFIG.model)
    batches = Batches(CONFIG, model, greys(60))
    indices = torch.tensor([5, 59, 0, 17, 3, 8, 21])
    batch = batches.take(indices, 2)
    which = scan_orders(indices, 4, CONFIG.seed, 2)
    drawn = binarised(greys(60)[indices], indices, CONFIG.seed, 2)
    assert len(which.unique()) > 1
    assert all(torch.equal(batch.images[k], rearranged(drawn[k], ORDERS[which[k]])) for k in range(len(indices)))
    assert torch.equal(batch.condition.argmax(1), which)
    assert batch.condition.sum(1).eq(1).all()
    on_device = batches.take(indices, torch.tensor(2))
    assert torch.equal(on_device.images, batch.images)
    assert torch.equal(on_device.condition, batch.condition)
    assert not torch.equal(batches.take(indices, 3).images, batch.images)


def test_the_finished_model_is_the_ensemble_that_was_validated(tmp_path):
    model = run(tmp_path)
    assert isinstance(model, OrderEnsemble)
    assert model.config.orders == ORDERS[:4]
    loaded = pixelcnn.load(tmp_path)
    assert loaded.config == model.config
    loss = pixelcnn.evaluate(loaded, stripes(20, 1)).nats_per_subpixel
    assert loss == pytest.approx(metrics_of(tmp_path)[-1]["validation_loss_ema"], rel=1e-6)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "each pixel drawn anew every epoch" in card
    assert "images in one of 4 scan orders" in card
    assert "labels dropped" not in card


def test_a_run_that_has_not_finished_is_loaded_as_its_ensemble(tmp_path):
    model = run(tmp_path, dataclasses.replace(CONFIG, epochs=1))
    shutil.rmtree(tmp_path / "model")
    with pytest.warns(UserWarning, match="has not finished: the model is that of step 8"):
        loaded = pixelcnn.load(tmp_path)
    assert isinstance(loaded, OrderEnsemble)
    assert not loaded.training
    assert loaded.config == model.config
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert "after step 8 of a run" in loaded.card


def test_a_run_that_goes_on_ends_in_the_same_bits(tmp_path):
    run(tmp_path / "whole")
    run(tmp_path / "parts", dataclasses.replace(CONFIG, epochs=1))
    run(tmp_path / "parts")
    whole, parts = result(tmp_path / "whole"), result(tmp_path / "parts")
    assert all(whole[name] == parts[name] for name in ("metrics", "tensors", "model"))


def test_a_run_starts_from_a_model_of_one_order():
    """In each order the network gives what the model gives without a class, and it learns the orders from there."""
    model = model_of(dataclasses.replace(CONFIG.model, num_classes=3))
    network = network_of_orders(model, 4)
    assert network.config == CONFIG.model
    for order in range(4):
        nats = network.log_prob(stripes(5, 1), torch.full((5,), order))
        assert torch.equal(nats, model.log_prob(stripes(5, 1)))
    network.log_prob(stripes(5, 1), torch.arange(5) % 4).sum().backward()
    zeros = [weight for weight in network.parameters() if not weight.any()]
    assert zeros
    assert all(weight.grad.any() for weight in zeros)


def test_the_network_of_an_ensemble_goes_on():
    network = model_of(CONFIG.model)
    ensemble = OrderEnsemble([network] * 4, ORDERS[:4], order_conditioned=True)
    assert network_of_orders(ensemble, 4) is network
    for model, message in (
        (ensemble, "for 2 of them"),
        (OrderEnsemble([tiny_model()] * 2, ORDERS[:2]), "one network for 2 of them"),
        (tiny_model(), "family with classes, got PixelCNN"),
    ):
        with pytest.raises(ValueError, match=message):
            network_of_orders(model, 2)


def test_the_command_starts_from_a_model_of_one_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model_of(dataclasses.replace(CONFIG.model, num_classes=3)).save_pretrained("one")
    np.save("codes.npy", stripes(40)[:, 0].numpy())
    command = ["train", "codes.npy", "--init", "one", "--orders", "4", "--steps", "1", "--sample-images", "0"]
    assert main([*command, "--out", "run"]) == 0
    assert pixelcnn.load("run").config.orders == ORDERS[:4]
    assert main([*command, "--init", "run", "--out", "more"]) == 0
    assert main([*command, "--init", "run", "--orders", "2", "--out", "other"]) == 2
    assert "--init run beside --orders 2: model must have one scan order" in capsys.readouterr().err
    assert main([*command, "--conditional", "--out", "other"]) == 2
    assert "leave out --conditional" in capsys.readouterr().err


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="orders must be 1, 2, 4 or 8, got 3"):
        dataclasses.replace(CONFIG, orders=3)
    with pytest.raises(ValueError, match=r"orders must be at most 4 for images of 6 rows and 7 columns"):
        dataclasses.replace(CONFIG, orders=8)
    with pytest.raises(ValueError, match=r"orders must be 1, or the model's num_classes.* got 4 and None"):
        run(tmp_path, dataclasses.replace(CONFIG, model=TINY.model))
    with pytest.raises(ValueError, match="binarise must be False for 3 levels"):
        dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, levels=3))
    with pytest.raises(ValueError, match=r"validation images must hold levels 0\.\.1"):
        pixelcnn.train(CONFIG, greys(60), greys(20), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"training images must have shape \(N, 1, 6, 7\), got \(4, 1, 7, 6\)"):
        pixelcnn.train(CONFIG, greys(4).transpose(2, 3), stripes(20, 1), tmp_path, progress=False)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    out = str(tmp_path / "run")
    small = ["--filters", "4", "--layers", "2", "--batch-size", "4", "--sample-images", "4"]
    quick = ["train", "mnist-dynamic", "--model", "gated", *small, "--out", out, "--orders", "2"]
    assert main([*quick, "--conditional"]) == 2
    assert "without --conditional" in capsys.readouterr().err
    assert main(["train", "mnist", "--model", "pixelcnn", "--orders", "2", "--out", out]) == 2
    assert "--model gated or --model plusplus" in capsys.readouterr().err
    assert main(["train", "mnist-dynamic", "--levels", "4", "--out", out]) == 2
    assert "levels must be 2 for mnist-dynamic, got 4" in capsys.readouterr().err
    assert main([*quick, "--steps", "2", "--no-compile"]) == 0
    capsys.readouterr()
    assert main(["evaluate", out, "mnist-dynamic:test", "--images", "20"]) == 0
    images, _ = pixelcnn.datasets.drawn_mnist("test")
    nats = pixelcnn.evaluate(pixelcnn.load(out), images[:20]).nats_per_image
    assert f"nats/image      {nats:.3f}" in capsys.readouterr().out


def test_batches_are_mutated():
    config = dataclasses.replace(CONFIG, orders=1, binarise=False, mutate=0.2)
    images = stripes(60, 0)
    indices = torch.tensor([5, 59, 0])
    batch = Batches(config, model_of(config.model), images).take(indices, 2)
    assert torch.equal(batch.images, mutations(images[indices], indices, 0.2, 2, config.seed, 2))
    assert not torch.equal(batch.images, images[indices])
