"""Folders of shards of samples, which survive whatever stops them."""

import dataclasses
import errno
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn import sampling, shards
from pixelcnn.cli import main
from pixelcnn.files import decode_tensors
from pixelcnn.models.base import checksum
from pixelcnn.processes import Interrupted
from pixelcnn.shards import write_shards

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(seed=0, levels=3):
    """In float64, where the images are the same for every batch: see `pixelcnn.sampling`."""
    generator = torch.Generator().manual_seed(seed)
    return pixelcnn.PixelCNN((2, 3, 4), levels=levels, filters=4, blocks=1, generator=generator).double()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def images_of(folder):
    parts = [np.load(path, allow_pickle=False) for path in sorted(folder.glob("images-*.npy"))]
    return torch.from_numpy(np.concatenate(parts))


# The folder ----------------------------------------------------------------------------------------------------


def test_shards_hold_the_sample(tmp_path):
    assert write_shards(tiny(), 250, tmp_path / "deep" / "out", seed=5, temperature=0.7, shard_size=100) == 250
    folder = tmp_path / "deep" / "out"
    names = ["images-000000000.npy", "images-000000100.npy", "images-000000200.npy", "samples.json"]
    assert sorted(os.listdir(folder)) == names
    expected = tiny().sample(250, seed=5, temperature=0.7).numpy()
    for start, name in zip((0, 100, 200), names, strict=False):
        found = np.load(folder / name, allow_pickle=False)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected[start : start + 100])


def test_the_record_says_what_the_images_are(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "model")
    arguments = ["-n", "3", "--seed", "9", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["sample", str(tmp_path / "model"), *arguments]) == 0
    record = json.loads((tmp_path / "out" / "samples.json").read_text())
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    saved = json.loads(json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])["__metadata__"]["pixelcnn"])
    assert record == {
        "model": str(tmp_path / "model"),
        "sha256": saved["sha256"],
        "image_shape": [2, 3, 4],
        "levels": 3,
        "dtype": "float64",
        "seed": 9,
        "temperature": 1.0,
        "classes": None,
        "guidance": 1.0,
        "precision": None,
        "first": 0,
        "n": 3,
        "shard_size": 10_000,
        "engine": sampling.engine_of(model, "fast").name,
        "device": "cpu",
        "pixelcnn": pixelcnn.__version__,
        "torch": torch.__version__,
        "exact": False,
    }
    assert decode_tensors(weights, "here")
    assert checksum(model) == saved["sha256"] != checksum(tiny(seed=1))
    assert checksum(model.float()) != saved["sha256"]


def test_shards_of_a_part_fit_those_of_the_whole(tmp_path):
    """So two machines can share a job."""
    write_shards(tiny(), 50, tmp_path / "whole", shard_size=10)
    write_shards(tiny(), 20, tmp_path / "a", shard_size=10)
    write_shards(tiny(), 30, tmp_path / "b", shard_size=10, first=20)
    parts, whole = content(tmp_path / "a") | content(tmp_path / "b"), content(tmp_path / "whole")
    del parts["samples.json"], whole["samples.json"]
    assert parts == whole


def test_more_images_prolong(tmp_path):
    for n, drawn in ((25, 25), (25, 0), (30, 10), (57, 27), (60, 10)):  # a last shard that grows is drawn again
        assert write_shards(tiny(), n, tmp_path / "grown", shard_size=10) == drawn
    write_shards(tiny(), 60, tmp_path / "at-once", shard_size=10)
    assert content(tmp_path / "grown") == content(tmp_path / "at-once")


def test_fewer_images_than_there_are_is_refused(tmp_path):
    write_shards(tiny(), 25, tmp_path, shard_size=10)
    before = content(tmp_path)
    for n, name in ((24, "images-000000020"), (20, "images-000000020"), (9, "images-0000000[012]0")):
        with pytest.raises(ValueError, match=rf"holds images beyond the {n} asked for, in {name}\.npy"):
            write_shards(tiny(), n, tmp_path, shard_size=10)
    assert content(tmp_path) == before


def test_fewer_images_than_were_begun_with_are_fine(tmp_path):
    write_shards(tiny(), 25, tmp_path, shard_size=10)
    (tmp_path / "images-000000020.npy").unlink()
    assert write_shards(tiny(), 20, tmp_path, shard_size=10) == 0
    assert json.loads((tmp_path / "samples.json").read_text())["n"] == 20


def test_default_shards_are_bounded_in_bytes():
    assert shards.default_shard_size((1, 28, 28)) == 10_000
    assert shards.default_shard_size((3, 64, 64)) == 5461
    assert shards.default_shard_size((3, 9000, 9000)) == 1
    assert shards.default_shard_size((3, 64, 64), levels=1024) == 1365  # of 4 bytes per value


# Going on ------------------------------------------------------------------------------------------------------


def damages(whole):
    """What a shard's bytes could have become."""
    yield b""
    for length in (5, 50, 127, 128, len(whole) - 1):
        yield whole[:length]
    yield whole + b"\0"
    yield b"PK" + whole[2:]
    yield whole.replace(b"|u1", b"|i1", 1)
    yield whole.replace(b"|u1", b"|,1", 1)  # no Python
    yield whole.replace(b"False", b"True ", 1)
    yield whole.replace(b"(10, 2, 3, 4)", b"(10, 2, 4, 3)", 1)
    yield whole.replace(b"(10, 2, 3, 4)", b"(240,)       ", 1)
    yield whole.replace(b"(10, 2, 3, 4)", b"()           ", 1)
    yield whole.replace(b"(10, 2, 3, 4)", b"(-1, 2, 3, 4)", 1)
    chooser = random.Random(0)
    for _ in range(80):
        k = chooser.randrange(128)
        yield whole[:k] + bytes([chooser.randrange(256)]) + whole[k + 1 :]


def test_a_damaged_shard_is_drawn_again(tmp_path):
    write_shards(tiny(), 30, tmp_path, shard_size=10)
    before = content(tmp_path)
    path = tmp_path / "images-000000010.npy"
    expected = np.load(path, allow_pickle=False)
    drawn = []
    for damaged in damages(before[path.name]):
        path.write_bytes(damaged)
        drawn.append(write_shards(tiny(), 30, tmp_path, shard_size=10))
        assert np.array_equal(np.load(path, allow_pickle=False), expected)
    assert set(drawn) == {0, 10}
    assert drawn[:15] == [10] * 15
    path.unlink()
    assert write_shards(tiny(), 30, tmp_path, shard_size=10) == 10
    assert content(tmp_path) == before


def test_what_killed_processes_left_is_cleared_away(tmp_path):
    (tmp_path / ".samples.json.17.tmp").write_text("{")
    write_shards(tiny(), 5, tmp_path)
    (tmp_path / ".images-000000000.npy.17.tmp").write_text("half")
    write_shards(tiny(), 5, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["images-000000000.npy", "samples.json"]


KILLED = """
    import os, random, signal, sys, time
    sys.path.insert(0, {tests!r})
    import test_shards as t
    from pathlib import Path
    chooser, kills, fsync = random.Random({seed}), 0, os.fsync
    def slow(descriptor):  # between writing and renaming, and after it: 200 shards take 1.2 s at least
        time.sleep(0.003)
        fsync(descriptor)
    while True:
        child = os.fork()
        if child == 0:
            os.fsync = slow
            t.torch.set_num_threads(1)
            t.write_shards(t.tiny(), 6000, Path({out!r}), seed=1, shard_size=30)
            os._exit(0)
        if kills < 15:
            time.sleep(chooser.uniform(0.0, 0.07))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        assert status == signal.SIGKILL, status
        kills += 1
    print(kills)
"""


@pytest.mark.slow
def test_killed_many_times_and_gone_on_with_gives_the_same_files(tmp_path):
    """SIGKILL at random moments of starting, drawing and writing. The children are forks, so they start at once."""
    seed = time.time_ns()
    print(f"seed {seed}")  # shown when the test fails
    script = textwrap.dedent(KILLED).format(tests=os.path.dirname(__file__), seed=seed, out=str(tmp_path / "killed"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) == 15
    write_shards(tiny(), 6000, tmp_path / "undisturbed", seed=1, shard_size=30)
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")
    assert torch.equal(images_of(tmp_path / "killed"), tiny().sample(6000, seed=1))


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    tiny().save_pretrained(tmp_path / "model")
    command = ["sample", str(tmp_path / "model"), "-n", "45", "--shard-size", "10", "--out", str(tmp_path / "out")]
    calls = []

    def interrupted(model, draw, **options):
        calls.append(draw.first)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return sampling.sample(model, draw, **options)

    monkeypatch.setattr(shards, "sample", interrupted)
    assert main(command) == 130
    captured = capsys.readouterr()
    message = f"pixelcnn: stopped with 20 of 45 images in {tmp_path / 'out'}; the same command goes on"
    assert captured.err.splitlines()[-1] == message
    assert captured.out == ""
    assert sorted(os.listdir(tmp_path / "out")) == ["images-000000000.npy", "images-000000010.npy", "samples.json"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("25 images of seed 0 in ")
    assert "20 of 45 images are there" in captured.err
    assert "45/45" in captured.err
    assert "20/45" in captured.err, "the bar starts where the first one stopped"
    assert calls == [0, 10, 20, 20, 30, 40]
    assert torch.equal(images_of(tmp_path / "out"), tiny().sample(45, seed=0))


def test_the_signal_that_stopped_it_gives_the_exit_code(tmp_path, monkeypatch):
    """SIGTERM of a launcher, which `pixelcnn.processes.joined` raises."""

    def stopped(*_, **__):
        raise Interrupted("stopped by SIGTERM", signal.SIGTERM)

    monkeypatch.setattr(shards, "sample", stopped)
    with pytest.raises(Interrupted, match=f"stopped with 0 of 5 images in {tmp_path}; the same") as found:
        write_shards(tiny(), 5, tmp_path)
    assert found.value.exit_code == 143


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(tmp_path, monkeypatch, capsys):
    tiny().save_pretrained(tmp_path / "model")
    command = ["sample", str(tmp_path / "model"), "-n", "45", "--shard-size", "10", "--out", str(tmp_path / "out")]
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 6:  # two each for the record and two shards
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr("os.fsync", full)
    assert main(command) == 2
    monkeypatch.undo()
    captured = capsys.readouterr()
    path = tmp_path / "out" / "images-000000020.npy"
    assert captured.err.splitlines()[-1] == f"pixelcnn: No space left on device: {path}"
    assert "Traceback" not in captured.err
    assert sorted(os.listdir(tmp_path / "out")) == ["images-000000000.npy", "images-000000010.npy", "samples.json"]
    assert main(command) == 0
    assert torch.equal(images_of(tmp_path / "out"), tiny().sample(45, seed=0))


def test_a_write_that_fails_halfway_leaves_nothing(tmp_path):
    """The kernel itself refuses to let a file grow past a limit."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*images-000000000\.npy"):
            write_shards(tiny(), 500, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert os.listdir(tmp_path) == ["samples.json"]
    write_shards(tiny(), 500, tmp_path)


def test_a_disk_that_will_not_do_is_told_beforehand(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.warns(UserWarning, match=r"50000 more images take 1\.2 MB, and .* has 1\.0 MB free"):
        shards._fill(tmp_path, record_of(50_000), dict.fromkeys(range(0, 50_000, 100), 0), tiny(), False)
    deep = dataclasses.replace(record_of(20_000), levels=1024)
    with pytest.warns(UserWarning, match=r"20000 more images take 1\.9 MB"):  # 4 bytes per value
        shards._fill(tmp_path, deep, dict.fromkeys(range(0, 20_000, 100), 0), tiny(), False)
    write_shards(tiny(), 40, tmp_path / "little")


def record_of(n):
    made = {"seed": 0, "temperature": 1.0, "first": 0, "n": n, "shard_size": 100, "engine": "fast", "device": "cpu"}
    what = {"model": "tiny", "sha256": "", "image_shape": (2, 3, 4), "levels": 3, "dtype": "float64"}
    return shards.SamplesRecord(**what, **made, classes=None, guidance=1.0, precision=None, pixelcnn="", torch="")


def test_shards_of_a_class(tmp_path):
    model = pixelcnn.GatedPixelCNN((1, 3, 4), filters=4, layers=2, num_classes=3)
    assert shards.write_shards(model, 25, tmp_path / "out", classes=(2, 0), guidance=1.5, shard_size=10) == 25
    found = np.concatenate([np.load(path) for path in sorted((tmp_path / "out").glob("*.npy"))])
    assert np.array_equal(found, model.sample(25, torch.arange(25) % 2 * -2 + 2, guidance=1.5, seed=0).numpy())
    for change in ({"classes": (2,)}, {"classes": None, "guidance": 1.0}, {"guidance": 2.0}):
        with pytest.raises(ValueError, match="choose another folder"):
            shards.write_shards(
                model, 25, tmp_path / "out", **({"classes": (2, 0), "guidance": 1.5, "shard_size": 10} | change)
            )
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2, got 1\.\.3"):
        shards.write_shards(model, 25, tmp_path / "other", classes=(1, 3))
    with pytest.raises(ValueError, match=r"classes must name at least one class, or be None, got \(\)"):
        shards.write_shards(model, 25, tmp_path / "other", classes=())
    with pytest.raises(ValueError, match="classes must name at least one class, or be None, got 3"):
        shards.write_shards(model, 25, tmp_path / "other", classes=3)
    assert not (tmp_path / "other").exists()


# Other folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "holds samples with seed = 0, not 1; choose another folder"),
        ({"temperature": 0.5}, "holds samples with temperature = 1.0, not 0.5; choose another folder"),
        ({"first": 10}, "holds samples with first = 0, not 10; choose another folder"),
        ({"shard_size": 20}, "holds samples with shard_size = 10, not 20; choose another folder"),
        ({"shard_size": None}, "holds samples with shard_size = 10, not 10000; choose another folder"),
        ({"engine": "warp"}, "engine must be one of fast, native, graph, eager, reference, got 'warp'"),
        ({"shard_size": 0}, "shard_size must be an integer of at least 1, got 0"),
        ({"model": tiny(seed=1)}, "holds samples of another model: PixelCNN with SHA-256 .*, not PixelCNN with .*;"),
        ({"model": tiny(levels=4)}, "holds samples of another model"),
        ({"model": tiny().float()}, "holds samples of another model"),
    ],
)
def test_other_samples_are_refused(change, message, tmp_path):
    write_shards(tiny(), 15, tmp_path, shard_size=10)
    before = content(tmp_path)
    with pytest.raises(ValueError, match=message):
        write_shards(**{"model": tiny(), "n": 40, "folder": tmp_path, "shard_size": 10, **change})
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.txt", "mine", "exists and holds other things than samples; choose another folder"),
        (".profile.1.old", "mine", "exists and holds other things than samples; choose another folder"),
        ("images-000000000.npy", "mine", "exists and holds other things than samples; choose another folder"),
        ("samples.json", '{"name": "a web page"}', r"samples\.json: unknown field 'name' for SamplesRecord"),
        ("samples.json", "{", r"samples\.json is not valid JSON"),
        ("samples.json", "[]", r"samples\.json: expected an object with the fields of SamplesRecord, got \[\]"),
    ],
)
def test_a_folder_of_other_things_is_left_alone(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        write_shards(tiny(), 5, tmp_path)
    assert content(tmp_path) == {name: text.encode()}


def test_strangers_in_a_samples_folder_stay(tmp_path):
    write_shards(tiny(), 15, tmp_path, shard_size=10)
    (tmp_path / "notes.txt").touch()
    write_shards(tiny(), 25, tmp_path, shard_size=10)
    assert (tmp_path / "notes.txt").exists()
    (tmp_path / "images-000000005.npy").touch()  # would be read between the others
    with pytest.raises(ValueError, match=r"holds images beyond the 25 asked for, in images-000000005\.npy"):
        write_shards(tiny(), 25, tmp_path, shard_size=10)


def test_another_engine_is_told_and_goes_on(tmp_path):
    write_shards(tiny(), 15, tmp_path, shard_size=10, engine="eager")
    assert write_shards(tiny(), 15, tmp_path, shard_size=10, engine="reference") == 0, "nothing is drawn"
    assert json.loads((tmp_path / "samples.json").read_text())["engine"] == "eager"
    with pytest.warns(UserWarning, match="was begun with engine = 'eager', and continues with 'reference'"):
        write_shards(tiny(), 25, tmp_path, shard_size=10, engine="reference")
    assert torch.equal(images_of(tmp_path), tiny().sample(25, seed=0))


def test_two_processes_do_not_fill_one_folder(tmp_path):
    write_shards(tiny(), 5, tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match=r"another process is using .*; wait for it, or choose another folder"):
        write_shards(tiny(), 5, tmp_path)
    os.close(descriptor)
    write_shards(tiny(), 5, tmp_path)


# Memory --------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """120 MB of images of 10 kB, drawn by a stand-in that is fast: as a stream, and into shards of 2 MB."""
    script = textwrap.dedent(f"""
        import resource, sys, torch, pixelcnn
        from pixelcnn import sampling, shards
        def sample(model, draw, **options):
            return torch.zeros(draw.n, *model.image_shape, dtype=torch.uint8)
        sampling.sample = shards.sample = sample
        model = pixelcnn.PixelCNN((1, 100, 100), filters=2, blocks=0)
        def peak(name, n):
            shards.write_shards(model, n, {str(tmp_path)!r} + "/" + name, shard_size=200)
            assert sum(len(chunk) for chunk in model.sample_stream(n, chunk=200)) == n
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        few = peak("few", 1000)
        print(peak("many", 12000) - few)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout) < 40  # MiB
    assert len(list((tmp_path / "many").iterdir())) == 61
    shutil.rmtree(tmp_path / "many")
