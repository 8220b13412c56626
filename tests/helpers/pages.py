"""The README and the pages of docs/, and the code in them; as a program it runs the commands of docs/."""

import contextlib
import re
import shlex
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """The code blocks of a language, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(page):
    """Runs a page's Python, one block after another in one namespace; a traceback has the page's line numbers."""
    text, namespace, end = page.read_text(encoding="utf-8"), {}, 0
    for block in blocks(page, "python"):
        start = text.index(f"```python\n{block}", end) + len("```python\n")
        end = start + len(block)
        exec(compile("\n" * text.count("\n", 0, start) + block, name_of(page), "exec"), namespace)


def commands():
    """Every line of every `sh` block, with its page."""
    return [(page, line) for page in PAGES for block in blocks(page, "sh") for line in block.splitlines() if line]


def shown():
    """Every command on one line of a `text` block, also through torchrun, with its page."""
    found = []
    for page in PAGES:
        for line in (line for block in blocks(page, "text") for line in block.splitlines()):
            command = re.fullmatch(r"(?:torchrun .* -m )?(pixelcnn [^&\\]*)", line)
            if command:
                found.append((page, command[1]))
    return found


def run_commands(page):
    """Runs a page's commands in a folder of its own and in this process, for each start of one takes seconds."""
    from pixelcnn.cli import main

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for command in (line for block in blocks(page, "sh") for line in block.splitlines() if line):
            print(f"+ {command}", flush=True)
            code = main(shlex.split(command, comments=True)[1:])
            if code:
                raise SystemExit(f"{name_of(page)}: exit code {code}: {command}")


if __name__ == "__main__":
    for each in PAGES[1:]:
        run_commands(each)
