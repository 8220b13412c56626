"""What every test needs."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_global_randomness():
    """Nothing in the package may draw from or reseed torch's global generator, except for a model's initial weights."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
