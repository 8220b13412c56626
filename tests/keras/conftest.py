"""What Keras wrote, unpacked."""

import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A small network in every format, as Keras 3.15 and 2.21 wrote it in `benchmarks/keras/save.py`."""
    folder = tmp_path_factory.mktemp("written")
    with zipfile.ZipFile(Path(__file__).parent / "fixtures" / "written.zip") as archive:
        archive.extractall(folder)
    return folder
