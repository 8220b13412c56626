"""Writing: whole or not at all, through links, and into what is no regular file; and what else processes share."""

import contextlib
import errno
import fcntl
import io
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import pixelcnn
from pixelcnn import files
from pixelcnn.cli import main
from pixelcnn.files import (
    cache_home,
    decode_tensors,
    descriptor_of,
    is_special_file,
    map_array,
    new_folder,
    only_user_of,
    recover,
    writable_file,
    writable_folder,
    write_file,
)
from pixelcnn.processes import _numbered_by

TEXT = b"what is written\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path):
    """A small untrained model of two levels in a folder."""
    pixelcnn.PixelCNN((1, 6, 5), levels=2, filters=4, blocks=0).save_pretrained(tmp_path / "model")
    np.save("x.npy", np.arange(3 * 30).reshape(3, 6, 5).astype("uint8") % 2)
    return "model"


@contextlib.contextmanager
def read_from(path):
    """A list that holds what was read from a pipe, of the file system or open, when the block has ended."""
    found = []

    def read():
        with open(path, "rb") as pipe:
            found.append(pipe.read())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield found
    reader.join(10)
    assert not reader.is_alive()


# Special files ------------------------------------------------------------------------------------------------


def test_a_pipe_is_written_to_and_stays():
    os.mkfifo("pipe")
    os.symlink("pipe", "link")
    for name in ("pipe", "link"):
        with read_from("pipe") as found:
            write_file(writable_file(Path(name)), TEXT)
        assert found == [TEXT]
        assert stat.S_ISFIFO(os.stat(name).st_mode)
    assert sorted(os.listdir()) == ["link", "pipe"]


def device(name, minor):
    """A device of one's own; or a link to the machine's, where one cannot replace that if the test fails."""
    if os.geteuid() != 0:
        os.symlink({3: "/dev/null", 7: "/dev/full"}[minor], name)
        return name
    try:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        open(name, "wb").close()
    except OSError:
        pytest.skip("root makes no devices here")
    return name


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's devices")
def test_devices(capsys, model):
    for minor in (3, 7):
        name = device(f"d{minor}", minor)
        before = os.stat(name)
        with contextlib.nullcontext() if minor == 3 else pytest.raises(OSError, match=r"No space left.*: 'd7'"):
            write_file(writable_file(Path(name)), TEXT)
        assert main(["score", model, "x.npy", "--out", name]) == (0 if minor == 3 else 2)
        assert os.path.samestat(os.stat(name), before)
        assert stat.S_ISCHR(os.stat(name).st_mode)
    assert capsys.readouterr().err.endswith("\npixelcnn: No space left on device: d7\n")
    for command in COMMANDS.values():
        if command[0] not in ("bench", "export-onnx"):
            assert main([*command, "d3"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    for command in (["score", model, "x.npy", "--maps"], ["sample", model, "--separate", "--out"]):  # folders
        assert main([*command, "d3"]) == 2
        assert capsys.readouterr().err == "pixelcnn: File exists: d3\n"
    assert os.path.samestat(os.stat("d7"), before)


def test_open_files_are_told_from_others(tmp_path):
    read, write = os.pipe()
    assert descriptor_of(Path(f"/dev/fd/{write}")) == write
    assert descriptor_of(Path("/dev/stdout")) == 1
    os.symlink(f"/dev/fd/{write}", "a")
    os.symlink("a", "b")
    assert descriptor_of(Path("b")) == write
    write_file(writable_file(Path("b")), TEXT)
    assert os.read(read, 100) == TEXT
    for descriptor in (read, write):
        os.close(descriptor)
    with pytest.raises(OSError, match=rf"Bad file descriptor: '/dev/fd/{write}'"):
        writable_file(Path(f"/dev/fd/{write}"))
    for name in (".", "1", "nothing", "folder/1"):
        assert descriptor_of(tmp_path / name) is None
    os.symlink("circle", "circle")
    assert descriptor_of(Path("circle")) is None
    with pytest.raises(OSError, match="symbolic links: 'circle'"):
        write_file(Path("circle"), TEXT)


def test_an_open_file_goes_on_where_it_is(tmp_path, capfd):
    """As standard output does that a shell has put into a file: neither replaced nor begun again."""
    (tmp_path / "out").write_text("earlier\n")
    with open("out", "a") as out:
        out.write("before\n")
        out.flush()
        write_file(Path(f"/dev/fd/{out.fileno()}"), TEXT)
        out.write("after\n")
    assert Path("out").read_text() == "earlier\nbefore\nwhat is written\nafter\n"
    print("before")
    write_file(Path("/dev/fd/1"), TEXT)
    print("after")
    assert capfd.readouterr().out == "before\nwhat is written\nafter\n"


COMMANDS = {
    "score": ["score", "model", "x.npy", "--out"],
    "sample": ["sample", "model", "-n", "2", "--out"],
    "sample --steps": ["sample", "model", "-n", "2", "--steps", "--out"],
    "complete": ["complete", "model", "x.npy", "--images", "1", "-n", "1", "--keep-rows", "3", "--out"],
    "complete --arrays": ["complete", "model", "x.npy", "--images", "1", "-n", "1", "--keep-rows", "3", "--arrays"],
    "compress": ["compress", "model", "x.npy", "--out"],
    "bench": ["bench", "model", "--batches", "1", "--seconds", "0.01", "--no-reference", "--out"],
    "export-onnx": ["export-onnx", "model"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_writes_into_a_pipe(model, capsys, command):
    if command[0] == "export-onnx":
        pytest.importorskip("onnx")
    os.mkfifo("pipe")
    with read_from("pipe") as found:
        assert main([*command, "pipe"]) == 0, capsys.readouterr().err
    assert len(found[0]) > 50
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    if command[0] == "sample":
        Image.open(io.BytesIO(found[0])).verify()
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_messages_leave_standard_output_to_the_file(model, capfd):
    assert main(["score", model, "x.npy", "--out", "/dev/fd/1"]) == 0
    captured = capfd.readouterr()
    assert re.fullmatch(r"image,log_prob,bits_per_dim\n(\d,-[\d.]+,[\d.]+\n){3}", captured.out)
    assert "3 images of x.npy under model" in captured.err
    assert main(["score", model, "x.npy"]) == 0
    assert "3 images of x.npy under model" in capfd.readouterr().out


# Links --------------------------------------------------------------------------------------------------------


def test_what_a_link_leads_to_is_replaced_and_the_link_stays():
    os.mkdir("far")
    Path("far/file").write_text("earlier")
    os.symlink("far/file", "link")
    os.symlink("far/new", "dangling")
    for name, target in (("link", "far/file"), ("dangling", "far/new")):
        write_file(writable_file(Path(name)), TEXT)
        assert Path(target).read_bytes() == TEXT
        assert os.readlink(name) == target
    assert sorted(os.listdir("far")) == ["file", "new"]
    assert sorted(os.listdir()) == ["dangling", "far", "link"]


def test_so_it_is_with_folders(model):
    os.mkdir("s")
    os.symlink("s", "m")
    os.symlink("far/away", "dangling")
    saved = pixelcnn.load(model)
    for name, target in (("m", "s"), ("dangling", "far/away")):
        for _ in range(2):
            saved.save_pretrained(name)
        assert sorted(os.listdir(target)) == ["README.md", "config.json", "model.safetensors"]
        assert os.readlink(name) == target
    assert sorted(os.listdir()) == ["dangling", "far", "m", "model", "s", "x.npy"]
    os.symlink("deep/samples", "samples")
    assert main(["sample", model, "-n", "2", "--separate", "--out", "samples"]) == 0
    assert len(os.listdir("deep/samples")) == 2
    assert os.readlink("samples") == "deep/samples"


def test_the_current_folder_is_not_replaced(model, tmp_path, monkeypatch):
    """Whose process, and shell, would be left in a folder that has been deleted."""
    saved = pixelcnn.load(model)
    for here in (tmp_path / "empty", tmp_path / model):
        here.mkdir(exist_ok=True)
        monkeypatch.chdir(here)
        before = sorted(os.listdir())
        for name in (".", here):
            with pytest.raises(OSError, match="the current folder cannot be replaced"):
                saved.save_pretrained(name)
        assert sorted(os.listdir()) == before
    assert sorted(os.listdir(tmp_path)) == ["empty", "model", "x.npy"]


# Whole or not at all ------------------------------------------------------------------------------------------


def test_a_circle_of_links_is_refused(model):
    os.symlink("circle", "circle")
    with pytest.raises(OSError, match=r"^\[Errno \d+\] Too many levels of symbolic links: 'circle'$"):
        pixelcnn.load(model).save_pretrained("circle")
    assert os.readlink("circle") == "circle"
    assert sorted(os.listdir()) == ["circle", "model", "x.npy"]


def test_errors_name_the_file_and_not_a_temporary_one(model, capsys):
    with pytest.raises(FileNotFoundError, match=r": 'nowhere/x\.csv'$"):
        write_file(Path("nowhere/x.csv"), TEXT)
    with pytest.raises(FileNotFoundError, match=r": '/proc/model'$"):
        pixelcnn.load(model).save_pretrained("/proc/model")
    os.mkdir("folder.png")
    assert main(["complete", model, "x.npy", "--keep-rows", "3", "--out", "folder.png"]) == 2
    assert capsys.readouterr().err == "pixelcnn: Is a directory: folder.png\n"
    Path("afile").touch()
    exports = (["export-keras"], "x.weights.h5"), (["export-onnx"], "x.onnx"), (["bench", "--out"], "x.json")
    for command, name in exports:
        arguments = [command[0], model, *command[1:], f"afile/{name}"]
        assert main(arguments) == 2
        assert capsys.readouterr().err == "pixelcnn: File exists: afile\n"


def test_exports_make_the_folder(model):
    pytest.importorskip("onnx")
    assert main(["export-onnx", model, "deep/down/x.onnx"]) == 0
    pytest.importorskip("h5py")
    assert main(["export-keras", model, "deeper/down/x.weights.h5"]) == 0
    assert os.listdir("deep/down") == ["x.onnx"]
    assert os.listdir("deeper/down") == ["x.weights.h5"]


def test_the_longest_names():
    for name in ("n" * 255, "\N{GREEK SMALL LETTER OMEGA}" * 127):
        write_file(Path(name), TEXT)
        assert Path(name).read_bytes() == TEXT
    assert len(os.listdir()) == 2


def several(action, threads=8):
    """Runs an action in threads of one process, which have one number as two containers' first processes do."""
    errors = []

    def run(k):
        try:
            action(k)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(k,)) for k in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert errors == []


def test_processes_of_one_number_write_the_same_file():
    def write(k):
        for _ in range(20):
            write_file(Path("x"), bytes([k]) * 100_000)

    several(write)
    content = Path("x").read_bytes()
    assert content == content[:1] * 100_000
    assert os.listdir() == ["x"]


def test_processes_of_one_number_write_the_same_folder():
    def write(k):
        for _ in range(10):
            with new_folder(Path("x")) as folder:
                for name in ("a", "b"):
                    write_file(folder / name, bytes([k]))

    several(write)
    assert Path("x/a").read_bytes() == Path("x/b").read_bytes()
    assert os.listdir() == ["x"]


def test_what_others_put_into_a_folder_is_not_replaced():
    os.mkdir("x")
    with new_folder(Path("x"), replace=False) as folder:
        write_file(folder / "a", b"1")
    assert os.listdir("x") == ["a"]
    with pytest.raises(OSError, match=r"not empty: 'y'$"), new_folder(Path("y"), replace=False):
        Path("y/b").mkdir(parents=True)
    assert (sorted(os.listdir()), os.listdir("y")) == (["x", "y"], ["b"])


def test_what_killed_processes_left_is_known():
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    names = []
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((Path, "replace"), (Path, "rename")):
            patch.setattr(module, name, killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process cleans up nothing
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            write_file(Path("x"), TEXT)
        with pytest.raises(Killed), new_folder(Path("y")):
            pass
        names = sorted(os.listdir())
    assert len(names) == 2
    for name in names:
        assert re.fullmatch(r"\.[xy]\.[0-9a-f]{16}\.tmp", name)
    os.rename(names[1], names[1].replace(".tmp", ".old"))  # killed between the two renames
    recover(Path())
    assert os.listdir() == ["y"]


def test_waiting_for_a_folder():
    os.mkdir("folder")
    with only_user_of(Path("folder")):
        with pytest.raises(ValueError, match="another process is using folder"), only_user_of(Path("folder")):
            pass
        order = []

        def wait():
            with only_user_of(Path("folder"), wait=True):
                order.append("waited")

        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.1)
        order.append("left")
    waiting.join()
    assert order == ["left", "waited"]
    descriptor = os.open("folder", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_process_numbers_are_those_of_a_container():
    """Two processes with the same number, in PID spaces of their own."""
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
    script = "import os, socket; print(os.getpid(), socket.gethostname(), os.readlink('/proc/self/ns/pid'))"
    try:
        found = [subprocess.run([*inside, script], capture_output=True, text=True, check=False) for _ in range(2)]
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if any(process.returncode for process in found):
        pytest.skip("PID spaces are not allowed here")
    own = _numbered_by()
    for process in found:
        number, _, space = process.stdout.strip().partition(" ")
        assert number == "1"
        assert space.split()[0] == own.split()[0]
        assert space != own


@pytest.mark.parametrize("signed", ["[" * 100_000, '[["a", 1], [2, 3]]', "5", '"ab"', "?"])
def test_tensors_with_strange_metadata_are_refused(signed):
    content = safetensors.torch.save({"a": torch.zeros(1)}, {"pixelcnn": signed})
    with pytest.raises(ValueError, match=r"^here (is damaged|has no checksum)"):
        decode_tensors(content, "here")


def test_an_array_without_a_type_is_refused(tmp_path):
    header = b"{'descr': (), 'fortran_order': False, 'shape': (4,)}\n"
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"x\.npy is damaged or not a NumPy file"):
        map_array(path)


# Caches -------------------------------------------------------------------------------------------------------


def test_the_cache_without_a_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "given"))
    assert cache_home() == tmp_path / "given" / "pixelcnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_home() == tmp_path / "home" / ".cache" / "pixelcnn"
    (tmp_path / "afile").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "afile"))  # such as / of a user who may not write there
    temporary = cache_home()
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    assert not temporary.is_relative_to(tmp_path / "afile")

    def unknown(_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert cache_home() == temporary
    write_file(temporary / "x", TEXT)
    (temporary / "x").unlink()


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "afile").touch()
    with pytest.raises(OSError, match="Not a directory") as error:
        writable_folder(tmp_path / "afile" / "x")
    assert error.value.errno == errno.ENOTDIR
    assert not is_special_file(tmp_path / "afile" / "x")
