"""Training: the step's arithmetic, the run's folder, and that stopping changes nothing."""

import dataclasses
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.config import PRESETS, PixelCNNConfig, TrainConfig, from_dict, to_dict
from pixelcnn.files import decode_tensors
from pixelcnn.training.checkpoint import RunState, load_checkpoint, load_newest, save_checkpoint
from pixelcnn.training.schedule import learning_rate
from pixelcnn.training.step import Stepper

TINY = TrainConfig(
    model=PixelCNNConfig(image_shape=(1, 6, 7), filters=6, blocks=1), epochs=2, batch_size=8, ema=0.9, sample_images=4
)


def stripes(n, seed=0):
    """Images whose rows are constant: much to learn from the left neighbour."""
    rows = torch.rand(n, 1, 6, 1, generator=torch.Generator().manual_seed(seed)) < 0.5
    return rows.expand(n, 1, 6, 7).to(torch.uint8)


def run(out, config=TINY, n=60, **options):
    return pixelcnn.train(config, stripes(n), stripes(20, 1), out, progress=False, **options)


def result(out):
    """The bytes that must not depend on interruptions."""
    newest = max((out / "checkpoints").iterdir())
    return {
        "metrics": (out / "metrics.jsonl").read_bytes(),
        "tensors": (newest / "tensors.safetensors").read_bytes(),
        "state": (newest / "state.json").read_bytes(),
        "model": (out / "model" / "model.safetensors").read_bytes(),
    }


# The step ------------------------------------------------------------------------------------------------------


def test_slices_give_the_gradient_of_the_whole_batch(monkeypatch):
    def gradients(slice_size):
        monkeypatch.setattr(pixelcnn.PixelCNN, "slice_size", slice_size)
        model = pixelcnn.PixelCNN((1, 6, 7), filters=6, blocks=1, generator=torch.Generator().manual_seed(0)).double()
        total = Stepper(model, None).step(stripes(10), 1e-3)
        return total, torch.cat([p.grad.flatten() for p in model.parameters()])

    whole, whole_gradient = gradients(10)
    sliced, sliced_gradient = gradients(3)
    assert sliced == pytest.approx(whole, rel=1e-12)
    torch.testing.assert_close(sliced_gradient, whole_gradient)


def test_adam_is_keras_adam():
    """Keras: m and v as in Adam; update lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)."""
    model = pixelcnn.PixelCNN((1, 6, 7), filters=6, blocks=1, generator=torch.Generator().manual_seed(0)).double()
    stepper = Stepper(model, ema=None)
    m = v = 0.0
    expected = model.input.weight.detach().clone()
    for t in range(1, 6):
        stepper.step(stripes(10, t), 1e-3)
        g = model.input.weight.grad
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected -= 1e-3 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v.sqrt() + 1e-7)
        torch.testing.assert_close(model.input.weight.detach(), expected, rtol=1e-10, atol=1e-12)


def test_the_average_follows_its_definition():
    model = pixelcnn.PixelCNN((1, 6, 7), filters=6, blocks=1)
    stepper = Stepper(model, ema=0.5)
    average = model.output.bias.detach().clone()
    for t in range(1, 12):
        stepper.step(stripes(10, t), 1e-2)
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * model.output.bias.detach()
    torch.testing.assert_close(stepper.averaged["output.bias"], average)


def test_restoring_refuses_other_tensors():
    stepper = Stepper(pixelcnn.PixelCNN((1, 6, 7), filters=6, blocks=1), None)
    good = {name: t.clone() for name, t in stepper.tensors().items()}
    with pytest.raises(ValueError, match=r"do not fit the run: 'model\.output\.bias'"):
        stepper.restore({k: v for k, v in good.items() if k != "model.output.bias"}, 1)
    with pytest.raises(
        ValueError, match=r"'model\.output\.bias' must be torch.float32 \(1,\), got torch.float32 \(2,\)"
    ):
        stepper.restore({**good, "model.output.bias": torch.zeros(2)}, 1)


def test_the_schedule_follows_its_definition():
    config = dataclasses.replace(TINY, learning_rate=0.1, schedule="cosine", warmup_steps=4)
    rates = [learning_rate(config, t, 20) for t in range(20)]
    half_cosine = [0.05 * (1 + np.cos(np.pi * t / 20)) for t in range(20)]
    assert rates[:3] == pytest.approx([half_cosine[t] * (t + 1) / 4 for t in range(3)])
    assert rates[3:] == pytest.approx(half_cosine[3:])
    assert {learning_rate(TINY, t, 20) for t in range(20)} == {TINY.learning_rate}


def test_a_cosine_run_is_what_its_rates_say(tmp_path):
    config = dataclasses.replace(TINY, schedule="cosine", warmup_steps=3, ema=None)
    trained = run(tmp_path, config)
    model = pixelcnn.PixelCNN.from_config(config.model, generator=torch.Generator().manual_seed(0))
    stepper = Stepper(model, None)
    batches = [b for epoch in range(2) for b in pixelcnn.randomness.permutation(60, 0, epoch).split(8)]
    for t, batch in enumerate(batches):
        stepper.step(stripes(60)[batch], learning_rate(config, t, 16))
    assert torch.equal(trained.output.weight, model.output.weight)
    with pytest.raises(ValueError, match="holds a run with epochs = 2, not 3"):
        run(tmp_path, dataclasses.replace(config, epochs=3))


# The run -------------------------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_what_it_says(tmp_path):
    model = run(tmp_path, dataclasses.replace(TINY, epochs=12, learning_rate=0.02))
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "timing.jsonl", "curves.png", "samples", "checkpoints", "model"}
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in metrics] == list(range(1, 13))
    assert [line["step"] for line in metrics] == [8 * k for k in range(1, 13)]
    # a row's first pixel is a coin, ln 2, and the other six follow from it
    assert metrics[-1]["validation_loss_ema"] < 0.3 < metrics[0]["train_loss"]
    assert len((tmp_path / "timing.jsonl").read_text().splitlines()) == 12
    assert len(list((tmp_path / "samples").glob("epoch-*.png"))) == 12
    for picture in (tmp_path / "curves.png", tmp_path / "samples" / "epoch-012.png"):
        assert np.asarray(Image.open(picture)).std() > 0
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    loaded = pixelcnn.load(tmp_path)
    assert torch.equal(loaded.sample(3), model.sample(3))
    assert pixelcnn.evaluate(loaded, stripes(20, 1)).nats_per_subpixel == metrics[-1]["validation_loss_ema"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "training: 60 images, SHA-256 " in card
    assert "12 epochs, 96 steps, batch 8, Adam, learning rate 0.02 (constant), weights averaged with decay 0.9" in card
    assert f"Validation loss {metrics[-1]['validation_loss_ema']:.4f} nats a sub-pixel" in card


def test_the_training_loss_is_the_mean_before_each_step(tmp_path):
    config = dataclasses.replace(TINY, epochs=1, ema=None)
    run(tmp_path, config)
    (line,) = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    model = pixelcnn.PixelCNN.from_config(config.model, generator=torch.Generator().manual_seed(0))
    stepper = Stepper(model, None)
    order = pixelcnn.randomness.permutation(60, 0, 0)
    nats = [stepper.step(stripes(60)[batch], config.learning_rate) for batch in order.split(8)]
    assert line["train_loss"] == sum(nats) / 60 / 42
    assert line["validation_loss"] == pixelcnn.evaluate(model, stripes(20, 1)).nats_per_subpixel
    assert "validation_loss_ema" not in line


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
    with pytest.raises(ValueError, match="already holds a run; --resume auto goes on with it"):
        run(tmp_path / "c", resume="off")
    with pytest.raises(ValueError, match=r"nowhere is not a checkpoint: one is a folder RUN/checkpoints/step-"):
        run(tmp_path / "d", resume=tmp_path / "nowhere")
    first = tmp_path / "a" / "checkpoints" / "step-00000008-epochs-0001"
    with pytest.raises(ValueError, match="holds a run with batch_size = 8, not 4; choose another folder"):
        run(tmp_path / "d", dataclasses.replace(TINY, batch_size=4), resume=first)
    with pytest.raises(ValueError, match=r"holds a run with training = '60 images, SHA-256 .*', not '61 images"):
        run(tmp_path / "d", n=61, resume=first)
    assert not (tmp_path / "d").exists()
    with pytest.raises(ValueError, match=r"holds later checkpoints than .*; choose another folder to go on from it"):
        run(tmp_path / "c", resume=first)


def test_another_configuration_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"holds a run with learning_rate = 0\.0005, not 0\.1; choose another folder"):
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


SCRIPT = """
    import dataclasses, sys
    sys.path.insert(0, {tests!r})
    import pixelcnn, test_training as t
    config = dataclasses.replace(t.TINY, epochs=8, checkpoint_seconds=0.05)
    print("training", flush=True)
    pixelcnn.train(config, t.stripes(800), t.stripes(20, 1), {out!r})
"""


def start(out):
    script = textwrap.dedent(SCRIPT).format(tests=os.path.dirname(__file__), out=str(out))
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)


def test_killed_ten_times_and_resumed_gives_the_same_bits(tmp_path):
    """SIGKILL at random moments of training, validating and saving; weights, optimiser and metrics."""
    with start(tmp_path / "undisturbed") as process:
        process.stdout.read()
    assert process.returncode == 0
    seed = time.time_ns()
    print(f"seed {seed}")  # shown when the test fails
    chooser = random.Random(seed)
    kills = 0
    while kills < 10:
        with start(tmp_path / "killed") as process:
            process.stdout.readline()
            time.sleep(chooser.uniform(0.0, 0.45))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
        assert process.returncode == -signal.SIGKILL, "the run is too short to be killed ten times"
    with start(tmp_path / "killed") as process:
        process.stdout.read()
    assert process.returncode == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [100 * (k + 1) for k in range(8)]
    assert result(tmp_path / "killed") == result(tmp_path / "undisturbed")


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


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoints(tmp_path):
    run(tmp_path, dataclasses.replace(TINY, epochs=1))
    step = Stepper.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", lambda self, *args: step(self, *args) * (float("nan") if self.steps > 9 else 1))
        with pytest.raises(
            ValueError, match=r"the loss is no longer finite at step 9; try a learning rate under 0.0005"
        ):
            run(tmp_path, dataclasses.replace(TINY, checkpoint_seconds=0))
    assert max((tmp_path / "checkpoints").iterdir()).name == "step-00000009-epochs-0001"
    run(tmp_path)


def test_another_number_of_threads_is_told(tmp_path):
    run(tmp_path, dataclasses.replace(TINY, epochs=1))
    record = (tmp_path / "config.json").read_text()
    threads = torch.get_num_threads()
    (tmp_path / "config.json").write_text(record.replace(f'"threads": {threads}', '"threads": 99'))
    with pytest.warns(UserWarning, match="was begun with a number of threads of 99, and goes on with"):
        run(tmp_path)


def test_global_randomness_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    model = run(tmp_path)
    model.sample(3)
    pixelcnn.evaluate(model, stripes(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    run(tmp_path / "undisturbed")
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import pixelcnn, test_training as t
        from pixelcnn.training.step import Stepper
        step = Stepper.step
        def step_and_interrupt(self, *args):
            if self.steps == 10:
                os.kill(os.getpid(), signal.SIGINT)
            return step(self, *args)
        Stepper.step = step_and_interrupt
        try:
            t.run({str(tmp_path / "stopped")!r})
        except pixelcnn.training.Interrupted as stop:
            print(stop)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "stopped at step 11; the same command with --resume auto goes on\n"
    shutil.copytree(tmp_path / "stopped", tmp_path / "again")
    run(tmp_path / "again")
    assert result(tmp_path / "again") == result(tmp_path / "undisturbed")


# Checkpoints ---------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, RunState(step=step), {"x": torch.full((3,), float(step))})
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000002-epochs-0000", "step-00000003-epochs-0000"]
    newest = tmp_path / "step-00000003-epochs-0000" / "tensors.safetensors"
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(
        UserWarning, match=r"checkpoint passed over: .*step-00000003-epochs-0000/tensors.safetensors is damaged"
    ):
        state, tensors = load_newest(tmp_path)
    assert state.step == 2
    assert tensors["x"].eq(2).all()
    (tmp_path / "step-00000002-epochs-0000" / "manifest.json").unlink()
    warnings.simplefilter("ignore")  # pytest gives every test its own filters
    with pytest.raises(ValueError, match=r"none of the 2 checkpoints in .* is intact"):
        load_newest(tmp_path)
    assert load_newest(tmp_path / "empty") is None


def test_every_part_of_a_checkpoint_is_checked(tmp_path):
    path = save_checkpoint(tmp_path, RunState(step=1), {"x": torch.ones(3)})
    chooser = random.Random(0)
    for file in path.iterdir():
        content = file.read_bytes()
        for k in chooser.sample(range(len(content)), min(60, len(content))):
            file.write_bytes(content[:k] + bytes([content[k] ^ 1 << chooser.randrange(8)]) + content[k + 1 :])
            try:
                state, tensors = load_checkpoint(path)
            except ValueError:
                continue
            assert file.name == "manifest.json"  # white space
            assert state == RunState(step=1)
            assert tensors["x"].eq(1).all()
        file.write_bytes(content)


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    run(tmp_path / "undisturbed")
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 25:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(tmp_path / "run", dataclasses.replace(TINY, checkpoint_seconds=0))
    monkeypatch.undo()
    assert load_newest(tmp_path / "run" / "checkpoints") is not None
    assert not list((tmp_path / "run").rglob("*.tmp"))
    run(tmp_path / "run")
    assert result(tmp_path / "run") == result(tmp_path / "undisturbed")


# Configurations ------------------------------------------------------------------------------------------------


def test_the_seed_preset_is_the_example():
    seed = PRESETS["seed"]
    assert dataclasses.asdict(seed.model) == {"image_shape": (1, 28, 28), "levels": 2, "filters": 128, "blocks": 5}
    assert (seed.epochs, seed.batch_size, seed.protocol, seed.ema) == (50, 128, "seed", None)
    assert (seed.learning_rate, seed.schedule, seed.warmup_steps) == (5e-4, "constant", 0)
    assert sum(p.numel() for p in pixelcnn.PixelCNN.from_config(seed.model).parameters()) == 532_673


@pytest.mark.parametrize("config", [*PRESETS.values(), TINY])
def test_configurations_survive_json(config):
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config))), "here") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"ema": 1.0}, "ema must lie strictly between 0 and 1, got 1.0"),
        ({"schedule": "linear"}, "schedule must be 'constant' or 'cosine', got 'linear'"),
        ({"warmup_steps": -1}, "warmup_steps must be an integer of at least 0, got -1"),
        ({"seed": -1}, r"seed must be in 0\.\.2\*\*63-1, got -1"),
        ({"protocol": "dirty"}, "protocol must be 'clean' or 'seed', got 'dirty'"),
        ({"sample_images": -1}, "sample_images must be an integer of at least 0, got -1"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds must be at least 0, got -1.0"),
    ],
)
def test_wrong_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_shape", (0, 4, 4), r"image_shape must be three positive integers \(C, H, W\), got \(0, 4, 4\)"),
        ("levels", 1, r"levels must be in 2\.\.256, got 1"),
        ("filters", 1, r"filters must be an integer in 2\.\.65536, at least 2 a channel, got 1"),
        ("blocks", -1, "blocks must be an integer of at least 0, got -1"),
    ],
)
def test_wrong_architectures(field, value, message):
    with pytest.raises(ValueError, match=message):
        pixelcnn.PixelCNN(**{field: value})


def test_tensor_files_hold_what_they_say(tmp_path):
    path = save_checkpoint(tmp_path, RunState(step=7), {"x": torch.arange(3)})
    tensors, metadata = decode_tensors((path / "tensors.safetensors").read_bytes(), "here")
    assert metadata == {"step": "7"}
    assert torch.equal(tensors["x"], torch.arange(3))
