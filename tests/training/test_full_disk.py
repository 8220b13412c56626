"""A full disk: at whichever operation of a save it shows, the run ends with a message and nothing is lost."""

import dataclasses
import errno
import io
import os
import pathlib

import pytest

from pixelcnn.cli import main
from pixelcnn.training import run as loop
from pixelcnn.training.checkpoint import load_checkpoint
from tiny import TINY, result, run

CONFIG = dataclasses.replace(TINY, checkpoint_seconds=0, sample_images=0, epochs=1)
SAVES_BEFORE = 3


class HalfWritten(io.BytesIO):
    """A file whose disk is full after half of what is written."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.close()
        raise OSError(errno.ENOSPC, "No space left on device")


def fill_disk(monkeypatch, number):
    """The disk is full at operation `number` of the fourth save. Returns the list of the operations of that save."""
    seen, saves = [], [0]

    def failing(name):
        """Notes an operation; whether it is the one that fails."""
        if saves[0] != SAVES_BEFORE + 1:
            return False
        seen.append(name)
        return len(seen) - 1 == number

    def wrapped(name, real):
        def operation(*args, **options):
            if failing(name):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **options)

        return operation

    for name in ("mkdir", "fsync", "replace", "rename"):
        monkeypatch.setattr(os, name, wrapped(name, getattr(os, name)))
    opened = pathlib.Path.open

    def open_(self, mode="r", *args, **options):
        file = opened(self, mode, *args, **options)
        return HalfWritten(file) if "w" in mode and failing("write") else file

    monkeypatch.setattr(pathlib.Path, "open", open_)
    save = loop.save_checkpoint

    def counted(*args, **options):
        saves[0] += 1
        path = save(*args, **options)
        saves[0] += saves[0] == SAVES_BEFORE + 1  # what follows is none of that save
        return path

    monkeypatch.setattr(loop, "save_checkpoint", counted)
    return seen


def operations():
    """What a save does, in order."""
    one = ["mkdir", *["write", "fsync", "replace", "fsync"] * 3, "fsync", "rename", "fsync"]
    return ["mkdir", *one]  # the first for the folder of the checkpoints, which is there


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, CONFIG, data="mnist")
    return result(folder)


def test_the_operations_are_as_listed(tmp_path, monkeypatch):
    seen = fill_disk(monkeypatch, None)
    run(tmp_path, CONFIG)
    assert seen == operations()


@pytest.mark.parametrize("number", range(1, len(operations())))
def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch, capsys, undisturbed, number):
    monkeypatch.setattr("pixelcnn.cli.train.Train.run", lambda self: run(tmp_path / "run", CONFIG, data="mnist"))
    with monkeypatch.context() as patch:
        fill_disk(patch, number)
        assert main(["train", "mnist"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pixelcnn: No space left on device, so no checkpoint at step 4; earlier ones are intact")
    assert said.count("\n") == 1
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    renamed = number > operations().index("rename")
    assert load_checkpoint(newest)[0].step == (4 if renamed else 3)
    assert not [path for path in (tmp_path / "run").rglob(".*") if not renamed]
    run(tmp_path / "run", CONFIG, data="mnist")
    assert result(tmp_path / "run") == undisturbed


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """The result of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("two-epochs")
    run(folder, TINY)
    return result(folder)


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "curves.png", "epoch-001.png", "config.json"])
def test_so_does_one_that_shows_in_another_file(tmp_path, monkeypatch, two_epochs, name):
    opened = pathlib.Path.open

    def full(self, mode="r", *args, **options):
        file = opened(self, mode, *args, **options)
        return HalfWritten(file) if "w" in mode and name in self.name else file

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", full)
        with pytest.raises(OSError, match=rf"No space left on device: .*{name}"):
            run(tmp_path / "run", TINY)
    assert not list((tmp_path / "run").rglob("*.tmp"))
    run(tmp_path / "run", TINY)
    assert result(tmp_path / "run") == two_epochs
