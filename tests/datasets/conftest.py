"""Every test of this folder has a cache and a working folder of its own, and its runs draw no curves."""

import pytest


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch, without_curves):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
