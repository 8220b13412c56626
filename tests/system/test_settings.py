"""What a script has set for all of PyTorch changes no likelihood, draw, stream or training run, to the bit."""

import contextlib
import copy
import functools
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import pixelcnn
from pixelcnn.codec import decompress_with_labels
from pixelcnn.config import PixelCNNConfig, TrainConfig
from pixelcnn.exact import prepare
from pixelcnn.images import completion_panel, surprise_map
from pixelcnn.models import OrderEnsemble
from pixelcnn.models.summary import summary
from pixelcnn.randomness import binarised, label_uniforms, mutations, permutation, scan_orders, shifts
from pixelcnn.scoring import score
from pixelcnn.shards import write_shards
from pixelcnn.threads import alone


@contextlib.contextmanager
def changed(setting, value, before):
    setting(value)
    try:
        yield
    finally:
        setting(before)


SETTINGS = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "default type float64": lambda: changed(torch.set_default_dtype, torch.float64, torch.float32),
    "default type bfloat16": lambda: changed(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "another default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic algorithms": lambda: changed(torch.use_deterministic_algorithms, True, False),
    "fast products": lambda: changed(torch.set_float32_matmul_precision, "medium", "highest"),
    "NumPy raises": lambda: np.errstate(all="raise"),
}


def everything():
    stack = contextlib.ExitStack()
    for name in ("autocast to bfloat16", "default type float64", "another default device", "no gradients"):
        stack.enter_context(SETTINGS[name]())
    return stack


@functools.cache
def examples():
    """Models of every kind, whose weights are not near zero; images and labels of theirs."""
    generator = torch.Generator().manual_seed(0)
    options = {"filters": 6, "generator": generator}
    rows, columns = (pixelcnn.PixelCNN(shape, blocks=1, **options) for shape in ((1, 4, 5), (1, 5, 4)))
    gated, plusplus = pixelcnn.GatedPixelCNN, pixelcnn.PixelCNNPlusPlus
    models = {
        "plain": (pixelcnn.PixelCNN((2, 4, 5), levels=3, blocks=1, **options), None),
        "attention": (
            gated((1, 4, 5), layers=3, num_classes=3, places=True, attention=1, **options),
            torch.tensor([0, 2, 1, 2]),
        ),
        "context": (
            gated((1, 4, 5), layers=2, condition_dim=2, places=True, context=(2,), **options),
            torch.tensor([[0.5, 1.0], [0.0, -1.0]] * 2),
        ),
        "mixture": (
            plusplus((3, 3, 4), levels=6, blocks=1, mixtures=2, num_classes=3, **options),
            torch.tensor([0, 1, 2, 1]),
        ),
        "ensemble": (OrderEnsemble([rows, rows, columns], ["right-down", "left-up", "down-right"]), None),
    }
    with torch.no_grad():
        for parameter in itertools.chain.from_iterable(model.parameters() for model, _ in models.values()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return {name: (model, model.sample(4, labels, seed=1), labels) for name, (model, labels) in models.items()}


def gradients(model, images, labels, _):
    with torch.inference_mode(False), torch.enable_grad():
        nats = model.log_prob(images, labels).sum()
        with torch.autocast("cpu", enabled=False):  # as PyTorch asks for
            return nats, torch.autograd.grad(nats, list(model.parameters()))


def complete(model, images, labels, _):
    _, h, w = model.image_shape
    known = torch.arange(h * w, device="cpu").view(h, w) % 3 == 1
    labels = None if labels is None else labels[:2]
    for engine in ("native", "eager"):
        found = model.complete(images[:2], known, 2, 6, labels, 5, engine=engine, moves=1)
        yield found.images, found.ess, found.log_evidence, found.accepted
    yield completion_panel(images[:2], known.expand(images[:2].shape), found.images, model.levels).tobytes()


def evaluate(model, images, labels, _):
    found = pixelcnn.evaluate(model, images, labels)
    parts = [(k, part.nats_per_image, part.interval) for k, part in found.by_class.items()]
    return found.nats_per_image, found.standard_error, found.interval, parts


def scores(model, images, labels, _):
    for options in (
        {"method": "typicality", "reference": images, "batch": 3},
        {"method": "complexity", "labels": labels},
        {"method": "ratio", "background": model},
    ):
        yield score(model, images, **options).score


def stream(model, images, labels, _):
    labels = labels if getattr(model.config, "num_classes", None) else None
    data = pixelcnn.compress(model, images, labels, chunk=3)
    return data, decompress_with_labels(model, data), pixelcnn.decompress(model, data, first=1, n=1)


def stored(model, images, _, folder):
    model.save_pretrained(folder / "model")
    write_shards(model, 3, folder / "shards", seed=2, shard_size=2)
    files = [folder / "model" / "model.safetensors", *sorted((folder / "shards").glob("*.npy"))]
    with torch.device("cpu"):  # a model is loaded where new ones are made
        loaded = pixelcnn.load(folder / "model")
    return [file.read_bytes() for file in files], loaded.log_prob(images)


def graphs(model, *_):
    pytest.importorskip("onnx")
    from pixelcnn.onnx.full import full_graph
    from pixelcnn.onnx.step import step_graph

    return full_graph(model), step_graph(model)


def exact(model, images, labels, _):
    for engine in ("native", "eager"):
        yield model.sample(4, labels, exact=True, engine=engine, seed=0)
    prepared = prepare(model)
    yield prepared.identity, prepared.bits(images, labels), prepared.cumulative(images, labels)


ANY = {
    "log_prob": lambda model, x, y, _: (model.log_prob(x, y), model.log_prob(x, y, precision="bf16")),
    "gradients": gradients,
    "native": lambda model, x, y, _: model.sample(4, y, seed=3, engine="native"),
    "eager": lambda model, x, y, _: model.sample(4, y, seed=3, temperature=0.8, engine="eager"),
    "reference": lambda model, x, y, _: model.sample(4, y, seed=3, temperature=0.8, engine="reference"),
    "bf16": lambda model, x, y, _: model.sample(4, y, seed=3, precision="bf16"),
    "evaluate": evaluate,
    "scores": scores,
    "stored": stored,
    "summary": lambda model, *_: summary(model),
}
OF_ONE_ORDER = {
    "log_prob_map": lambda model, x, y, _: model.log_prob_map(x, y),
    "sample_steps": lambda model, x, y, _: [canvas.clone() for canvas in model.sample_steps(4, y, seed=3)],
    "sample_stream": lambda model, x, y, _: list(model.sample_stream(4, y, seed=3, chunk=3)),
    "exact": exact,
    "complete": complete,
    "stream": stream,
}
OPERATIONS = {
    **{(name, operation): ANY[operation] for name in ("plain", "context", "mixture", "ensemble") for operation in ANY},
    **{(name, each): OF_ONE_ORDER[each] for name in ("plain", "context", "mixture") for each in OF_ONE_ORDER},
    **{("attention", each): (ANY | OF_ONE_ORDER)[each] for each in ("log_prob", "eager", "exact", "complete")},
    **{(name, "classify"): lambda model, x, *_: model.classify(x) for name in ("attention", "mixture")},
    **{(name, "graphs"): graphs for name in ("plain", "context", "mixture")},
    ("context", "surprise"): lambda model, x, y, _: surprise_map(x[0], model.log_prob_map(x, y)[0], model.levels),
    ("attention", "guidance"): lambda model, x, y, _: [
        model.sample(4, y, seed=3, guidance=1.5, engine=engine) for engine in ("native", "eager", "reference")
    ],
}


def values_of(found):
    """The same in what can be compared: a tensor by its type and numbers."""
    if isinstance(found, Tensor):
        return str(found.dtype), found.shape, found.detach().numpy().tobytes()
    if isinstance(found, str | bytes | int | float | None):
        return repr(found)
    return [values_of(each) for each in found]


def outcome(model, operation, folder):
    _, images, labels = examples()[operation[0]]
    with alone():
        return values_of(OPERATIONS[operation](model, images, labels, folder))


@functools.cache
def expected(operation, folder):
    return outcome(examples()[operation[0]][0], operation, folder)


CHOSEN = ["everything", *(pytest.param(name, marks=pytest.mark.long) for name in SETTINGS)]


def set_to(name):
    return everything() if name == "everything" else SETTINGS[name]()


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("operation", OPERATIONS, ids=": ".join)
@pytest.mark.parametrize("setting", CHOSEN)
def test_settings_change_nothing(operation, setting, tmp_path, tmp_path_factory):
    right = expected(operation, tmp_path_factory.getbasetemp() / " ".join(operation))
    model = copy.deepcopy(examples()[operation[0]][0])  # for which nothing is kept
    with set_to(setting):
        found = outcome(model, operation, tmp_path / "inside")
    assert found == right
    if setting != "everything":
        assert outcome(model, operation, tmp_path / "outside") == right, "what was kept inside is right outside too"


def randomness():
    indices = torch.arange(6, device="cpu")
    images = torch.arange(120, device="cpu").to(torch.uint8).view(6, 1, 4, 5)
    yield permutation(20, 3, 1), shifts(indices, 2, 3, 1), label_uniforms(indices, 3, 1), scan_orders(indices, 8, 3, 1)
    yield binarised(images, indices, 3), mutations(images % 6, indices, 0.3, 6, 3, 1)


def train(folder):
    config = TrainConfig(
        model=PixelCNNConfig(image_shape=(1, 6, 7), filters=6, blocks=1), epochs=1, batch_size=8, ema=0.9,
        sample_images=4, shift=1, dropout=0.1, clip_norm=1.0, weight_decay=0.1, mutate=0.1,
    )  # fmt: skip
    images = (torch.arange(24 * 42, device="cpu") % 5 % 2).to(torch.uint8).view(24, 1, 6, 7)
    with alone():
        pixelcnn.train(config, images, images[:8], folder, progress=False)
    return [(folder / name).read_bytes() for name in ("metrics.jsonl", "model/model.safetensors")]


@pytest.mark.parametrize("setting", CHOSEN)
def test_settings_change_no_training(setting, tmp_path):
    right = train(tmp_path / "plain"), values_of(randomness())
    with set_to(setting):
        assert (train(tmp_path / "inside"), values_of(randomness())) == right
