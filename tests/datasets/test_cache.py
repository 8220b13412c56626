"""The cache: made once, whole or not at all, made anew when the data or its own files have changed."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from made import noise, opened, picture, pictures
from pixelcnn.cli import main
from pixelcnn.datasets import cache as module
from pixelcnn.datasets import picture_source as decoding
from pixelcnn.datasets.arrays import ArraySource


@pytest.fixture
def decoded(monkeypatch):
    """Counts the pictures that are decoded."""
    seen = []
    whole = decoding.to_levels

    def counted(*arguments):
        seen.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(decoding, "to_levels", counted)
    return seen


def caches(links=False):
    return sorted(path for path in module.cache_folder().iterdir() if links or not path.is_symlink())


def test_it_is_made_once(decoded, capsys):
    pictures("photos", 30)
    first = opened("photos")
    assert len(decoded) == 30
    again = opened(os.path.abspath("photos"))
    assert len(decoded) == 30
    assert np.array_equal(first.training, again.training)
    assert len(caches()) == 1
    assert capsys.readouterr().err == ""


def test_it_says_where_it_is(capsys):
    from pixelcnn.datasets import open_training

    pictures("photos", 30)
    open_training("photos", "clean", 256)
    said = capsys.readouterr().err
    assert "reading photos" in said
    assert f"photos: 30 images, 0.1 MiB in {caches()[0]}" in said


@pytest.mark.parametrize(
    "options", [{"size": 4}, {"channels": 1}, {"held_out": 0.2}, {"test": 0.1}, {"levels": 4}, {"strict": True}]
)
def test_other_options_make_another(decoded, options):
    pictures("photos", 60)
    opened("photos")
    opened("photos", **options)
    assert len(decoded) == 120
    assert len(caches()) == 2


def test_a_model_of_their_shape_finds_the_images_that_it_was_trained_on(decoded):
    """Size and channels were left open in training, and are given in evaluation."""
    pictures("photos", 30)
    data = opened("photos", strict=True)
    again = opened("photos", size=(6, 7), channels=3)
    assert len(decoded) == 30
    assert np.array_equal(data.training, again.training)
    for path in caches():
        (path / "images.npy").unlink()
    for _ in range(2):
        assert np.array_equal(opened("photos", size=(6, 7), channels=3).training, data.training)
        assert len(decoded) == 60
    assert all(path.exists() for path in caches(links=True))


def test_a_changed_folder_makes_another(decoded):
    pictures("photos", 30)
    opened("photos")
    picture("photos/00030.png", seed=30)
    opened("photos")
    assert len(decoded) == 30 + 31
    status = os.stat("photos/00000.png")
    picture("photos/00000.png", seed=99)
    os.truncate("photos/00000.png", status.st_size)  # no other size, and then another time
    os.utime("photos/00000.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    picture("photos/00000.png", seed=99)
    opened("photos")
    assert len(decoded) == 30 + 31 + 31


def test_another_array_makes_another():
    np.save("x.npy", noise(30, 4, 4))
    first = opened("x.npy")
    np.save("x.npy", noise(30, 4, 4, seed=1))
    os.utime("x.npy", ns=(0, time.time_ns() + 10**9))
    assert not np.array_equal(opened("x.npy").training[:5], first.training[:5])


def test_the_same_size_and_time_do_not_hide_other_content():
    """As of a program that sets a file's time, or of two writes within the clock's resolution."""

    def write(seed):
        np.save("x.npy", noise(30, 4, 4, seed=seed))
        for k in range(30):
            picture(f"photos/{k:05d}.png", seed=1000 * seed + k)
        records = [np.insert(noise(2, 3072, seed=10 * seed + k), 0, seed, axis=1) for k in range(6)]
        Path("cifar").mkdir(exist_ok=True)
        for k, name in enumerate((*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")):
            Path("cifar", name).write_bytes(records[k].tobytes())
        Path("cifar/batches.meta.txt").write_text("\n".join("abcdefghij"))
        for name in ("x.npy", *Path("photos").iterdir(), *Path("cifar").iterdir()):
            if str(name).endswith(".png"):
                os.truncate(name, 1000)
            os.utime(name, ns=(10**18, 10**18))

    write(1)
    before = {name: opened(name, levels=256).training.clone() for name in ("x.npy", "photos", "cifar")}
    write(2)
    for name, images in before.items():
        assert not np.array_equal(opened(name, levels=256).training, images), name


def test_an_array_that_is_changed_in_place_within_the_clocks_resolution(monkeypatch):
    """By its content, which no time tells."""
    monkeypatch.setattr("pixelcnn.datasets.arrays.stamp_of", lambda _: [])
    np.save("x.npy", noise(30, 4, 4))
    before = opened("x.npy").training.clone()
    np.save("x.npy", noise(30, 4, 4, seed=1))
    assert not np.array_equal(opened("x.npy").training, before)


def cut(name, by=1):
    def action(path):
        os.truncate(path / name, (path / name).stat().st_size - by)

    return action


def changed(name, change):
    def action(path):
        content = change((path / name).read_bytes())
        (path / name).unlink()  # what was opened before has the earlier one
        (path / name).write_bytes(content)

    return action


def longer(path):
    with (path / "images.npy").open("ab") as file:
        file.write(b"x")


def other_identity(path):
    record = json.loads((path / "data.json").read_text())
    (path / "data.json").write_text(json.dumps({**record, "identity": "0" * 64}))


def other_count(path):
    record = json.loads((path / "data.json").read_text())
    (path / "data.json").write_text(json.dumps({**record, "counts": [1, 2, 3]}))


DAMAGE = {
    "images cut": cut("images.npy"),
    "labels cut": cut("labels.npy"),
    "record cut": cut("data.json", by=2),
    "images longer": longer,
    "other identity": other_identity,
    "other counts": other_count,
    "no counts": lambda path: (path / "data.json").write_text('{"counts": 3}'),
    "no record": lambda path: (path / "data.json").unlink(),
    "no images": lambda path: (path / "images.npy").unlink(),
    "images zeroed": changed("images.npy", lambda content: content[:1000] + bytes(len(content) - 1000)),
    "a bit of the labels": changed("labels.npy", lambda content: content[:-1] + b"\x01"),
    "a name": changed("names.txt", lambda content: b"x" + content[1:]),
    "no names": lambda path: (path / "names.txt").unlink(),
    "header": lambda path: (path / "images.npy").write_bytes(b"x" + (path / "images.npy").read_bytes()[1:]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_one_is_made_anew(decoded, damage):
    pictures("photos/a", 30)
    first = opened("photos")
    (path,) = caches()
    damage(path)
    again = opened("photos")
    assert len(decoded) == 60
    assert np.array_equal(first.training, again.training)
    assert caches() == [path]
    opened("photos")
    assert len(decoded) == 60


def test_what_is_written_to_the_tensors_does_not_reach_it():
    pictures("photos", 30)
    first = opened("photos").training
    kept = first.clone()
    first.zero_()
    assert np.array_equal(opened("photos").training, kept)


SCRIPT = """
    import sys, time
    from pixelcnn.datasets import open_training, picture_source
    whole = picture_source.to_levels
    def slow(*arguments):
        time.sleep(0.05)
        return whole(*arguments)
    picture_source.to_levels = slow
    print("begun", flush=True)
    open_training("photos", "clean", 256)
"""


def test_what_a_killed_process_leaves_is_cleared(decoded):
    """And what a living one is writing is not."""
    pictures("photos", 200)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        deadline = time.monotonic() + 60
        while not (module.cache_folder().is_dir() and caches()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (left,) = caches()
        time.sleep(0.2)
        pictures("others", 30)
        opened("others")
        assert left.is_dir()
        process.send_signal(signal.SIGKILL)
    assert left in caches()
    opened("photos")
    assert len(decoded) == 230
    assert left not in caches()
    assert len(caches()) == 2


def test_processes_of_one_number_make_the_same_one(monkeypatch):
    """Threads of one process have one number, as the first processes of two containers do."""
    np.save("x.npy", noise(30, 4, 4))
    whole, filling = ArraySource.fill, threading.Barrier(4)

    def fill(self, writer, *, progress):
        filling.wait(30)  # all are at it
        return whole(self, writer, progress=progress)

    monkeypatch.setattr(ArraySource, "fill", fill)
    with ThreadPoolExecutor(4) as pool:
        found = [done.result() for done in [pool.submit(opened, "x.npy") for _ in range(4)]]
    assert all(np.array_equal(one.training, found[0].training) for one in found)
    assert len(caches()) == 1
    assert not list(module.cache_folder().glob(".*"))


CONTAINERS = """
    import ctypes, os, sys, time
    import numpy as np
    from pixelcnn.datasets import arrays, open_data
    whole = arrays.ArraySource.fill
    def slow(self, writer, *, progress):
        assert os.getpid() == 1
        time.sleep(0.3)
        return whole(self, writer, progress=progress)
    arrays.ArraySource.fill = slow
    children = []
    for k in range(2):
        child = os.fork()
        if child == 0:
            if ctypes.CDLL(None).unshare(0x20000000):  # CLONE_NEWPID
                os._exit(77)
            first = os.fork()
            if first == 0:
                open_data("x.npz", None, progress=False)
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
        children.append(child)
        time.sleep(0.1)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_two_containers_share_it():
    """Each the first process of PID spaces of their own, as `unshare --pid --fork` makes them."""
    np.savez("x.npz", images=noise(30, 4, 4))
    command = [sys.executable, "-c", textwrap.dedent(CONTAINERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("PID spaces are not allowed here")
    assert done.returncode == 0, done.stderr
    assert len(caches()) == 1
    assert len(opened("x.npz").training)


@pytest.mark.parametrize("where", ["write", "fsync", "rename"])
def test_a_full_disk(monkeypatch, capsys, where):
    pictures("photos", 30)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(module._Column, "write", full)
        else:
            patch.setattr(os, where, full)
        assert main(["train", "photos"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("pixelcnn: No space left on device, so the images cannot be cached; XDG_CACHE_HOME chooses")
    assert caches() == []
    assert len(opened("photos").training)


def test_a_cache_folder_that_cannot_be_made(monkeypatch, capsys):
    pictures("photos", 30)
    Path("afile").touch()
    for place in ("afile", "/proc/nowhere"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        assert main(["train", "photos"]) == 2
        said = capsys.readouterr().err
        assert "so the images cannot be cached; XDG_CACHE_HOME chooses another place" in said
        assert said.count("\n") == 1


def test_a_folder_that_changes_meanwhile(monkeypatch):
    pictures("photos", 30)
    whole = module.Writer.finish

    def finish(self):
        picture("photos/late.png", seed=77)
        whole(self)

    with monkeypatch.context() as patch:
        patch.setattr(module.Writer, "finish", finish)
        with pytest.raises(ValueError, match="photos changed while it was read; try again"):
            opened("photos")
    assert caches() == []


def test_a_sample_is_of_all_of_a_short_file(tmp_path):
    path = tmp_path / "x"
    for size in (0, 1, 65_535, 65_536, 65_537, 300_001):
        content = bytes(size)
        path.write_bytes(content)
        whole = module.sample_digest(path)
        path.write_bytes(content + b"\0")
        assert module.sample_digest(path) != whole
        for at in {k * (size - 1) // 9 for k in range(10)} if size else ():
            path.write_bytes(content[:at] + b"x" + content[at + 1 :])
            assert module.sample_digest(path) != whole, (size, at)


def test_a_sample_of_a_long_one_reaches_everywhere(tmp_path):
    path = tmp_path / "x"
    size, block = 2**24, 2**18
    path.write_bytes(bytes(size))
    digests = {module.sample_digest(path)}
    for start in range(0, size, 2 * block):
        with path.open("r+b") as file:
            file.seek(start)
            file.write(b"x" * block)
        digests.add(module.sample_digest(path))
    assert len(digests) == 1 + size // (2 * block)
