"""The triton engine's kernel without a GPU: run on the CPU by triton's interpreter, and compiled for an H100."""

import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pixelcnn
from pixelcnn.sampling import why_not_triton
from pixelcnn.sampling.schedule import schedule_of
from pixelcnn.sampling.triton import TritonSampler
from pixelcnn.sampling.triton.tables import Layout, Tables

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed (it comes with PyTorch's CUDA builds)"
)
SHAPES = ["1x5x5-2-2", "3x3x3-3-2", "1x1x7-3-5", "1x7x1-2-2", "3x1x7-2-3", "3x7x1-3-1", "1x4x9-2-1", "3x2x9-3-1"]
CASES = ["sums", "aligned", "bf16", "chunks", "rows", "temperature", "changed", "first", "refused"]


def run(case, **environment):
    """A program of its own: triton reads TRITON_INTERPRET when it is imported."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("triton_cases.py"), case],
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@needs_triton
@pytest.mark.parametrize("case", SHAPES + CASES)
def test_interpreted(case):
    """float32: a false alarm has a chance of about 1e-5 for an order of summation not seen yet."""
    run(case, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.long
@pytest.mark.parametrize(
    ("channels", "shape", "levels", "n"), list(itertools.product((1, 3), ("5x5", "1x7", "7x1", "4x9"), (2, 3), (1, 5)))
)
def test_interpreted_in_every_shape(channels, shape, levels, n):
    run(f"{channels}x{shape}-{levels}-{n}", TRITON_INTERPRET="1")


@needs_triton
def test_compiled(tmp_path):
    run("compiled", TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize(("shape", "filters"), [((1, 28, 28), 128), ((1, 5, 9), 13), ((3, 4, 5), 13)])
def test_no_two_values_that_are_needed_stand_in_one_place(shape, filters):
    """Each operation in turn: what it reads is what was written there last."""
    model = pixelcnn.PixelCNN(shape, filters=filters, blocks=3)
    schedule = schedule_of(model)
    program = schedule.program
    layout = Layout(schedule, shape[0], group=3, rows=16)
    operands, sums = {}, {}
    for op in program.operations:
        if op.source != 0:
            assert operands[layout.operands[op.source][0]] == op.source
        if op.residual is not None:
            assert sums[layout.sums[op.residual][0]] == op.residual
        for places, written in ((layout.operands, operands), (layout.sums, sums)):
            if op.target in places:
                written[places[op.target][0]] = op.target
    assert sums[layout.sums[program.output][0]] == program.output
    if shape[0] > 1:
        assert len(operands) == len(layout.operands), "a later channel reads what an earlier one wrote"
    sizes = {
        offset: slots * per_step if per_step else 16 * stride
        for offset, stride, _, per_step, slots in layout.operands.values()
    }
    ends = list(itertools.accumulate(sizes[offset] for offset in sorted(sizes)))
    assert [0, *ends[:-1]] == sorted(sizes), "places follow each other"
    assert ends[-1] == layout.operand_numbers


def test_few_images_are_spread_and_many_share_a_program(monkeypatch):
    """The choice for a GPU of 132 multiprocessors."""
    monkeypatch.setattr("pixelcnn.sampling.triton._processors", lambda device: 132)
    model = pixelcnn.load("mnist-seed")
    groups = [TritonSampler(model, n)._tables.group for n in (1, 4, 132, 133, 500, 10_000)]
    assert groups == [1, 1, 1, 2, 4, 9]
    assert [TritonSampler(model, n, precision="bf16")._tile.rows for n in (4, 133, 500, 10_000)] == [16, 16, 32, 128]
    for precision in (None, "bf16"):
        n = TritonSampler.batch(model, precision)
        assert n == 132 * (9 if precision is None else 18)
        sampler = TritonSampler(model, n, precision=precision)
        assert sampler._programs * sampler._tables.bytes <= 640 * 2**20


def test_weights_are_rounded_and_biases_are_not():
    model = pixelcnn.PixelCNN((1, 4, 4), filters=8, blocks=1)
    tables = Tables(model, "bf16", group=1, rows=8, depth=16)
    kept = {layer.weight[0, 0, 0, 0].bfloat16().item() for layer in model.masked_layers}
    assert kept <= set(tables.weights.tolist())
    assert tables.biases.dtype == torch.float32


def test_without_a_gpu_it_is_refused():
    model = pixelcnn.PixelCNN((1, 2, 2), filters=4, blocks=0)
    assert why_not_triton(model) == "the model is on cpu"
    with pytest.raises(ValueError, match="engine 'triton' cannot run this model here: the model is on cpu"):
        model.sample(1, engine="triton")
