"""Threads of our own: each alone, with the caller's modes, and the number of threads that was set afterwards."""

import os
import subprocess
import sys
import threading

import pytest
import torch

import pixelcnn
from pixelcnn.threads import alone, in_parallel


@pytest.fixture(autouse=True)
def _three_threads():
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


def test_alone():
    with alone() as threads:
        assert (threads, torch.get_num_threads()) == (3, 1)
        with alone() as inner:
            assert inner == 1
    assert torch.get_num_threads() == 3


def test_work_is_shared_out_in_order():
    at_work = threading.Barrier(3, timeout=60)  # breaks unless three work at a time

    def work(item):
        at_work.wait()
        return item * item, torch.get_num_threads(), threading.get_ident()

    results = in_parallel(work, range(9))
    assert [square for square, _, _ in results] == [k * k for k in range(9)]
    assert {threads for _, threads, _ in results} == {1}
    assert len({ident for _, _, ident in results}) == 3
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_modes_are_the_callers(mode):
    with mode():
        expected = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = in_parallel(lambda _: (torch.is_grad_enabled(), torch.is_inference_mode_enabled()), range(6))
    assert set(found) == {expected}


def test_an_error_reaches_the_caller():
    def work(item):
        if item == 4:
            raise ValueError("item 4 fails")

    with pytest.raises(ValueError, match="item 4 fails"):
        in_parallel(work, range(6))
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_likelihoods_of_shares_are_those_of_all(n):
    model = pixelcnn.GatedPixelCNN((1, 5, 6), filters=4, layers=2, num_classes=3).double()
    images, labels = model.sample(n, seed=0), torch.arange(n) % 3
    together = model.log_prob(images, labels)  # with gradients it is computed in one piece
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(images, labels), together.detach())


@pytest.mark.slow
def test_threads_of_the_command_line_do_not_spin_while_they_wait():
    """The policy is set before torch, which reads it when it is loaded, and never over the user's own."""
    program = (
        "import contextlib, io, os, sys; from pixelcnn.cli import main\n"
        "assert 'torch' not in sys.modules\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['info', 'mnist'])\n"
        "assert 'torch' in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for given, policy in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        own = environment if given is None else environment | {"OMP_WAIT_POLICY": given}
        found = subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == policy
