"""Any model, any images: the same back, from the same bytes by either engine, any threads and any batch."""

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, note, seed, settings

import pixelcnn
from pixelcnn.codec import decompress_with_labels
from pixelcnn.config import TrainConfig
from pixelcnn.exact import PreparedModel, prepare
from pixelcnn.sampling.walk import Walk
from streams import engine, groups_of, header_of, threads

FAMILIES = ["pixelcnn", "gated", "plusplus", "photo", "trained"]
SHIPPED = ["mnist", "mnist-gray", "mnist-seed"]
KINDS = ["constant", "noise", "extremes", "gradient", "likely", "unlikely", "drawn"]


@dataclass(frozen=True)
class Case:
    """Images for one model, and how they are to be coded."""

    description: str
    prepared: PreparedModel
    images: torch.Tensor
    labels: torch.Tensor | None
    chunk: int | None
    group: int | None

    def __repr__(self):
        return self.description


def of_size(family, shape, levels, size, classes, attention):
    if family == "pixelcnn":
        return pixelcnn.PixelCNN(shape, levels=levels, filters=2 * shape[0] * size, blocks=size)
    if family == "photo":
        return pixelcnn.PhotoPixelCNN(shape, levels=levels, filters=4 * size, blocks=size, mixtures=1 + size)
    options = {"levels": levels, "num_classes": classes, "attention": attention}
    if family == "gated":
        return pixelcnn.GatedPixelCNN(shape, filters=3 * size, layers=1 + size, **options)
    return pixelcnn.PixelCNNPlusPlus(shape, filters=4 * size, blocks=size, mixtures=1 + size, **options)


def random_model(draw, family, most):
    """Up to `most` pixels wide and high; weights from those that leave every level likely to those that leave one."""
    side = st.integers(1, most) | st.sampled_from([1, 2, most])
    shape = draw(st.sampled_from([1, 3])), draw(side), draw(side)
    levels = draw(st.sampled_from([2, 3, 4, 16, 256]))
    scale = draw(st.sampled_from([0.0, 1.0, 2.0, 8.0]))
    classes = draw(st.none() | st.integers(1, 10)) if family in ("gated", "plusplus") else None
    attention = draw(st.integers(0, 1)) if family in ("gated", "plusplus") and shape[1] * shape[2] <= 64 else 0
    torch.manual_seed(draw(st.integers(0, 9)))
    model = of_size(family, shape, levels, draw(st.integers(1, 2)), classes, attention)
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.weight.mul_(scale)
            layer.bias.uniform_(-scale, scale)
    return f"{family} {shape} levels={levels} scale={scale} {classes=} {attention=}", prepare(model)


def filled(prepared, condition, n, choice):
    """Images whose every level is the most or the least likely one, given those before."""
    images = torch.zeros(n, *prepared.model.image_shape, dtype=torch.uint8)

    def choose(_channel, _pixels, params):
        return getattr(prepared.likelihood.cumulative(params).diff(), choice)(-1)

    walk = Walk(prepared, n, conditional=condition is not None)
    walk.start(condition)
    for step in walk.steps:
        walk.step(prepared, step, images, choose)
    return images


def made(draw, kind, prepared, labels, n):
    model, generator = prepared.model, torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shape, levels = (n, *model.image_shape), model.levels
    if kind == "constant":
        return torch.full(shape, draw(st.integers(0, levels - 1)), dtype=torch.uint8)
    if kind == "noise":
        return torch.randint(levels, shape, generator=generator).to(torch.uint8)
    if kind == "extremes":
        return (torch.randint(2, shape, generator=generator) * (levels - 1)).to(torch.uint8)
    if kind == "gradient":
        ramp = torch.arange(shape[2]).unsqueeze(1) + torch.arange(shape[3]) + torch.arange(n).view(n, 1, 1, 1)
        return (ramp % levels).expand(shape).to(torch.uint8)
    if kind == "drawn":
        return model.sample(n, labels, seed=draw(st.integers(0, 99)), exact=True)
    return filled(prepared, model.condition_of(labels, n), n, {"likely": "argmax", "unlikely": "argmin"}[kind])


@st.composite
def cases(draw, family, most, trained):
    if family == "trained":
        name = draw(st.sampled_from(sorted(trained)))
        description, prepared = name, trained[name]
    else:
        description, prepared = random_model(draw, family, most)
    model = prepared.model
    subpixels = prepared.model.image_shape[0] * model.image_shape[1] * model.image_shape[2]
    small = subpixels <= 300
    n = draw(st.integers(1, 40) if small else st.integers(1, 2 if most <= 16 else 12))
    classes = getattr(model.config, "num_classes", None)
    labels = None
    if classes is not None and draw(st.booleans()):
        labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    kind = draw(st.sampled_from(KINDS if small or most > 16 else KINDS[:4]))
    chunk = draw(st.none() | st.integers(1, n + 1))
    group = draw(st.none() | st.integers(1, n))
    description = f"{n} {kind} of {description}, labels={labels is not None} {chunk=} {group=}"
    return Case(description, prepared, made(draw, kind, prepared, labels, n), labels, chunk, group)


def check_round_trip(case, engines):
    """What one engine wrote the others write too, and all read."""
    written = set()
    for name, count in engines:
        with engine(name), threads(count), groups_of(case.group) if case.group else engine(name):
            written.add(pixelcnn.compress(case.prepared, case.images, case.labels, chunk=case.chunk))
    assert len(written) == 1
    (data,) = written
    note(f"{len(data)} bytes")
    bits = case.prepared.bits(case.images, case.labels).sum().item()
    chunks = -(-len(case.images) // (case.chunk or len(case.images)))
    classes = 0 if case.labels is None else 4 * len(case.images)
    assert 8 * len(data) <= bits * (1 + 1e-6) + classes + 8 * (56 + 17 * chunks)
    for name, count in engines:
        with engine(name), threads(count):
            images, labels = decompress_with_labels(case.prepared, data)
        assert images.dtype == torch.uint8
        assert torch.equal(images, case.images)
        assert (labels is None) == (case.labels is None)
        assert labels is None or torch.equal(labels, case.labels)


def round_trips(family, images, most, trained):
    """Round after round of cases, always the same ones, until there have been so many images."""
    seen, number = 0, 0
    kinds = {"eager": 0, "cases": 0}

    def check(case):
        nonlocal seen
        seen += len(case.images)
        kinds["cases"] += 1
        eager = case.images.numel() <= (600 if most <= 16 or kinds["cases"] % 4 else 30_000)
        kinds["eager"] += eager
        check_round_trip(case, [("native", 1), ("native", 2), *([("eager", 1)] if eager else [])])

    examples = 50 if most > 16 else 5 if family == "trained" else 10
    once = settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    while seen < images:
        seed(number)(once(given(cases(family, most, trained))(check)))()
        number += 1
    print(f"{family}: {seen} images in {kinds['cases']} cases, {kinds['eager']} of them without compiled code too")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The shipped models, and one of colour, trained for a second on what has structure."""
    folder = tmp_path_factory.mktemp("trained")
    generator = torch.Generator().manual_seed(0)
    bright = torch.randint(4, (256, 1, 1, 1), generator=generator)
    images = ((bright + torch.arange(8).view(8, 1) // 3 + torch.arange(3).view(3, 1, 1)) % 4).expand(256, 3, 8, 8)
    config = TrainConfig(
        model=pixelcnn.config.PixelCNNPlusPlusConfig(image_shape=(3, 8, 8), levels=4, filters=8, blocks=1, mixtures=2),
        steps=40, batch_size=32, sample_images=0,
    )  # fmt: skip
    images = images.to(torch.uint8).contiguous()
    colour = pixelcnn.train(config, images, images[:32], folder / "run", progress=False)
    return {**{name: prepare(pixelcnn.load(name)) for name in SHIPPED}, "colour": prepare(colour)}


def trained_for(family, request):
    return request.getfixturevalue("trained") if family == "trained" else {}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_200_images_come_back(family, request):
    round_trips(family, 20 if family == "trained" else 60, 12, trained_for(family, request))


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_10_000_images_come_back(family, request):
    round_trips(family, 2500, 64, trained_for(family, request))


QUICK = {
    "pixelcnn": ("pixelcnn", (1, 4, 3), 2, 1, None, 0),
    "gated": ("gated", (1, 3, 4), 4, 1, 3, 0),
    "attention": ("gated", (3, 2, 3), 3, 1, None, 1),
    "plusplus": ("plusplus", (3, 2, 3), 7, 1, 2, 0),
}


@pytest.mark.parametrize("name", QUICK)
def test_bytes_and_frequencies_are_those_of_any_batch_and_thread(name):
    """Groups of 1, 7 and 512 images: what one engine and number of threads writes every other writes, and reads."""
    prepared = prepare(of_size(*QUICK[name]))
    model, generator = prepared.model, torch.Generator().manual_seed(0)
    images = torch.randint(model.levels, (513, *model.image_shape), generator=generator).to(torch.uint8)
    classes = getattr(model.config, "num_classes", None)
    labels = None if classes is None else torch.arange(513) % classes
    ways = [("native", 1), ("native", 2), ("eager", 1), ("eager", 2)]
    frequencies = prepared.cumulative(images, labels)
    for batch in (1, 7, 512):
        n = min(513, 2 * batch + 1)
        given_labels = None if labels is None else labels[:n]
        written = []
        for how, count in ways:
            with engine(how), threads(count), groups_of(batch):
                written.append(pixelcnn.compress(prepared, images[:n], given_labels))
        assert written == written[:1] * len(ways)
        assert header_of(written[0])["per_group"] == batch
        for how, count in ways:
            with engine(how), threads(count):
                found, found_labels = decompress_with_labels(prepared, written[0])
            assert torch.equal(found, images[:n])
            assert labels is None or torch.equal(found_labels, given_labels)
        for count in (1, 2):
            parts = [slice(k, min(k + batch, n)) for k in range(0, n, batch)]
            with threads(count):
                every = [prepared.cumulative(images[k], None if labels is None else labels[k]) for k in parts]
            assert torch.equal(torch.cat(every), frequencies[:n])
