"""The command line where standard output or error is closed, full, logged, or lacks letters."""

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.config import TrainConfig
from pixelcnn.shards import write_shards

pytestmark = pytest.mark.usefixtures("_elsewhere")


class Full:
    """A stream on a full disk, or on a terminal that is gone."""

    encoding = "utf-8"

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    flush = isatty = lambda self: False


class Bare:
    """What takes the place of standard error where output is logged: it can be written to, and nothing else."""

    def __init__(self):
        self.told = ""

    def write(self, text):
        self.told += text


CLOSED = io.StringIO()
CLOSED.close()


@pytest.mark.parametrize("stream", [None, CLOSED, Full(), Bare()], ids=["none", "closed", "full", "bare"])
def test_without_standard_error_all_is_done(stream, model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["sample", model, "-n", "2"]) == 0
    assert capsys.readouterr().out.startswith("2 images of seed 0 in ")
    assert Path("samples.png").is_file()
    assert main(["sample", "nothing"]) == 2
    assert capsys.readouterr().out == "", "an error is no result"
    assert isinstance(stream, Bare) == ("no model 'nothing'" in getattr(stream, "told", ""))
    assert sys.stderr is stream


@pytest.mark.usefixtures("without_curves")
@pytest.mark.parametrize("stream", [None, CLOSED, Bare()], ids=["none", "closed", "bare"])
def test_a_library_without_standard_error_shows_no_bar(stream, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", stream)
    loaded = pixelcnn.load(model)
    images = loaded.sample(3, progress=True, seed=0)
    pixelcnn.evaluate(loaded, images, progress=True)
    config = TrainConfig(model=loaded.config, epochs=1, batch_size=2, sample_images=0, device="cpu")
    for _ in range(2):  # the second time there is a message: it has finished
        pixelcnn.train(config, images, images, tmp_path / "run", progress=True)
    for n in (2, 3):  # and here: what is there
        write_shards(loaded, n, tmp_path / "shards", shard_size=2, progress=True)
    assert capsys.readouterr().out == ""
    assert isinstance(stream, Bare) == ("has finished its 1 epochs" in getattr(stream, "told", ""))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_an_encoding_lacks_are_replaced(encoding, model, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["--help"]) == 0
    assert main(["sample", model, "-n", "1", "--out", "図.png"]) == 0
    assert main(["sample", model, "-n", "1", "--out", "\udcff.png"]) == 0  # a name that is not UTF-8
    printed = stream.buffer.getvalue().decode(encoding)
    assert "? evaluate" in printed
    assert printed.count(" s: ?.png\n") == 2
    assert stream.errors == "strict", "as it was"


def test_a_full_standard_output_is_an_error(model, monkeypatch, capsys):
    for command in (["--version"], ["info", model], ["sample", "--help"]):
        monkeypatch.setattr(sys, "stdout", Full())
        assert main(command) == 2
        assert capsys.readouterr().err == "pixelcnn: No space left on device\n"


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_no_file_gets_the_number_of_a_closed_stream(closed):
    """What a C library prints would end in it."""
    code = (
        f"import os, sys\nfor number in {closed.split()}: os.close(int(number))\n"
        "from pixelcnn.cli.streams import usable_streams\n"
        "with usable_streams(): code = os.open('file', os.O_CREAT | os.O_WRONLY) > 2\n"
        "os._exit(not code)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
