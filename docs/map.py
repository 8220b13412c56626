"""The map of the repository: `python docs/map.py` writes docs/map.md, `--check` fails if it is stale.

A file's entry is the first sentence of its own description: the docstring of a Python module, the comment at the top of
any other source. So adding a file edits no page by hand. It needs nothing but Python's standard library.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "map.md"
TOPS = ("src/pixelcnn", "tests", "benchmarks", "examples", "runs", "notebooks", "apps", "docs")
COMMENTS = {
    ".c": r"/\*(.*?)\*/",
    ".h": r"/\*(.*?)\*/",
    ".css": r"/\*(.*?)\*/",
    ".js": r"((?:^//[^\n]*\n)+)",
    ".sh": r"((?:^#(?!!)[^\n]*\n)+)",
    ".bash": r"((?:^#(?!!)[^\n]*\n)+)",
}
HEAD = """# Map of the repository

Find the file that does something. Each line is the first sentence of the file's own description; the page is generated
(`python docs/map.py`).
"""


def main() -> None:
    """Writes the page, or compares it with what would be written."""
    parser = argparse.ArgumentParser(description="Write docs/map.md from the files' own descriptions.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if docs/map.md is stale")
    text = page()
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/map.md is stale: run `python docs/map.py`")


def page() -> str:
    """The whole page: a heading for each folder, and a line for each of its sources."""
    parts = [HEAD]
    for folder in (f for top in TOPS for f in (ROOT / top, *sorted((ROOT / top).rglob("*/")))):
        described = {file.name: description(file) for file in sorted(folder.iterdir()) if is_source(file)}
        about = described.pop("__init__.py", None)
        if described or about:
            files = "".join(f"- `{name}`: {_as_markdown(phrase)}\n" for name, phrase in described.items())
            about = f"{_as_markdown(about)}\n" if about else ""
            parts.append("\n".join(filter(None, [f"## `{folder.relative_to(ROOT).as_posix()}/`\n", about, files])))
    return "\n".join(parts)


def is_source(file: Path) -> bool:
    """Whether the map names a file: sources that describe themselves, and scripts without a suffix."""
    if not file.is_file() or "__pycache__" in file.parts or "fixtures" in file.parts:
        return False
    return file.suffix == ".py" or file.suffix in COMMENTS or (not file.suffix and file.read_bytes()[:2] == b"#!")


def description(file: Path) -> str:
    """The first sentence of a source's docstring or top comment; a file without either is a ValueError."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        found = ast.get_docstring(ast.parse(text))
    else:
        match = re.search(COMMENTS.get(file.suffix, COMMENTS[".sh"]), text, re.MULTILINE | re.DOTALL)
        found = match and re.sub(r"^\s*(//|#|\*)? ?", "", match[1], flags=re.MULTILINE)
    if not found or not found.strip():
        raise ValueError(f"{file.relative_to(ROOT).as_posix()} has no docstring or comment at its top")
    paragraph = " ".join(found.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0].rstrip(".:")


def _as_markdown(phrase: str) -> str:
    """A phrase in which only the code between backticks is markup."""
    pieces = phrase.split("`")
    pieces[::2] = [re.sub(r"([*_<\[\]])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)


if __name__ == "__main__":
    main()
