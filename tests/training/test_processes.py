"""Several processes, on a CPU by Gloo: the same as one, however they end.

`together.py` is what they do.
"""

import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import pixelcnn
import together
from pixelcnn.cli import main
from pixelcnn.processes import _JOB, ALONE, Processes, Rank, joined, own_rank
from pixelcnn.training.checkpoint import load_checkpoint
from tiny import metrics_of, run

PROGRAM = str(Path(__file__).parents[1] / "helpers" / "together.py")
ENDED = "the same command resumes from what was saved"


def torchrun(*arguments, processes=2):
    """Exit code, what pixelcnn said on standard error, standard output, and the seconds it took."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    print(done.stdout, done.stderr)  # shown when the test fails
    said = [line for line in done.stderr.splitlines() if line.startswith("pixelcnn:")]
    return done.returncode, said, done.stdout, time.monotonic() - started


def train(folder, fault="none", rank=0, step=0):
    return torchrun(PROGRAM, "train", str(folder), fault, str(rank), str(step))


def finish(folder):
    """The same training by one process, to its end."""
    run(folder, dataclasses.replace(together.LONG, checkpoint_seconds=60), n=together.MANY, data="stripes")


def newest(folder):
    return load_checkpoint(max((folder / "checkpoints").iterdir()))


def assert_alike(folder, other):
    """Two runs' metrics and last tensors, up to what float32 sums in another order make of them."""
    lines, others = metrics_of(folder), metrics_of(other)
    assert len(lines) == len(others)
    for line, expected in zip(lines, others, strict=True):
        assert line == pytest.approx(expected, rel=1e-5, abs=1e-5)
    for name, tensor in newest(folder)[1].items():
        torch.testing.assert_close(tensor, newest(other)[1][name], rtol=1e-3, atol=1e-4)
    assert not list(folder.rglob(".*"))


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two(tmp_path_factory, one_thread):
    """The folder that two processes filled, with what they told."""
    folder = tmp_path_factory.mktemp("two")
    run(folder / "one-then-two", dataclasses.replace(together.PLAIN, epochs=1))
    code, said, _, _ = torchrun(PROGRAM, "equal", str(folder))
    assert code != 0
    (line,) = said
    assert line.startswith("pixelcnn: No space left on device, so no checkpoint at step 31; earlier ones are intact")
    return folder, json.loads((folder / "told.json").read_text())


# The same as one -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", together.CASES)
def test_losses_and_gradients_are_those_of_one_process(two, case):
    """In float64, where only the order of sums differs: parts, slices, and a batch with fewer images than processes."""
    found = torch.tensor(two[1][case], dtype=torch.float64)
    expected = torch.tensor(together.steps_of_two_epochs(together.CASES[case]), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_a_run_is_that_of_one_process(two, tmp_path):
    run(tmp_path / "one", together.RICH)
    assert_alike(two[0] / "two", tmp_path / "one")
    first, second = two[1]["weights"]
    assert first == second  # to the bit: otherwise they drift apart
    assert newest(two[0] / "two")[0].record["processes"] == 2


def test_a_run_goes_on_with_more_and_with_fewer_processes(two, tmp_path):
    run(tmp_path / "one", dataclasses.replace(together.PLAIN, epochs=3))
    shutil.copytree(two[0] / "one-then-two", tmp_path / "and-one")
    with pytest.warns(UserWarning, match="begun with number of processes 2 and is resumed with 1"):
        run(tmp_path / "and-one", dataclasses.replace(together.PLAIN, epochs=3))
    assert_alike(tmp_path / "and-one", tmp_path / "one")


def test_all_processes_return_the_best_model(two):
    here, there = (torch.tensor(weights) for weights in two[1]["best"])
    assert torch.equal(here, there)
    saved = pixelcnn.load(str(two[0] / "best"))
    assert torch.equal(here, torch.cat([p.detach().flatten() for p in saved.parameters()]))


def test_an_evaluation_is_that_of_one_process(two):
    """To the bit: the slices are the same; five images are one slice, so one process has none."""
    assert two[1]["evaluations"] == together.evaluations()


def test_shards_are_those_of_one_process(two, tmp_path):
    assert (two[1]["drawn"], two[1]["again"]) == (50, 0)
    assert together.shards(tmp_path) == 50
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name: path.read_bytes() for path in (two[0] / "shards").iterdir()} == files


def test_all_processes_plan_the_same_number_of_steps(two):
    assert two[1]["steps"] >= 1  # had they not agreed, they would still be waiting


@pytest.mark.long
def test_the_command_line_evaluates_by_all_and_prints_once(one_thread, capsys):
    arguments = ["evaluate", "mnist-seed", "mnist:test", "--images", "150"]
    code, said, printed, _ = torchrun("-m", "pixelcnn", *arguments)
    assert (code, said) == (0, [])
    capsys.readouterr()
    assert main(arguments) == 0
    assert printed == capsys.readouterr().out


@pytest.mark.long
def test_the_command_line_trains_by_all(tmp_path):
    arguments = ["train", "mnist", "--steps", "40", "--sample-images", "0"]
    for processes in (1, 2):
        out = tmp_path / str(processes)
        assert torchrun("-m", "pixelcnn", *arguments, "--out", str(out), processes=processes)[:2] == (0, [])
    assert_alike(tmp_path / "2", tmp_path / "1")


# However they end ----------------------------------------------------------------------------------------------


def assert_lost(folder, rank, step):
    code, said, _, seconds = train(folder, "kill", rank, step)
    assert code != 0
    who = f"process {rank} of the 2 (0..1)"
    assert said == [f"pixelcnn: {who} is gone: killed, perhaps for lack of memory; {ENDED}"]
    assert seconds < 60
    assert step - 1 <= newest(folder)[0].step <= step


def assert_stopped(folder, fault, rank, step):
    code, said, _, _ = train(folder, fault, rank, step)
    assert code != 0
    (line,) = said
    stopped = re.fullmatch(r"pixelcnn: stopped at step (\d+); the same command resumes it", line)
    assert stopped is not None
    assert int(stopped[1]) == newest(folder)[0].step > step
    if fault == "term":
        assert int(stopped[1]) <= step + 2
    return int(stopped[1])


def test_a_full_disk_ends_all_and_leaves_what_was_saved(two):
    """And is told once: `two` has looked."""
    folder = two[0] / "full"
    assert newest(folder)[0].step == 30
    assert not (folder / "model").exists()
    assert not list(folder.rglob(".*"))


@pytest.mark.long
def test_a_job_ends_with_one_message_and_goes_on(tmp_path, one_thread):
    """One process is killed, the launcher of the next two gets SIGTERM; at last one process goes on alone.

    All come to an end like an undisturbed run's.
    """
    out = tmp_path / "ended"
    assert_lost(out, 1, 12)
    assert_stopped(out, "launcher", 1, 25)
    assert not (out / "model").exists()
    assert not list(out.rglob(".*"))
    with pytest.warns(UserWarning, match="number of processes 2 and is resumed with 1"):
        finish(out)
    finish(tmp_path / "undisturbed")
    assert_alike(out, tmp_path / "undisturbed")


@pytest.mark.long
def test_a_job_whose_first_process_is_killed_or_that_is_stopped_by_one_goes_on(tmp_path, one_thread):
    out = tmp_path / "killed"
    assert_lost(out, 0, 12)
    assert_stopped(out, "term", 1, 25)
    code, said, _, _ = train(out)
    assert (code, said) == (0, [])
    finish(tmp_path / "undisturbed")
    assert_alike(out, tmp_path / "undisturbed")


@pytest.mark.long
def test_the_launcher_restarts_what_was_killed(tmp_path, one_thread):
    out = tmp_path / "restarted"
    code, said, _, _ = torchrun("--max-restarts=1", PROGRAM, "train", str(out), "kill", "1", "30")
    assert code == 0
    assert len(said) == 1  # of the process that was missed
    finish(tmp_path / "undisturbed")
    assert_alike(out, tmp_path / "undisturbed")


# One process ---------------------------------------------------------------------------------------------------


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert own_rank() == Rank(0, 1, 0)
    with joined() as processes:
        assert processes is ALONE
        values = torch.arange(3)
        assert processes.gather(values) is values
        assert processes.sum([1.5, 2.0]) == [1.5, 2.0]
        assert processes.from_first(lambda: {"a": 1}) == {"a": 1}
        assert processes.share(7) == slice(0, 7)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize(("n", "unit"), [(0, 1), (1, 1), (7, 1), (8, 3), (100, 64), (5, 64)])
def test_shares_are_all_there_is_in_whole_units(count, n, unit):
    shares = [range(n)[Processes(rank, count).share(n, unit)] for rank in range(count)]
    assert list(itertools.chain(*shares)) == list(range(n))
    assert all(share[0] % unit == 0 for share in shares if share)
    units = math.ceil(n / unit)
    assert max(map(len, shares)) <= unit * math.ceil(units / count)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a number, got 'two'; torchrun sets it"),
        ({"WORLD_SIZE": "2"}, "RANK must be set where WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}, r"RANK must be in 0\.\.1, got 2"),
    ],
)
def test_an_environment_that_torchrun_did_not_make_is_refused(monkeypatch, names, match):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=match):
        own_rank()


def test_a_port_that_another_program_has_is_one_line(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(other.getsockname()[1])}
        for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", **where}.items():
            monkeypatch.setenv(name, value)
        assert main(["info", "mnist"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"pixelcnn: the 2 processes cannot meet at {':'.join(where.values())}: ")


def test_a_picture_is_for_one_process(tmp_path, monkeypatch, capsys):
    token = _JOB.set(Processes(0, 2))
    monkeypatch.chdir(tmp_path)
    try:
        assert main(["sample", "mnist"]) == 2
    finally:
        _JOB.reset(token)
    assert "--out must name a folder, for shards" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
