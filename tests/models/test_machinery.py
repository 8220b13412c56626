"""PyTorch's own machinery: compilation, export, transforms, meta tensors, parametrizations, pruning, replaced modules,
and training by DistributedDataParallel.
"""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations, parametrize, prune

import pixelcnn
from pixelcnn.exact import prepare
from pixelcnn.keras.network import to_keras
from pixelcnn.models import OrderEnsemble
from pixelcnn.onnx.full import full_graph
from pixelcnn.onnx.step import step_graph
from pixelcnn.scoring import score
from pixelcnn.shards import write_shards

MODELS = {
    "pixelcnn": lambda: pixelcnn.PixelCNN((1, 4, 5), filters=4, blocks=1),
    "gated": lambda: pixelcnn.GatedPixelCNN(
        (1, 4, 5), 3, filters=4, layers=2, num_classes=2, places=True, context=(2,)
    ),
    "plusplus": lambda: pixelcnn.PixelCNNPlusPlus((2, 3, 3), 7, filters=4, blocks=1, mixtures=2),
}


def given(model, n=3):
    """Arguments of `log_prob`."""
    images = torch.randint(model.levels, (n, *model.image_shape), dtype=torch.uint8)
    return (images,) if model.num_classes is None else (images, torch.arange(n) % 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_log_prob_is_one_graph(name):
    """Traced whole; what a compiler makes of it is PyTorch's business, and takes minutes."""
    model = MODELS[name]()
    arguments = given(model)
    traced = torch.compile(model.log_prob, fullgraph=True, backend="eager")
    assert torch.allclose(traced(*arguments), model.log_prob(*arguments))
    with torch.inference_mode():
        assert torch.allclose(traced(*arguments), model.log_prob(*arguments))


EXPORTED = {
    **MODELS,
    "ensemble": lambda: OrderEnsemble([pixelcnn.PixelCNN((1, 4, 4), filters=4)] * 2, ["right-down", "left-up"]),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_log_prob_is_exported_for_any_batch(name):
    model = EXPORTED[name]()
    arguments = given(model)
    loss = pixelcnn.NegativeLogLikelihood(model, "none")
    shapes = tuple({0: torch.export.Dim("n", min=2, max=100)} for _ in arguments)
    exported = torch.export.export(loss, arguments, dynamic_shapes=shapes)
    for n in (3, 7):
        arguments = given(model, n)
        assert torch.allclose(exported.module()(*arguments), loss(*arguments))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_per_image(name):
    model = MODELS[name]().double()
    arguments = given(model)
    loss = pixelcnn.NegativeLogLikelihood(model)
    parameters = {key: value.detach() for key, value in loss.named_parameters()}

    def one(parameters, *each):
        return functional_call(loss, parameters, tuple(value[None] for value in each))

    found = vmap(grad(one), (None, *[0] * len(arguments)))(parameters, *arguments)
    for k in range(3):
        loss.zero_grad()
        loss(*(value[k : k + 1] for value in arguments)).backward()
        for key, parameter in loss.named_parameters():
            assert torch.allclose(found[key][k], parameter.grad), key


@pytest.mark.parametrize("levels", [5, 300])
def test_gradients_of_likelihoods(levels):
    """With 300 levels logits are made in parts, and otherwise once more in the backward pass."""
    model = pixelcnn.GatedPixelCNN((1, 2, 3), levels, filters=4, layers=2, condition_dim=2).double()
    images, vectors = model.sample(3, seed=0), torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(model.log_prob(images, condition=vectors).sum(), vectors)
    found = grad(lambda vectors: model.log_prob(images, condition=vectors).sum())(vectors.detach())
    torch.testing.assert_close(found, expected)
    each = vmap(grad(lambda vector, image: model.log_prob(image[None], condition=vector[None]).sum()))
    torch.testing.assert_close(each(vectors.detach(), images), expected)


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_likelihoods_of_many_conditions_and_of_many_models(two_threads):
    """Mapped without gradients, where images are otherwise split among threads, which know of no map."""
    model = pixelcnn.GatedPixelCNN((1, 3, 3), filters=4, layers=2, condition_dim=2)
    images, vectors = given(model)[0], torch.randn(4, 3, 2)
    whole = pixelcnn.NegativeLogLikelihood(OrderEnsemble([model], ["left-up"]), "none")
    weights = {key: torch.stack([value, 2 * value]) for key, value in whole.named_parameters()}
    with torch.no_grad():
        found = vmap(lambda vector: model.log_prob(images, condition=vector))(vectors)
        expected = torch.stack([model.log_prob(images, condition=vector) for vector in vectors])
        torch.testing.assert_close(found, expected)
        found = vmap(lambda weights: functional_call(whole, weights, (images, None, vectors[0])))(weights)
        torch.testing.assert_close(found[0], whole(images, None, vectors[0]))
        assert (found[1] != found[0]).all()


TAKE_A_MODEL = {
    "prepare": prepare,
    "compress": lambda model: pixelcnn.compress(model, [[[[0]]]]),
    "decompress": lambda model: pixelcnn.decompress(model, b""),
    "evaluate": lambda model: pixelcnn.evaluate(model, [[[[0]]]]),
    "score": lambda model: score(model, [[[[0]]]]),
    "reweight": lambda model: pixelcnn.reweight(model, pixelcnn.energies.Ising(), 0.3),
    "fit_energy": lambda model: pixelcnn.fit_energy(model, pixelcnn.energies.Ising(), beta=0.3, steps=1, batch_size=1),
    "write_shards": lambda model: write_shards(model, 1, "shards"),
    "full_graph": full_graph,
    "step_graph": step_graph,
    "to_keras": to_keras,
}


@pytest.mark.parametrize("name", TAKE_A_MODEL)
@pytest.mark.parametrize("model", ["mnist", None, nn.DataParallel(nn.Linear(1, 1))], ids=str)
def test_what_is_no_model_is_refused(name, model):
    with pytest.raises(ValueError, match=f"model must be .*got {type(model).__name__}"):
        TAKE_A_MODEL[name](model)


def test_streams_of_a_compiled_model_are_the_models_own():
    """What `torch.compile` returns has other names of the weights, and its class another name."""
    model = MODELS["pixelcnn"]()
    compiled = torch.compile(model, backend="eager")
    images = compiled.sample(3, seed=0)
    assert torch.equal(pixelcnn.decompress(model, pixelcnn.compress(compiled, images)), images)
    assert pixelcnn.evaluate(compiled, images).nats_per_image == pixelcnn.evaluate(model, images).nats_per_image


@torch.inference_mode()
def made_in_inference_mode():
    return MODELS["pixelcnn"]()


def test_a_model_made_in_inference_mode_is_used_outside():
    model = made_in_inference_mode()
    for exact in (False, True):
        images, found = model.sample(3, seed=0, exact=exact, with_log_prob=True)
        assert found.shape == (3,)
    assert pixelcnn.evaluate(model, images).images == 3
    assert model.complete(images, torch.eye(4, 5, dtype=torch.bool), particles=8, moves=1, seed=1).images.shape[0] == 3


def test_shapes_on_the_meta_device():
    model = MODELS["pixelcnn"]().to("meta")
    assert model.log_prob(torch.zeros(2, 1, 4, 5, dtype=torch.uint8, device="meta")).shape == (2,)


@pytest.mark.parametrize("how", ["to_empty", "to_empty, and weights by hand", "assign"])
@pytest.mark.parametrize("name", ["gated", "photo"])
def test_a_model_made_on_the_meta_device_gets_its_masks_with_its_weights(name, how):
    """They are in no state: what the memory held before would let each pixel see itself."""
    model = REPLACED[name]().double()
    with torch.device("meta"):
        again = REPLACED[name]().double()
        if how != "assign":
            again.to_empty(device="cpu")
    if how == "to_empty, and weights by hand":
        with torch.no_grad():
            for parameter, weight in zip(again.parameters(), model.parameters(), strict=True):
                parameter.copy_(weight)
    else:
        again.load_state_dict(model.state_dict(), assign=how == "assign")
    same = zip(again.named_buffers(), model.named_buffers(), strict=True)
    assert all(one[0] == other[0] and torch.equal(one[1], other[1]) for one, other in same)
    images = model.sample(3, seed=0)
    assert torch.equal(again.sample(3, seed=0), images)
    assert torch.equal(again.log_prob(images), model.log_prob(images))


def test_the_loss_is_nats():
    model = MODELS["gated"]()
    arguments = given(model)
    nats = -model.log_prob(*arguments)
    for reduction, expected in (("none", nats), ("mean", nats.mean()), ("sum", nats.sum())):
        assert torch.allclose(pixelcnn.NegativeLogLikelihood(model, reduction)(*arguments), expected)
    mapped = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=2, condition_channels=1)
    images, maps = given(mapped)[0], torch.rand(3, 1, 2, 2)
    found = pixelcnn.NegativeLogLikelihood(mapped)(images, condition=maps)
    assert torch.allclose(found, -mapped.log_prob(images, condition=maps).mean())
    assert not torch.allclose(found, -mapped.log_prob(images).mean())
    network = MODELS["pixelcnn"]()
    both = OrderEnsemble([network, network], ["right-down", "left-up"])
    images = given(network)[0]
    assert torch.allclose(pixelcnn.NegativeLogLikelihood(both)(images), -both.log_prob(images).mean())
    with pytest.raises(ValueError, match=r"reduction.*'max'"):
        pixelcnn.NegativeLogLikelihood(model, "max")
    with pytest.raises(ValueError, match=r"model.*Linear"):
        pixelcnn.NegativeLogLikelihood(torch.nn.Linear(1, 1))


def step_of_a_half(rank, folder):
    """What one of two processes does: a step on its half of the images, from the weights in the folder."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    model = pixelcnn.load(folder / "first")
    wrapped = torch.nn.parallel.DistributedDataParallel(pixelcnn.NegativeLogLikelihood(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapped(model.sample(8, seed=0)[rank::2]).backward()
    optimizer.step()
    if rank == 0:
        model.save_pretrained(folder / "stepped")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_it_trains_within_distributed_data_parallel(tmp_path):
    """Two processes take the step of one with all images."""
    model = MODELS["pixelcnn"]()
    model.save_pretrained(tmp_path / "first")
    torch.multiprocessing.spawn(step_of_a_half, (tmp_path,), nprocs=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pixelcnn.NegativeLogLikelihood(model)(model.sample(8, seed=0)).backward()
    before = model.input.weight.detach().clone()
    optimizer.step()
    assert not torch.allclose(model.input.weight, before, atol=1e-5)
    stepped = pixelcnn.load(tmp_path / "stepped")
    for found, expected in zip(stepped.parameters(), model.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_many_images_with_gradients_are_warned_of(monkeypatch):
    monkeypatch.setattr(pixelcnn.bounded, "_MANY_BYTES", 2**10)
    model = MODELS["pixelcnn"]()
    images = given(model)[0]
    with pytest.warns(UserWarning, match=r"3 images with gradients.*inference_mode") as warned:
        model.log_prob(images)
    assert warned[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        with torch.inference_mode():
            model.log_prob(images)
        model.requires_grad_(False).log_prob(images)


def test_models_are_loaded_for_evaluation_and_with_gradients(tmp_path):
    MODELS["pixelcnn"]().save_pretrained(tmp_path / "model")
    model = pixelcnn.load(tmp_path / "model")
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


class Times(torch.nn.Module):
    """A parametrization that depends on what is no tensor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, weight):
        return self.factor * weight


def test_draws_follow_parametrizations():
    """What they depend on may change with no parameter: images of seed 0 differ but for a chance of 2^-100 and less."""
    model = MODELS["pixelcnn"]()
    parametrize.register_parametrization(model.output, "weight", Times(0.0))
    before = model.sample(20, seed=0)
    model.output.parametrizations.weight[0].factor = 50.0
    model.output.bias.data.zero_()
    after = model.sample(20, seed=0)
    assert not torch.equal(after, before)
    assert torch.equal(after, model.sample(20, seed=0, engine="reference"))
    model.output.parametrizations.weight[0].factor = float("nan")
    with pytest.raises(ValueError, match=r"output\.weight has values that are not finite"):
        model.sample(2, seed=0)


def test_draws_follow_pruning():
    model = MODELS["pixelcnn"]()
    model.output.weight.data *= 50
    prune.custom_from_mask(model.output, "weight", torch.ones_like(model.output.weight))
    before = model.sample(20, seed=0)
    prune.custom_from_mask(model.output, "weight", torch.zeros_like(model.output.weight))  # the second round
    after = model.sample(20, seed=0)
    assert not torch.equal(after, before)
    assert torch.equal(after, model.sample(20, seed=0, engine="reference"))


def test_exact_twins_have_what_parametrizations_make_of_weights():
    model, plain = MODELS["plusplus"](), MODELS["plusplus"]()
    plain.load_state_dict(model.state_dict())
    layer = model.up_u[0].conv1
    parametrizations.weight_norm(layer)
    parametrize.register_parametrization(layer, "bias", Times(1 / 3))
    plain.up_u[0].conv1.weight.data.copy_(layer.weight)
    plain.up_u[0].conv1.bias.data.copy_(layer.bias)
    with torch.no_grad():
        assert prepare(model).identity == prepare(plain).identity
    assert parametrize.is_parametrized(layer, "bias")
    assert torch.equal(layer.weight, plain.up_u[0].conv1.weight)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    model = MODELS["pixelcnn"]()
    parametrizations.weight_norm(model.output)
    with pytest.raises(ValueError, match=r"could not be loaded.*output\.parametrizations\.weight\.original0"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    parametrize.remove_parametrizations(model.output, "weight")
    model.save_pretrained(tmp_path / "model")
    with torch.device("meta"):
        loaded = pixelcnn.load(tmp_path / "model")
    images = model.sample(3, seed=0)
    assert torch.equal(loaded.log_prob(images), model.log_prob(images))


REPLACED = {
    "pixelcnn": MODELS["pixelcnn"],
    "gated": lambda: pixelcnn.GatedPixelCNN(
        (1, 4, 4), filters=4, layers=3, places=True, context=(2,), attention=1, condition_channels=1
    ),
    "plusplus": lambda: pixelcnn.PixelCNNPlusPlus(
        (1, 4, 4), filters=4, blocks=1, mixtures=2, places=True, context=(2,), attention=1
    ),
    "photo": lambda: pixelcnn.PhotoPixelCNN((1, 4, 4), filters=4, blocks=2, mixtures=2, condition_channels=1),
}


@pytest.mark.parametrize("name", REPLACED)
def test_modules_that_are_replaced_are_used(name):
    model = REPLACED[name]()
    same = copy.deepcopy(model)
    for module in list(model.modules()):
        for child, found in list(module.named_children()):
            if isinstance(module, torch.nn.ModuleList):
                module[int(child)] = copy.deepcopy(found)
    for each in (model, same):
        for parameter in each.parameters():
            parameter.data += 0.01
    images, options = torch.randint(model.levels, (3, *model.image_shape)), {}
    if getattr(model.config, "condition_channels", 0):
        options["condition"] = torch.rand(3, 1, 4, 4)
    assert torch.equal(model.log_prob(images, **options), same.log_prob(images, **options))
