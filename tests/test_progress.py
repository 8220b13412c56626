"""Bars in a notebook, which has a kernel and no terminal."""

import sys
from types import SimpleNamespace

import pytest

from pixelcnn.progress import progress_bar


@pytest.mark.parametrize(("config", "seconds"), [({"IPKernelApp": {}}, 0.2), ({}, 20)])
def test_a_notebook_sees_frequent_updates(monkeypatch, capsys, config, seconds):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(config=config)))
    with progress_bar("waiting", 2, "img", show=True) as bar:
        assert bar.mininterval == seconds
    assert "waiting" in capsys.readouterr().err
