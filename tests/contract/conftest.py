"""What every test of the contract needs."""

import pytest


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """In thousands of tiny operations, sharing each out between threads costs more than it gains."""
