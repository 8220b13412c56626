"""The tables and plots of `make bench`, on made-up measurements: nothing is timed here."""

import ast
import re
import sys
from pathlib import Path

import pytest

import pixelcnn
import training
from competitors import Absent, Worker
from plots import plot_sampling, plot_scaling
from sampling import Options, different
from table import Row, markdown, sampling_table, short, training_table

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROWS = [
    Row(competitor="keras-jax", batch=4, absent="No module named 'jax'"),
    Row(
        competitor="keras-tensorflow",
        batch=4,
        about="Keras",
        steps=784,
        taken=28,
        seconds=(3.0, 4.0, 9.0),
        peak_bytes=2**29,
    ),
    Row(
        competitor="keras-tensorflow", batch=4, about="Keras", steps=784, taken=784, seconds=(100.0,), peak_bytes=2**29
    ),
    Row(competitor="pytorch-compile", batch=4, about="C", steps=784, taken=784, seconds=(10.0,), prepare_seconds=21.04),
    Row(competitor="fast", batch=4, about="ours", steps=136, taken=136, seconds=(0.05, 0.04, 0.5), peak_bytes=2**28),
]


def cells(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, line, strict=True)) for line in body]


def test_sampling_table():
    text = sampling_table(ROWS, ours="fast", gflop=0.5, rate=100.0)
    part, full, compiled, fast = cells(text)
    assert (part["steps"], full["steps"], fast["steps"]) == ("28 of 784, scaled", "784", "136")
    assert part["median"] == "112 s"
    assert part["min .. max (runs)"] == "84.0 s .. 252 s (3)"
    assert part["times fast"] == "2,240"
    assert full["per image"] == "25.0 s"
    assert compiled["peak memory"] == "0 MiB"
    assert (fast["useful GFLOP/s"], fast["of the machine's"], fast["peak memory"]) == ("40.0", "40.0 %", "256 MiB")
    assert "- **keras-jax** is not here at batch 4: No module named 'jax'." in text
    assert "compiling `pytorch-compile`, 21.0 s at batch 4" in text


def test_training_table():
    rows = [
        Row(competitor="keras-jax", batch=32, absent="No module named 'jax'"),
        Row(competitor="pytorch", batch=32, about="P", steps=1, taken=2, seconds=(3.0, 4.0, 9.0), peak_bytes=2**29),
        Row(competitor="ours", batch=32, about="O", steps=1, taken=4, seconds=(4.0, 4.0, 5.0), peak_bytes=2**28),
    ]
    text = training_table(rows, ours="ours", gflop=0.5, rate=100.0)
    plain, ours = cells(text)
    assert (plain["median per step"], plain["min .. max (turns)"]) == ("2.00 s", "1.50 s .. 4.50 s (3)")
    assert (plain["times ours"], ours["times ours"], ours["images/s"]) == ("2.00", "1.00", "32.0")
    assert (ours["useful GFLOP/s"], ours["of the machine's"], ours["peak memory"]) == ("16.0", "16.0 %", "256 MiB")
    assert "- **keras-jax** is not here at batch 32: No module named 'jax'." in text


def test_sampling_table_without_ours():
    (line,) = cells(sampling_table(ROWS[2:3], ours="fast", gflop=0.5, rate=100.0))
    assert line["times fast"] == "-"


@pytest.mark.parametrize(
    ("x", "text"),
    [(0, "0"), (0.00123456, "0.00123"), (0.0698, "0.0698"), (1, "1.00"), (101.4, "101"), (12345.6, "12,346")],
)
def test_three_digits(x, text):
    assert short(x) == text


def test_markdown_columns_are_aligned():
    assert markdown(["a", "bc"], [("123", "4")]).splitlines() == ["| a   | bc |", "| --- | -- |", "| 123 | 4  |"]


def test_a_competitor_that_cannot_start_says_why():
    """Keras is not in this environment: its worker ends with an error, which the table then shows."""
    environment = {"batch": 1, "model": "mnist-seed", "device": "cpu"}
    with pytest.raises(Absent, match="No module named 'keras'"):
        Worker.sampling("keras-jax", keras_python=Path(sys.executable), **environment)
    with pytest.raises(Absent, match="not installed"):
        Worker.sampling("keras-jax", keras_python=Path("nowhere/python"), **environment)
    with pytest.raises(Absent, match="on a GPU the baseline is Keras on JAX"):
        Worker.sampling("keras-tensorflow", keras_python=Path(sys.executable), **environment | {"device": "cuda"})
    with pytest.raises(Absent, match="No module named 'keras'"):
        Worker.training("keras-jax", keras_python=Path(sys.executable), batch=1, device="cpu")


class Ending:
    """A worker that ends after so many turns."""

    def __init__(self, turns):
        self.turns = turns
        self.about = {"about": "A", "parameters": 3, "step_seconds": 1.0, "prepare_seconds": 0.0}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def measure(self, steps):
        self.turns -= 1
        if self.turns < 0:
            raise Absent("it ended with code -9")
        return {"seconds": 2.0 * steps, "peak_bytes": 1}


def test_a_competitor_that_ends_is_left_out_and_the_others_go_on(monkeypatch):
    turns = {"pytorch": 1, "ours": 2}
    monkeypatch.setattr(training.Worker, "training", lambda name, **_: Ending(turns[name]))
    rows = training.measure(8, training.Options(only=("pytorch", "ours"), rounds=2), 3)
    assert [(row.competitor, row.whole_seconds, row.absent) for row in rows] == [
        ("pytorch", [], "it ended with code -9"), ("ours", [2.0, 2.0], ""),
    ]  # fmt: skip


def test_images_that_differ():
    """Competitors are compared in the pixels that both drew: the third drew the first two pixels only."""
    drawn = [bytes([0, 1, 0, 1, 1, 1]), bytes([0, 1, 0, 1, 1, 0]), bytes([0, 1, 1, 0])]
    assert different(drawn[:1], batch=2) == 0
    assert different(drawn[:2], batch=2) == 1
    assert different(drawn[1:], batch=2) == 1
    assert different([drawn[0], bytes([0, 1, 1, 1])], batch=2) == 0


def test_plots(tmp_path):
    plot_sampling(ROWS, "a machine", tmp_path / "sampling.png")
    plot_scaling([(8, 2.0, 90.0), (28, 1.0, 900.0)], [(5, 1.0, 900.0)], "a machine", tmp_path / "scaling.png")
    for name in ("sampling.png", "scaling.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_our_network_is_the_baselines():
    """Another one would leave the competitors with Keras out of the table."""
    ours, example = pixelcnn.load(Options().model), pixelcnn.PixelCNN()
    assert {name: p.shape for name, p in ours.named_parameters()} == {
        name: p.shape for name, p in example.named_parameters()
    }


def test_the_baseline_pins_every_version():
    """And its script imports nothing else than what it pins and the standard library."""
    lines = [
        line for line in (BENCHMARKS / "keras/requirements.txt").read_text().splitlines() if not line.startswith("#")
    ]
    names = {re.fullmatch(r"([\w-]+)==[\w.]+(; .+)?", line)[1] for line in lines}
    assert {"keras", "tensorflow", "tensorflow-cpu", "jax", "jaxlib", "numpy"} <= names
    imports = set()
    for name in ("sample", "train"):
        tree = ast.parse((BENCHMARKS / f"keras/{name}.py").read_text())
        imports |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imports == {"argparse", "json", "re", "resource", "sys", "time", "keras", "numpy"}
