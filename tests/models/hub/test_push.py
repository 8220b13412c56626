"""Models pushed to the Hub: what is refused, their cards, and the command line."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pixelcnn
from hub_models import FILES, code_of, environment, made, same, snapshots
from hub_server import Repository
from pixelcnn.cli import main
from pixelcnn.models.card import HeldOut, describe, with_license

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own use of httpx


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


def test_private(hub, pushed):
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
