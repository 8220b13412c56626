"""The README and the pages of docs/: their Python runs, their commands exist, what they name is there."""

import importlib.util
import re
import shlex

import pytest
from PIL import Image

import pages
import pixelcnn
from pixelcnn.cli import _parse

DOCS = pages.ROOT / "docs"


@pytest.fixture
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_elsewhere")
def test_the_readmes_python_runs(tmp_path, capsys):
    pages.run(pages.README)
    assert float(capsys.readouterr().out) < 0.2
    assert (tmp_path / "colour" / "model.safetensors").is_file()


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("page", [p for p in pages.PAGES[1:] if pages.blocks(p, "python")], ids=pages.name_of)
def test_the_pages_python_runs(page):
    pages.run(page)


@pytest.mark.parametrize(("page", "command"), pages.commands(), ids=lambda value: getattr(value, "name", value))
def test_the_commands_parse(page, command):
    """`.ci/run` runs them."""
    program, *arguments = shlex.split(command, comments=True)
    assert program == "pixelcnn"
    assert not isinstance(_parse(arguments), int), page


@pytest.mark.parametrize(("page", "command"), pages.shown(), ids=lambda value: getattr(value, "name", value))
def test_the_commands_that_are_not_run_parse(page, command):
    """They need data, time or a network."""
    words = shlex.split(command, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    parsed = _parse(words[1:])
    assert parsed == 0 if words[1].startswith("--tyro") else not isinstance(parsed, int), page


def test_a_renamed_option_is_noticed():
    assert len(pages.shown()) > 20
    assert _parse(["train", "mnist", "--renamed", "3"]) == 2


def test_every_block_is_of_a_known_kind():
    """A block in a language that no test looks at would go unchecked."""
    for page in pages.PAGES:
        kinds = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(kinds[::2]) <= {"python", "sh", "text"}, page
        assert set(kinds[1::2]) <= {""}, page


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^::: (\S+)", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    for name in set(pixelcnn.__all__) - {"__version__", "datasets"}:
        assert f"pixelcnn.{name}" in listed


def test_every_picture_is_there_and_every_figure_is_made(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    text = "".join(page.read_text(encoding="utf-8") for page in pages.PAGES)
    pictures = {path.name for path in (DOCS / "images").iterdir()}
    used = set(re.findall(r"images/([\w-]+\.\w+)", text))
    assert used <= pictures
    assert {name for name in pictures if name.startswith("how-")} <= used
    assert {f"how-{name}.png" for name in figures.FIGURES} == {name for name in pictures if name.startswith("how-")}
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    figures.main(["masks", "wavefront"])
    for name in ("how-masks.png", "how-wavefront.png"):
        with Image.open(tmp_path / name) as made, Image.open(DOCS / "images" / name) as kept:
            assert made.size == kept.size


def test_the_tree_names_every_file():
    (tree,) = (block for block in pages.blocks(pages.README, "text") if block.startswith("src/"))
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
        assert (pages.ROOT / path).exists(), f"{path} is not there"
    tops = ("src", "tests", "benchmarks", "examples", "runs", "docs", "apps", "notebooks")
    for file in (f for top in tops for f in (pages.ROOT / top).rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            path = file.relative_to(pages.ROOT).as_posix()
            assert path in named or any(path.startswith(n) for n in named if n.endswith("/")), f"{path} is not named"
