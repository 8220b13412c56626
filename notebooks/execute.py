"""Executes the notebook from a clean kernel and stores it with what it showed.

    python notebooks/execute.py [OUT]

OUT is where the executed notebook goes, by default its own place; it is written whole or not at all. A cell that fails
ends in exit code 1, its traceback on standard error, and nothing is written. Needs the extra `notebook`; `make
notebook` brings it.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from pixelcnn.files import write_file

NOTEBOOK = Path(__file__).with_name("pixelcnn.ipynb")
_SECONDS = 600  # for the longest cell, on a slow machine


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Of all code: kept beside the outputs, so that tests/system/test_notebook.py notices an edited cell."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def main(out: Path) -> None:
    """Executes a copy in an empty folder, and writes it to `out`."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=_SECONDS,
            startup_timeout=_SECONDS,
            kernel_name="python3",
            record_timing=False,  # or each run changes every cell
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute()
        except CellExecutionError as error:
            sys.exit(str(error))
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop("image/jpeg", None)  # Pillow's second copy of a picture
    notebook.metadata["executed"] = fingerprint(notebook)
    notebook.metadata["language_info"] = {"name": "python"}  # without the version of the machine at hand
    write_file(out, nbformat.writes(notebook) + "\n")
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK)
