"""SIGKILL at any moment, half of the times inside a save: every run goes on by itself and ends in the same bits.

`killed.py` does the killing.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from killed import INTERVAL
from tiny import metrics_of, result

PROGRAM = Path(__file__).parents[1] / "helpers" / "killed.py"


@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.long)])
def test_killed_and_resumed_gives_the_same_bits(tmp_path, kills):
    """Weights, optimiser, averages, metrics and the finished model."""
    seed = time.time_ns() % 2**32
    print(f"seed {seed}")  # shown when the test fails
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), str(kills), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    print(done.stdout)
    assert done.returncode == 0
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    killed = [report for report in reports if report["code"] == -signal.SIGKILL]
    assert len(killed) == kills
    assert sum(report["died"] is not None for report in killed) >= kills // 2 - kills // 10
    for report in reports:
        if report["resumed"] is not None:
            assert 0 <= report["reached"] - report["resumed"] <= INTERVAL
    expected = result(tmp_path / "undisturbed")
    folders = sorted(tmp_path.glob("killed-*"))
    assert len(folders) >= max(1, kills // 10)
    for folder in folders:
        assert result(folder) == expected
        assert [line["epoch"] for line in metrics_of(folder)] == [1, 2, 3, 4]
        assert not list(folder.rglob(".*"))
