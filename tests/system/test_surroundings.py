"""The command line where it was not written: without a home, a compiler, streams or letters, inside of autocast."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import pixelcnn
import surroundings

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")

HERE = Path(__file__).parent
NAME = "Übung-図"
REMEMBERING = """#!/bin/sh
# The machine's compiler, which compiles the same only once.
before= given=
for word; do
    case $before in -o) out=$word ;; *) given="$given $word" ;; esac
    before=$word
done
kept="$(dirname "$0")/$(printf %s "$given" | cksum | tr ' ' -).so"
[ -f "$kept" ] || { cc "$@" && cp "$out" "$kept.$$" && mv "$kept.$$" "$kept"; } && cp "$kept" "$out"
"""


class Nursery:
    """The process that forks, and what all surroundings have: a model, images, a quick compiler."""

    def __init__(self, base):
        self.base, self._lived = base, {}
        base.chmod(0o755)
        compiler = base / "cc"
        compiler.write_text(REMEMBERING)
        compiler.chmod(0o755)
        model = pixelcnn.PixelCNN((1, 8, 8), filters=6, blocks=1, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
        model.save_pretrained(base / NAME)
        np.save(base / "images.npy", model.sample(40, seed=1).numpy())
        own = {"CC": str(compiler), "XDG_CACHE_HOME": str(base / "cache"), "HOME": str(base / "home")}
        self.environment = os.environ | own
        self.process = subprocess.Popen(
            [sys.executable, HERE.parent / "helpers" / "surroundings.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip

    def lived(self, name):
        """The folder of a surrounding and the exit codes of the commands in it, which are run once."""
        if name not in self._lived:
            self._lived[name] = self._run(name)
        folder, codes = self._lived[name]
        if isinstance(codes, str):
            pytest.skip(codes)
        return folder, dict(zip(COMMANDS, codes, strict=True))

    def _run(self, name):
        folder = self.base / name
        folder.mkdir()
        commands = [command(self.base / NAME, self.base / "images.npy", folder) for command in COMMANDS.values()]
        print(
            json.dumps({"surrounding": name, "folder": str(folder), "commands": commands}),
            file=self.process.stdin,
            flush=True,
        )
        assert json.loads(self.process.stdout.readline()) == name
        return folder, json.loads((folder / "codes.json").read_text())


COMMANDS = {
    "info": lambda model, images, out: ["info", str(model)],
    "sample": lambda model, images, out: ["sample", str(model), "-n", "4", "--out", str(out / f"{NAME}.png")],
    "evaluate": lambda model, images, out: ["evaluate", str(model), str(images), "--json", "--device", "cpu"],
    "compress": lambda model, images, out: ["compress", str(model), str(images), "--out", str(out / f"{NAME}.pxcn")],
    "train": lambda model, images, out: [
        "train", str(images), "--model", "pixelcnn", "--filters", "4", "--blocks", "1", "--steps", "3",
        "--batch-size", "8", "--device", "cpu", "--precision", "float32", "--out", str(out / NAME),
    ],
}  # fmt: skip


def made(folder, command):
    """What a command made, which no surrounding changes."""
    files = {"sample": f"{NAME}.png", "compress": f"{NAME}.pxcn", "train": f"{NAME}/model/model.safetensors"}
    if command in files:
        return (folder / files[command]).read_bytes()
    printed = (folder / f"{list(COMMANDS).index(command)}.out").read_text(errors="replace")
    if command == "info":
        return [line for line in printed.splitlines() if not line.startswith("engine: ")]
    return json.loads(printed) | {"images_per_second": None}


@pytest.fixture(scope="module")
def nursery():
    with tempfile.TemporaryDirectory() as folder:
        nursery = Nursery(Path(folder))
        with nursery.process:
            yield nursery


def errors_of(folder, command):
    errors = folder / f"{list(COMMANDS).index(command)}.err"
    return errors.read_text(errors="replace")[-2000:] if errors.exists() else ""


REFUSED = {("read-only cache", "train"): "XDG_CACHE_HOME chooses another place"}
SILENT = {name for name, closed in surroundings.CLOSED.items() if 1 in closed}


def check(folder, name, command, code, ordinary):
    if (name, command) in REFUSED:
        assert code == 2
        assert REFUSED[name, command] in errors_of(folder, command)
        return
    assert code == 0, errors_of(folder, command)
    if name not in SILENT or command not in ("info", "evaluate"):
        assert made(folder, command) == made(ordinary, command)


NAMES = [
    pytest.param(name, marks=() if name in ("ordinary", "closed output", "no compiler", "ASCII") else pytest.mark.slow)
    for name in surroundings.NAMES
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_command_does_the_same_in_any_surrounding(name, command, nursery):
    folder, codes = nursery.lived(name)
    check(folder, name, command, codes[command], nursery.lived("ordinary")[0])


@pytest.mark.parametrize("name", [each for each in NAMES if each.values[0] not in SILENT])
def test_the_native_engine_is_had_wherever_there_is_a_compiler(name, nursery):
    folder, _ = nursery.lived(name)
    printed = (folder / "0.out").read_text(errors="replace")
    assert "\nengine: " in printed
    assert ("\nengine: native, " in printed) == (name != "no compiler")


HERE_CACHE = "mkdir -p cache && export XDG_CACHE_HOME=$PWD/cache &&"
PROCESSES = {
    "unknown user": "exec setpriv --reuid 54321 --clear-groups env -u HOME -u XDG_CACHE_HOME",
    "read-only home": "exec env -u XDG_CACHE_HOME HOME=/proc/home",
    "read-only cache": "exec env XDG_CACHE_HOME=/proc/cache",
    "noexec cache": f"{HERE_CACHE} exec unshare -m sh -c 'mount -t tmpfs -o noexec none cache && exec \"$@\"' sh",
    "no compiler": f"{HERE_CACHE} export CC= PATH= && exec",
    "another working folder": "cd / && exec",
    "deleted working folder": "mkdir gone && cd gone && rmdir ../gone && exec",
    "closed input": "exec <&-",
    "closed output": "exec >&-",
    "closed error": "exec 2>&-",
    "all closed": "exec <&- >&- 2>&-",
    "full error": "exec 2>/dev/full",
    "ASCII": "exec env PYTHONIOENCODING=ascii",
    "Latin-1": "exec env PYTHONIOENCODING=latin-1",
    "the C locale": "exec env LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0",
}
"""Surroundings as a shell makes them: what it runs before the command."""


@pytest.mark.long
@pytest.mark.parametrize(("name", "command"), [(name, command) for name in PROCESSES for command in COMMANDS])
def test_a_process_does_the_same_in_any_surrounding(name, command, nursery):
    folder = nursery.base / f"{name}, a process"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)

    def run(*arguments):
        k = list(COMMANDS).index(command)
        with (folder / f"{k}.out").open("wb") as output, (folder / f"{k}.err").open("wb") as errors:
            return subprocess.run(
                ["sh", "-c", f'{PROCESSES[name]} "$@"', "sh", sys.executable, *arguments],
                cwd=folder, env=nursery.environment, stdout=output, stderr=errors, check=False,
            ).returncode  # fmt: skip

    if name in ("unknown user", "noexec cache") and run("-c", "import torch"):
        pytest.skip("needs a superuser, and a Python that others may read")
    code = run("-m", "pixelcnn", *COMMANDS[command](nursery.base / NAME, nursery.base / "images.npy", folder))
    check(folder, name, command, code, nursery.lived("ordinary")[0])
