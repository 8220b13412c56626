"""Runs that are stopped: by Ctrl-C, by SIGTERM, by a loss that is not finite or diverges."""

import dataclasses
import math
import os
import runpy
import signal
import sys
from pathlib import Path

import pytest

import pixelcnn
from pixelcnn import datasets
from pixelcnn.cli import main
from pixelcnn.cli.train import Train
from pixelcnn.training import Interrupted
from pixelcnn.training import run as loop
from pixelcnn.training.checkpoint import load_checkpoint
from pixelcnn.training.step import Stepper
from pixelcnn.training.watch import LossWatch
from tiny import TINY, result, run, stripes, tiny_model

# From outside --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "where", "code", "step"),
    [
        (signal.SIGINT, "training", 130, 11),
        (signal.SIGTERM, "training", 143, 11),
        (signal.SIGTERM, "validating", 143, 8),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM-validating"],
)
def test_a_stopped_run_saves_and_says_how_to_go_on(tmp_path, monkeypatch, capsys, number, where, code, step):
    """While validating, everything is saved already: it ends at once, in what a scheduler grants."""
    out = tmp_path / "stopped"
    take_step, evaluate = Stepper.step, loop.evaluate

    def stopped_step(stepper, *arguments):
        if stepper.steps == 10:
            os.kill(os.getpid(), number)
        return take_step(stepper, *arguments)

    def stopped_evaluation(*arguments, **options):
        os.kill(os.getpid(), number)
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        if where == "training":
            patch.setattr(Stepper, "step", stopped_step)
        else:
            patch.setattr(loop, "evaluate", stopped_evaluation)
        patch.setattr(Train, "run", lambda self: run(out, data="stripes"))
        assert main(["train", "mnist"]) == code
    said = capsys.readouterr().err
    assert said == f"pixelcnn: stopped at step {step}; the same command resumes it\n"
    assert max((out / "checkpoints").iterdir()).name == f"step-{step:08d}-epochs-{step // 9:04d}"
    assert not list(out.rglob(".*"))
    run(out, data="stripes")
    run(tmp_path / "undisturbed", data="stripes")
    assert result(out) == result(tmp_path / "undisturbed")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_script_of_runs_that_is_stopped_ends_with_one_line(monkeypatch, capsys, number, code):
    def stopped(*_arguments, **_options):
        raise Interrupted("stopped at step 8", number)

    script = Path(__file__).parent.parent.parent / "runs" / "order.py"
    monkeypatch.setattr(pixelcnn, "train", stopped)
    monkeypatch.setattr(sys, "argv", [str(script), "folder", "left-up", "mnist", "2e-3", "0.1", "1"])
    monkeypatch.setattr(datasets, "mnist", lambda *_: (stripes(2), None))
    monkeypatch.setattr(datasets, "drawn_mnist", lambda *_: (stripes(2), None))
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == code
    assert capsys.readouterr().err == "stopped at step 8\n"


def test_only_the_second_ctrl_c_ends_a_run_at_once(tmp_path, monkeypatch):
    def send(signum):
        step = Stepper.step

        def interrupted(self, *args):
            for _ in range(2):
                os.kill(os.getpid(), signum)
            return step(self, *args)

        monkeypatch.setattr(Stepper, "step", interrupted)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context():
        send(signal.SIGTERM)
        with pytest.raises(pixelcnn.training.Interrupted, match="stopped at step 1") as stop:
            run(tmp_path / "term")
        assert stop.value.exit_code == 143
        monkeypatch.undo()
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) as stop:
            run(tmp_path / "int")
        assert not isinstance(stop.value, pixelcnn.training.Interrupted)
        monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) is before


# A lost loss ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_and_keeps_the_checkpoints(tmp_path, monkeypatch, what):
    run(tmp_path, dataclasses.replace(TINY, epochs=1))
    step = Stepper.step

    def failing(self, *args):
        result = step(self, *args)
        bad = {"loss": result._replace(nats=math.nan), "gradient": result._replace(gradient_norm=math.inf)}[what]
        return bad if self.steps > 9 else result

    monkeypatch.setattr(Stepper, "step", failing)
    with pytest.raises(
        ValueError,
        match=rf"the {what} is no longer finite at step 9; start a new run in another folder with a learning rate "
        r"under 0\.0005, or clip_norm = 1; the last good checkpoint is .*/checkpoints/step-00000009-epochs-0001",
    ):
        run(tmp_path, dataclasses.replace(TINY, checkpoint_seconds=0))
    monkeypatch.undo()
    assert max((tmp_path / "checkpoints").iterdir()).name == "step-00000009-epochs-0001"
    run(tmp_path)


def test_weights_that_are_not_finite_are_not_kept(tmp_path, monkeypatch):
    """A last step can leave some, which no later step would notice."""
    monkeypatch.setattr(loop, "learning_rate", lambda config, step, total: 1e39 if step else 1e-3)
    with pytest.raises(
        ValueError, match=r"\.weight has values that are not finite after step 2; start a new run .*0001"
    ):
        run(tmp_path, TINY, n=8)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step-00000001-epochs-0000", "step-00000001-epochs-0001"}


def test_a_run_that_diverges_stops_and_the_good_checkpoint_is_kept(tmp_path, monkeypatch):
    """A real one: a sound epoch, then a learning rate that tears the weights apart."""
    monkeypatch.setattr(loop, "learning_rate", lambda config, step, total: 0.01 if step < 200 else 100.0)
    config = dataclasses.replace(TINY, epochs=40, ema=None, sample_images=0)
    with pytest.raises(
        ValueError, match=r"the loss has diverged by step .* start a new run in another folder with a learning rate"
    ) as stop:
        run(tmp_path, config, n=1600)
    sound = Path(str(stop.value).partition("the last good checkpoint is ")[2])
    state, tensors = load_checkpoint(sound)
    assert (state.step, state.watch.steps_off) == (200, 0)
    model = tiny_model()
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    assert pixelcnn.evaluate(model, stripes(20, 1)).nats_per_subpixel < 0.3


def test_the_watch_follows_its_definition():
    watch = LossWatch()
    average = lowest = None
    for t in range(300):
        loss = 0.2 if t < 100 else 0.5
        watch.see(loss, levels=2)
        average = loss if average is None else 0.98 * average + 0.02 * loss
        lowest = average if lowest is None else min(lowest, average)
        assert watch.average == pytest.approx(average)
        assert (watch.steps_off > 0) == (average > 1.5 * lowest + 0.05 * math.log(2))
    assert watch.steps_off


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([0.1] * 5000, False),
        ([0.7] * 2000, False),  # learns nothing, in a long warm-up
        ([0.1] * 500 + [5.0] * 20 + [0.1] * 2000, False),  # a spike
        ([0.1] * 500 + [0.4] * 480, False),
        ([0.1] * 500 + [0.4] * 600, True),  # dead units: nothing is left but each image's mean
        ([0.7] * 5 + [30.0] * 600, True),
        ([1e-6] * 500 + [1e-3] * 2000, False),  # nearly nothing to learn: ratios mean little
    ],
)
def test_what_counts_as_diverged(losses, diverged):
    watch = LossWatch()
    seen = False
    for loss in losses:
        watch.see(loss, levels=2)
        seen = seen or watch.diverged
    assert seen == diverged
