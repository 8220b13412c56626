"""The notebook as a file: its cells parse, and what is stored with them is small, clean and made by them.

`.ci/run` executes it and has these tests look at the result: PIXELCNN_NOTEBOOK names a notebook that must have outputs.
"""

import ast
import base64
import hashlib
import io
import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

STORED = Path(__file__).parents[2] / "notebooks" / "pixelcnn.ipynb"
EXECUTED = os.environ.get("PIXELCNN_NOTEBOOK")
PATH = Path(EXECUTED or STORED)
NOTEBOOK = json.loads(PATH.read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
OUTPUTS = [output for cell in CODE for output in cell["outputs"]]
MACHINE = re.compile(r"(?:/(?:home|root|tmp|var|usr|opt|mnt|work|Users|content)/|[A-Z]:\\)")


def source(cell):
    return "".join(cell["source"])


def texts(output):
    """Everything of an output that is not a picture."""
    if output["output_type"] == "stream":
        return ["".join(output["text"])]
    return ["".join(value) for kind, value in output["data"].items() if kind.startswith("text/")]


def pictures(cell):
    return [output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output.get("data", {})]


def test_it_is_a_notebook():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    for cell in NOTEBOOK["cells"]:
        kind = cell["cell_type"]
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | (
            {"outputs", "execution_count"} if kind == "code" else set()
        )
        assert kind in {"code", "markdown"}
        assert source(cell).strip()


def test_every_cell_has_an_id():
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z-]{1,64}", each) for each in ids)


@pytest.mark.parametrize("cell", CODE, ids=lambda cell: cell["id"])
def test_the_code_parses(cell):
    ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", source(cell), flags=re.MULTILINE))


def test_every_section_has_a_text_and_one_cell():
    """But for the first, which sets up, and the last, which says where to go on."""
    order = [cell["id"] for cell in NOTEBOOK["cells"]]
    sections = [cell["id"] for cell in NOTEBOOK["cells"] if source(cell).startswith("## ")]
    middle = [each for section in sections[:-1] for each in (section, f"{section}-code")]
    assert order == ["title", "install", "setup", *middle, sections[-1]]


def test_no_path_of_a_machine():
    for text in [source(cell) for cell in NOTEBOOK["cells"]] + [text for output in OUTPUTS for text in texts(output)]:
        assert not MACHINE.search(text), text


def test_the_outputs_are_small():
    assert PATH.stat().st_size <= 400_000


def test_the_outputs_are_those_of_one_run_from_a_clean_kernel():
    """All cells were executed, in order and without complaint; `make notebook` does it after an edit."""
    counts = [cell["execution_count"] for cell in CODE]
    assert counts == list(range(1, len(CODE) + 1))
    assert {output["output_type"] for output in OUTPUTS} <= {"stream", "display_data", "execute_result"}
    assert all(output["name"] == "stdout" for output in OUTPUTS if output["output_type"] == "stream")
    for cell in CODE:
        assert len(pictures(cell)) == cell["id"].endswith("-code"), cell["id"]
        for data in pictures(cell):
            with Image.open(io.BytesIO(base64.b64decode("".join(data)))) as picture:
                assert picture.width <= 800
                assert len(picture.convert("L").getcolors()) > 1  # not blank


def test_the_outputs_are_those_of_these_cells():
    """`make notebook` notes what it executed, so that a cell that is edited afterwards is noticed."""
    executed = NOTEBOOK["metadata"].get("executed")
    assert executed == hashlib.sha256("\0".join(map(source, CODE)).encode()).hexdigest()
