"""Images, labels, masks, counts and seeds in any type that loses nothing, everywhere; what would lose something is
refused, and named."""

import dataclasses
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import pixelcnn
from pixelcnn.arguments import integer, number, tensor, whole
from pixelcnn.config import DataConfig, PixelCNNConfig, TrainConfig, to_dict
from pixelcnn.exact import prepare
from pixelcnn.images import completion_panel, grid, surprise_map, surprise_of, to_pil
from pixelcnn.models import OrderEnsemble
from pixelcnn.randomness import permutation, uniforms
from pixelcnn.scoring import compressed_bits, score
from pixelcnn.shards import write_shards


@pytest.fixture(scope="module")
def model():
    return pixelcnn.GatedPixelCNN(
        (1, 4, 5), levels=3, filters=6, layers=2, num_classes=4, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture(scope="module")
def images(model):
    return model.sample(4, [0, 1, 2, 3], seed=1)


READ_ONLY = np.arange(3)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3).byte()])
def test_integers(value):
    assert type(whole(value)) is int
    assert integer("n", value, 3, 3) == 3


@pytest.mark.parametrize(
    "value", [True, np.True_, torch.tensor(True), 3.0, np.float64(3), torch.tensor(3.0), "3", None]
)
def test_what_is_no_integer(value):
    assert whole(value) is None
    with pytest.raises(ValueError, match=r"n must be an integer of at least 1, got "):
        integer("n", value, 1)


def test_numbers():
    assert [number("t", value) for value in (1, np.float32(0.5), torch.tensor(0.5))] == [1, 0.5, 0.5]
    for value in (True, "1", None, [1.0]):
        with pytest.raises(ValueError, match="t must be a number, got "):
            number("t", value)


def test_an_array_is_not_copied():
    array = np.zeros((2, 3), np.uint8)
    tensor("images", array)[0, 0] = 7
    assert array[0, 0] == 7
    assert tensor("images", READ_ONLY).tolist() == [0, 1, 2]  # and no warning
    given = torch.zeros(2)
    assert tensor("images", given) is given


def test_a_read_only_array_leaves_warnings_alone(monkeypatch):
    """All threads have the same filters: if two replace them for a moment, one puts back what the other has set."""
    before, from_numpy = warnings.filters, torch.from_numpy

    def seen(array):
        assert warnings.filters is before
        return from_numpy(array)

    monkeypatch.setattr(torch, "from_numpy", seen)
    assert tensor("images", READ_ONLY).data_ptr() == READ_ONLY.ctypes.data


IMAGES = {
    "uint8": lambda x: x.numpy(),
    "int64": lambda x: x.numpy().astype(np.int64),
    "other bytes": lambda x: x.numpy().astype(">i2"),
    "other strides": lambda x: np.ascontiguousarray(x.numpy()[:, :, ::-1])[:, :, ::-1],
    "by columns": lambda x: np.asfortranarray(x.numpy()),
    "uint16": lambda x: torch.from_numpy(x.numpy().astype(np.uint16)),
    "uint64": lambda x: x.numpy().astype(np.uint64),
    "int32 tensor": lambda x: x.int(),
    "lists": lambda x: x.tolist(),
    "list of arrays": lambda x: list(x.numpy()),
    "list of tensors": list,
}
LABELS = {
    "list": lambda y: y.tolist(),
    "tuple": lambda y: tuple(y.tolist()),
    "NumPy's integers": lambda y: list(y.numpy()),
    "int32": lambda y: y.int(),
    "uint8 array": lambda y: y.numpy().astype(np.uint8),
    "uint16 array": lambda y: y.numpy().astype(np.uint16),
    "list of tensors": list,
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind, model, images):
    assert torch.equal(model.log_prob(IMAGES[kind](images)), model.log_prob(images))


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind, model, images):
    labels = torch.tensor([3, 0, 2, 1])
    assert torch.equal(model.log_prob(images, LABELS[kind](labels)), model.log_prob(images, labels))
    assert torch.equal(model.sample(4, LABELS[kind](labels), seed=0), model.sample(4, labels, seed=0))


def test_no_labels_have_no_type(model, images):
    for labels in ([], np.array([]), torch.zeros(0)):
        assert model.sample(0, labels, seed=0).shape == (0, 1, 4, 5)
        assert model.log_prob(images[:0], labels).shape == (0,)


def test_truth_values_are_two_levels():
    model = pixelcnn.PixelCNN((1, 3, 4), filters=4, blocks=1)
    images = model.sample(3, seed=0)
    assert torch.equal(model.log_prob(images.bool().numpy()), model.log_prob(images))


def test_vectors():
    model = pixelcnn.GatedPixelCNN((1, 3, 4), filters=4, layers=2, condition_dim=2)
    labels = torch.tensor([[0.5, -1.0], [1.0, 2.0]], requires_grad=True)  # as an encoder's are
    images = model.sample(2, labels, seed=0)
    assert torch.equal(model.sample(2, labels.tolist(), seed=0), images)
    assert torch.equal(
        model.log_prob(images, labels.detach().numpy().astype(np.float64)), model.log_prob(images, labels)
    )
    assert torch.equal(
        model.log_prob(images, [[1, 2], [0, 1]]), model.log_prob(images, torch.tensor([[1.0, 2], [0, 1]]))
    )


def test_a_vector_of_zeros_is_not_none():
    """NaN is, in a batch: for each image as if it had been given none."""
    model = pixelcnn.GatedPixelCNN((1, 3, 4), filters=4, layers=2, condition_dim=2)
    images = model.sample(3, [[0, 0], [math.nan, math.nan], [1, 2]], seed=1)
    found = model.log_prob(images, [[0, 0], [math.nan, math.nan], [1, 2]])
    assert torch.equal(found[1:2], model.log_prob(images[1:2]))
    assert torch.equal(found[:1], model.log_prob(images[:1], torch.zeros(1, 2)))
    assert (found - model.log_prob(images))[[0, 2]].abs().min() > 1e-4
    for engine in ("eager", "reference"):
        assert torch.equal(model.sample(3, [[0, 0], [math.nan, math.nan], [1, 2]], seed=1, engine=engine), images)


@pytest.mark.parametrize("bad", [[[math.nan, 1.0]], [[math.inf, 0.0]], [[0.0, -math.inf]]])
def test_vectors_that_are_not_finite(bad):
    model = pixelcnn.GatedPixelCNN((1, 3, 4), filters=4, layers=2, condition_dim=2)
    with pytest.raises(ValueError, match=r"labels must be finite.*image 1"):
        model.sample(2, [[0.0, 0.0], *bad], seed=0)


def plain(value):
    return value


def odd(value):
    """The same in a type that a script may have it in."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Tensor):
        return value.numpy() if value.dtype == torch.bool else value.numpy().astype(np.int32)
    return np.float32(value) if isinstance(value, float) else np.int64(value)


def complete(model, images, labels, _, as_):
    known = torch.arange(20).view(4, 5) < 7
    found = model.complete(images, as_(known), as_(2), as_(8), labels, as_(3), moves=as_(1), seconds=as_(600.0))
    yield found.images, found.log_evidence
    yield completion_panel(images, as_(known.expand(4, 1, 4, 5)), as_(found.images), as_(3)).tobytes()


def stream(model, images, labels, _, as_):
    data = pixelcnn.compress(model, images, labels, chunk=as_(3))
    given = np.frombuffer(data, np.uint8) if as_ is odd else data
    yield data, pixelcnn.decompress(model, given, first=as_(1), n=as_(2))


def shards(model, images, labels, folder, as_):
    classes = [as_(0), as_(2)] if as_ is odd else (0, 2)
    write_shards(model, as_(5), folder, seed=as_(1), first=as_(2), classes=classes, shard_size=as_(3))
    yield [path.read_bytes() for path in sorted(folder.iterdir())]


def train(model, images, labels, folder, as_):
    config = TrainConfig(model=model.config, epochs=as_(1), batch_size=as_(2), seed=as_(4), learning_rate=as_(0.25))
    given = {"training_labels": labels, "validation_labels": labels}
    trained = pixelcnn.train(config, images, images, folder, progress=False, **given)
    yield list(trained.parameters()), (folder / "config.json").read_bytes()


OPERATIONS = {
    "forward": lambda m, x, y, _, as_: [m(x, y)],
    "log_prob_map": lambda m, x, y, _, as_: [m.log_prob_map(x, y), surprise_of(m.log_prob_map(x, y)[0])],
    "classify": lambda m, x, y, _, as_: [m.classify(x, [1.0, 2.0, 3.0, 4.0]), m.classify(x, np.arange(1.0, 5))],
    "sample": lambda m, x, y, _, as_: [
        m.sample(as_(4), y, as_(3), as_(0.5), engine, first=as_(7), guidance=as_(1.5))
        for engine in ("native", "eager", "reference")
    ],
    "sample_stream": lambda m, x, y, _, as_: list(m.sample_stream(as_(4), y, as_(3), chunk=as_(3))),
    "sample_steps": lambda m, x, y, _, as_: [canvas.clone() for canvas in m.sample_steps(as_(4), y, seed=as_(3))],
    "exact": lambda m, x, y, _, as_: [
        m.sample(as_(4), y, exact=True, seed=0), prepare(m).bits(x, y), prepare(m).cumulative(x, y),
    ],
    "complete": complete,
    "evaluate": lambda m, x, y, _, as_: [
        dataclasses.replace(part, images_per_second=0, by_class={})
        for whole in [pixelcnn.evaluate(m, x, y)] for part in (whole, *whole.by_class.values())
    ],
    "score": lambda m, x, y, _, as_: [
        score(m, x, y, method="typicality", reference=x, batch=as_(3)).score,
        score(m, x, method="ratio", background=m).score,
        compressed_bits(x, as_(3)),
    ],
    "stream": stream,
    "shards": shards,
    "pictures": lambda m, x, y, _, as_: [
        to_pil(x[0], as_(3)).tobytes(), grid(x, as_(3), as_(2), as_(8)).tobytes(),
        surprise_map(x[0], m.log_prob_map(x)[0], as_(3)),
    ],
    "train": train,
    "randomness": lambda m, x, y, _, as_: [uniforms(as_(3), 1, 2, 4), permutation(9, as_(3), 1)],
}  # fmt: skip


def values_of(found):
    if isinstance(found, Tensor):
        return str(found.dtype), found.tolist()
    return found if isinstance(found, bytes) or dataclasses.is_dataclass(found) else [values_of(each) for each in found]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_function_takes_them(operation, model, images, tmp_path):
    labels = torch.tensor([3, 0, 2, 1])
    expected = values_of(OPERATIONS[operation](model, images, labels, tmp_path / "plain", plain))
    found = values_of(OPERATIONS[operation](model, odd(images), odd(labels), tmp_path / "odd", odd))
    assert found == expected


def test_an_ensemble_takes_them():
    rows = pixelcnn.PixelCNN((1, 4, 5), filters=4, blocks=1)
    both = OrderEnsemble([rows, rows], ["right-down", "left-up"], np.array([1, 2]))
    images, known = both.sample(np.int64(3), seed=np.int64(2)), np.eye(4, 5, dtype=bool)
    assert torch.equal(both.log_prob(odd(images)), both.log_prob(images))
    assert torch.equal(both.part_of(np.int64(1), np.int64(2), np.int64(9)), both.part_of(1, 2, 9))
    draws = [
        both.complete(x, k, n=2, particles=8, seed=0).images
        for x, k in ((images, torch.from_numpy(known)), (odd(images), known))
    ]
    assert torch.equal(*draws)


def test_configurations_take_them():
    """And are what they would be with Python's numbers: equal, and the same in JSON."""
    odd_one = pixelcnn.PixelCNN(np.array([1, 4, 5]), levels=np.int64(3), filters=np.int32(6), blocks=torch.tensor(1))
    assert odd_one.config == PixelCNNConfig(image_shape=(1, 4, 5), levels=3, filters=6, blocks=1)
    assert json.loads(json.dumps(to_dict(odd_one.config))) == to_dict(odd_one.config)
    gated = pixelcnn.GatedPixelCNN(
        [1, 4, 5], layers=np.int64(3), kernel_size=np.int64(3), context=[np.int64(2)], filters=4
    )
    assert gated.config.context == (2,)
    assert gated.log_prob(gated.sample(2, seed=0)).shape == (2,)
    plusplus = pixelcnn.PixelCNNPlusPlus(
        [3, 3, 4], levels=np.int64(5), blocks=np.int64(1), mixtures=np.int64(2), filters=4
    )
    assert plusplus.log_prob(plusplus.sample(2, seed=0)).shape == (2,)
    assert DataConfig(size=np.array([4, 5])) == DataConfig(size=(4, 5))
    assert torch.equal(pixelcnn.datasets.mnist("test", np.int64(4))[0][:3], pixelcnn.datasets.mnist("test", 4)[0][:3])


WRONG = {
    "floating-point levels": (lambda x: x.float(), r"images must be of dtype torch\.uint8, got torch\.float32"),
    "floating-point array": (lambda x: x.double().numpy(), r"images must be of dtype torch\.uint8, got torch\.float64"),
    "complex": (lambda x: x.to(torch.complex64), r"images must be of dtype torch\.uint8, got torch\.complex64"),
    "too large": (lambda x: x.int() + 256, r"images must hold levels 0\.\.2, got 25[678]"),
    "too large for a signed type": (lambda x: x.numpy() + np.uint64(2**63), r"images must hold levels 0\.\.2, got -9"),
    "negative": (lambda x: x.int() - 3, r"images must hold levels 0\.\.2, got -[123] at \[0, 0, \d, \d\]"),
    "wrong shape": (lambda x: x.numpy()[:, 0], r"images must have shape \(N, 1, 4, 5\), got \(4, 4, 5\)"),
    "ragged": (lambda x: [[1], [2, 3]], r"images must be a torch\.Tensor or an array of numbers, got list"),
    "unlike tensors": (lambda x: [x[0], x], r"images must be a torch\.Tensor or an array of numbers, got list"),
    "a file's name": (lambda x: "images.npy", r"images must be a torch\.Tensor or an array of numbers, got str"),
    "a path": (lambda x: Path(), r"images must be a torch\.Tensor or an array of numbers, got PosixPath"),
    "nothing": (lambda x: None, r"images must be a torch\.Tensor or an array of numbers, got NoneType"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_images(kind, model, images):
    change, message = WRONG[kind]
    known = torch.eye(4, 5).bool()
    for function in (
        model.log_prob,
        lambda x: pixelcnn.evaluate(model, x),
        lambda x: pixelcnn.compress(model, x),
        lambda x: model.complete(x, known, seed=0),
        lambda x: score(model, x),
    ):
        with pytest.raises(ValueError, match=message):
            function(change(images))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 4], r"labels must be in 0\.\.3, got 0\.\.4"),
        (np.array([0, 1, 2, -2]), r"labels must be in 0\.\.3, got -2\.\.2"),
        ([0, 1, 2], r"labels must be torch\.int64 of shape \(4,\), got torch\.int64 \(3,\)"),
        ([0.0, 1, 2, 3], r"labels must be torch\.int64 of shape \(4,\), got torch\.float64 \(4,\)"),
        (["0", "1", "2", "3"], r"labels must be a torch\.Tensor or an array of numbers, got list"),
    ],
)
def test_wrong_labels(labels, message, model, images):
    for function in (lambda: model.log_prob(images, labels), lambda: model.sample(4, labels, seed=0)):
        with pytest.raises(ValueError, match=message):
            function()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": np.int64(-1)}, r"n must be an integer in 0\.\.2\*\*63-1, got -1"),
        ({"n": True}, r"n must be an integer in 0\.\.2\*\*63-1, got True"),
        ({"n": np.float64(2)}, r"n must be an integer in 0\.\.2\*\*63-1, got np\.float64"),
        ({"n": 1, "seed": np.int64(-1)}, r"seed must be an integer in 0\.\.2\*\*63-1, got -1"),
        ({"n": 1, "seed": "1"}, r"seed must be an integer in 0\.\.2\*\*63-1, got '1'"),
        ({"n": 1, "temperature": "1"}, r"temperature must be a number, got '1'"),
        ({"n": 1, "guidance": None}, r"guidance must be a number, got None"),
        ({"n": np.ones((2, 1))}, r"n must be an integer in 0\.\.2\*\*63-1, got array\(\[\[1\.\], \[1\.\]\]\)$"),
        (
            {"n": 1, "temperature": torch.ones(2, 1)},
            r"temperature must be a number, got tensor\(\[\[1\.\], \[1\.\]\]\)$",
        ),
        ({"n": 1, "generator": np.random.default_rng(0)}, "generator must be a torch.Generator, got Generator"),
    ],
)
def test_wrong_numbers(options, message, model):
    for method in (model.sample, model.sample_stream, model.sample_steps):
        with pytest.raises(ValueError, match=message):
            method(**options)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ("5", "seconds must be a number, got '5'"),
        (None, "seconds must be a number, got None"),
        (math.nan, "seconds must be at least 0, got nan"),
        (-1, r"seconds must be at least 0, got -1\.0"),
    ],
)
def test_wrong_seconds(seconds, message, model, images):
    with pytest.raises(ValueError, match=message):
        model.complete(images, torch.zeros(4, 5, dtype=torch.bool), seconds=seconds, seed=0)


@pytest.mark.parametrize("data", ["PXCN", None, 3, [80, 88]])
def test_what_is_no_stream_of_bytes(data, model):
    with pytest.raises(ValueError, match=f"data must be bytes, got {type(data).__name__}"):
        pixelcnn.decompress(model, data)


def test_masks_are_truth_values(model, images):
    for known in (np.full((4, 5), 255, np.uint8), torch.full((4, 5), -1)):
        with pytest.raises(ValueError, match=r"known must be a torch\.bool tensor, or hold 0 and 1, got "):
            model.complete(images, known, seed=0)
    mask = torch.eye(4, 5).bool()
    expected = model.complete(images, mask, particles=8, seed=0).images
    assert torch.equal(model.complete(images, mask.int().tolist(), particles=8, seed=0).images, expected)
