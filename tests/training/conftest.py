"""Runs of this folder draw no curves, but where a test is marked by `with_curves`."""

import pytest


@pytest.fixture
def with_curves():
    """The pictures of a run's curves are drawn."""


@pytest.fixture(autouse=True)
def _curves(request):
    if "with_curves" not in request.fixturenames:
        request.getfixturevalue("without_curves")
