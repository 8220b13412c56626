"""What a run does from its configuration: schedules, dropout, shifts, presets, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn.config import FAMILIES, PRESETS, GatedPixelCNNConfig, TrainConfig, from_dict, recipe, to_dict
from pixelcnn.models import model_of
from pixelcnn.operations import FullView
from pixelcnn.randomness import dropout_bits, shifts
from pixelcnn.sampling.program import record
from pixelcnn.training.batches import shifted
from pixelcnn.training.dropout import DropoutView
from pixelcnn.training.schedule import learning_rate
from pixelcnn.training.step import Stepper
from tiny import TINY, run, stepper_of, stripes, tiny_model

# Schedules -----------------------------------------------------------------------------------------------------


def test_the_schedule_follows_its_definition():
    config = dataclasses.replace(TINY, learning_rate=0.1, schedule="cosine", warmup_steps=4)
    rates = [learning_rate(config, t, 20) for t in range(20)]
    half_cosine = [0.05 * (1 + np.cos(np.pi * t / 20)) for t in range(20)]
    assert rates[:3] == pytest.approx([half_cosine[t] * (t + 1) / 4 for t in range(3)])
    assert rates[3:] == pytest.approx(half_cosine[3:])
    assert {learning_rate(TINY, t, 20) for t in range(20)} == {TINY.learning_rate}


@pytest.mark.parametrize("total", [10, 137])
def test_one_cycle_is_pytorchs(total):
    config = dataclasses.replace(TINY, learning_rate=0.1, schedule="one-cycle")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=total)
    for t in range(total):
        assert learning_rate(config, t, total) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if t + 1 < total:
            scheduler.step()


@pytest.mark.parametrize("total", [1, 2, 3, 4])
def test_one_cycle_over_a_few_steps(total):
    config = dataclasses.replace(TINY, learning_rate=0.1, schedule="one-cycle")
    rates = [learning_rate(config, t, total) for t in range(total)]
    assert all(0 < rate <= 0.1 for rate in rates)
    assert max(rates) > 0.05


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_a_run_is_what_its_rates_say(tmp_path, schedule):
    config = dataclasses.replace(TINY, schedule=schedule, warmup_steps=3, ema=None)
    trained = run(tmp_path, config)
    model = tiny_model()
    stepper = stepper_of(model, None)
    batches = [b for epoch in range(2) for b in pixelcnn.randomness.permutation(60, 0, epoch).split(8)]
    for t, batch in enumerate(batches):
        stepper.step(stripes(60)[batch], learning_rate(config, t, 16))
    assert torch.equal(trained.output.weight, model.output.weight)
    with pytest.raises(ValueError, match="holds a run with epochs = 2, not 3"):
        run(tmp_path, dataclasses.replace(config, epochs=3))


# Dropout -------------------------------------------------------------------------------------------------------


def dropped(rate, first=0, n=4, step=3, seed=5, calls=1):
    """What becomes of features that are all 1."""
    view = DropoutView(torch.zeros(n, 6, 7, 1), rate=rate, seed=seed, step=step, first=first)
    for _ in range(calls):
        y = view.dropout(torch.ones(n, 6, 7, 30))
    return y


def test_dropout_drops_its_share_and_keeps_the_mean():
    """40,000 bits each; 6 standard deviations: less than 1e-8 that a right one fails."""
    for rate in (0.1, 0.5, 0.9):
        y = dropped(rate, n=32)
        kept = y[y > 0]
        assert kept.unique().item() == pytest.approx(1 / (1 - rate), rel=1e-4)
        assert 1 - len(kept) / y.numel() == pytest.approx(rate, abs=6 * (rate * (1 - rate) / y.numel()) ** 0.5)


def test_dropout_is_a_function_of_seed_step_image_layer_and_feature():
    whole = dropped(0.5, n=8)
    assert torch.equal(dropped(0.5, n=3, first=5), whole[5:])
    for other in (dropped(0.5, n=8, step=4), dropped(0.5, n=8, seed=6), dropped(0.5, n=8, calls=2)):
        assert (other == whole).float().mean() == pytest.approx(0.5, abs=0.03)  # 10,080 bits, 6 standard deviations
    flat = whole.flatten(1)
    for i in range(1, 8):
        assert (flat[i] == flat[0]).float().mean() == pytest.approx(0.5, abs=0.085)  # 1,260 bits
    assert (flat[:, 1:] == flat[:, :-1]).float().mean() == pytest.approx(0.5, abs=0.03)


def test_dropout_bits_are_spread_evenly():
    """Chi-square over 16 cells of the top and the bottom four bits: 1e-7 that a right one fails."""
    bits = dropout_bits(1, 2, 3, 0, 50, 1001, "cpu").to(torch.int64)
    assert bits.shape == (50, 1001)
    for cells in ((bits + 2**15) >> 12, bits & 15):
        count = torch.bincount(cells.flatten(), minlength=16).double()
        expected = bits.numel() / 16
        assert ((count - expected) ** 2 / expected).sum().item() < 62


def test_dropout_exists_in_training_only():
    """The network asks for it once a block; views of scoring and sampling leave it out, and a program has no word."""
    model = pixelcnn.PixelCNN((1, 6, 7), filters=6, blocks=3)
    asked = []

    class Counting(FullView):
        def dropout(self, x):
            asked.append(x.shape)
            return super().dropout(x)

    images = stripes(5)
    counted = model.unchecked_log_prob_map(images, view=Counting)
    assert asked == [(5, 6, 7, 3)] * 3
    assert torch.equal(counted, model.log_prob_map(images))
    assert torch.equal(model.train().sample(3, seed=0), model.eval().sample(3, engine="reference", seed=0))
    assert len(record(model).nodes) == 1 + 3 * 3 + 3


# Shifts --------------------------------------------------------------------------------------------------------


def test_shifted_images_are_moved_and_filled_with_zeros():
    images = torch.randint(0, 5, (40, 2, 6, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    indices = torch.arange(100, 140)
    found = shifted(images, indices, 2, 7, 3)
    assert found.dtype == torch.uint8
    for image, moved, (down, right) in zip(images, found, shifts(indices, 2, 7, 3).tolist(), strict=True):
        expected = torch.zeros_like(image)
        for y in range(6):
            for x in range(7):
                if 0 <= y - down < 6 and 0 <= x - right < 7:
                    expected[:, y, x] = image[:, y - down, x - right]
        assert torch.equal(moved, expected)
    assert shifted(images, indices, 0, 7, 3) is images


def test_a_shift_depends_on_seed_epoch_and_image_alone():
    indices = torch.arange(20_000)
    found = shifts(indices, 1, 7, 3)
    assert torch.equal(shifts(indices[500:510], 1, 7, 3), found[500:510])
    for other in (shifts(indices, 1, 8, 3), shifts(indices, 1, 7, 4)):
        assert (other == found).all(1).double().mean() == pytest.approx(1 / 9, abs=0.014)  # 6 standard deviations
    count = torch.bincount((found[:, 0] + 1) * 3 + found[:, 1] + 1, minlength=9).double()
    assert ((count - 20_000 / 9) ** 2 / (20_000 / 9)).sum().item() < 46  # chi-square, 8 degrees: 1e-7


def test_a_run_sees_shifted_images_and_validates_on_plain_ones(tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, shift=2, epochs=1)
    seen = []
    step = Stepper.step

    def noting(self, images, *args):
        seen.append(images)
        return step(self, images, *args)

    monkeypatch.setattr(Stepper, "step", noting)
    model = run(tmp_path, config)
    order = pixelcnn.randomness.permutation(60, 0, 0)
    assert torch.equal(torch.cat(seen), shifted(stripes(60)[order], order, 2, 0, 0))
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["validation_loss_ema"] == pixelcnn.evaluate(model, stripes(20, 1)).nats_per_subpixel


# Presets and configurations ------------------------------------------------------------------------------------


def test_the_seed_preset_is_the_example():
    seed = PRESETS["seed"]
    assert dataclasses.asdict(seed.model) == {
        "image_shape": (1, 28, 28), "levels": 2, "filters": 128, "blocks": 5, "embedding": 0,
    }  # fmt: skip
    assert (seed.epochs, seed.batch_size, seed.protocol, seed.ema) == (50, 128, "seed", None)
    assert (seed.learning_rate, seed.schedule, seed.warmup_steps) == (5e-4, "constant", 0)
    assert (seed.clip_norm, seed.weight_decay, seed.dropout, seed.shift) == (None, 0, 0, 0)
    assert (seed.accumulate, seed.finish) == (1, "last")
    assert sum(p.numel() for p in pixelcnn.PixelCNN.from_config(seed.model).parameters()) == 532_673


@pytest.mark.parametrize(("preset", "minutes"), [("quick", 1), ("fast", 10), ("best", 180)])
def test_the_other_presets_see_the_whole_picture_with_fewer_parameters(preset, minutes):
    config = PRESETS[preset]
    assert (config.minutes, config.model.places, config.model.context) == (minutes, True, (4, 2))
    by_class = model_of(dataclasses.replace(config.model, num_classes=10))
    assert sum(p.numel() for p in by_class.parameters()) <= 532_673


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_recipe(preset, family):
    config = recipe(preset, family)
    assert type(config.model) is FAMILIES[family]
    assert config.minutes == PRESETS[preset].minutes
    assert config.model.image_shape == (1, 28, 28)
    if preset != "seed":
        rates = {"plusplus": 4e-3, "pixelcnn": 5e-3, "photo": 5e-3}
        assert config.learning_rate == rates.get(family, PRESETS[preset].learning_rate)
        assert config.optimizer == ("adam" if family == "photo" else "muon")


@pytest.mark.parametrize("config", [*PRESETS.values(), TINY])
def test_configurations_survive_json(config):
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config))), "here") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be an integer of at least 1, got 0"),
        ({"accumulate": 9}, "accumulate must be at most the batch size of 8, got 9"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"learning_rate": "1"}, "learning_rate must be a number, got '1'"),
        ({"ema": True}, "ema must be a number, got True"),
        ({"clip_norm": 0.0}, r"clip_norm must be positive, got 0\.0"),
        ({"clip_norm": float("inf")}, "clip_norm must be positive, got inf"),
        ({"weight_decay": -0.1}, r"weight_decay must be at least 0 and, .* of 0\.0005, less than 1, got -0\.1"),
        ({"weight_decay": 2000.0}, r"weight_decay must be at least 0 and, .* less than 1, got 2000\.0"),
        ({"dropout": 1.0}, r"dropout must be in 0\.\.0\.99, got 1\.0"),
        ({"shift": -1}, "shift must be an integer of at least 0, got -1"),
        ({"shift": 6}, "shift must be less than the images' 6 rows and 7 columns, got 6"),
        ({"minutes": 0.0}, r"minutes must be positive, got 0\.0"),
        ({"minutes": 1.0, "steps": 3}, r"minutes must be None for a run of 3 steps, got 1\.0"),
        ({"ema": 1.0}, "ema must lie strictly between 0 and 1, got 1.0"),
        ({"schedule": "linear"}, "schedule must be 'constant', 'cosine' or 'one-cycle', got 'linear'"),
        ({"warmup_steps": -1}, "warmup_steps must be an integer of at least 0, got -1"),
        ({"seed": -1}, r"seed must be an integer in 0\.\.2\*\*63-1, got -1"),
        ({"protocol": "dirty"}, "protocol must be 'clean' or 'seed', got 'dirty'"),
        ({"finish": "first"}, "finish must be 'last' or 'best', got 'first'"),
        ({"keep_last": 1}, "keep_last must be an integer of at least 2, got 1"),
        ({"sample_images": -1}, "sample_images must be an integer of at least 0, got -1"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds must be at least 0, got -1.0"),
        ({"tensorboard": "yes"}, "tensorboard must be True or False, got 'yes'"),
    ],
)
def test_wrong_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_shape", (0, 4, 4), r"image_shape must be three positive integers \(C, H, W\), got \(0, 4, 4\)"),
        ("levels", 1, r"levels must be in 2\.\.65536, got 1"),
        ("filters", 1, r"filters must be at least 2, .* got 1"),
        ("blocks", -1, "blocks must be an integer of at least 0, got -1"),
    ],
)
def test_wrong_architectures(field, value, message):
    with pytest.raises(ValueError, match=message):
        pixelcnn.PixelCNN(**{field: value})


def test_logits_start_at_the_frequencies_of_the_levels(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.multinomial(torch.tensor([0.7, 0.0, 0.2, 0.1]), 40 * 16, True, generator=generator).byte()
    images = images.view(40, 1, 4, 4)
    model = GatedPixelCNNConfig(image_shape=(1, 4, 4), levels=4, filters=4, layers=2)
    config = dataclasses.replace(recipe("quick"), model=model, minutes=None, steps=1, learning_rate=1e-9, ema=None)
    assert config.frequency_bias
    config = dataclasses.replace(config, sample_images=0)
    trained = pixelcnn.train(config, images, images, tmp_path / "run")
    shares = trained.output.bias.softmax(0)
    counts = torch.bincount(images.flatten().long(), minlength=4) + 1
    assert torch.allclose(shares, counts / counts.sum(), atol=1e-4)
    plain = dataclasses.replace(config, frequency_bias=False)
    assert pixelcnn.train(plain, images, images, tmp_path / "plain").output.bias.abs().max() < 1e-4
