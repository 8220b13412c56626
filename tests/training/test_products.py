"""What training multiplies in, where that is left to it."""

import dataclasses

import pytest
import torch

import pixelcnn
from pixelcnn.processes import Processes
from pixelcnn.training import steppers
from tiny import TINY, stripes


def test_it_is_measured_once_and_leaves_no_trace():
    threads, autocast = torch.get_num_threads(), torch.is_autocast_enabled("cpu")
    steppers.bf16_pays.cache_clear()
    found = steppers.bf16_pays()
    assert found is steppers.bf16_pays()
    assert steppers.bf16_pays.cache_info().misses == 1
    assert (torch.get_num_threads(), torch.is_autocast_enabled("cpu")) == (threads, autocast)


@pytest.mark.parametrize("faster", [False, True])
def test_the_faster_product_is_taken_by_its_times(monkeypatch, faster):
    """By a clock that runs as if bfloat16 took a third, or as long."""
    clock = iter(range(10**6))
    took = {False: 3.0, True: 1.0 if faster else 3.0}
    now = [0.0]

    def perf_counter():
        if next(clock) % 2:
            now[0] += took[calls[-1]]
        return now[0]

    calls = []
    real = torch.autocast

    def autocast(*arguments, enabled, **options):
        calls.append(enabled)
        return real(*arguments, enabled=False, **options)

    monkeypatch.setattr(steppers.time, "perf_counter", perf_counter)
    monkeypatch.setattr(steppers.torch, "autocast", autocast)
    steppers.bf16_pays.cache_clear()
    assert steppers.bf16_pays() is faster
    steppers.bf16_pays.cache_clear()


def test_auto_is_what_pays_and_the_run_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(steppers, "bf16_pays", lambda: True)
    cpu = torch.device("cpu")
    config = dataclasses.replace(TINY, precision="auto", epochs=1, sample_images=0)
    assert steppers.precision_of(config, cpu) == "bf16"
    for others, expected in ((1.0, "bf16"), (0.0, "float32")):
        both = Processes(0, 2)
        monkeypatch.setattr(both, "sum", lambda values, others=others: [values[0] + others])
        assert steppers.precision_of(config, cpu, both) == expected
    assert steppers.precision_of(TINY, cpu) == "float32"
    assert steppers.precision_of(pixelcnn.config.PRESETS["seed"], cpu) == "float32"
    pixelcnn.train(config, stripes(8), stripes(4), out=tmp_path / "run")
    assert '"precision": "bf16"' in (tmp_path / "run" / "config.json").read_text()
