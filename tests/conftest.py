"""What every test needs."""

import os
import signal

import pytest
import torch

from pixelcnn.files import write_file


def pytest_configure():
    """Of several processes of `pytest -n` each uses its share of the cores. Ctrl-C works, as from a terminal."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what it puts in the background like that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        threads = max(1, torch.get_num_threads() // processes)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that tests start


@pytest.fixture(autouse=True)
def _same_initial_weights():
    """Models built without a generator take their weights from torch's global one."""
    torch.manual_seed(0)


@pytest.fixture
def without_curves(monkeypatch):
    """Training runs write an empty file in place of their curves, whose picture takes longer than a small run."""
    for module in ("report", "energy"):
        monkeypatch.setattr(f"pixelcnn.training.{module}.draw_curves", lambda path, _metrics: write_file(path, b""))


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="module")
def one_thread():
    """A single thread of PyTorch: more would only wait for each other where tensors are tiny."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
