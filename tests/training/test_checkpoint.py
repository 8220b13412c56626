"""Checkpoints: which are kept, that no change goes unnoticed, and that the one before takes over."""

import dataclasses
import random
import shutil

import pytest
import torch

import pixelcnn
from pixelcnn.files import decode_tensors
from pixelcnn.training.checkpoint import RunState, last_sound, load_checkpoint, load_newest, save_checkpoint
from pixelcnn.training.watch import LossWatch
from tiny import TINY, metrics_of, result, run, stepper_of, stripes

FILES = {"tensors.safetensors", "state.json", "manifest.json"}


def names(folder):
    return [path.name for path in sorted(folder.iterdir())]


def save(folder, step, losses=(), **options):
    """A checkpoint at a step, after epochs with these validation losses, one every ten steps."""
    metrics = [{"epoch": k + 1, "step": 10 * (k + 1), "validation_loss": loss} for k, loss in enumerate(losses)]
    state = RunState(step=step, metrics=metrics, watch=options.pop("watch", LossWatch()))
    return save_checkpoint(folder, state, {"x": torch.full((3,), float(step))}, **options)


# Which are kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_last", [2, 4])
def test_the_newest_are_kept(tmp_path, keep_last):
    for step in range(1, 8):
        save(tmp_path, step, keep_last=keep_last)
        expected = range(max(1, step - keep_last + 1), step + 1)
        assert names(tmp_path) == [f"step-{k:08d}-epochs-0000" for k in expected]


def test_the_best_is_kept(tmp_path):
    losses = [0.5, 0.3, 0.4, 0.3, 0.6]
    for epoch in range(1, 6):
        save(tmp_path, 10 * epoch, losses[:epoch])
        save(tmp_path, 10 * epoch + 5, losses[:epoch])
    assert names(tmp_path) == [
        "step-00000020-epochs-0002",  # the first of equals
        "step-00000050-epochs-0005",
        "step-00000055-epochs-0005",
    ]


def test_the_one_from_before_the_loss_went_astray_is_kept(tmp_path):
    for step in range(1, 20):
        state = RunState(step=step, watch=LossWatch(steps_off=max(0, step - 10)))
        save(tmp_path, step, watch=state.watch)
        assert last_sound(tmp_path, state).name == f"step-{min(step, 10):08d}-epochs-0000"
    assert names(tmp_path) == [f"step-{k:08d}-epochs-0000" for k in (10, 18, 19)]


def test_damaged_ones_do_not_displace_good_ones(tmp_path):
    """After going back to an older checkpoint, a new one is older by name than the damaged ones."""
    save(tmp_path, 1)
    save(tmp_path, 20)
    save(tmp_path, 30, keep_last=3)
    save(tmp_path, 5)
    assert "step-00000005-epochs-0000" in names(tmp_path)
    save(tmp_path, 6)
    save(tmp_path, 7)
    assert names(tmp_path)[:2] == ["step-00000006-epochs-0000", "step-00000007-epochs-0000"]


def test_the_finished_model_is_the_last_or_the_best(tmp_path, monkeypatch):
    """The validation loss of the second of four epochs is the lowest: the others' is made worse."""
    worse = iter([0.5, 0.0, 0.5, 0.5] * 9)
    evaluate = pixelcnn.evaluate

    def rigged(*args, **options):
        found = evaluate(*args, **options)
        return dataclasses.replace(found, nats_per_subpixel=found.nats_per_subpixel + next(worse))

    monkeypatch.setattr("pixelcnn.training.run.evaluate", rigged)
    config = dataclasses.replace(TINY, ema=None, epochs=4)
    last = run(tmp_path / "last", config)
    best = run(tmp_path / "best", dataclasses.replace(config, finish="best"))
    monkeypatch.undo()
    second = run(tmp_path / "second", dataclasses.replace(config, epochs=2))
    assert torch.equal(best.output.weight, second.output.weight)
    assert not torch.equal(best.output.weight, last.output.weight)
    assert torch.equal(pixelcnn.load(tmp_path / "best").output.weight, best.output.weight)
    loss = metrics_of(tmp_path / "best")[1]["validation_loss"]
    card = (tmp_path / "best" / "model" / "README.md").read_text()
    assert "The weights are those after epoch 2, the best." in card
    assert f"Validation loss {loss:.4f}" in card

    again = run(tmp_path / "last", dataclasses.replace(config, finish="best"))  # a finished run, asked for the other
    assert torch.equal(again.output.weight, best.output.weight)
    newest = max((tmp_path / "best" / "checkpoints").iterdir())
    brought = run(tmp_path / "brought", dataclasses.replace(config, epochs=5, finish="best"), resume=newest)
    line = min(metrics_of(tmp_path / "brought"), key=lambda line: line["validation_loss"])
    assert pixelcnn.evaluate(brought, stripes(20, 1)).nats_per_subpixel == line["validation_loss"]
    shutil.rmtree(tmp_path / "best" / "checkpoints" / "step-00000016-epochs-0002")
    with pytest.raises(ValueError, match=r"step-00000016-epochs-0002 is not a checkpoint.*; --finish last makes"):
        run(tmp_path / "best", dataclasses.replace(config, finish="best"))


# Damage --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_flips_and_truncations_are_all_detected(tmp_path):
    """Every bit of every file counts, white space included; the checkpoint before takes over each time."""
    model = pixelcnn.PixelCNN((1, 6, 7), filters=6, blocks=1)
    for step in (1, 2):
        state = RunState(step=step, metrics=[{"epoch": 1, "step": 1, "validation_loss": 0.1 * step}])
        path = save_checkpoint(tmp_path, state, stepper_of(model, 0.9).tensors())
    good, good_tensors = load_checkpoint(tmp_path / "step-00000001-epochs-0001")
    files = sorted(path.iterdir())
    assert {file.name for file in files} == FILES
    chooser = random.Random(0)
    for k in range(1000):
        file = files[k % 3]
        content = file.read_bytes()
        at = chooser.randrange(len(content))
        if k % 2:
            file.write_bytes(content[:at])
        else:
            file.write_bytes(content[:at] + bytes([content[at] ^ 1 << chooser.randrange(8)]) + content[at + 1 :])
        with pytest.raises(ValueError, match="step-00000002-epochs-0001"):
            load_checkpoint(path)
        if k < 60:
            with pytest.warns(UserWarning, match=r"checkpoint passed over, going back to the one before it: .*00002-"):
                state, tensors = load_newest(tmp_path)
            assert state == good
            assert tensors.keys() == good_tensors.keys()
            assert all(torch.equal(tensors[name], good_tensors[name]) for name in tensors)
        file.write_bytes(content)
    assert load_checkpoint(path)[0].step == 2


def test_every_byte_of_the_manifest_counts(tmp_path):
    path = save(tmp_path, 1)
    manifest = path / "manifest.json"
    content = manifest.read_bytes()
    for at in range(len(content)):
        manifest.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError, match="step-00000001-epochs-0000"):
            load_checkpoint(path)
    manifest.write_bytes(content + b"\n")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged: it is not as it was written"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_noticed(tmp_path, name):
    path = save(tmp_path, 1)
    (path / name).unlink()
    with pytest.raises(ValueError, match=r"step-00000001-epochs-0000"):
        load_checkpoint(path)


def test_without_an_intact_one_nothing_is_loaded(tmp_path):
    for step in (1, 2):
        (save(tmp_path, step) / "state.json").write_text("{}")
    with (
        pytest.raises(ValueError, match=r"none of the 2 checkpoints in .* is intact"),
        pytest.warns(UserWarning, match="passed over"),
    ):
        load_newest(tmp_path)
    assert load_newest(tmp_path / "empty") is None


def test_a_run_goes_on_from_the_one_before_to_the_same_bits(tmp_path):
    config = dataclasses.replace(TINY, epochs=3)
    run(tmp_path / "undisturbed", config)
    run(tmp_path / "damaged", dataclasses.replace(TINY, epochs=2))
    newest = max((tmp_path / "damaged" / "checkpoints").iterdir()) / "tensors.safetensors"
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(UserWarning, match=r"passed over, .*step-00000016-epochs-0002/tensors\.safetensors is damaged"):
        run(tmp_path / "damaged", config)
    assert result(tmp_path / "damaged") == result(tmp_path / "undisturbed")


def test_tensor_files_hold_what_they_say(tmp_path):
    path = save_checkpoint(tmp_path, RunState(step=7), {"x": torch.arange(3)})
    tensors, metadata = decode_tensors((path / "tensors.safetensors").read_bytes(), "here")
    assert metadata == {"step": "7"}
    assert torch.equal(tensors["x"], torch.arange(3))
