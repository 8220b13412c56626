"""Mixtures over scan orders: the orders, the likelihood, the draws, folders, the command line."""

import itertools
import json

import numpy as np
import pytest
import scipy.stats
import torch

import pixelcnn
from chi_square import p_value
from pixelcnn.cli import main
from pixelcnn.models import OrderEnsemble
from pixelcnn.models.base import load
from pixelcnn.orders import ORDERS, is_transposed, rearranged, rearranged_each
from pixelcnn.symmetries import transform_of

LOUD = 3.0  # factor of the weights, so that probabilities are far from uniform


def network(shape, levels=2, num_classes=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if num_classes is None:
        model = pixelcnn.PixelCNN(shape, levels, filters=6, blocks=1, generator=generator)
    else:
        model = pixelcnn.GatedPixelCNN(shape, levels, filters=6, layers=2, num_classes=num_classes, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(LOUD)
    return model.double().eval()


def told():
    """One network that is told the order."""
    return OrderEnsemble([network((1, 2, 2), 3, num_classes=8)] * 8, ORDERS, order_conditioned=True)


def mixed():
    """Two networks with unequal weights, on images that are not square; one reads columns and one is two parts."""
    rows, columns = network((1, 2, 3)), network((1, 3, 2), seed=1)
    return OrderEnsemble([rows, columns, rows], ["left-up", "down-left", "right-down"], [1, 2, 0.5])


def colour():
    return OrderEnsemble([network((2, 1, 3)), network((2, 3, 1), seed=1)], ["left-down", "up-right"])


def labelled():
    """Two networks that know classes of the data."""
    return OrderEnsemble([network((1, 2, 2), 2, 3), network((1, 2, 2), 2, 3, seed=1)], ["right-up", "down-right"])


ENSEMBLES = [told, mixed, colour, labelled]


def every_image(model):
    values = itertools.product(range(model.levels), repeat=model.subpixels)
    return torch.tensor(list(values), dtype=torch.uint8).view(-1, *model.image_shape)


# Orders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_reads_what_its_name_says(order):
    """The first two pixels differ by a step along the line, the first and second line by a step from line to line."""
    steps = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
    image = torch.arange(12).view(1, 3, 4)
    seen = rearranged(image, order)
    assert seen.shape == ((1, 4, 3) if is_transposed(order) else (1, 3, 4))
    place = lambda value: divmod(int(value), 4)  # noqa: E731
    (i, j), along, below = place(seen[0, 0, 0]), place(seen[0, 0, 1]), place(seen[0, 1, 0])
    assert [(along[0] - i, along[1] - j), (below[0] - i, below[1] - j)] == [steps[name] for name in order.split("-")]
    assert torch.equal(transform_of(order, (3, 4)).undone(seen, (3, 4)), image)


@pytest.mark.parametrize("shape", [(2, 3, 3), (1, 3, 4)])
def test_orders_of_each_image(shape):
    orders = len(ORDERS) if shape[1] == shape[2] else 4
    images = torch.randint(256, (20, *shape), dtype=torch.uint8)
    which = torch.arange(20) % orders
    found = rearranged_each(images, which)
    assert all(torch.equal(found[k], rearranged(images[k], ORDERS[which[k]])) for k in range(20))


# Likelihood ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ENSEMBLES)
def test_probabilities_sum_to_one(make):
    model = make()
    images = every_image(model)
    labels = torch.full((len(images),), 2) if make is labelled else None
    log_prob = model.log_prob(images, labels)
    assert log_prob.dtype == torch.float64
    assert log_prob.std() > 0.5
    assert abs(torch.logsumexp(log_prob, 0).exp().item() - 1) < 1e-9


def test_log_prob_is_the_definition():
    rows, columns = network((1, 2, 3)), network((1, 3, 2), seed=1)
    images = every_image(rows)
    expected = (
        rows.log_prob(images.flip(-1, -2)).exp() / 3.5
        + 2 / 3.5 * columns.log_prob(images.flip(-1).transpose(-1, -2).contiguous()).exp()
        + 0.5 / 3.5 * rows.log_prob(images).exp()
    )
    torch.testing.assert_close(mixed().log_prob(images).exp(), expected, rtol=1e-12, atol=0)

    net = network((1, 2, 2), 3, num_classes=8)
    images = every_image(net)
    parts = [net.log_prob(rearranged(images, o).contiguous(), torch.full((81,), k)) for k, o in enumerate(ORDERS)]
    expected = torch.stack(parts).exp().mean(0)
    torch.testing.assert_close(told().log_prob(images).exp(), expected, rtol=1e-12, atol=0)


def test_equal_members_in_one_order_are_the_member():
    member = network((1, 4, 5), 3)
    model = OrderEnsemble([member, member], ["right-down"] * 2, [1, 3])
    images = member.sample(50, seed=1)
    torch.testing.assert_close(model.log_prob(images), member.log_prob(images), rtol=1e-12, atol=1e-12)
    assert torch.equal(model.sample(50, seed=1), images)


def test_gradients_reach_every_network():
    model = mixed()
    model.log_prob(model.sample(20, seed=0)).sum().backward()
    assert all(p.grad is not None and p.grad.ne(0).any() for p in model.parameters())


# Draws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ENSEMBLES)
@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_samples_have_the_enumerated_frequencies(make, engine):
    """Chi-square at 1e-7: with 12 cases less than 1e-6 that a right one fails, were the seed not fixed."""
    n = 4_000 if engine == "reference" else 20_000
    model = make()
    every = every_image(model)
    some = (lambda k: torch.full((k,), 1)) if make is labelled else (lambda k: None)
    probabilities = model.log_prob(every, some(len(every))).exp().detach().numpy()
    images = model.sample(n, some(n), seed=5, engine=engine).flatten(1).numpy().astype(np.int64)
    counts = np.bincount(images @ (model.levels ** np.arange(model.subpixels)[::-1]), minlength=len(every))
    assert p_value(counts, probabilities) > 1e-7


@pytest.mark.parametrize("make", ENSEMBLES)
def test_image_i_depends_on_seed_and_i_alone(make):
    model = make()
    some = (lambda k: torch.arange(k) % 3) if make is labelled else (lambda k: None)
    images = model.sample(30, some(30), seed=9)
    assert torch.equal(images, model.sample(30, some(30), seed=9, engine="reference"))
    assert torch.equal(images[:7], model.sample(7, some(7), seed=9))
    assert torch.equal(torch.cat(list(model.sample_stream(30, some(30), seed=9, chunk=7))), images)
    later = None if make is not labelled else some(30)[11:]
    assert torch.equal(images[11:], model.sample(19, later, seed=9, first=11))
    assert not torch.equal(images, model.sample(30, some(30), seed=8))


def test_an_image_is_its_members_image():
    model, which = mixed(), mixed().part_of(3, 0, 40)
    assert which.unique().tolist() == [0, 1, 2]
    images = model.sample(40, seed=3)
    for k, (order, member) in enumerate(zip(model.config.orders, model.config.members, strict=True)):
        shape = model.image_shape[1:]
        alone = transform_of(order, shape).undone(model.networks[member].sample(40, seed=3), shape)
        assert torch.equal(images[which == k], alone[which == k])


def test_parts_are_drawn_by_their_weights():
    """Chi-square at 1e-7."""
    counts = mixed().part_of(0, 0, 100_000).bincount().numpy()
    assert scipy.stats.chisquare(counts, 100_000 * np.array([1, 2, 0.5]) / 3.5).pvalue > 1e-7


# Folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weights", "shares"), [([1e308, 1e308], [0.5, 0.5]), ([1e-200, 1e200], [0.0, 1.0])])
def test_only_the_ratios_of_weights_matter(weights, shares):
    members = [network((1, 2, 3), seed=seed) for seed in range(2)]
    both = OrderEnsemble(members, ["right-down", "left-up"], weights)
    images = both.sample(20, seed=0)
    assert both.shares == shares
    assert set(both.part_of(0, 0, 20).tolist()) == {k for k, share in enumerate(shares) if share}
    expected = torch.stack([members[0].log_prob(images), members[1].log_prob(images.flip(-1, -2))]).exp()
    assert torch.allclose(both.log_prob(images), (torch.tensor(shares).double() @ expected).log())


def test_a_mixture_has_one_size():
    with pytest.raises(ValueError, match=r"of class OrderEnsemble .* no other sizes"):
        OrderEnsemble([network((1, 2, 3))], ["left-up"]).resized(size=(4, 4))


@pytest.mark.parametrize("make", ENSEMBLES)
def test_a_saved_ensemble_is_the_same(make, tmp_path):
    model = make()
    model.save_pretrained(tmp_path / "model")
    model.save_pretrained(tmp_path / "model")  # replaces itself
    found = load(tmp_path / "model")
    assert isinstance(found, OrderEnsemble)
    assert found.config == model.config
    assert len(found.networks) == len(model.networks)
    images = model.sample(20, seed=0)
    assert torch.equal(found.log_prob(images), model.log_prob(images))
    assert torch.equal(found.sample(20, seed=0), images)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_damaged_and_edited_folders_are_refused(tmp_path):
    mixed().save_pretrained(tmp_path / "model")
    weights, config = tmp_path / "model" / "model.safetensors", tmp_path / "model" / "config.json"
    good, text = weights.read_bytes(), config.read_text()
    for k in range(8, len(good), len(good) // 50):
        weights.write_bytes(good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :])
        with pytest.raises(ValueError, match=r"damaged|has no checksum|is not the configuration"):
            load(tmp_path / "model")
    weights.write_bytes(good)
    for changes, message in (
        ({"weights": [1.0, 2.0, 0.25]}, "is not the configuration that"),
        ({"orders": ["left-up", "down-left", "sideways"]}, r"orders must be one of right-down, .* got .*'sideways'"),
        ({"orders": ["left-up", "down-left"]}, "orders must be one of .* for each of the 3 members"),
        ({"orders": ["left-up", "left-down", "right-down"]}, r"order left-down must have image_shape \(1, 2, 3\), got"),
        ({"weights": [1.0, -2.0, 0.5]}, "weights must be a positive, finite number"),
        ({"members": [0, 0, 0]}, r"members must name every index in 0\.\.1, and no other, got \(0, 0, 0\)"),
        ({"networks": []}, "networks must be at least one model's configuration"),
        *(({name: 1}, f"{name} must be .*, got 1") for name in ("networks", "members", "orders", "weights")),
        ({"order_conditioned": True}, "conditioned on the order left-up must have num_classes of at least 4, got None"),
        ({"networks": [{"type": "OrderEnsembleConfig"}] * 2}, "'type' must be one of PixelCNNConfig, GatedPixel"),
        ({"networks": [{"type": []}] * 2}, r"'type' must be one of PixelCNNConfig, .* got \[\]"),
        ({"extra": 1}, "unknown field 'extra' for OrderEnsembleConfig"),
    ):
        config.write_text(json.dumps(json.loads(text) | changes))
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "model")
    config.write_text(text)
    load(tmp_path / "model")


# Errors and commands -------------------------------------------------------------------------------------------


def test_wrong_members():
    rows, columns = network((1, 2, 3)), network((1, 3, 2))
    classes = network((1, 3, 3), 2, 4)
    for members, orders, options, message in (
        ([], [], {}, "members must be at least one model, got"),
        (rows, ["right-down"], {}, r"members must be a list, got PixelCNN\("),
        ([rows], ["right-down"], {"weights": 1.0}, r"weights must be a list, got 1\.0"),
        ([rows], [], {}, "orders must be one of .* for each of the 1 members"),
        (
            [rows, rows],
            ["right-down", "down-right"],
            {},
            r"down-right must have image_shape \(1, 3, 2\), got \(1, 2, 3",
        ),
        ([rows, columns], ["right-down", "down"], {}, "orders must be one of"),
        ([rows], ["right-down"], {"weights": [0]}, "weights must be a positive, finite number"),
        ([rows], ["right-down"], {"weights": [float("nan")]}, "weights must be a positive, finite number"),
        ([rows], ["right-down"], {"weights": [10**400]}, "weights must be a number"),
        ([rows, network((1, 2, 3), 3)], ["right-down"] * 2, {}, "the same levels, got 2 and 3"),
        ([rows, network((1, 2, 3)).float()], ["right-down"] * 2, {}, "of one type, got torch.float32, torch.float64"),
        ([rows, network((1, 2, 3), 2, 4)], ["right-down"] * 2, {}, "the same num_classes and condition_dim"),
        ([classes], ["down-right"], {"order_conditioned": True}, "must have num_classes of at least 5, got 4"),
        ([mixed()], ["right-down"], {}, "members must be models of one order each"),
    ):
        with pytest.raises(ValueError, match=message):
            OrderEnsemble(members, orders, **options)


def test_wrong_arguments():
    model = told()
    images = model.sample(2, seed=0)
    with pytest.raises(ValueError, match=r"images must have shape \(N, 1, 2, 2\), got \(2, 1, 2, 1\)"):
        model.log_prob(images[..., :1])
    with pytest.raises(ValueError, match=r"images must hold levels 0\.\.2, got 5"):
        model.log_prob(torch.full_like(images, 5))
    with pytest.raises(ValueError, match="labels must be None"):
        model.log_prob(images, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels must be None"):
        model.sample(2, torch.zeros(2, dtype=torch.int64), seed=0)
    with pytest.raises(ValueError, match="engine must be one of"):
        model.sample(2, engine="slow", seed=0)
    for method in (model, model.log_prob_map):
        with pytest.raises(ValueError, match="no factors in raster order; log_prob and sample are what it has"):
            method(images)
    with pytest.raises(ValueError, match="no factors in raster order"):
        model.sample_steps(2, seed=0)


def test_commands(tmp_path, capsys):
    folder, out = str(tmp_path / "model"), tmp_path / "shards"
    model = told()
    model.save_pretrained(folder)
    assert main(["sample", folder, "-n", "20", "--out", str(out), "--shard-size", "7"]) == 0
    shards = [torch.from_numpy(np.load(path)) for path in sorted(out.glob("*.npy"))]
    assert torch.equal(torch.cat(shards), model.sample(20, seed=0))
    assert main(["sample", folder, "-n", "4", "--out", str(tmp_path / "grid.png")]) == 0
    assert main(["evaluate", folder, str(sorted(out.glob("*.npy"))[0])]) == 0
    nats = -model.log_prob(shards[0]).mean().item()
    assert f"nats/image      {nats:.3f}" in capsys.readouterr().out
    assert main(["info", folder]) == 0
    text = capsys.readouterr().out
    assert "8 scan orders" in text
    assert all(order in text for order in ORDERS)
    assert "GatedPixelCNN" in text
    for command in (["sample", folder, "--steps", "--out", str(tmp_path / "a.gif")], ["bench", folder]):
        assert main(command) == 2
        assert "no factors in raster order" in capsys.readouterr().err
