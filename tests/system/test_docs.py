"""The README and the pages of docs/: their code runs, their commands, pictures and links exist, the map is complete."""

import importlib.util
import pkgutil
import re
import shlex
from pathlib import Path

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


def script(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("_elsewhere")
def test_the_readme_is_short_and_its_python_runs(capsys):
    assert len(pages.README.read_text(encoding="utf-8").splitlines()) <= 130
    pages.run(pages.README)
    assert float(capsys.readouterr().out) < 0.2  # bits/dim of the shipped model


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=[pytest.mark.slow] if p.stem in ("recipes", "extending", "codes") else [])
        for p in pages.PAGES[1:]
        if pages.blocks(p, "python")
    ],
    ids=pages.name_of,
)
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
    assert len(pages.commands()) > 20
    assert _parse(["train", "mnist", "--renamed", "3"]) == 2


def test_every_block_is_of_a_known_kind():
    """A block in a language that no test looks at would go unchecked."""
    for page in pages.PAGES:
        kinds = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(kinds[::2]) <= {"python", "sh", "text"}, page
        assert set(kinds[1::2]) <= {""}, page
        for kind in ("python", "sh", "text"):  # none is indented, where nothing would find it
            assert kinds.count(kind) == len(pages.blocks(page, kind)), page


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^::: (\S+)", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    for name in set(pixelcnn.__all__) - {"__version__", "datasets", "energies"}:
        assert f"pixelcnn.{name}" in listed


def test_the_reference_shows_every_member_that_it_lists():
    """Where `inherited_members` is not set, mkdocstrings leaves out what a class inherits, without a word."""
    for entry in re.split(r"^::: ", (DOCS / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        listed = re.search(r"\bmembers:(?: \[(.+)\]|((?:\n +- \w+)+))", entry)
        owner = pkgutil.resolve_name(entry.split()[0])
        for member in re.findall(r"\w+", (listed[1] or listed[2]) if listed else ""):
            assert hasattr(owner, member) if "inherited_members: true" in entry else member in vars(owner), member


def test_every_picture_is_there_and_every_figure_is_made(monkeypatch, tmp_path):
    figures = script("figures")
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


@pytest.mark.parametrize("page", [*pages.PAGES, pages.ROOT / "CONTRIBUTING.md"], ids=pages.name_of)
def test_every_link_to_a_file_leads_there(page):
    """And to a heading of it, if it names one."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        file = page.parent / target if target else page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().strip().replace(" ", "-") for h in headings}, anchor


def test_the_map_is_up_to_date():
    module = script("map")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run `python docs/map.py`"


def test_the_map_has_every_source():
    """Of the package, the folders beside it, and in whatever language."""
    text = (DOCS / "map.md").read_text(encoding="utf-8")
    for top in ("src/pixelcnn", "tests", "benchmarks", "examples", "runs", "apps", "notebooks", "docs"):
        for file in (pages.ROOT / top).rglob("*.*"):
            if file.suffix in {".py", ".c", ".h", ".js", ".css", ".sh", ".bash"} and "fixtures" not in file.parts:
                folder = file.parent.relative_to(pages.ROOT).as_posix()
                assert f"## `{folder}/`" in text, folder
                assert file.name == "__init__.py" or f"- `{file.name}`: " in text, file


def test_a_file_that_does_not_say_what_it_is_is_named(tmp_path, monkeypatch):
    module = script("map")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name, text, phrase in (
        ("one.py", '"""What\nit is. And more.\n\nMore."""\n', "What it is"),
        ("two.c", "/* An inner\n   loop: fast. */\nint x;\n", "An inner loop: fast"),
        ("three.js", "// An editor.\n// More.\nlet x;\n", "An editor"),
        ("four.sh", "#!/usr/bin/env bash\n# Trains `mnist`.\nset -e\n", "Trains `mnist`"),
    ):
        Path(tmp_path, name).write_text(text, encoding="utf-8")
        assert module.description(tmp_path / name) == phrase
    Path(tmp_path, "five.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"five\.py"):
        module.description(tmp_path / "five.py")
