"""huggingface_hub's own client, and a server on loopback for it."""

import pytest

from hub_models import made
from hub_server import HubServer


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(autouse=True)
def client(monkeypatch, tmp_path, request):
    """huggingface_hub's client, told by its constants what its environment would have told it when it was imported."""
    import huggingface_hub
    from huggingface_hub import constants

    url = request.getfixturevalue("hub").url if "hub" in request.fixturenames else "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet's servers are not the Hub's
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    huggingface_hub.close_session()
    yield constants
    huggingface_hub.close_session()


@pytest.fixture
def pushed(hub):
    """A model, and its copy on the server as user/digits."""
    model = made().eval()
    model.push_to_hub("user/digits")
    return model
