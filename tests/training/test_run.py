"""The run's folder: what it holds, which runs are resumed and which are refused."""

import dataclasses
import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.models.base import checksum
from pixelcnn.training.checkpoint import RunState, load_newest, save_checkpoint
from pixelcnn.training.report import _write_timing
from pixelcnn.training.schedule import Plan
from pixelcnn.training.step import Stepper
from tiny import TINY, metrics_of, result, run, stepper_of, stripes, tiny_model


@pytest.mark.usefixtures("with_curves")
def test_a_run_learns_and_leaves_what_it_says(tmp_path):
    model = run(tmp_path, dataclasses.replace(TINY, epochs=12, learning_rate=0.02))
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "timing.jsonl", "curves.png", "samples", "checkpoints", "model"}
    metrics = metrics_of(tmp_path)
    assert [line["epoch"] for line in metrics] == list(range(1, 13))
    assert [line["step"] for line in metrics] == [8 * k for k in range(1, 13)]
    # a row's first pixel is a coin, ln 2, and the other six follow from it
    assert metrics[-1]["validation_loss_ema"] < 0.3 < metrics[0]["train_loss"]
    timing = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in timing] == list(range(1, 13))
    for line in timing:
        assert line["images"] == 60
        assert line["images_per_second"] == pytest.approx(60 / line["seconds"], rel=0.1)
        assert 50e6 < line["peak_memory_bytes"] < 1e12
    assert len(list((tmp_path / "samples").glob("epoch-*.png"))) == 12
    for picture in (tmp_path / "curves.png", tmp_path / "samples" / "epoch-012.png"):
        assert np.asarray(Image.open(picture)).std() > 0
    losses = [line["validation_loss_ema"] for line in metrics]
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == sorted(
        {f"step-{8 * k:08d}-epochs-{k:04d}" for k in (12, 1 + losses.index(min(losses)))}
        | {"step-00000096-epochs-0011"}
    )
    loaded = pixelcnn.load(tmp_path)
    assert torch.equal(loaded.sample(3, seed=0), model.sample(3, seed=0))
    assert pixelcnn.evaluate(loaded, stripes(20, 1)).nats_per_subpixel == metrics[-1]["validation_loss_ema"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "training: 60 images, SHA-256 " in card
    assert "12 epochs, 96 steps, batch 8, Adam, learning rate 0.02 (constant), weights averaged with decay 0.9" in card
    assert f"Validation loss {metrics[-1]['validation_loss_ema']:.4f} nats per sub-pixel" in card


def test_the_metrics_are_what_they_say(tmp_path):
    config = dataclasses.replace(TINY, epochs=1, ema=None)
    run(tmp_path, config)
    (line,) = metrics_of(tmp_path)
    model = tiny_model()
    stepper = stepper_of(model, None)
    order = pixelcnn.randomness.permutation(60, 0, 0)
    steps = [stepper.step(stripes(60)[batch], config.learning_rate) for batch in order.split(8)]
    assert line["train_loss"] == sum(step.nats for step in steps) / 60 / 42
    assert line["validation_loss"] == pixelcnn.evaluate(model, stripes(20, 1)).nats_per_subpixel
    assert line["gradient_norm"] == sum(step.gradient_norm for step in steps) / 8
    assert line["gradient_norm_max"] == max(step.gradient_norm for step in steps)
    assert line["learning_rate"] == config.learning_rate
    assert "validation_loss_ema" not in line


def test_a_run_says_how_it_goes(tmp_path, capsys):
    pixelcnn.train(TINY, stripes(60), stripes(20, 1), tmp_path)
    said = capsys.readouterr().err
    loss, averaged = (metrics_of(tmp_path)[-1][name] for name in ("validation_loss", "validation_loss_ema"))
    for words in (
        "epoch 2/2",
        "nats/image, rate 5.0e-04, gradient ",
        f"validation loss {loss:.4f} ({loss * 42:.2f} nats/image), with averaged weights {averaged:.4f} "
        f"({averaged * 42:.2f} nats/image), ",
        "images/s, ",
        " GiB",
    ):
        assert words in said


def test_the_card_says_what_the_recipe_was(tmp_path):
    config = dataclasses.replace(
        TINY, schedule="one-cycle", clip_norm=0.5, weight_decay=0.01, dropout=0.1, shift=1, flip=True, finish="best"
    )
    run(tmp_path, config, init=tiny_model())
    card = (tmp_path / "model" / "README.md").read_text()
    assert (
        "Adam, learning rate 0.0005 (one-cycle), gradient norm at most 0.5, weight decay 0.01, dropout 0.1, images "
        "shifted by up to 1 pixels, images mirrored with probability 1/2, weights averaged with decay 0.9, seed 0"
    ) in card
    assert "The weights are those after epoch 2, the best." in card
    assert f"- first weights: those of the model of SHA-256 {checksum(tiny_model())}\n\n2 epochs" in card


def test_a_finished_run_is_not_repeated_and_can_be_prolonged(tmp_path):
    run(tmp_path / "a")
    before = result(tmp_path / "a")
    run(tmp_path / "a")
    assert result(tmp_path / "a") == before
    longer = dataclasses.replace(TINY, epochs=3)
    run(tmp_path / "a", longer)
    run(tmp_path / "b", longer)
    assert result(tmp_path / "a") == result(tmp_path / "b")


def test_resuming_from_a_path_and_from_nothing(tmp_path):
    run(tmp_path / "a", dataclasses.replace(TINY, epochs=1))
    run(tmp_path / "b", resume=tmp_path / "a" / "checkpoints" / "step-00000008-epochs-0001")
    run(tmp_path / "c", resume="off")
    assert result(tmp_path / "b") == result(tmp_path / "c")
    with pytest.raises(ValueError, match="already holds a run; --resume auto resumes it"):
        run(tmp_path / "c", resume="off")
    with pytest.raises(ValueError, match=r"nowhere is not a checkpoint: one is a folder RUN/checkpoints/step-"):
        run(tmp_path / "d", resume=tmp_path / "nowhere")
    first = tmp_path / "a" / "checkpoints" / "step-00000008-epochs-0001"
    with pytest.raises(
        ValueError, match="00000008-epochs-0001 holds a run with batch_size = 8, not 4; resume it with the same options"
    ):
        run(tmp_path / "d", dataclasses.replace(TINY, batch_size=4), resume=first)
    with pytest.raises(ValueError, match=r"0001 holds a run with learning_rate = 0\.0005, not 0\.0001"):
        run(tmp_path / "d", dataclasses.replace(TINY, learning_rate=1e-4), resume=first)
    with pytest.raises(ValueError, match=r"holds a run with training = '60 images, SHA-256 .*', not '61 images"):
        run(tmp_path / "d", n=61, resume=first)
    assert not (tmp_path / "d").exists()
    with pytest.raises(ValueError, match=r"holds later checkpoints than .*; resume it in another folder"):
        run(tmp_path / "c", resume=first)


def test_the_configuration_of_a_model_is_not_that_of_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"config must be a pixelcnn\.TrainConfig, got PixelCNNConfig"):
        run(tmp_path, TINY.model)
    assert not any(tmp_path.iterdir())


def test_another_configuration_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds a run with learning_rate = 0\.0005, not 0\.1; resume it with the same options"
    ):
        run(tmp_path, dataclasses.replace(TINY, learning_rate=0.1))
    with pytest.raises(ValueError, match="holds a run with data = 'images', not 'mnist'"):
        run(tmp_path, data="mnist")
    with pytest.raises(ValueError, match=r"holds a run with training = '60 images, SHA-256 .*', not '61 images"):
        run(tmp_path, n=61)
    (tmp_path / "config.json").write_text('{"name": "a web page"}')
    with pytest.raises(ValueError, match=r"config\.json: unknown field 'name' for RunRecord"):
        run(tmp_path)


def test_images_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"training images must hold levels 0\.\.1, got 2"):
        pixelcnn.train(TINY, stripes(9) * 2, stripes(9), tmp_path / "run")
    with pytest.raises(ValueError, match=r"validation images must have shape \(N, 1, 6, 7\), got \(9, 1, 7, 6\)"):
        pixelcnn.train(TINY, stripes(9), stripes(9).transpose(2, 3), tmp_path / "run")
    with pytest.raises(ValueError, match="training must hold at least one image, got 0"):
        pixelcnn.train(TINY, stripes(0), stripes(9), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    run(tmp_path, dataclasses.replace(TINY, epochs=1))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match=r"another process is using .*; wait for it, or choose another folder"):
        run(tmp_path)
    os.close(descriptor)
    run(tmp_path)


def test_what_killed_processes_left_is_cleared_away(tmp_path):
    run(tmp_path, dataclasses.replace(TINY, epochs=1))
    (tmp_path / "checkpoints" / ".step-00000009.1.tmp").mkdir()
    (tmp_path / "checkpoints" / ".step-00000009.1.tmp" / "state.json").touch()
    (tmp_path / "samples" / ".epoch-002.png.1.tmp").touch()
    (tmp_path / "model").rename(tmp_path / ".model.1.old")  # killed between the two renames
    run(tmp_path, dataclasses.replace(TINY, epochs=1))
    assert not list(tmp_path.rglob(".*"))
    assert pixelcnn.load(tmp_path)


def test_a_strangers_hidden_files_stay(tmp_path):
    (tmp_path / ".profile.1.old").touch()
    (tmp_path / ".ssh.old").mkdir()
    run(tmp_path, dataclasses.replace(TINY, epochs=1))
    run(tmp_path)
    assert (tmp_path / ".ssh.old").is_dir()


def test_fewer_epochs_than_begun_are_refused(tmp_path):
    """The weights of the middle of an epoch are not the model of the epoch before."""
    run(tmp_path / "a", dataclasses.replace(TINY, epochs=1))
    state, tensors = load_newest(tmp_path / "a" / "checkpoints")
    state.step, state.epoch_nats = 11, 1.0
    save_checkpoint(tmp_path / "a" / "checkpoints", state, tensors)
    with pytest.raises(ValueError, match=r"epochs must be at least 2, got 1: .* is in the middle of epoch 2"):
        run(tmp_path / "a", dataclasses.replace(TINY, epochs=1))
    run(tmp_path / "a")


def test_another_number_of_threads_is_told(tmp_path):
    run(tmp_path, dataclasses.replace(TINY, epochs=1))
    record = (tmp_path / "config.json").read_text()
    threads = torch.get_num_threads()
    (tmp_path / "config.json").write_text(record.replace(f'"threads": {threads}', '"threads": 99'))
    with pytest.warns(UserWarning, match="was begun with number of threads 99 and is resumed with"):
        run(tmp_path)


def test_global_randomness_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    model = run(tmp_path)
    model.sample(3, seed=0)
    pixelcnn.evaluate(model, stripes(5))
    assert torch.equal(torch.get_rng_state(), before)


BEGUN = Path(__file__).parent / "fixtures" / "run-of-f9710e9"  # its first epoch, by the code of that commit
SECOND_EPOCH = {  # which that code then came to
    "train_loss": 0.6927194262307788,
    "validation_loss": 0.6929512273697627,
    "validation_loss_ema": 0.6930337860470727,
}


def test_a_run_that_earlier_code_began_goes_on(tmp_path, monkeypatch):
    """Options that were not there yet take their defaults."""
    monkeypatch.setattr("pixelcnn.training.steppers.bf16_pays", lambda: False)  # as it was begun
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as it was begun with
    try:
        shutil.copytree(BEGUN, tmp_path / "run")
        run(tmp_path / "run", dataclasses.replace(TINY, precision="auto"))
    finally:
        torch.set_num_threads(threads)
    first, second = metrics_of(tmp_path / "run")
    assert (first["step"], second["step"]) == (8, 16)
    assert {name: second[name] for name in SECOND_EPOCH} == pytest.approx(SECOND_EPOCH, rel=1e-6)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_an_option_that_was_renamed_still_decides(tmp_path):
    """As does one in a run that once changed its configuration, of which no more is said."""
    shutil.copytree(BEGUN, tmp_path / "run")
    config = json.loads((BEGUN / "config.json").read_text())
    config["train"]["unlabelled"] = 0.3
    config["origin"] = "step-00000004-epochs-0000 of a run with learning_rate = 0.1"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"holds a run with label_dropout = 0\.3, not 0\.1"):
        run(tmp_path / "run", dataclasses.replace(TINY, precision="auto"))


def test_an_option_that_is_gone_is_named(tmp_path):
    shutil.copytree(BEGUN, tmp_path / "run")
    config = json.loads((BEGUN / "config.json").read_text())
    config["train"]["momentum"] = 0.9
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: train: unknown field 'momentum' for TrainConfig"):
        run(tmp_path / "run", TINY)


def test_some_minutes_are_planned_as_they_go_on(tmp_path, monkeypatch):
    """By a clock that the steps move: they take a second at first and three seconds later; it still ends in time."""
    now = [0.0]
    monkeypatch.setattr("pixelcnn.training.run.time.monotonic", lambda: now[0])
    step, rates = Stepper.step, []

    def timed(self, images, rate, *rest):
        now[0] += 1.0 if self.steps < 40 else 3.0
        rates.append(rate)
        return step(self, images, rate, *rest)

    monkeypatch.setattr(Stepper, "step", timed)
    config = dataclasses.replace(TINY, minutes=2.0, schedule="cosine", learning_rate=1.0e-3)
    run(tmp_path / "run", config)
    assert 117 <= now[0] <= 123
    assert len(rates) == metrics_of(tmp_path / "run")[-1]["step"] == pytest.approx(40 + 80 / 3, abs=2)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.9e-3
    assert rates[-1] < 0.05e-3
    taken = len(rates)
    run(tmp_path / "run", config)  # has finished
    assert len(rates) == taken


def test_some_minutes_that_are_interrupted_are_gone_on_with(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pixelcnn.training.run.time.monotonic", lambda: now[0])
    step, steps = Stepper.step, [0]

    def timed(self, *arguments):
        now[0] += 1.0
        steps[0] += 1
        if steps[0] == 31:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Stepper, "step", timed)
    config = dataclasses.replace(TINY, minutes=1.0, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", config)
    run(tmp_path / "run", config)
    assert metrics_of(tmp_path / "run")[-1]["step"] == pytest.approx(60, abs=4)


def test_the_time_of_steps_after_the_last_plan_is_in_the_checkpoint(tmp_path, monkeypatch):
    """Or a run that is stopped before each of its plans would never end."""
    now, step = [0.0], Stepper.step
    monkeypatch.setattr("pixelcnn.training.run.time.monotonic", lambda: now[0])

    def timed(self, *arguments):
        if self.steps == 8:
            raise KeyboardInterrupt
        now[0] += 1.0
        return step(self, *arguments)

    monkeypatch.setattr(Stepper, "step", timed)
    with pytest.raises(KeyboardInterrupt):  # 3 steps, and then 12 before the next plan
        run(tmp_path / "run", dataclasses.replace(TINY, minutes=10.0, checkpoint_seconds=0.0), n=160)
    state, _ = load_newest(tmp_path / "run" / "checkpoints")
    assert (state.step, state.seconds) == (8, 8.0)


def test_the_time_of_the_first_steps_is_forgotten_by_the_second_plan():
    state = RunState(step=50_000, seconds=5_400.0, planned_steps=104_000)
    plan = Plan(state, 180.0)
    for seconds_per_step in (10.0, 0.1):  # the first ones compile
        steps = plan.next_steps()
        state.step += steps
        plan.took(steps, steps * seconds_per_step)
    assert state.planned_steps == pytest.approx(104_000, rel=0.01)


def test_the_timing_of_an_epoch_that_is_repeated_is_replaced_in_any_folder(tmp_path):
    path = tmp_path / "timing.jsonl"
    for epoch, seconds in ((5, 1), (6, 1), (5, 2), (6, 2)):  # of a run that was begun in another folder
        _write_timing(path, {"epoch": epoch, "seconds": seconds})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"epoch": epoch, "seconds": 2} for epoch in (5, 6)
    ]
