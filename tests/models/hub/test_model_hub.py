"""Models on the Hub: the same come back, damage is noticed, and what is cached does without a connection."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import own_models
import pixelcnn
from hub_models import FILES, environment, made, same, snapshots
from hub_server import Repository
from pixelcnn.cli import main
from pixelcnn.files import private_folder
from pixelcnn.models.hub import HubName

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own use of httpx


# The same model comes back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["seed", "conditional", "plusplus", "ensemble", "float64", "own"])
def test_a_model_comes_back_as_it_was(hub, family):
    gated = pixelcnn.GatedPixelCNN((1, 5, 4), filters=4, layers=2, num_classes=3)
    model = {
        "seed": made,
        "conditional": lambda: gated,
        "plusplus": lambda: pixelcnn.PixelCNNPlusPlus((3, 4, 4), levels=256, filters=4, blocks=1),
        "ensemble": lambda: pixelcnn.models.OrderEnsemble([gated, gated], ["right-down", "left-up"]),
        "float64": lambda: made().double(),
        "own": lambda: own_models.Plain((1, 5, 4), levels=3),
    }[family]()
    url = model.push_to_hub("user/a.model-1", commit_message="the first")
    commit = hub.repositories["user/a.model-1"].branches["main"]
    assert url == f"{hub.url}/user/a.model-1/commit/{commit}"
    loaded = pixelcnn.load("user/a.model-1")
    same(model, loaded)
    assert not loaded.training
    assert loaded.dtype == model.dtype
    same(model, type(model).from_pretrained("user/a.model-1", revision=commit))


def test_what_is_uploaded_is_what_is_saved(hub, pushed, tmp_path):
    repository = hub.repositories["user/digits"]
    files = repository.files("main")
    pushed.save_pretrained(tmp_path / "folder")
    assert sorted(files) == FILES
    for name in ("config.json", "model.safetensors"):
        assert files[name] == (tmp_path / "folder" / name).read_bytes()
    assert repository.lfs == {"model.safetensors"}
    assert len(repository.commits) == 2  # the first is the server's
    assert not repository.private
    assert any("pixelcnn/" + pixelcnn.__version__ in agent for _, _, agent in hub.requests)


def test_only_three_files_are_downloaded(hub, pushed, tmp_path):
    hub.repositories["user/digits"].commit({"model.bin": b"a pickle", "train.py": b"import os"}, "more")
    pixelcnn.load("user/digits")
    assert snapshots(tmp_path) == FILES
    assert not hub.asked_for("model.bin") + hub.asked_for("train.py")


def test_a_second_load_downloads_nothing(hub, pushed):
    pixelcnn.load("user/digits")
    before = len([request for request in hub.asked_for("/resolve/") if request[0] == "GET"])
    assert before == 3
    same(pushed, pixelcnn.load("user/digits"))
    assert len([request for request in hub.asked_for("/resolve/") if request[0] == "GET"]) == before


def test_revisions(hub, pushed):
    repository = hub.repositories["user/digits"]
    first = repository.branches["main"]
    repository.branches["v1.0"] = first
    other = made(1)
    other.push_to_hub("user/digits")
    repository.branches["try"] = first
    third = made(2)
    third.push_to_hub("user/digits", branch="try")
    same(other, pixelcnn.load("user/digits"))
    for name in ("v1.0", first):
        same(pushed, pixelcnn.load("user/digits", revision=name))
        same(pushed, pixelcnn.load(f"user/digits@{name}"))
    same(third, pixelcnn.load("user/digits@try"))
    assert b'pixelcnn.load("user/digits@try")' in repository.files("try")["README.md"]
    with pytest.raises(ValueError, match=r"user/digits on http\S+ has no branch, tag or commit 'v2'"):
        pixelcnn.load("user/digits", revision="v2")
    with pytest.raises(ValueError, match="has no branch, tag or commit 'v2'"):
        other.push_to_hub("user/digits", branch="v2")
    with pytest.raises(ValueError, match="revision must be left out where the name has one, got 'user/digits@"):
        pixelcnn.load("user/digits@v1.0", revision="v2")
    with pytest.raises(ValueError, match="revision must be left out but for models on the Hub, user/name, got 'v1'"):
        pixelcnn.load("mnist", revision="v1")


def test_without_a_home(hub, pushed, client, monkeypatch):
    """The library would make a folder named ~ where the program was started."""
    monkeypatch.setattr(client, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    same(pushed, pixelcnn.load("user/digits"))
    assert not list(Path().iterdir())
    assert (private_folder() / "hub" / "models--user--digits").is_dir()
    shutil.rmtree(private_folder() / "hub")


def test_a_misspelt_folder(hub, pushed, client, monkeypatch, capsys):
    """It looks like a name on the Hub."""
    for name in ("quick", "seed"):
        pushed.save_pretrained(f"trained/{name}/model")
    Path("trained/quilt").touch()
    for offline in (False, True):
        monkeypatch.setattr(client, "HF_HUB_OFFLINE", offline)
        assert main(["sample", "trained/quik"]) == 2
        said = capsys.readouterr().err
        assert re.fullmatch(r"pixelcnn: .*neither a folder here.*; did you mean trained/quick\?\n", said)
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(client, "ENDPOINT", "http://127.0.0.1:9")
    for name, more in (("trained/quik", "; did you mean trained/quick?"), ("trained/best", ""), ("train/quick", "")):
        with pytest.raises(ConnectionError, match="cannot be reached") as error:
            pixelcnn.load(name)
        assert str(error.value).endswith(f"; nor is there a folder {name} here{more}")


def test_a_local_folder_of_that_name_wins(hub, pushed):
    other = made(1)
    other.save_pretrained("user/digits")
    same(other, pixelcnn.load("user/digits"))
    same(pushed, pixelcnn.load("user/digits", revision="main"))
    with pytest.raises(ValueError, match="user is not a model's folder"):
        pixelcnn.load("user")
    Path("user/other").mkdir()
    with pytest.raises(ValueError, match=r"user/other is not a model's folder: it has no config\.json"):
        pixelcnn.load("user/other")
    with pytest.raises(ValueError, match=r"no model 'user/digits2/x': neither a shipped model"):
        pixelcnn.load("user/digits2/x")
    with pytest.raises(ValueError, match=r"no model 'other/digits': neither a shipped model"):
        pixelcnn.load(Path("other/digits"))


def test_from_pretrained_wants_its_class(hub, pushed):
    same(pushed, pixelcnn.AutoregressiveModel.from_pretrained("user/digits"))
    with pytest.raises(ValueError, match="user/digits must be of class GatedPixelCNN, got PixelCNN"):
        pixelcnn.GatedPixelCNN.from_pretrained("user/digits")
    assert pixelcnn.PixelCNN.from_pretrained("mnist-seed").image_shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("user/name", HubName("user/name")),
        ("a-b/c.d_e@v1/2", HubName("a-b/c.d_e", "v1/2")),
        ("name", None),
        ("a/b/c", None),
        ("./name", None),
        ("/a/b", None),
        ("../name", None),
        ("a/b@", None),
        ("a b/c", None),
        ("", None),
    ],
)
def test_names(text, found):
    assert HubName.of(text) == found
    if found is not None:
        assert str(found) == text


# Damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_byte_is_refused_and_later_mended(hub, pushed, name):
    where = {"model.safetensors": -1, "config.json": 3}[name]

    def flipped(content):
        changed = bytearray(content)
        changed[where] ^= 1
        return bytes(changed)

    hub.change[name] = flipped
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"user/digits/{name}.* (damaged|not valid JSON)") as error:
            pixelcnn.load("user/digits")
        assert "\n" not in str(error.value)
    hub.change.clear()
    same(pushed, pixelcnn.load("user/digits"))  # the copy in the cache is replaced


def test_a_truncated_download_is_refused(hub, pushed, tmp_path):
    hub.change["model.safetensors"] = lambda content: content[: len(content) // 2]
    with pytest.raises(ValueError, match=r"^user/digits on http\S+: Consistency check failed"):
        pixelcnn.load("user/digits")
    assert "model.safetensors" not in snapshots(tmp_path)
    hub.change.clear()
    same(pushed, pixelcnn.load("user/digits"))


def test_a_cut_connection_goes_on(hub, pushed):
    hub.cut["model.safetensors"] = 1000
    same(pushed, pixelcnn.load("user/digits"))
    assert hub.asked_for("model.safetensors").count(("GET", hub.asked_for("model.safetensors")[-1][1])) == 2


def test_a_killed_download_leaves_nothing_that_loads(hub, pushed, tmp_path, client, monkeypatch):
    hub.stall["model.safetensors"] = 1000
    process = subprocess.Popen(
        [sys.executable, "-m", "pixelcnn", "info", "user/digits"], env=environment(hub, tmp_path)
    )
    assert hub.stalled.wait(60)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    hub.released.set()
    assert "model.safetensors" not in snapshots(tmp_path)
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="nor complete in the cache, and HF_HUB_OFFLINE forbids asking"):
        pixelcnn.load("user/digits")
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", False)
    same(pushed, pixelcnn.load("user/digits"))


def test_a_model_of_another_library_is_not_downloaded(hub, tmp_path):
    other = hub.repositories["user/bert"] = Repository()
    other.commit({"config.json": b'{"model_type": "bert"}', "model.safetensors": bytes(100)}, "bert")
    with pytest.raises(ValueError, match=r"user/bert/config\.json: field 'model' must be one of "):
        pixelcnn.load("user/bert")
    assert snapshots(tmp_path) == ["config.json"]
    hub.repositories["user/empty"] = Repository()
    with pytest.raises(
        ValueError, match=r"user/empty on http\S+ is not a model of this package: it has no config.json"
    ):
        pixelcnn.load("user/empty")


def test_the_card_may_be_missing(hub, pushed):
    repository = hub.repositories["user/digits"]
    files = repository.commits[repository.branches["main"]]
    del files["README.md"]
    same(pushed, pixelcnn.load("user/digits"))


# Without a connection -----------------------------------------------------------------------------------------


def test_offline(hub, pushed, client, monkeypatch):
    pixelcnn.load("user/digits")
    before = len(hub.requests)
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    same(pushed, pixelcnn.load("user/digits"))
    with pytest.raises(
        ConnectionError, match=r"^user/other is neither a folder here nor complete in the cache, and HF_HUB"
    ):
        pixelcnn.load("user/other")
    with pytest.raises(ConnectionError, match=r"^HF_HUB_OFFLINE forbids asking http\S+ for user/digits$"):
        pushed.push_to_hub("user/digits")
    assert len(hub.requests) == before
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", False)
    same(pushed, pixelcnn.load("user/digits", local_files_only=True))
    with pytest.raises(ConnectionError, match=r"user/other is neither a folder here .* local_files_only is set"):
        pixelcnn.load("user/other", local_files_only=True)
    assert len(hub.requests) == before


def test_a_server_that_is_down(hub, pushed, client, monkeypatch):
    pixelcnn.load("user/digits")
    monkeypatch.setattr(client, "ENDPOINT", "http://127.0.0.1:9")
    same(pushed, pixelcnn.load("user/digits"))
    for act in (lambda: pixelcnn.load("user/other"), lambda: pushed.push_to_hub("user/digits")):
        with pytest.raises(ConnectionError, match=r"^http://127.0.0.1:9 cannot be reached for user/\w+ \(") as error:
            act()
        assert "check the network or HF_ENDPOINT" in str(error.value)
    monkeypatch.setattr(client, "ENDPOINT", hub.url)
    hub.refuse["/api/models"] = (503, {}, "overloaded")
    same(pushed, pixelcnn.load("user/digits"))
    with pytest.raises(ConnectionError, match="answers with error 503 for user/other; try again later"):
        pixelcnn.load("user/other")
