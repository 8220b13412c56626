"""Commands in surroundings that are not a developer's: a process that has imported torch once and forks for each.

Run with nothing, it reads one JSON object a line, `{"surrounding": ..., "folder": ..., "commands": [...]}`, runs the
commands one after another in a child that lives in that surrounding, and answers with their exit codes; what they print
is in the folder, `0.out`, `0.err` and so on.
"""

import contextlib
import ctypes
import io
import json
import os
import pwd
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

CLOSED = {"closed input": (0,), "closed output": (1,), "closed error": (2,), "all closed": (0, 1, 2)}
ENCODINGS = {"ASCII": "ascii", "Latin-1": "latin-1"}


def no_home(folder):
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ.pop(name, None)
    pwd.getpwuid = lambda _: SimpleNamespace(pw_dir=str(folder / "home"), pw_name="someone")


def unknown_user(folder):
    no_home(folder)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    pwd.getpwuid = unknown


def read_only_home(_):
    del os.environ["XDG_CACHE_HOME"]
    os.environ["HOME"] = "/proc/home"


def read_only_cache(_):
    os.environ["XDG_CACHE_HOME"] = "/proc/cache"


def noexec_cache(folder):
    """A file system of one's own, which only a superuser may have."""
    libc = ctypes.CDLL(None, use_errno=True)
    cache = folder / "noexec"
    cache.mkdir()
    private, noexec = 1 << 18 | 1 << 14, 1 << 3
    if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, private, None):
        raise PermissionError("no mount namespace")
    if libc.mount(b"tmpfs", bytes(cache), b"tmpfs", noexec, None):
        raise PermissionError("no mount")
    os.environ["XDG_CACHE_HOME"] = str(cache)


def no_compiler(folder):
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    os.environ["PATH"] = ""
    os.environ.pop("CC", None)
    sys.modules["ziglang"] = None


def deleted_folder(folder):
    (folder / "gone").mkdir()
    os.chdir(folder / "gone")
    (folder / "gone").rmdir()


def settings(_):
    import numpy as np
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    np.seterr(all="raise")


PREPARED = {
    "no HOME": no_home,
    "unknown user": unknown_user,
    "read-only home": read_only_home,
    "read-only cache": read_only_cache,
    "noexec cache": noexec_cache,
    "no compiler": no_compiler,
    "another working folder": lambda _: os.chdir("/"),
    "deleted working folder": deleted_folder,
    "PyTorch's settings": settings,
}
NAMES = ("ordinary", *PREPARED, *CLOSED, *ENCODINGS, "no sys.stderr", "full error", "autocast")


def streams(name, folder, k):
    """The standard streams of a command, as the interpreter makes them of descriptors."""
    targets = {0: os.devnull, 1: folder / f"{k}.out", 2: "/dev/full" if name == "full error" else folder / f"{k}.err"}
    for number, target in targets.items():
        os.dup2(os.open(target, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o644), number)
    errors = {1: "strict", 2: "backslashreplace"}
    for number, stream in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if number in CLOSED.get(name, ()):
            os.close(number)
            setattr(sys, stream, None)
        elif number:
            encoding = ENCODINGS.get(name, "utf-8")
            binary = open(number, "wb", closefd=False)  # noqa: SIM115
            setattr(sys, stream, io.TextIOWrapper(binary, encoding, errors[number], line_buffering=number == 2))
    if name == "no sys.stderr":
        sys.stderr = None


def run(name, folder, commands):
    """The commands' exit codes, or what they raised; in this process, which is of no use afterwards."""
    import torch

    from pixelcnn.cli import main

    torch.set_num_threads(1)
    os.chdir(folder)
    try:
        PREPARED.get(name, lambda _: None)(folder)
    except PermissionError as error:
        return str(error)
    codes = []
    for k, command in enumerate(commands):
        streams(name, folder, k)
        try:
            with torch.autocast("cpu", torch.bfloat16) if name == "autocast" else contextlib.nullcontext():
                codes.append(main(command))
        except BaseException:
            codes.append(traceback.format_exc())
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, AttributeError):
                stream.flush()
    return codes


def serve():
    """Answers requests until there are no more."""
    import torch._dynamo  # noqa: F401 - what training imports
    import tyro  # noqa: F401

    import pixelcnn.cli
    import pixelcnn.training  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        folder = Path(asked["folder"])
        if (child := os.fork()) == 0:
            answer = folder / "codes.json"
            with answer.open("w", encoding="utf-8") as file:  # now, while there is a disk to write to
                os.dup2(file.fileno(), 1000)
                codes = run(asked["surrounding"], folder, asked["commands"])
                os.write(1000, json.dumps(codes).encode())
            os._exit(0)
        os.waitpid(child, 0)
        print(json.dumps(asked["surrounding"]), flush=True)


if __name__ == "__main__":
    serve()
