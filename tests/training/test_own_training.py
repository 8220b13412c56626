"""Training by one's own means: first weights, data sets and loaders, callbacks, the history, and names of classes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import pixelcnn
import tiny
from pixelcnn.cli import main
from pixelcnn.config import GatedPixelCNNConfig, TrainConfig
from pixelcnn.models.card import describe
from pixelcnn.training import History
from pixelcnn.training.given import held_out, tensors_of
from pixelcnn.training.record import RunRecord
from pixelcnn.training.report import card
from streams import threads

ONE = dataclasses.replace(tiny.TINY, epochs=1, sample_images=0)
BY_CLASS = TrainConfig(
    model=GatedPixelCNNConfig(image_shape=(1, 6, 7), filters=6, layers=2, num_classes=2), epochs=1, sample_images=0
)


def train(out, training, validation=None, config=ONE, **options):
    return pixelcnn.train(config, training, validation, out, progress=False, **options)


def test_a_data_set_a_loader_and_an_array_give_the_same_model(tmp_path):
    images, held_out = tiny.stripes(24), tiny.stripes(8, 1)
    expected = train(tmp_path / "array", images, held_out)
    for name, given in (
        ("set", TensorDataset(images)),
        ("pictures", [Image.fromarray(image[0].numpy()) for image in images]),
        ("loader", DataLoader(TensorDataset(images), batch_size=7)),
        ("iterable", InTurn(images)),
    ):
        if isinstance(given, list):
            given = type("Pictures", (torch.utils.data.Dataset,), {
                "__getitem__": lambda self, k, all_=given: all_[k], "__len__": lambda self, all_=given: len(all_),
            })()  # fmt: skip
        found = train(tmp_path / name, given, held_out)
        assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


class InTurn(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def test_labels_come_with_a_data_set():
    images, labels = tiny.stripes(6), torch.arange(6) % 2
    for given in (TensorDataset(images, labels), DataLoader(TensorDataset(images, labels), batch_size=4)):
        found = tensors_of("training", given, None)
        assert torch.equal(found[0], images)
        assert torch.equal(found[1], labels)
        with pytest.raises(ValueError, match="training_labels"):
            tensors_of("training", given, labels)
    with pytest.raises(ValueError, match=r"training .*float32"):
        tensors_of("training", TensorDataset(images / 2), None)
    with pytest.raises(ValueError, match="training must hold at least one"):
        tensors_of("training", TensorDataset(images[:0]), None)
    with pytest.raises(ValueError, match=r"training must be of one size.*\(1, 6, 6\) and \(1, 6, 7\)"):
        tensors_of("training", InTurn([images[0], images[0, :, :, 1:]]), None)
    with pytest.raises(ValueError, match=r"training_labels: an item .* got str"):
        tensors_of("training", InTurn([(images[0], "china")]), None)


def test_what_validates_is_held_out_by_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = torch.randint(2, (60, 1, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = train(None, images, data="noise")
    record = json.loads((tmp_path / "trained" / "noise" / "config.json").read_text())
    counts = [int(record[side].split()[0]) for side in ("training", "validation")]
    assert sum(counts) == 60
    assert 0 < counts[1] < 20
    assert torch.equal(pixelcnn.load("trained/noise").log_prob(images), model.log_prob(images))
    with pytest.raises(ValueError, match="validation must be given"):
        train(tmp_path / "one", images[:1])
    with pytest.raises(ValueError, match=r"validation must be given beside grey values \(config\.binarise\)"):
        train(tmp_path / "grey", 255 * images, config=dataclasses.replace(ONE, binarise=True))
    for count in (59, 61):  # which would be those of other images
        with pytest.raises(ValueError, match=rf"training_labels must be given for each of 60 images, got \({count},\)"):
            train(tmp_path / "labels", images, config=BY_CLASS, training_labels=torch.zeros(count, dtype=torch.int64))


def test_images_are_held_out_whatever_the_default_device_is():
    images = tiny.stripes(60)
    with torch.device("meta"):
        sides = held_out(images, None, None, 0.3)
    assert sum(len(side[0]) for side in sides) == 60


def test_callbacks_see_every_step_and_epoch_and_the_history_is_kept(tmp_path):
    steps, epochs = [], []
    model = train(
        tmp_path / "run",
        tiny.stripes(20),
        tiny.stripes(6, 1),
        dataclasses.replace(ONE, epochs=2),
        on_step=lambda step, values: steps.append((step, values["training_loss"])),
        on_epoch=lambda line, trained: epochs.append((line["validation_loss"], type(trained))),
    )
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert all(0 < loss < 5 for _, loss in steps)
    assert [kind for _, kind in epochs] == [pixelcnn.PixelCNN] * 2
    assert model.history == History.read(tmp_path / "run")
    assert model.history["validation_loss"] == [loss for loss, _ in epochs]
    assert len(model.history.plot().axes) == 2
    assert model.history._repr_png_().startswith(b"\x89PNG")
    assert repr(model.history) == "History of 2 epochs"
    with pytest.raises(ValueError, match="no run"):
        History.read(tmp_path)


def test_a_run_begins_with_given_weights(tmp_path):
    first = tiny.tiny_model(seed=5)
    slow = dataclasses.replace(ONE, learning_rate=1e-9, ema=None)
    model = train(tmp_path / "tuned", tiny.stripes(8), tiny.stripes(4, 1), slow, init=first)
    for found, given in zip(model.parameters(), first.parameters(), strict=True):
        assert torch.allclose(found, given, atol=1e-6)
    with pytest.raises(ValueError, match="holds a run with init = "):
        train(tmp_path / "tuned", tiny.stripes(8), tiny.stripes(4, 1), slow)  # another run
    with pytest.raises(ValueError, match=r"init must have the configuration.*blocks=1"):
        train(tmp_path / "other", tiny.stripes(8), tiny.stripes(4, 1), init=pixelcnn.PixelCNN((1, 6, 7), filters=6))
    with pytest.raises(ValueError, match="init must be a model, a name or a folder, got PreparedModel"):
        train(tmp_path / "other", tiny.stripes(8), tiny.stripes(4, 1), init=first.prepared())


def test_a_cell_run_again_with_another_configuration_says_what_to_do(tmp_path):
    given = tiny.stripes(8), tiny.stripes(4, 1)
    train(tmp_path, *given)
    with pytest.raises(ValueError, match=r"learning_rate = .*, not 0\.5; .*another folder \(out\) for a new run"):
        train(tmp_path, *given, dataclasses.replace(ONE, learning_rate=0.5))
    assert train(tmp_path, *given).history["epoch"] == [1]  # the same again is the finished run


def test_a_stopped_run_is_loaded_and_trained_on(tmp_path):
    config = dataclasses.replace(ONE, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", tiny.stripes(30), tiny.stripes(4, 1), config, on_epoch=stop_after_validation)
    with pytest.warns(UserWarning, match="has not finished: the model is that of step 4"):
        model = pixelcnn.load(tmp_path / "run")
    assert not model.training
    assert "after step 4 of a run" in model.card
    with pytest.warns(UserWarning, match="has not finished"):
        tuned = train(tmp_path / "tuned", tiny.stripes(8), tiny.stripes(4, 1), init=tmp_path / "run")
    assert tuned.config == model.config
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        (checkpoint / "tensors.safetensors").write_bytes(b"damaged")
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(ValueError, match="neither a finished model nor an intact checkpoint"),
    ):
        pixelcnn.load(tmp_path / "run")


def test_constants_of_a_network_outlast_a_stop(tmp_path, monkeypatch):
    build, given = pixelcnn.PixelCNN.__init__, (tiny.stripes(8), tiny.stripes(4, 1))

    def with_constant(self, *args, **options):
        build(self, *args, **options)
        self.register_buffer("constant", torch.ones(2))

    monkeypatch.setattr(pixelcnn.PixelCNN, "__init__", with_constant)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, *given, on_epoch=stop_after_validation)
    with pytest.warns(UserWarning, match="has not finished"):
        assert torch.equal(pixelcnn.load(tmp_path).constant, torch.ones(2))
    assert torch.equal(train(tmp_path, *given).constant, torch.ones(2))


def stop_after_validation(line, model):
    raise KeyboardInterrupt


def test_class_names_are_kept_shown_and_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, labels = tiny.stripes(20), torch.arange(20) % 2
    given = {"training_labels": labels, "validation_labels": labels, "class_names": ["china", "flower"]}
    train("run", images, images, BY_CLASS, **given)
    model = pixelcnn.load("run")
    assert model.class_names == ("china", "flower")
    assert "Its classes are 0 china, 1 flower." in model.card
    for label in ("flower", "1"):
        assert main(["sample", "run", "-n", "2", "--label", label, "--out", f"{label}.png"]) == 0
    assert np.array_equal(np.asarray(Image.open("flower.png")), np.asarray(Image.open("1.png")))
    capsys.readouterr()
    assert main(["sample", "run", "-n", "2", "--label", "tree", "--out", "tree.png"]) == 2
    assert "0..1 or one of china, flower, got tree" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"class_names must be .*2 classes"):
        train("other", images, images, BY_CLASS, **given | {"class_names": ["china"]})


def test_the_command_fine_tunes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny.tiny_model().save_pretrained("first")
    np.save("codes.npy", tiny.stripes(40)[:, 0].numpy())
    command = ["train", "codes.npy", "--init", "first", "--epochs", "1", "--sample-images", "0", "--out", "tuned"]
    with threads(2):
        assert main([*command, "--threads", "1"]) == 0
        assert torch.get_num_threads() == 1
    assert pixelcnn.load("tuned").config == tiny.TINY.model
    for arguments, named in (
        (["--filters", "8"], "--init"),
        (["--model", "gated"], "--init"),
        (["--levels", "3"], "levels"),
    ):
        assert main([*command, *arguments]) == 2
        assert named in capsys.readouterr().err


def test_a_card_lists_at_most_twenty_epochs():
    model = tiny.tiny_model()
    line = {"step": 1, "train_loss": 0.5, "validation_loss": 0.5}
    record = RunRecord(data="images", training="", validation="", train=ONE, torch="", threads=1)
    metrics = [{"epoch": k + 1} | line for k in range(100)]
    rows = [row for row in card(model, record, metrics, metrics[-1], "cpu").splitlines() if row.endswith("| 0.5000 |")]
    assert len(rows) == 20
    assert rows[0].startswith("| 1 |")
    assert rows[-1].startswith("| 100 |")
    assert describe(model)
