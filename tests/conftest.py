"""What every test needs."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_initial_weights():
    """Models built without a generator take their weights from torch's global one."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
