"""Completion against enumeration, engines against each other, and what is refused."""

import itertools
import math
import os
import signal
import threading
import time

import pytest
import scipy.stats
import torch

import pixelcnn
from pixelcnn import completion
from pixelcnn.models import OrderEnsemble


def sharp(build):
    """A small model in float64 whose pixels depend on each other a good deal."""
    torch.manual_seed(0)
    model = build().double().eval()
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.weight.mul_(2.5)
    return model


def binary():
    return sharp(lambda: pixelcnn.PixelCNN((1, 3, 4), filters=8, blocks=1))


def ternary():
    return sharp(lambda: pixelcnn.GatedPixelCNN((1, 2, 3), levels=3, filters=6, layers=2))


MODELS = {
    "pixelcnn": lambda: pixelcnn.PixelCNN((2, 4, 3), levels=3, filters=8, blocks=1),
    "gated": lambda: pixelcnn.GatedPixelCNN((1, 5, 6), levels=4, filters=6, layers=2, num_classes=3),
    "gated-colour": lambda: pixelcnn.GatedPixelCNN((3, 4, 4), filters=6, layers=2),
    "attention": lambda: pixelcnn.GatedPixelCNN((1, 5, 4), levels=3, filters=6, layers=3, attention=1),
    "context": lambda: pixelcnn.GatedPixelCNN(
        (1, 6, 5), levels=4, filters=4, layers=2, places=True, context=(4, 2), num_classes=3
    ),
    "everything": lambda: pixelcnn.GatedPixelCNN(
        (2, 5, 4), levels=3, filters=4, layers=3, first_kernel=5, kernel_size=(1, 5), context=(2,), attention=1
    ),
    "plusplus": lambda: pixelcnn.PixelCNNPlusPlus((3, 4, 5), levels=7, filters=6, blocks=1, mixtures=3),
    "plusplus-grey": lambda: pixelcnn.PixelCNNPlusPlus((1, 6, 4), levels=256, filters=6, blocks=1, mixtures=3),
}


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("name", MODELS)
def test_engines_complete_alike(name):
    """The particles are resampled several times, and moved: the same integers by all engines."""
    model = sharp(MODELS[name])
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(model.levels, (3, *model.image_shape), generator=generator).to(torch.uint8)
    known = torch.rand(images.shape, generator=generator) < 0.5
    known[2] = True  # what all particles share comes first, and more that is known later
    known[2, -1, model.image_shape[1] // 2, :-1] = False
    labels = torch.arange(3) if getattr(model.config, "num_classes", None) else None
    options = {"n": 4, "particles": 16, "labels": labels, "seed": 3, "moves": 2}
    reference = model.complete(images, known, **options, engine="reference")
    assert (reference.ess < 8).any(), "nothing was resampled: the test proves nothing"
    for engine in ("eager", "native"):
        found = model.complete(images, known, **options, engine=engine)
        assert torch.equal(found.images, reference.images)
        torch.testing.assert_close(found.ess, reference.ess)
        torch.testing.assert_close(found.log_evidence, reference.log_evidence)
        assert found.accepted == reference.accepted
    given = known.unsqueeze(1).expand_as(reference.images)
    assert torch.equal(reference.images[given], images.unsqueeze(1).expand_as(reference.images)[given])
    assert int(reference.images.max()) < model.levels


@pytest.mark.parametrize("name", ["gated", "plusplus"])
def test_it_is_exact_where_the_known_come_first(name):
    model = sharp(MODELS[name])
    images = model.sample(2, seed=5)
    labels = torch.tensor([2, 1]) if name == "gated" else None
    c, h, w = model.image_shape
    k = h * w * c // 2
    known = (torch.arange(h * w * c) < k).view(h, w, c).permute(2, 0, 1)
    found = model.complete(images, known, n=3, particles=3, labels=labels, seed=0)
    with torch.no_grad():
        expected = (model.log_prob_map(images, labels) * known).sum((1, 2, 3))
    torch.testing.assert_close(found.log_evidence, expected)
    assert found.ess.tolist() == [3, 3]
    assert math.isnan(found.accepted)
    by_particles = model.complete(images, known, n=3, particles=3, labels=labels, method="particles", seed=0)
    torch.testing.assert_close(by_particles.log_evidence, expected)


@pytest.mark.parametrize("engine", ["native", "eager", "reference"])
def test_images_may_lie_in_memory_in_any_order(engine):
    """A single particle is no copy that would put them in order."""
    model = sharp(lambda: pixelcnn.PixelCNN((2, 4, 4), levels=3, filters=8, blocks=1))
    images = model.sample(2, seed=5)
    options = {"n": 1, "particles": 1, "moves": 1, "method": "raster", "seed": 0, "engine": engine}
    for order in ((0, 1, 3, 2), (0, 2, 3, 1)):
        back = sorted(range(4), key=order.__getitem__)
        turned, known = (x.permute(order).contiguous().permute(back) for x in (images, images != 0))
        known[..., -1, -1] = False
        expected = model.complete(images, known.contiguous(), **options).images
        assert torch.equal(model.complete(turned, known, **options).images, expected)


def test_with_nothing_known_it_samples():
    model = sharp(MODELS["plusplus"])
    images = torch.zeros(2, *model.image_shape, dtype=torch.uint8)
    found = model.complete(images, torch.zeros(1, 1, 1, 1, dtype=torch.bool), n=3, seed=7)
    assert torch.equal(found.images.flatten(0, 1), model.sample(6, seed=7))
    assert found.log_evidence.tolist() == [0, 0]


def given():
    """Of images that are conditioned on a map."""
    return sharp(lambda: pixelcnn.GatedPixelCNN((1, 2, 4), filters=6, layers=2, condition_channels=1))


def conditional(model, image, known, maps=None):
    """All completions of an image, their probabilities, and log p(known), by enumeration."""
    unknown = (~known).nonzero()
    levels = itertools.product(range(model.levels), repeat=len(unknown))
    images = image.expand(model.levels ** len(unknown), *image.shape).clone()
    for k, values in enumerate(levels):
        for place, value in zip(unknown, values, strict=True):
            images[(k, *place)] = value
    with torch.no_grad():
        log_probs = model.log_prob(images, condition=None if maps is None else maps.expand(len(images), -1, -1, -1))
    return images, torch.softmax(log_probs, 0), torch.logsumexp(log_probs, 0).item()


def frequencies(model, draws, images):
    """How often each of the images was drawn."""
    base = model.levels ** torch.arange(images[0].numel())
    keys, found = (torch.mv(x.flatten(1).long(), base) for x in (images, draws))
    return (found.unsqueeze(1) == keys).sum(0)


def p_value(counts, probabilities):
    """Of a chi-square test, in which cells of less than five expected draws are one."""
    n = int(counts.sum())
    rare = probabilities * n < 5
    cells = [*zip(counts[~rare].tolist(), (probabilities[~rare] * n).tolist(), strict=True)]
    if rare.any():
        cells.append((int(counts[rare].sum()), float(probabilities[rare].sum() * n)))
    observed, expected = zip(*cells, strict=True)
    return scipy.stats.chisquare(observed, expected, sum_check=False).pvalue if len(cells) > 1 else 1.0


def masks(model, count, seed=0):
    """Masks with at least a known sub-pixel, which is not among the first, and an unknown one."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    while len(found) < count:
        known = torch.rand(model.image_shape, generator=generator) < torch.rand((), generator=generator)
        in_order = known.permute(1, 2, 0).flatten()
        if not known.all() and not in_order[: int(in_order.sum())].all():
            found.append(known)
    return found


def check_distribution(model, known, seed, runs=2000, maps=None):
    """Independent runs, a draw each. False alarm: 1e-7 of the frequencies, 6e-7 (5 standard errors) of the evidence."""
    image = model.sample(1, seed=seed)[0]
    images, probabilities, log_evidence = conditional(model, image, known, maps)
    every = None if maps is None else maps.expand(runs, -1, -1, -1)
    found = model.complete(image.expand(runs, *image.shape), known, particles=64, seed=seed, condition=every)
    assert p_value(frequencies(model, found.images[:, 0], images), probabilities) > 1e-7
    ratios = (found.log_evidence - log_evidence).exp()
    assert abs(ratios.mean().item() - 1) <= 5 * ratios.std().item() / runs**0.5 + 1e-9


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("build", [binary, ternary])
def test_completions_have_the_enumerated_distribution(build):
    model = build()
    for k, known in enumerate(masks(model, 2)):
        check_distribution(model, known, k, runs=600)


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_hard_data_by_completion_and_soft_data_by_a_map():
    """Known pixels and a map together: the posterior of what is unknown, by enumeration, which the map changes."""
    model = given()
    maps = torch.tensor([[[[0.9, 0.2]]]], dtype=torch.float64)
    for k, known in enumerate(masks(model, 3)):
        check_distribution(model, known, k, runs=600, maps=maps)
        image = model.sample(1, seed=k)[0]
        with_map, without = (conditional(model, image, known, soft)[1] for soft in (maps, None))
        assert (with_map - without).abs().sum() > 0.01


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("build", [binary, ternary])
def test_200_masks_have_the_enumerated_distribution(build):
    """Together at most 1e-4 that a right one fails: 400 masks by 2e-7, and bias."""
    model = build()
    for k, known in enumerate(masks(model, 200, seed=1)):
        check_distribution(model, known, k)


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_total_variation_shrinks_as_one_over_the_square_root():
    """16 times as many particles, all drawn, are about 4 times as near; 2 to 8 is allowed, over 20 masks' mean."""
    model = binary()
    distances = {64: 0.0, 1024: 0.0}
    for k, known in enumerate(masks(model, 20, seed=2)):
        image = model.sample(1, seed=k)[0]
        images, probabilities, _ = conditional(model, image, known)
        for particles in distances:
            found = model.complete(image[None], known, n=particles, particles=particles, seed=k, method="particles")
            counts = frequencies(model, found.images[0], images)
            distances[particles] += (counts / particles - probabilities).abs().sum().item() / 2
    assert 2 < distances[64] / distances[1024] < 8


@pytest.mark.parametrize("build", [binary, ternary])
def test_ignoring_later_pixels_fails_the_same_test(build):
    model, runs, p_values = build(), 600, []
    for k, known in enumerate(masks(model, 3)):
        image = model.sample(1, seed=k)[0]
        images, probabilities, _ = conditional(model, image, known)
        found = model.complete(image.expand(runs, *image.shape), known, seed=k, method="raster")
        assert found.log_evidence.isnan().all()
        p_values.append(p_value(frequencies(model, found.images[:, 0], images), probabilities))
    assert min(p_values) < 1e-7


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_moves_bring_raster_draws_to_the_distribution():
    """Draws that ignore what comes later, and forty moves that make up for it. False alarm 1e-7, and bias."""
    model, n = ternary(), 1000
    known = torch.tensor([[[False, True, False], [False, True, True]]])
    image = model.sample(1, seed=0)[0]
    images, probabilities, _ = conditional(model, image, known)
    p_values = {}
    for moves in (0, 40):
        found = model.complete(image[None], known, n, particles=n, method="raster", moves=moves, seed=0)
        p_values[moves] = p_value(frequencies(model, found.images[0], images), probabilities)
    assert p_values[0] < 1e-7 < p_values[40]
    assert 0 < found.accepted < 1


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_threads_and_other_images_do_not_matter():
    model = pixelcnn.GatedPixelCNN((1, 6, 6), filters=6, layers=2)  # float32
    images, known = model.sample(5, seed=0), torch.rand(5, 1, 6, 6) < 0.5
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(model.complete(images, known, n=2, particles=32, seed=0))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0].images, found[1].images)
    assert torch.equal(found[0].log_evidence, found[1].log_evidence)
    assert torch.equal(model.complete(images[:3], known[:3], n=2, particles=32, seed=0).images, found[0].images[:3])


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("engine", ["eager", "native"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_does_not_matter(mode, engine):
    model = sharp(MODELS["gated-colour"])
    images, known = model.sample(3, seed=0), torch.rand(3, *model.image_shape) < 0.5
    options = {"n": 2, "particles": 8, "moves": 2, "engine": engine, "seed": 0}
    expected = model.complete(images, known, **options)
    with mode():
        found = model.complete(images, known, **options)
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.log_evidence, expected.log_evidence)


def test_an_ensemble_picks_the_order_in_which_the_known_come_first():
    member = sharp(lambda: pixelcnn.GatedPixelCNN((1, 4, 4), levels=3, filters=6, layers=2))
    both = OrderEnsemble([member, member], ["right-down", "left-up"])
    images = both.sample(2, seed=0)
    known = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    known[0, :, :2] = known[1, :, 2:] = True
    found = both.complete(images, known, n=3, seed=0)
    assert found.ess.tolist() == [3, 3]
    upside_down = member.complete(images.flip(-1, -2), known[1:].flip(-1, -2), n=3, seed=0)
    assert torch.equal(found.images[1], upside_down.images[1].flip(-1, -2))
    assert torch.equal(found.images[0], member.complete(images[:1], known[:1], n=3, seed=0).images[0])
    assert found.log_evidence[1] == upside_down.log_evidence[1]
    exact = both.prepared().complete(images, known, n=3, seed=0, engine="eager")
    of_member = member.prepared().complete(images[:1], known[:1], n=3, seed=0, engine="eager")
    assert exact.log_evidence[0] == of_member.log_evidence[0]
    assert exact.log_evidence[0] != found.log_evidence[0]
    with pytest.raises(ValueError, match="images must be at least one, got 0"):
        both.complete(images[:0], known[:0], n=3, seed=0)


def test_an_ensembles_draws_of_an_image_do_not_depend_on_the_orders_of_others():
    member = pixelcnn.GatedPixelCNN((1, 4, 4), filters=6, layers=2)
    both = OrderEnsemble([member, member], ["right-down", "left-up"])
    images, known = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    known[:, :, :1] = True
    same_order = both.complete(images, known, n=8, seed=0)
    known[0] = known[0].flip(1)
    assert torch.equal(both.complete(images, known, n=8, seed=0).images[1], same_order.images[1])


def test_an_ensembles_orders_share_the_time(monkeypatch):
    run = completion._Work.run

    def slowly(work):
        time.sleep(0.2)
        return run(work)

    monkeypatch.setattr(completion._Work, "run", slowly)
    member = pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=0)
    both = OrderEnsemble([member, member], ["right-down", "left-up"])
    known = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    known[0, :, :2] = known[1, :, 2:] = True
    with pytest.raises(ValueError, match=r"given up after 0\.3 s"):
        both.complete(both.sample(2, seed=0), known, seed=0, seconds=0.3)


@pytest.mark.parametrize(("engine", "threads"), [("native", 1), ("native", 2), ("eager", 1), ("reference", 1)])
def test_ctrl_c_stops_it_within_a_second(engine, threads):
    """Of work that would take minutes, while a notebook's kernel or a terminal sends what it sends."""
    model = pixelcnn.GatedPixelCNN((1, 12, 12), filters=8, layers=2)
    images, known = torch.zeros(400, 1, 12, 12, dtype=torch.uint8), torch.ones(12, 12, dtype=torch.bool).triu()
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    before, timer = torch.get_num_threads(), threading.Timer(0.7, interrupt)
    torch.set_num_threads(threads)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            model.complete(images, known, n=64, particles=512, moves=1000, engine=engine, seed=0)
        assert time.monotonic() - sent[0] < 1
    finally:
        timer.cancel()
        torch.set_num_threads(before)


def test_a_collapse_is_told():
    model = sharp(lambda: pixelcnn.PixelCNNPlusPlus((1, 4, 4), levels=256, filters=6, blocks=1))
    known = torch.zeros(1, 4, 4, dtype=torch.bool)
    known[:, 2:] = True
    images = torch.randint(256, (1, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with pytest.warns(UserWarning, match=r"fell below 4 for 1 of 1 images \(the first: 0\)"):
        model.complete(images, known, particles=16, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(1, 1, 4, 5)}, r"images must have shape \(N, 1, 4, 4\)"),
        ({"images": torch.full((1, 1, 4, 4), 3, dtype=torch.uint8)}, r"images must hold levels 0..2, got 3"),
        ({"images": torch.zeros(0, 1, 4, 4, dtype=torch.uint8)}, "images must be at least one, got 0"),
        ({"known": torch.ones(1, 4, 4)}, r"known must be a torch.bool tensor, got torch.float32"),
        ({"known": None}, "known must be a torch.bool tensor, got NoneType"),
        ({"known": torch.zeros(5, 5).bool()}, r"broadcastable to the images' \(1, 1, 4, 4\), got \(5, 5\)"),
        ({"known": torch.ones(4, 4).bool()}, "image 0 has no unknown sub-pixel"),
        ({"n": 0}, r"n must be an integer in 1\.\.16777216, got 0"),
        ({"n": 3, "particles": 2}, r"particles must be an integer in 3\.\.16777216, got 2"),
        ({"moves": -1}, r"moves must be an integer in 0\.\."),
        ({"method": "magic"}, "method must be one of auto, particles, raster, got 'magic'"),
        ({"engine": "graph"}, "engine 'graph' cannot run this model here: it has no particles"),
        ({"labels": torch.tensor([0])}, "labels must be None"),
        ({"seed": -1}, r"seed must be an integer in 0\.\.2\*\*63-1, got -1"),
    ],
)  # fmt: skip
def test_what_is_refused(change, message):
    model = pixelcnn.PixelCNN((1, 4, 4), levels=3, filters=4, blocks=1)
    arguments = {"images": torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "known": torch.eye(4).bool()} | change
    with pytest.raises(ValueError, match=message):
        model.complete(**arguments)


@pytest.mark.parametrize("engine", ["native", "eager", "reference"])
def test_impossible_pixels_are_refused(engine):
    model = sharp(lambda: pixelcnn.PixelCNN((1, 3, 3), levels=3, filters=4, blocks=1))
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor([1e308, 1e308, -1e308], dtype=torch.float64))
    images, known = torch.full((1, 1, 3, 3), 2, dtype=torch.uint8), torch.eye(3).bool().flip(0)
    with pytest.raises(ValueError, match="the known sub-pixels of image 0 have probability 0"):
        model.complete(images, known, engine=engine, seed=0)


@pytest.mark.filterwarnings("ignore:the effective sample size")
@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("engine", ["native", "eager"])
def test_extreme_mixtures_weigh_alike(engine, size):
    """Logits, means and logarithms of scales of that size, in float32."""
    model = pixelcnn.PixelCNNPlusPlus((3, 2, 3), filters=4, blocks=1, mixtures=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(size * torch.randn(model.output.bias.shape, generator=generator))
    known = torch.rand(1, 3, 2, 3, generator=generator) < 0.7
    images = model.sample(1, seed=2)
    expected = model.complete(images, known, particles=8, engine="reference", seed=0)
    found = model.complete(images, known, particles=8, engine=engine, seed=0)
    assert torch.equal(found.images, expected.images)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence)
    assert -200 < expected.log_evidence < -1e-3


def test_completions_are_compared_as_objects():
    """Tensors have no truth value."""
    first, second = (
        completion.Completion(images=torch.zeros(1, 2), ess=torch.ones(1), log_evidence=torch.ones(1), accepted=0.0)
        for _ in range(2)
    )
    assert first != second
    assert [first, second].index(second) == 1
    assert len({first, second, first}) == 2
