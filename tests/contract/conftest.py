"""What every test of the contract needs."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Thousands of tiny operations: sharing each out between threads costs more than it gains."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
