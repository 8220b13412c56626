"""Models on the Hub: huggingface_hub's own client against a server on loopback, in this process and in others."""

import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import own_models
import pixelcnn
from hub_server import HubServer, Repository
from pixelcnn.cli import main
from pixelcnn.files import private_folder
from pixelcnn.models.card import HeldOut, describe, with_license
from pixelcnn.models.hub import HubName

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own use of httpx
FILES = ["README.md", "config.json", "model.safetensors"]


def code_of(card):
    (code,) = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    return code


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


def made(seed=0):
    return pixelcnn.PixelCNN((1, 5, 6), levels=3, filters=8, blocks=1, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pushed(hub):
    """A model, and its copy on the server as user/digits."""
    model = made().eval()
    model.push_to_hub("user/digits")
    return model


def same(a, b):
    assert a.config == b.config
    assert list(a.state_dict()) == list(b.state_dict())
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(a.sample(5, seed=3), b.sample(5, seed=3))


def snapshots(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("models--*/snapshots/*/*"))


def environment(hub, tmp_path, **changes):
    """Of a process that finds the server by HF_ENDPOINT."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    return kept | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN": "hf_writer", "HF_HUB_DISABLE_XET": "1", "COLUMNS": "200", **changes,
    }  # fmt: skip


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
    assert not hub.asked_for("resolve/main/model.bin") + hub.asked_for("train.py")


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


def test_without_a_home(hub, pushed, client, monkeypatch, tmp_path):
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


# Refusals -----------------------------------------------------------------------------------------------------


def test_private_gated_and_missing_ones(hub, pushed, monkeypatch):
    hub.repositories["user/secret"] = Repository(private=True)
    hub.repositories["user/gated"] = gated = Repository()
    gated.commit(hub.repositories["user/digits"].files("main"), "copied")
    gated.gated = True
    monkeypatch.delenv("HF_TOKEN")
    for name in ("user/secret", "user/nothing"):  # the Hub does not say which
        with pytest.raises(
            ValueError, match=f"no model '{name}': neither a folder here nor one that .* shows; if it is p"
        ):
            pixelcnn.load(name)
    with pytest.raises(ValueError, match=r"^user/gated is gated: ask for access on http\S+/user/gated, then log in"):
        pixelcnn.load("user/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    same(pushed, pixelcnn.load("user/gated"))
    with pytest.raises(ValueError, match=r"'user/-x-\.\.' cannot be a model's name on the Hub: "):
        pixelcnn.load("user/-x-..")
    hub.refuse["/api/models/user/nothing"] = (403, {"X-Error-Message": "blocked"}, "")
    with pytest.raises(
        ValueError, match=r"does not allow this for user/nothing \(blocked\): log in with `hf auth login`"
    ):
        pixelcnn.load("user/nothing")


@pytest.mark.parametrize("token", ["", "hf_reader", "hf_unknown"])
def test_a_push_that_is_refused_changes_nothing(hub, monkeypatch, tmp_path, token):
    made().save_pretrained("folder")
    model = pixelcnn.load("folder")
    before = {path: path.read_bytes() for path in Path("folder").iterdir()}
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.raises(ValueError, match=r"(does not allow this for user/digits|no model 'user/digits').*log in with"):
        model.push_to_hub("user/digits")
    assert not hub.repositories
    assert {path: path.read_bytes() for path in Path("folder").iterdir()} == before
    assert os.listdir() == ["folder"]
    assert os.listdir(tmp_path / "temporary") == []
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("part", ["preupload", "objects/batch", "PUT /lfs", "/commit/"])
def test_a_push_that_breaks_off_commits_nothing(hub, pushed, part):
    repository = hub.repositories["user/digits"]
    commits = dict(repository.commits)
    hub.refuse[part] = (400, {"X-Error-Message": "no space"}, "{}")
    with pytest.raises(ValueError, match=r"refuses this for user/digits \(no space\)|on http\S+: .*no space"):
        made(1).push_to_hub("user/digits")
    assert repository.commits == commits
    hub.refuse.clear()
    same(pushed, pixelcnn.load("user/digits"))


def test_private(hub, pushed, monkeypatch):
    pushed.push_to_hub("user/secret", private=True)
    assert hub.repositories["user/secret"].private
    pushed.push_to_hub("user/secret", private=True)
    public = hub.repositories["user/digits"]
    commits = dict(public.commits)
    with pytest.raises(ValueError, match="user/digits exists and is public: make it private there, or do not ask"):
        made(1).push_to_hub("user/digits", private=True)
    assert public.commits == commits
    with pytest.raises(ValueError, match="repo_id must be user/name, got 'digits'"):
        pushed.push_to_hub("digits")
    with pytest.raises(ValueError, match="repo_id must be user/name, got 'user/digits@"):
        pushed.push_to_hub("user/digits@main")
    with pytest.raises(ValueError, match=r"license must be .* got 'Apache 2'"):
        pushed.push_to_hub("user/digits", license="Apache 2")


# Cards --------------------------------------------------------------------------------------------------------


def test_the_cards_code_runs_where_it_is(hub, monkeypatch):
    classes = pixelcnn.GatedPixelCNN((1, 5, 4), filters=4, layers=2, num_classes=3)
    vectors = pixelcnn.GatedPixelCNN((1, 5, 4), filters=4, layers=2, condition_dim=2)
    for k, model in enumerate((made(), classes, vectors)):
        model.save_pretrained(f"folder-{k}")
        monkeypatch.chdir(f"folder-{k}")
        found = {}
        exec(code_of(Path("README.md").read_text()), found)
        same(model, found["model"])
        assert found["nats"].shape == (4,)
        monkeypatch.chdir("..")
        model.push_to_hub(f"user/model-{k}")
        card = hub.repositories[f"user/model-{k}"].files("main")["README.md"].decode()
        assert f'pixelcnn.load("user/model-{k}")' in card
        found = {}
        exec(code_of(card), found)
        same(model, found["model"])
        assert found["nats"].shape == (4,)


def test_a_card_goes_with_the_weights_that_it_is_about(hub):
    model = made()
    trained = describe(model, training="On beetles, for a week.", results="Good.", license="cc-by-4.0")
    model.save_pretrained("folder", trained)
    loaded = pixelcnn.load("folder")
    assert loaded.card == trained
    loaded.push_to_hub("user/beetles")
    again = pixelcnn.load("user/beetles")
    assert again.card == trained
    again.save_pretrained("again")
    assert Path("again/README.md").read_text() == trained
    again.save_pretrained("mit", license="mit")
    card = Path("mit/README.md").read_text()
    assert "license: mit\n" in card
    assert "Licence of these weights: mit." in card
    assert "On beetles" in card
    with torch.no_grad():
        again.output.bias.add_(1.0)  # trained further: what the card says is no longer true
    assert again.card == describe(again)
    again.push_to_hub("user/beetles", card="my own words\n")
    assert hub.repositories["user/beetles"].files("main")["README.md"] == b"my own words\n"
    assert with_license("my own words\n", "mit") == "---\nlicense: mit\n---\n\nmy own words\n"


def test_the_front_matter_is_what_the_hub_reads():
    from huggingface_hub import ModelCard

    model = made()
    held_out = HeldOut(data='photos: "a" (10 images)', split="validation", nats_per_subpixel=0.5)
    text = describe(model, license="cc0-1.0", datasets=["user/photos"], held_out=held_out)
    data = ModelCard(text).data
    assert (data.library_name, data.license, data.datasets) == ("pixelcnn", "cc0-1.0", ["user/photos"])
    assert data.pipeline_tag == "unconditional-image-generation"
    assert "density-estimation" in data.tags
    assert data.model_name == "PixelCNN"
    image, bits = data.eval_results
    assert (image.dataset_name, image.dataset_split) == ('photos: "a" (10 images)', "validation")
    assert (image.metric_type, image.metric_value) == ("nats-per-image", 15.0)
    assert (bits.metric_type, bits.metric_value) == ("bits-per-dim", 0.72135)
    shipped = ModelCard(pixelcnn.load("mnist").card)
    assert shipped.data.license == "apache-2.0"
    assert shipped.data.datasets == ["ylecun/mnist"]
    for heading in ("Training", "Results", "Use", "Limitations", "Licence"):
        assert f"\n## {heading}\n" in shipped.text
        assert f"\n## {heading}\n" in text


# The command line ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_line_by_its_environment(hub, tmp_path):
    """One process with the server in its environment; the library is imported when it is needed and not before."""
    made().save_pretrained("folder")
    program = """
import sys, pixelcnn
from pixelcnn.cli import main
pixelcnn.load("folder").save_pretrained("copy")
assert [main(["push", "--help"]), main(["info", "folder"])] == [0, 0]
print("huggingface_hub" in sys.modules)
assert main(["push", "folder", "user/digits", "--private", "--license", "mit"]) == 0
assert main(["sample", "user/digits@main", "-n", "4", "--out", "hub.png"]) == 0
assert main(["info", "user/other"]) == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(hub, tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"\nFalse\n{hub.url}/user/digits/commit/" in done.stdout
    assert "4 images of seed 0 in" in done.stdout
    assert done.stderr.splitlines()[-1].startswith(
        "pixelcnn: no model 'user/other': neither a folder here nor one that"
    )
    assert hub.repositories["user/digits"].private
    assert b"license: mit" in hub.repositories["user/digits"].files("main")["README.md"]
    assert Path("hub.png").stat().st_size > 0
    assert snapshots(tmp_path) == FILES


def test_one_line_and_exit_code_2(hub, pushed, capsys, monkeypatch):
    hub.change["model.safetensors"] = lambda content: content[:-1] + bytes([content[-1] ^ 1])
    cases = [
        (["sample", "user/nothing"], "no model 'user/nothing': neither a folder here nor one that"),
        (["info", "user/digits@nowhere"], "has no branch, tag or commit 'nowhere'"),
        (["evaluate", "user/digits", "mnist:test"], "user/digits/model.safetensors is damaged: its content does not"),
        (["push", "mnist", "digits"], "repo_id must be user/name, got 'digits'"),
        (["push", "nothing", "user/digits"], "no model 'nothing'"),
    ]
    for arguments, message in cases:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("pixelcnn: ")
        assert message in error
        assert error.count("\n") == 1
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert main(["push", "mnist", "user/new"]) == 2
    assert "does not allow this for user/new" in capsys.readouterr().err


def test_the_methods_take_what_huggingface_hubs_mixin_takes():
    """By the same names, but for what has no meaning here (docs/decisions.md)."""
    import huggingface_hub

    without = {"config", "allow_patterns", "ignore_patterns", "delete_patterns", "model_card_kwargs", "model_kwargs"}
    for name in ("push_to_hub", "from_pretrained"):
        theirs = inspect.signature(getattr(huggingface_hub.ModelHubMixin, name)).parameters
        ours = inspect.signature(getattr(pixelcnn.PixelCNN, name)).parameters
        assert set(theirs) - without <= set(ours), name
        assert set(ours) - set(theirs) - {"self"} == ({"card", "license"} if name == "push_to_hub" else set()), name
