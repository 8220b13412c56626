"""The README: its Python runs, its commands exist, its tree names every file."""

import re
import shlex
from pathlib import Path

import pytest

from pixelcnn.cli import _parse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found, f"no {language} block"
    return found


def test_the_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert float(capsys.readouterr().out) < 0.2
    assert (tmp_path / "colour" / "model.safetensors").is_file()


@pytest.mark.parametrize("command", [line for block in blocks("sh") for line in block.splitlines() if line])
def test_the_commands_parse(command):
    """`.ci/run` runs them."""
    program, *arguments = shlex.split(command, comments=True)
    assert program == "pixelcnn"
    assert not isinstance(_parse(arguments), int)


def test_the_tree_names_every_file():
    (tree,) = (block for block in blocks("text") if block.startswith("src/"))
    named, folders = set(), []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, phrase = line.strip().partition(" ")
        folders[depth:] = [name]
        if phrase:
            named.add("".join(folders))
        else:
            assert name.endswith("/"), f"{name} has no phrase"
    for path in named:
        assert (ROOT / path).exists(), f"{path} is not there"
    tops = ("src", "tests", "benchmarks", "examples", "runs", "docs", "apps", "notebooks")
    for file in (f for top in tops for f in (ROOT / top).rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            path = file.relative_to(ROOT).as_posix()
            assert path in named or any(path.startswith(n) for n in named if n.endswith("/")), f"{path} is not named"
