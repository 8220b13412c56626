"""TensorBoard: the same numbers as metrics.jsonl, also over an interruption; and what happens without it."""

import dataclasses
import importlib.util
import sys

import pytest

from tiny import TINY, metrics_of, result, run

CONFIG = dataclasses.replace(TINY, tensorboard=True)

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)


@needs_tensorboard
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_events_are_the_metrics(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path / "run", dataclasses.replace(CONFIG, epochs=1))
    run(tmp_path / "run", CONFIG)
    run(tmp_path / "plain", TINY)
    assert result(tmp_path / "run")["model"] == result(tmp_path / "plain")["model"]
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    lines = metrics_of(tmp_path / "run")
    for name in lines[0].keys() - {"epoch", "step"}:
        found = [(event.step, event.value) for event in events.Scalars(f"epoch/{name}")]
        assert [step for step, _ in found] == [8, 16]
        assert [value for _, value in found] == pytest.approx([line[name] for line in lines], rel=1e-6)
    assert [event.step for event in events.Scalars("step/training_loss")] == [10]
    assert {"step/learning_rate", "step/gradient_norm"} <= set(events.Tags()["scalars"])
    assert [image.step for image in events.Images("samples")] == [8, 16]


def test_without_it_the_run_does_not_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"tensorboard is not installed: pip install 'pixelcnn\[tensorboard\]'"):
        run(tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()
