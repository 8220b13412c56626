"""Drawing for the page, without Gradio: requests, limits, snapshots; losses and cards of what is served."""

import itertools
import json

import pytest
import torch

import pixelcnn
from pixelcnn.app.drawing import Request, draw, steps_of
from pixelcnn.app.served import Limits, Served, load_models
from pixelcnn.models import OrderEnsemble

LIMITS = Limits(images=20)


class Clock:
    """Goes on by a tenth of a second whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.1
        return self.now


def test_the_last_snapshot_is_what_the_model_samples(served):
    for model, request in (
        (served[0], Request(images=3, seed=5, temperature=0.8)),
        (served[1], Request(images=7, seed=6, classes=(0, 1, 2, 3, 4), guidance=2.0)),
        (served[1], Request(images=2, classes=(4,))),
    ):
        *_, last = draw(model, request, LIMITS)
        labels = request.labels()
        expected = model.model.sample(
            request.images, labels, seed=request.seed, temperature=request.temperature, guidance=request.guidance
        )
        assert torch.equal(last.canvas, expected)
        assert last.finished
        assert last.step == last.steps == steps_of(model, conditional=labels is not None)
        assert torch.equal(last.history[-1], expected)
        assert 2 < len(last.history) <= 40
        drawn = [int((canvas > 0).sum()) for canvas in last.history]
        assert drawn == sorted(drawn)  # they grow
    assert served[1].classes == 5
    assert Request(images=7, classes=(0, 1, 2, 3, 4)).labels().tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_snapshots_are_rationed(served):
    """The clock says a tenth of a second a step and one a look: 4 frames a second are every second step."""
    snapshots = list(draw(served[0], Request(images=1), Limits(frames=4), Clock()))
    steps = [snapshot.step for snapshot in snapshots]
    assert steps[-1] == 136
    assert {later - earlier for earlier, later in itertools.pairwise(steps[:-1])} == {2}
    assert not any(snapshot.history for snapshot in snapshots[:-1])
    assert snapshots[-1].seconds == pytest.approx(
        0.1 * 136, abs=0.2
    )  # not what lies between a snapshot and the next step


def test_a_snapshot_does_not_change_afterwards(served):
    snapshots = list(draw(served[0], Request(images=2), Limits(frames=10**9)))
    assert len(snapshots) == 136
    assert snapshots[0].canvas.data_ptr() != snapshots[1].canvas.data_ptr()
    assert int(snapshots[60].canvas.sum()) < int(snapshots[-1].canvas.sum())


def test_a_drawing_that_takes_too_long_is_given_up(served):
    with pytest.raises(ValueError, match=r"given up after 2 s at step \d+ of 136: ask for fewer images"):
        list(draw(served[0], Request(images=1), Limits(seconds=2.0), Clock()))


@pytest.mark.parametrize(
    ("which", "request_", "message"),
    [
        (0, Request(images=21), r"the number of images must be in 1\.\.20, got 21"),
        (0, Request(images=0), r"the number of images must be in 1\.\.20, got 0"),
        (0, Request(classes=(3,)), "labels must be None: the model is unconditional"),
        (1, Request(classes=(5,)), r"labels must be in 0\.\.4, got 5"),
        (0, Request(seed=-1), r"seed must be an integer in 0\.\.2\*\*63-1, got -1"),
        (0, Request(temperature=0.0), "temperature must be positive and finite, got 0.0"),
        (0, Request(temperature=float("nan")), "temperature must be positive and finite, got nan"),
        (1, Request(classes=(1,), guidance=float("inf")), "guidance must be finite, got inf"),
    ],
)
def test_what_is_not_to_be_had(served, which, request_, message):
    with pytest.raises(ValueError, match=message):
        list(draw(served[which], request_, LIMITS))


def test_limits(served):
    with pytest.raises(ValueError, match=r"queue must be an integer in 1\.\.1024, got 0"):
        Limits(queue=0)
    assert Limits(images=50, memory=1).images_of(served[0]) == 1  # one may always be drawn
    assert Limits(images=50).images_of(served[0]) == 50
    large = Served(name="large", model=pixelcnn.PixelCNN((1, 96, 96), filters=128, blocks=5), card="", losses={})
    assert 1 <= Limits().images_of(large) < 64


def test_an_ensemble_is_drawn_at_once(tmp_path):
    member = pixelcnn.GatedPixelCNN((1, 6, 6), filters=4, layers=2)
    OrderEnsemble([member, member], ["right-down", "left-up"]).save_pretrained(tmp_path / "both")
    (both,) = load_models([str(tmp_path / "both")], torch.device("cpu"))
    (snapshot,) = draw(both, Request(images=5, seed=2), LIMITS)
    assert torch.equal(snapshot.canvas, both.model.sample(5, seed=2))
    assert snapshot.finished
    assert len(both.networks) == 1
    assert snapshot.steps == 2 * steps_of(both, conditional=False)  # four images, and then the fifth
    with pytest.raises(ValueError, match=r"given up after 0\.15 s at image 4 of 20: ask for fewer images"):
        list(draw(both, Request(images=20), Limits(seconds=0.15), Clock()))


def test_losses_and_card(served, tmp_path):
    mnist, classes = served
    assert {name: (len(losses), losses[0], losses[-1]) for name, losses in mnist.losses.items()} == {
        "training": (13, (1, 0.1031), (13, 0.0803)),
        "validation": (13, (1, 0.0873), (13, 0.0833)),
    }
    assert mnist.card.lstrip().startswith("# PixelCNN, 1x28x28 images of 2 levels")  # the front matter is left out
    assert classes.losses == {}

    pixelcnn.PixelCNN((1, 6, 5), filters=4, blocks=1).save_pretrained(tmp_path / "run" / "model")
    lines = [
        {"epoch": 1, "train_loss": 0.7, "validation_loss": 0.6, "validation_loss_ema": 0.65},
        {"epoch": 2, "train_loss": 0.5, "validation_loss": float("nan"), "validation_loss_ema": 0.55},
    ]
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run,) = load_models([str(tmp_path / "run")], torch.device("cpu"))
    assert run.losses == {
        "training": [(1, 0.7), (2, 0.5)],
        "validation": [(1, 0.6)],
        "validation, averaged weights": [(1, 0.65), (2, 0.55)],
    }
    metrics.write_text('{"epoch": 1, "train')  # damaged: the page does without
    (run,) = load_models([str(tmp_path / "run")], torch.device("cpu"))
    assert run.losses == {}
    with pytest.raises(ValueError, match="each MODEL may be given once, got mnist-seed twice"):
        load_models(["mnist-seed", "mnist-seed"], torch.device("cpu"))
